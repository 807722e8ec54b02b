"""What the text sets for its session: where names without a schema lie, and whether triggers fire."""

import pytest
from test_pg_load import END, HEAD, failing, judged  # noqa: F401

from harness.model import Verdict

# As pg_dump before 10.3 writes it: two tables, and two sequences, of one name
OLD = (
    "CREATE SCHEMA a;\nCREATE SCHEMA b;\n"
    "SET search_path = a, pg_catalog;\nCREATE TABLE t (id int, s text);\nCREATE SEQUENCE q;\n"
    "SET search_path = b, pg_catalog;\nCREATE TABLE t (id int, s text);\nCREATE SEQUENCE q;\n"
    "CREATE TABLE public.elsewhere (id int);\n"
    "SET search_path = a, pg_catalog;\n{0}SELECT pg_catalog.setval('q', 5, true);\n"
    "SET search_path = b, pg_catalog;\n{1}SELECT pg_catalog.setval('q', 7, true);\n"
    "SET search_path = b, public;\nINSERT INTO elsewhere VALUES (1);\n"
)
COPIED = ("COPY t (id, s) FROM stdin;\n1\tx\n2\tx\n\\.\n", "COPY t (id, s) FROM stdin;\n1\ty\n\\.\n")
INSERTED = (
    "INSERT INTO t VALUES (1, 'x');\nINSERT INTO t VALUES (2, 'x');\n",
    "INSERT INTO t VALUES (1, 'y');\n",
)
LOST = {"a": "UPDATE a.t SET s = 'z' WHERE id = 2;\n", "b": "DELETE FROM b.t;\n"}


@pytest.mark.parametrize("rows", [COPIED, INSERTED], ids=["copy", "insert"])
@pytest.mark.parametrize("lost", [None, *LOST])
def test_tables_of_one_name_in_several_schemas(rows, lost, judged) -> None:  # noqa: F811
    evidence, verdict = judged(HEAD + OLD.format(*rows) + LOST.get(lost or "", "") + END)
    told = {f.object for f in evidence.findings if f.check in ("pg.row-counts", "pg.row-content")}
    assert told == ({f"{lost}.t"} if lost else set())
    assert (verdict is Verdict.PASS) == (lost is None), evidence.findings


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("SET search_path = a", "RESET search_path"),
        ("SET search_path TO 'a', 'public'", "SET search_path TO DEFAULT"),
        ("SET SCHEMA 'a'", "SET SESSION search_path = public"),
        ("SELECT pg_catalog.set_config('search_path', 'a, public', false)", "DISCARD ALL"),
        ("SET search_path = a", "SELECT pg_catalog.set_config('search_path', 'public', false)"),
    ],
)
def test_ways_to_set_a_search_path(there, back, judged) -> None:  # noqa: F811
    one = "INSERT INTO t VALUES (1);\n"
    made = "CREATE SCHEMA a;\nCREATE TABLE a.t (id int);\nCREATE TABLE public.t (id int);\n"
    evidence, verdict = judged(f"{HEAD}{made}{there};\n{one}{one}{back};\n{one}{END}")
    assert verdict is Verdict.PASS, evidence.findings


KEYED = "CREATE TABLE public.a (id int PRIMARY KEY);\nCREATE TABLE public.b (a int REFERENCES public.a);\n"
PAST = {
    "replica": ("SET session_replication_role = replica;\n", "SET session_replication_role = DEFAULT;\n"),
    "disabled": (
        "ALTER TABLE public.b DISABLE TRIGGER ALL;\n",
        "ALTER TABLE public.b ENABLE TRIGGER ALL;\n",
    ),
}


@pytest.mark.parametrize("way", PAST)
@pytest.mark.parametrize("parent", [1, 2])
def test_rows_that_came_in_past_foreign_keys(way, parent, judged) -> None:  # noqa: F811
    off, on = PAST[way]
    rows = f"COPY public.b (a) FROM stdin;\n1\n\\.\nCOPY public.a (id) FROM stdin;\n{parent}\n\\.\n"
    evidence, verdict = judged(HEAD + KEYED + off + rows + on + END)
    assert (verdict is Verdict.PASS) == (parent == 1), evidence.findings
    assert ("pg.constraints-hold" in failing(evidence)) == (parent != 1)
