"""One table filled over several connections: told as over one, all or nothing, where order means nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness import catalog, components
from harness.drill import drill
from harness.evidence.record import judge
from harness.model import Evidence, Verdict
from harness.postgres import copying, load
from harness.postgres.loaded import Loaded
from harness.postgres.pool import Connection, Pool
from harness.settings import Settings, load_settings

INSPECT = importlib.import_module("harness.postgres.inspect")  # the package has a function of that name
HEAD = (
    "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version {0}\n"
    "-- Dumped by pg_dump version {0}\n\nSET client_encoding = 'UTF8';\n"
    "SET standard_conforming_strings = on;\n"
    "SELECT pg_catalog.set_config('search_path', '', false);\n\n"
)
END = "\n--\n-- PostgreSQL database dump complete\n--\n"
TABLE = "CREATE TABLE public.t (id int, s text);\n"
MANY = 12_000  # rows; several blocks of the reader


def copy(rows: str, target: str = "public.t (id, s)") -> str:
    return f"COPY {target} FROM stdin;\n{rows}\\.\n"


def lines(*some: str, many: int = MANY) -> str:
    """Rows of two columns, `some` in their middle."""
    half = [f"{n}\t{'value' * 8} {n}\n" for n in range(many)]
    return "".join([*half[: many // 2], *(line + "\n" for line in some), *half[many // 2 :]])


@dataclass
class Seen:
    """What drills did: their loads; after each shared COPY its table's rows, and whether it is permanent."""

    loads: list[Loaded] = field(default_factory=list)
    after: list[tuple[int, bool]] = field(default_factory=list)

    @property
    def shared(self) -> int:
        return sum(len(one.shared) for one in self.loads)


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Seen]:
    run, share = load.Loader.run, copying.share

    def switch(on: bool) -> Seen:
        seen = Seen()

        def noted(self: load.Loader, *args: Any) -> None:
            seen.loads.append(self.loaded)
            run(self, *args)

        def watched(conn: Connection, others: list[Connection], table: bytes, *rest: Any) -> Any:
            assert len(others) == 4
            try:
                return share(conn, others, table, *rest)
            finally:
                if not conn.closed:
                    seen.after.append(_state(conn, table))

        monkeypatch.setattr(load.Loader, "run", noted)
        monkeypatch.setattr(copying, "share", watched)
        monkeypatch.setattr(load, "EARLY_BYTES", 0)
        monkeypatch.setattr(copying, "SHARE_BYTES", 0)
        monkeypatch.setattr(Pool, "idle", lambda self: 3 if on else 1)
        return seen

    return switch


def _state(conn: Connection, table: bytes) -> tuple[int, bool]:
    with conn.cursor() as cursor:
        rows = cursor.execute(b"SELECT FROM " + table).rowcount
    kinds = conn.execute(
        "SELECT k.relpersistence = 'p' FROM pg_class c LEFT JOIN pg_index i ON i.indrelid = c.reltoastrelid"
        " JOIN pg_class k ON k.oid IN (c.oid, c.reltoastrelid, i.indexrelid) WHERE c.oid = %s::regclass",
        (table.decode(conn.info.encoding),),
    ).fetchall()
    return rows, len(kinds) in (1, 3) and all(k for (k,) in kinds)


def judged(path: Path, text: str | bytes, settings: Settings | None = None) -> tuple[Evidence, Verdict]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    evidence = drill(catalog.find(path, components.recognisers())[0], settings or load_settings(None, {}))
    return evidence, judge(evidence).verdict


def told(evidence: Evidence) -> dict[str, object]:
    return {
        "checks": [(c.id, c.status, c.reason) for c in evidence.checks],
        "findings": [(f.check, f.severity, f.object, f.message) for f in evidence.findings],
        "rows": evidence.measured.rows,
    }


def whole(body: str, version: str = "15.18") -> str:
    return HEAD.format(version) + body + END


ODD = lines("1\tbackslash at the end\\\\", "2\t\\N", "3\t", "4\tC:\\\\x\\\\", "5\tx\\ny", "6\t\\\\\\\\")
ALIKE: dict[str, tuple[str | bytes, bool]] = {
    "as pg_dump writes it": (whole(TABLE + copy(ODD)), True),
    "built upon afterwards": (
        whole(
            TABLE + copy(lines()) + "ALTER TABLE ONLY public.t ADD CONSTRAINT p PRIMARY KEY (id);\n"
            "CREATE INDEX i ON public.t USING btree (s);\n"
        ),
        True,
    ),
    "a newline behind a backslash": (whole(TABLE + copy(lines("7\tx\\\ny", "8\t\\\\\\\n"))), False),
    "one column, empty rows": (
        whole("CREATE TABLE public.o (s text);\n" + copy("\n" * 50_000 + "a\\\\\n" * 50_000, "public.o (s)")),
        True,
    ),
    "no column": (whole("CREATE TABLE public.n ();\n" + copy("\n" * 300_000, "public.n")), True),
    "a very long row": (whole(TABLE + copy(lines(f"9\t{'long' * 1_000_000}", "10\tx"))), True),
    "Windows line ends": (whole(TABLE + copy(ODD)).replace("\n", "\r\n"), True),
    "digits that are not kept": (
        whole("CREATE TABLE public.t (id numeric(10,2), s text);\n" + copy(lines("1.234\tx"))),
        False,
    ),
    "padded": (whole("CREATE TABLE public.t (id int, s char(60));\n" + copy(lines("1\tx"))), False),
    "changed afterwards": (
        whole(TABLE + copy(lines()) + "UPDATE public.t SET s = 'x' WHERE id = 77;\n"),
        False,
    ),
    "more rows later": (whole(TABLE + copy(lines()) + copy("1\tx\n")), True),
    "an INSERT later": (whole(TABLE + copy(lines()) + "INSERT INTO public.t VALUES (1, 'x');\n"), True),
    "an index that is written twice": (
        whole(TABLE + copy(lines()) + "CREATE INDEX i ON public.t USING btree (s);\n" * 2),
        False,
    ),
    "LATIN1": (
        whole('CREATE TABLE public."né" ("ç" int, s text);\n' + copy(lines("1\tção"), 'public."né" ("ç", s)'))
        .replace("UTF8", "LATIN1")
        .encode("latin-1"),
        True,
    ),
    "SQL_ASCII": (whole(TABLE + copy(lines("1\tção"))).replace("UTF8", "SQL_ASCII"), True),
    "settings of its own": (
        whole(
            "SET DateStyle = 'SQL, DMY';\nSET intervalstyle = sql_standard;\nSET app.x = '1';\n"
            "CREATE TABLE public.t (id int, s date, i interval);\n"
            + copy("".join(f"{n}\t25/12/2020\t-1 02:00:00\n" for n in range(40_000)), "public.t (id, s, i)")
        ),
        False,
    ),
    "a leaf of a partitioned table": (
        whole(
            "CREATE TABLE public.p (id int, s text) PARTITION BY RANGE (id);\n"
            "CREATE TABLE public.t PARTITION OF public.p FOR VALUES FROM (0) TO (99999);\n" + copy(lines())
        ),
        True,
    ),
    "checks with nothing but built-in functions": (
        whole(
            "CREATE TABLE public.t (id int CHECK (id >= 0), s text, CHECK (length(s) > 1));\n" + copy(lines())
        ),
        True,
    ),
    "a check that does not hold": (
        whole("CREATE TABLE public.t (id int CHECK (id <> 7000), s text);\n" + copy(lines())),
        False,
    ),
    "a row that is none": (whole(TABLE + copy(lines("x\ty"))), False),
    "zeros, a row that is none": (whole(TABLE + copy(lines() + "\0" * 3_000_000 + lines())), False),
    "a last row that is none": (whole(TABLE + copy(lines() + "5\n")), False),
    "cut inside the rows": (HEAD.format("15.18") + TABLE + copy(lines())[:-50_000], False),
    "cut between two rows": (HEAD.format("15.18") + TABLE + copy(lines()).rpartition("\n")[0][:-2], False),
}


@pytest.mark.parametrize("by_load", [False, True], ids=["read before", "by its load"])
@pytest.mark.parametrize("what", ALIKE)
def test_shared_rows_are_told_as_all_others(
    what: str,
    by_load: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sharing: Callable[[bool], Seen],
) -> None:
    text, good = ALIKE[what]
    if by_load:
        monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)
    plainly = sharing(False)
    one, verdict = judged(tmp_path / "a.sql", text)
    several = sharing(True)
    other, _ = judged(tmp_path / "a.sql", text)
    assert (verdict is Verdict.PASS) == good, one.findings
    assert told(other) == told(one)
    assert not plainly.shared
    assert not plainly.after
    if what.startswith("cut") and not by_load:  # nothing is restored
        assert not several.after
        return
    [(rows, permanent)] = several.after
    assert permanent
    refused = what.endswith((" is none", " does not hold"))
    assert (rows == 0) == refused
    assert several.shared == (not refused)


F = "CREATE FUNCTION public.f(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 >= 0';\n"
ALONE = {
    "a trigger": TABLE
    + "CREATE FUNCTION public.g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\n"
    + "CREATE TRIGGER g BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.g();\n",
    "a rule": TABLE + "CREATE RULE r AS ON DELETE TO public.t DO INSTEAD NOTHING;\n",
    "an index": TABLE + "CREATE INDEX i ON public.t USING btree (id);\n",
    "a key": "CREATE TABLE public.t (id int PRIMARY KEY, s text);\n",
    "a default": "CREATE TABLE public.t (id int, s text, d timestamptz DEFAULT now());\n",
    "a sequence": "CREATE TABLE public.t (id int, s text, d serial);\n",
    "an identity": "CREATE TABLE public.t (id int, s text, d int GENERATED ALWAYS AS IDENTITY);\n",
    "a domain's default": "CREATE SEQUENCE public.q;\n"
    "CREATE DOMAIN public.d AS int DEFAULT nextval('public.q'::regclass);\n"
    "CREATE TABLE public.t (id int, s text, d public.d);\n",
    "a check": f"{F}CREATE TABLE public.t (id int CHECK (public.f(id)), s text);\n",
    "a generated column": f"{F}CREATE TABLE public.t (id int, s text, "
    "g bool GENERATED ALWAYS AS (public.f(id)) STORED);\n",
    "a domain": f"{F}CREATE DOMAIN public.d AS int CHECK (public.f(VALUE));\n"
    "CREATE TABLE public.t (id public.d, s text);\n",
    "an operator": f"{F}CREATE OPERATOR public.@@@ (FUNCTION = public.f, RIGHTARG = int);\n"
    "CREATE TABLE public.t (id int CHECK (OPERATOR(public.@@@) id), s text);\n",
    "a partition by a function": "CREATE FUNCTION public.k(int) RETURNS int LANGUAGE sql IMMUTABLE"
    " AS 'SELECT $1 / 99999';\n"
    "CREATE TABLE public.p (id int, s text) PARTITION BY LIST (public.k(id));\n"
    "CREATE TABLE public.t PARTITION OF public.p FOR VALUES IN (0);\n",
    "a root": "CREATE TABLE public.t (id int, s text) PARTITION BY RANGE (id);\n"
    "CREATE TABLE public.t1 PARTITION OF public.t DEFAULT;\n",
    "rows by way of a root": "CREATE TABLE public.p (id int, s text) PARTITION BY RANGE (id);\n"
    "CREATE TABLE public.t PARTITION OF public.p DEFAULT;\n" + copy("1\tx\n", "public.p (id, s)"),
    "an INSERT before": TABLE + "INSERT INTO public.t VALUES (1, 'x');\n",
    "an unlogged table": "CREATE UNLOGGED TABLE public.t (id int, s text);\n",
    "a role": TABLE.replace("\n", "") + "\nGRANT ALL ON public.t TO pg_monitor;\nSET ROLE pg_monitor;\n",
    "another user": "CREATE ROLE other;\n" + TABLE + "GRANT ALL ON public.t TO other;\n"
    "SET SESSION AUTHORIZATION other;\n",
    "a transaction": TABLE + "BEGIN;\n",
    "Big5": TABLE + "SET client_encoding = 'BIG5';\n",
}


@pytest.mark.parametrize("what", ALONE)
def test_what_one_connection_does_alone(what: str, tmp_path: Path, sharing: Callable[[bool], Seen]) -> None:
    seen = sharing(True)
    body = ALONE[what] + copy(lines())
    body += {"a transaction": "COMMIT;\n", "Big5": "SET client_encoding = 'UTF8';\n"}.get(what, "")
    evidence, verdict = judged(tmp_path / "a.sql", whole(body))
    assert not seen.after
    assert not seen.shared
    assert verdict is Verdict.PASS, evidence.findings


@pytest.mark.slow
@pytest.mark.parametrize("version", ["17.6", "18.1"])
def test_newer_servers(version: str, tmp_path: Path, sharing: Callable[[bool], Seen]) -> None:
    seen = sharing(True)
    text = TABLE + copy(ODD) + "ALTER TABLE ONLY public.t ADD CONSTRAINT p UNIQUE (id, s);\n"
    evidence, _ = judged(tmp_path / "a.sql", whole(text, version))
    assert evidence.sandbox.version.split(".")[0] == version.split(".")[0]
    statements = {c.id: c.status.value for c in evidence.checks}
    assert statements["pg.row-content"] == statements["pg.row-counts"] == "pass"
    assert seen.after == [(MANY + 6, True)]
    assert seen.shared == 1
    seen = sharing(True)
    evidence, verdict = judged(tmp_path / "a.sql", whole(TABLE + copy(lines("x\ty")), version))
    assert verdict is Verdict.FAIL
    assert seen.after == [(0, True)]
