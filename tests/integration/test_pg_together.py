"""Statements sent together: what is found is what statements sent one by one would have found."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import catalog, components
from harness.drill import drill
from harness.model import Evidence, Status
from harness.postgres import together
from harness.settings import load_settings

HEAD = (
    "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n"
    "-- Dumped by pg_dump version 15.18\n\nSET client_encoding = 'UTF8';\n\n"
)
END = "--\n-- PostgreSQL database dump complete\n--\n\n"
TABLES = "".join(f"CREATE TABLE public.t{n} (id int PRIMARY KEY, s text UNIQUE);\n" for n in range(4))
FAIL = {
    "a column that is not there": "CREATE INDEX i ON public.t1 (nope);",
    "a name that is taken": "CREATE TABLE public.t0 (id int);",
    "before what it needs": "ALTER TABLE public.u ADD CHECK (id > 0);\nCREATE TABLE public.u (id int);",
    "rows that violate a key": "INSERT INTO public.t1 VALUES (1);\nINSERT INTO public.t1 VALUES (1);",
    "a child before its parent": "ALTER TABLE public.t1 ADD FOREIGN KEY (id) REFERENCES public.t2"
    " DEFERRABLE INITIALLY DEFERRED;\nINSERT INTO public.t1 VALUES (1);\nINSERT INTO public.t2 VALUES (1);",
    "deferred until no transaction's end": "ALTER TABLE public.t1 ADD FOREIGN KEY (id) REFERENCES public.t2"
    " DEFERRABLE;\nSET CONSTRAINTS ALL DEFERRED;\nINSERT INTO public.t1 VALUES (1);"
    "\nINSERT INTO public.t2 VALUES (1);",
    "a setting of no transaction": "SET search_path = '';\nSET LOCAL search_path = public;\n"
    "CREATE TABLE u ();",
    "read only from now on": "SET default_transaction_read_only = on;\nINSERT INTO public.t1 VALUES (1);"
    "\nSET default_transaction_read_only = off;",
    "a schema in the wrong order": "CREATE TABLE gone.t (id int);\nCREATE SCHEMA gone;",
}
PASS = {
    "a missing role": "ALTER TABLE public.t1 OWNER TO nobody_made_me;\nGRANT SELECT ON public.t1 TO nor_me;",
    "a transaction of the text's own": "BEGIN;\nCREATE TABLE public.own (id int);\nCOMMIT;",
    "what no transaction may hold": "CREATE INDEX CONCURRENTLY i ON public.t1 (s);",
    "numbers from a sequence": "CREATE TABLE public.s (id serial PRIMARY KEY, s text);\n"
    "CREATE TABLE public.of (s int REFERENCES public.s);\nBEGIN;\nCOMMIT;\n"
    "INSERT INTO public.s (s) VALUES ('one');\nINSERT INTO public.of VALUES (1);\n"
    "ALTER TABLE public.s OWNER TO nobody_made_me;",
    "a setting for what follows": "SET search_path = public;\nCREATE TABLE u ();\nSET search_path = '';",
}


def _drill(folder: Path, middle: str) -> Evidence:
    backup = folder / "backup.sql"
    after = "".join(f"COMMENT ON TABLE public.t{n} IS 'n{n}';\n" for n in range(4))
    backup.write_text(f"{HEAD}{TABLES}{middle}\n{after}\n{END}")
    return drill(catalog.find(backup, components.recognisers())[0], load_settings(None, {}))


@pytest.mark.parametrize("what", [*FAIL, *PASS])
def test_together_is_as_one_by_one(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = FAIL.get(what) or PASS[what]
    at_once = _drill(tmp_path, middle)
    monkeypatch.setattr(together, "_MOST", 1)
    alone = _drill(tmp_path, middle)
    told = [[(c.id, c.status, c.findings) for c in e.checks] for e in (alone, at_once)]
    assert told[1] == told[0]
    failed = [f for c in at_once.checks if c.id == "pg.statements" for f in c.findings]
    assert bool(failed) == (what in FAIL)


def test_many_statements_take_few_round_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    send = together.send

    def counted(conn: together.Connection, items: list[together.Statement]) -> list[int] | None:
        counts.append(len(items))
        return send(conn, items)

    monkeypatch.setattr(together, "send", counted)
    evidence = _drill(tmp_path, "".join(f"CREATE TABLE public.u{n} (id int);\n" for n in range(600)))
    assert [c.status for c in evidence.checks if c.id == "pg.statements"] == [Status.PASS]
    assert sum(counts) >= 608
    assert len(counts) <= 4
