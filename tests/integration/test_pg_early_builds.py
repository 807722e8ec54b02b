"""Indexes built beside the load: begun once, tried again in their place when they failed there."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness import catalog, components
from harness.drill import drill
from harness.evidence.record import judge
from harness.model import Evidence, Status, Verdict
from harness.postgres import load, together
from harness.postgres.dump import Statement
from harness.postgres.patterns import built
from harness.postgres.pool import Connection, Pool
from harness.settings import load_settings

BACKUPS = Path(__file__).parents[2] / "fixtures/backups"


def _drill(backup: Path | None = None) -> Evidence:
    backup = backup or sorted(BACKUPS.glob("*daily*.sql.gz"))[0]
    found = catalog.find(backup, components.recognisers())
    return drill(dataclasses.replace(found[0], manifest=None), load_settings(None, {}))


def _status(evidence: Evidence) -> dict[str, Status]:
    return {c.id: c.status for c in evidence.checks}


def test_an_index_still_being_built_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = Pool.submit

    def later(self: Pool, kind: str, work: Callable[[], None]) -> None:
        submit(self, kind, lambda: (time.sleep(0.05), work())[1])

    sent: list[bytes] = []
    execute = load.Loader._execute

    def noted(self: load.Loader, item: Statement) -> None:
        sent.append(item.sql)
        execute(self, item)

    monkeypatch.setattr(load, "EARLY_BYTES", 0)
    monkeypatch.setattr(Pool, "submit", later)

    def noted_batch(conn: Connection, items: Sequence[Statement]) -> list[int] | None:
        counts = send(conn, items)
        sent.extend(item.sql for item in items if counts is not None)
        return counts

    send = together.send
    monkeypatch.setattr(together, "send", noted_batch)
    monkeypatch.setattr(load.Loader, "_execute", noted)
    evidence = _drill()
    status = _status(evidence)
    assert status["pg.statements"] is Status.PASS
    assert status["pg.objects"] is Status.PASS
    assert status["pg.row-content"] is Status.PASS
    indexed = {named[0] for q in sent if q.startswith(b"CREATE ") and (named := built(q))}
    assert indexed == {"public.delivery_stats"}  # a materialized view: no rows of it in the file
    assert not [f for c in evidence.checks for f in c.findings if "NOT VALID" in f.message]
    keys = [q for q in sent if b" FOREIGN KEY " in q]
    assert [q.startswith(b"ALTER TABLE public.email_logs\n") for q in keys] == [True]  # it is partitioned


def test_an_early_build_that_fails_is_made_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    borrow = Pool.connection

    @contextlib.contextmanager
    def read_only(self: Pool, database: str) -> Iterator[Connection]:
        with borrow(self, database) as conn:
            conn.execute("SET default_transaction_read_only = on")
            yield conn

    monkeypatch.setattr(load, "EARLY_BYTES", 0)
    monkeypatch.setattr(Pool, "connection", read_only)
    status = _status(_drill())
    assert status["pg.statements"] is Status.PASS
    assert status["pg.objects"] is Status.PASS


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("COPY public.ip_pools FROM stdin;\n\\.\n", "a second block, empty"),
        ("UPDATE public.ip_pools SET name = name;\n", "a write after the rows"),
    ],
)
def test_what_is_read_early_is_what_stands_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: str, why: str
) -> None:
    """Rows that were proven while others loaded, and changed afterwards: the last state counts."""
    monkeypatch.setattr(load, "EARLY_BYTES", 0)
    text = gzip.decompress(sorted(BACKUPS.glob("*daily*.sql.gz"))[0].read_bytes()).decode()
    end = text.rindex("--\n-- PostgreSQL database dump complete")
    backup = tmp_path / "more.sql"
    backup.write_text(text[:end] + more + text[end:])
    found = catalog.find(backup, components.recognisers())
    status = _status(drill(found[0], load_settings(None, {})))
    assert status["pg.statements"] is Status.PASS, why
    assert status["pg.row-counts"] is Status.PASS, why


def test_a_foreign_key_that_does_not_hold_is_told_as_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows of large tables are looked at by other connections, which must change no word of the outcome."""
    text = gzip.decompress(sorted(BACKUPS.glob("*daily*.sql.gz"))[0].read_bytes()).decode()
    head, companies = text.split("COPY public.companies (", 1)
    columns, rows, rest = re.split(r"(?<=FROM stdin;\n)((?:.*\n)+?)(?=\\\.\n)", companies, maxsplit=1)
    backup = tmp_path / "orphans.sql"
    backup.write_text(f"{head}COPY public.companies ({columns}{rows.split(chr(10), 1)[1]}{rest}")
    plain = _drill(backup)
    monkeypatch.setattr(load, "EARLY_BYTES", 0)
    early = _drill(backup)
    assert _status(early) == _status(plain)
    assert _status(early)["pg.statements"] is Status.FAIL
    told = [[f for c in e.checks for f in c.findings] for e in (plain, early)]
    assert told[0] == told[1]
    assert [f for f in told[0] if "foreign key" in f.message.lower()]


TABLES = "CREATE TABLE public.a (id int NOT NULL, s text);\nCREATE TABLE public.b (id int NOT NULL, a int);\n"
ROWS = (
    "COPY public.a (id, s) FROM stdin;\n1\tx\n2\ty\n\\.\nCOPY public.b (id, a) FROM stdin;\n1\t1\n2\t2\n\\.\n"
)
KEYS = (
    "ALTER TABLE ONLY public.a ADD CONSTRAINT a_pk PRIMARY KEY (id);\n"
    "ALTER TABLE ONLY public.b ADD CONSTRAINT b_a FOREIGN KEY (a) REFERENCES public.a(id);\n"
)
FUNCTIONS = (
    "SELECT pg_catalog.set_config('search_path', '', false);\n"
    "CREATE FUNCTION public.g(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';\n"
    "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN {}($1); END';\n"
)
INDEX = "CREATE INDEX i ON public.a USING btree (public.f(id));\n"


@pytest.mark.parametrize("early", [0, load.EARLY_BYTES], ids=["early", "as it is"])
@pytest.mark.parametrize(
    ("middle", "good"),
    [
        (f"BEGIN;\n{TABLES}{ROWS}{KEYS}COMMIT;\n", True),
        (f"{TABLES}BEGIN;\n{ROWS}COMMIT;\n{KEYS}", True),
        (f"{TABLES}START TRANSACTION;\n{ROWS}{KEYS}END;\n", True),
        (f"{TABLES}BEGIN;\n{ROWS}ROLLBACK;\n{KEYS}", False),
        (f"{TABLES}BEGIN;\n{ROWS}{KEYS}", False),
        (f"{FUNCTIONS.format('public.g')}{TABLES}{ROWS}{INDEX}", True),
        (f"{FUNCTIONS.format('g')}{TABLES}{ROWS}{INDEX}", False),
    ],
)
def test_the_texts_own_transaction_and_search_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, middle: str, good: bool, early: int
) -> None:
    """Other connections neither wait for the text's own locks nor find more than its session does."""
    monkeypatch.setattr(load, "EARLY_BYTES", early)
    backup = tmp_path / "own.sql"
    backup.write_text(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n"
        f"-- Dumped by pg_dump version 15.18\n\n{middle}\n--\n-- PostgreSQL database dump complete\n--\n"
    )
    began = time.monotonic()
    assert (judge(_drill(backup)).verdict is Verdict.PASS) == good
    assert time.monotonic() - began < 30


TRIGGER = (
    "CREATE FUNCTION public.clear() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN DELETE FROM public.a; RETURN NULL; END';\nCREATE TABLE public.w (x int);\n"
)
ON_W = "CREATE TRIGGER t AFTER INSERT ON public.w FOR EACH ROW EXECUTE FUNCTION public.clear();\n"
EVENT = (
    "CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS"
    " 'BEGIN DELETE FROM public.a; END';\n"
    "CREATE EVENT TRIGGER e ON ddl_command_end WHEN TAG IN ('CREATE TYPE') EXECUTE FUNCTION public.e();\n"
)


@pytest.mark.parametrize(
    ("first", "later", "good"),
    [
        ("", "ALTER TABLE public.a ALTER COLUMN s TYPE text USING s || 'z';\n", False),
        ("", "ALTER TABLE public.a ALTER COLUMN s TYPE varchar(10);\n", True),
        ("", "ALTER TABLE public.a DROP COLUMN s;\n", False),
        ("", "ALTER TABLE public.a RENAME COLUMN s TO r;\n", False),
        ("", "ALTER TABLE public.a RENAME TO c;\n", False),
        ("", "CREATE SCHEMA o;\nALTER TABLE public.a SET SCHEMA o;\n", False),
        ("", "DROP TABLE public.a;\n", False),
        ("", "CREATE TABLE public.x AS WITH d AS (DELETE FROM public.a RETURNING *) TABLE d;\n", False),
        (TRIGGER, f"{ON_W}INSERT INTO public.w VALUES (1);\n", False),
        (TRIGGER + ON_W, "COPY public.w (x) FROM stdin;\n1\n\\.\n", False),
        (TRIGGER + ON_W, "COPY public.w (x) FROM stdin;\n\\.\n", True),
        (EVENT, "CREATE TYPE public.ty AS ENUM ('x');\n", False),
        ("", "SET search_path = public;\nCOPY a (id, s) FROM stdin;\n3\tz\n\\.\n", True),
        ("", KEYS, True),
    ],
)
def test_what_changes_rows_that_were_read_already(tmp_path: Path, first: str, later: str, good: bool) -> None:
    """Rows are read back while the load goes on; what may change them afterwards makes them read again."""
    views = "".join(f"CREATE VIEW public.v{n} AS SELECT {n} AS x;\n" for n in range(60))  # time to read them
    backup = tmp_path / "late.sql"
    backup.write_text(
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n"
        f"-- Dumped by pg_dump version 15.18\n\n{TABLES}{first}{ROWS}{views}{later}"
        "\n--\n-- PostgreSQL database dump complete\n--\n"
    )
    assert (judge(_drill(backup)).verdict is Verdict.PASS) == good
