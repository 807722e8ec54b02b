"""Rows that reach a table in more ways than its own COPY: through the table above it, or by functions."""

import pytest
from test_pg_load import END, HEAD, T, failing, judged, toc  # noqa: F401

from harness.model import Verdict

TREE = (
    toc("p", "TABLE", "CREATE TABLE public.p (k integer, v text) PARTITION BY LIST (k);")
    + toc("p1", "TABLE", "CREATE TABLE public.p1 (k integer, v text);")
    + toc("p2", "TABLE", "CREATE TABLE public.p2 (v text, k integer);")
    + "ALTER TABLE ONLY public.p ATTACH PARTITION public.p1 FOR VALUES IN (1);\n"
    + "ALTER TABLE ONLY public.p ATTACH PARTITION public.p2 FOR VALUES IN (2);\n"
)


def data(table, *rows, columns="k, v"):
    head = f"--\n-- Data for Name: {table}; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    return head + "\n".join([f"COPY public.{table} ({columns}) FROM stdin;", *rows, "\\.\n\n"])


PART = data("p1", *(f"1\tpart {i}" for i in range(5)))
LARGE = data(
    "p1", *(f"1\t{'x' * 200}{i}" for i in range(6000))
)  # more than a MiB: emptied before it is filled
WHOLE = data("p", *(f"{i % 2 + 1}\twhole {i}" for i in range(8)))
OTHER = data("p2", *(f"part {i}\t2" for i in range(4)), columns="v, k")
INTO_PART = "INSERT INTO public.p1 VALUES (1, 'a'), (1, 'b');\n"
INTO_WHOLE = "INSERT INTO public.p VALUES (1, 'c'), (2, 'd');\n"
CHANGE = "UPDATE public.p SET v = 'other' WHERE v = '{}';\n"


@pytest.mark.parametrize(
    "text",
    [PART + WHOLE, WHOLE + PART, PART + OTHER + WHOLE, WHOLE + LARGE, LARGE + WHOLE,
     INTO_PART + INTO_WHOLE, PART + INTO_WHOLE],
    ids=["part-whole", "whole-part", "three", "whole-large", "large-whole", "inserts", "both"],
)  # fmt: skip
def test_a_part_and_the_whole(text, judged):  # noqa: F811
    evidence, verdict = judged(HEAD + TREE + text + END)
    assert verdict is Verdict.PASS, evidence.findings


@pytest.mark.parametrize("value", ["part 3", "whole 3"])
@pytest.mark.parametrize("order", [PART + WHOLE, WHOLE + PART], ids=["part-whole", "whole-part"])
def test_a_part_and_the_whole_with_one_value_changed(value, order, judged):  # noqa: F811
    evidence, verdict = judged(HEAD + TREE + order + CHANGE.format(value) + END)
    assert verdict is Verdict.FAIL
    [found] = [f for f in evidence.findings if f.check == "pg.row-content"]
    assert (found.object, "1 of 13 rows differ" in found.message) == ("public.p", True)


def test_a_part_and_the_whole_with_a_row_lost(judged):  # noqa: F811
    for text in (PART + WHOLE + "DELETE FROM public.p WHERE v = 'part 1';\n",
                 INTO_PART + INTO_WHOLE + "DELETE FROM public.p WHERE v = 'a';\n"):  # fmt: skip
        evidence, verdict = judged(HEAD + TREE + text + END)
        assert verdict is Verdict.FAIL
        assert "pg.row-counts" in failing(evidence)


def function(name, body, language="plpgsql"):
    return f"CREATE FUNCTION public.{name} LANGUAGE {language}\n    AS $$ {body} $$;\n\n"


WRITES = function("f() RETURNS integer", "BEGIN UPDATE public.t SET s = 'x'; RETURN 1; END")
HIDDEN = function("h(a integer) RETURNS integer IMMUTABLE", "BEGIN RETURN public.f(); END") + WRITES
READS = function("f() RETURNS integer", "BEGIN RETURN (SELECT count(*) FROM public.t); END")
SUMS = "CREATE MATERIALIZED VIEW public.mv AS SELECT public.f() AS x WITH NO DATA;\n"
W = toc("w", "TABLE", "CREATE TABLE public.w (k integer, v text{});")
LONG = data("w", *(f"{i}\t{'y' * 2000}" for i in range(2000)))  # long enough that t is read back meanwhile
REFRESH = "REFRESH MATERIALIZED VIEW public.mv;\n"
BEHIND = {
    "refresh": WRITES + W.format("") + T + SUMS + LONG + REFRESH,
    "in sql": function("f() RETURNS integer", "UPDATE public.t SET s = 'x' RETURNING 1", "sql")
    + W.format("") + T + SUMS + LONG + REFRESH,
    "in text": function("f() RETURNS int", "BEGIN EXECUTE 'UP' || 'DATE public.t SET id = 0'; RETURN 1; END")
    + W.format("") + T + SUMS + LONG + REFRESH,
    "index": HIDDEN + W.format("") + T + LONG + "CREATE INDEX i ON public.w USING btree (public.h(k));\n",
    "check": HIDDEN + W.format(" CHECK (public.h(1) > 0)") + T + LONG,
    "later check": HIDDEN + W.format("") + T + LONG
    + "ALTER TABLE public.w ADD CONSTRAINT c CHECK ((public.h(k) > 0));\n",
}  # fmt: skip


@pytest.mark.parametrize("text", BEHIND.values(), ids=BEHIND)
def test_functions_that_change_rows_read_before(text, judged):  # noqa: F811
    evidence, verdict = judged(HEAD + text + END)
    assert verdict is Verdict.FAIL
    found = [f.object for f in evidence.findings if f.check == "pg.row-content"]
    assert found == ["public.t"]


def test_functions_that_only_read(judged):  # noqa: F811
    known = toc("f()", "FUNCTION", READS) + W.format("") + T + toc("mv", "MATERIALIZED VIEW", SUMS)
    evidence, verdict = judged(HEAD + known + LONG + REFRESH + END)
    assert verdict is Verdict.PASS, evidence.findings


STATISTICS = (
    "--\n-- Statistics for Name: t; Type: STATISTICS DATA; Schema: public; Owner: -\n--\n\n"
    "SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'schemaname', 'public',\n\t'relname', 't'\n);\n\n"
)


def test_statistics_that_an_older_server_does_not_take(judged):  # noqa: F811
    evidence, verdict = judged(HEAD + T + STATISTICS + END)
    assert verdict is Verdict.PASS, evidence.findings
    [found] = [f for f in evidence.findings if f.check == "pg.statements"]
    assert (found.object, found.severity) == ("STATISTICS DATA public.t", "medium")
    evidence, verdict = judged(HEAD + T + STATISTICS * 300 + END)  # more than are kept
    assert verdict is Verdict.PASS, evidence.findings
    assert {f.severity for f in evidence.findings if f.object == "the rest"} == {"medium"}
    gone = "ALTER TABLE public.gone ADD COLUMN a int;\n"
    evidence, verdict = judged(HEAD + T + STATISTICS * 300 + toc("gone", "TABLE", gone) + END)
    assert verdict is Verdict.FAIL
    evidence, verdict = judged(HEAD + toc("t", "TABLE", "CREATE TABLE public.t (id int);") + STATISTICS + END)
    assert verdict is Verdict.FAIL
    assert "pg.has-content" in failing(evidence)  # they are no rows


def test_an_access_method_that_is_not_there(judged):  # noqa: F811
    evidence, verdict = judged(HEAD + "SET default_table_access_method = heap;\n" + T + END)
    assert verdict is Verdict.PASS, evidence.findings
    comment = toc("x", "COMMENT", "COMMENT ON SCHEMA public IS 'x';")  # whose loss would be a light one
    evidence, verdict = judged(HEAD + comment + "SET default_table_access_method = pile;\n" + T + END)
    assert verdict is Verdict.FAIL
    assert "pg.statements" in failing(evidence)


def test_what_only_names_functions_that_reach_outside(judged):  # noqa: F811
    """Rights on the server's own functions, and views that call them, are made; nothing calls them here."""
    view = toc("v", "VIEW", "CREATE VIEW public.v AS\n SELECT name FROM pg_ls_waldir() w(name, size, at);")
    rights = (
        "GRANT ALL ON FUNCTION pg_catalog.pg_ls_dir(text) TO PUBLIC;\n"
        "REVOKE ALL ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC;\n"
    )
    evidence, verdict = judged(HEAD + T + view + rights + END)
    assert verdict is Verdict.PASS, evidence.findings
    evidence, verdict = judged(HEAD + T + "ALTER TABLE public.t ADD b text DEFAULT pg_ls_dir('.');\n" + END)
    assert verdict is Verdict.FAIL
    assert "pg.hostile" in failing(evidence)


ROLES = (
    "CREATE ROLE app;\nALTER ROLE app WITH LOGIN;\nCREATE ROLE reader;\nGRANT reader TO app;\n"
    "CREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER LOGIN;\n"
)


@pytest.mark.parametrize("lost", ["", "CREATE ROLE app;\n", "CREATE ROLE reader;\n"])
def test_globals_that_lost_a_role_they_use(lost, judged, tmp_path):  # noqa: F811
    """What the sandbox makes up for them to go on is told."""
    path = tmp_path / "globals.sql"
    path.write_text(ROLES.replace(lost, ""))
    evidence, verdict = judged(HEAD + T + "GRANT SELECT ON TABLE public.t TO app;\n" + END, globals_file=path)
    assert verdict is (Verdict.FAIL if lost else Verdict.PASS), evidence.findings
    told = [f.object for f in evidence.findings if f.check == "pg.roles"]
    assert told == ([f"role {lost.split()[2].rstrip(';')}"] if lost else [])


OWNED = (
    "--\n-- Name: {0}; Type: {1}; Schema: public; Owner: {2}\n--\n\n{3}\n\n"
    "ALTER {1} public.{0} OWNER TO {2};\n\n"
)
MADE = "CREATE FUNCTION public.f(integer) RETURNS int LANGUAGE sql AS 'SELECT 1';"
OURS = OWNED.format("v", "VIEW", "app", "CREATE VIEW public.v AS SELECT 1 AS one;")
OURS += OWNED.format("f(integer)", "FUNCTION", "app", MADE)
THEIRS = OWNED.format("w", "VIEW", "postgres", "CREATE VIEW public.w AS SELECT 1 AS one;")
VIEW_TO, FUNCTION_TO = (
    "ALTER VIEW public.v OWNER TO app;\n",
    "ALTER FUNCTION public.f(integer) OWNER TO app;\n",
)


@pytest.mark.parametrize(
    ("lost", "severity"),
    [
        ((), None),
        (("ALTER VIEW public.w OWNER TO postgres;\n",), None),  # who restores owns it anyway
        ((VIEW_TO,), "high"),
        ((FUNCTION_TO,), "high"),
        ((VIEW_TO, FUNCTION_TO), "medium"),
    ],
)
def test_owners_that_only_the_headers_name(lost, severity, judged):  # noqa: F811
    text = HEAD + "CREATE ROLE app;\n" + T + OURS + THEIRS + END
    for statement in lost:
        assert statement in text
        text = text.replace(statement, "")
    evidence, verdict = judged(text)
    told = [f.severity for f in evidence.findings if f.check == "pg.objects"]
    assert told == [severity] * len(lost) if severity else told == []
    assert verdict is (Verdict.FAIL if severity == "high" else Verdict.PASS), evidence.findings
