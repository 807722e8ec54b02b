"""Statements about an index or key that another connection may still be building find it as ever."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_pg_shared_copy import END, HEAD, judged, told

from harness.model import Verdict
from harness.postgres import load
from harness.postgres.early import EarlyBuilds
from harness.postgres.pool import Pool

INSPECT = importlib.import_module("harness.postgres.inspect")  # the package has a function of that name
TABLES = (
    "CREATE TABLE public.a (id int NOT NULL, s text);\nCREATE TABLE public.b (id int NOT NULL, a int);\n"
    "CREATE TABLE public.p (id int NOT NULL) PARTITION BY RANGE (id);\n"
    "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES FROM (0) TO (99);\n"
    "COPY public.a (id, s) FROM stdin;\n1\tx\n2\ty\n\\.\nCOPY public.b (id, a) FROM stdin;\n1\t1\n2\t2\n\\.\n"
    "COPY public.p1 (id) FROM stdin;\n1\n2\n\\.\n"
)
A = "CREATE UNIQUE INDEX i ON public.a USING btree (id);\n"
KEY = "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT k PRIMARY KEY (id);\n"
TEXT = {
    "the order of its rows": (A + "ALTER TABLE public.a CLUSTER ON i;\n", True),
    "a key's": (KEY + "ALTER TABLE public.a CLUSTER ON k;\n", True),
    "replicas": (A + "ALTER TABLE ONLY public.a REPLICA IDENTITY USING INDEX i;\n", True),
    "a key of it": (A + "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT c PRIMARY KEY USING INDEX i;\n", True),
    "a unique key of it": (A + "ALTER TABLE public.a ADD CONSTRAINT c UNIQUE USING INDEX i;\n", True),
    "a part": (
        "CREATE INDEX pi ON ONLY public.p USING btree (id);\n"
        "CREATE INDEX p1i ON public.p1 USING btree (id);\n"
        "ALTER INDEX public.pi ATTACH PARTITION public.p1i;\n",
        True,
    ),
    "a part of a key": (
        "ALTER TABLE ONLY public.p\n    ADD CONSTRAINT pk PRIMARY KEY (id);\n"
        "ALTER TABLE ONLY public.p1\n    ADD CONSTRAINT p1k PRIMARY KEY (id);\n"
        "ALTER INDEX public.pk ATTACH PARTITION public.p1k;\n",
        True,
    ),
    "statistics": (
        "CREATE INDEX e ON public.a USING btree (lower(s));\n"
        "ALTER INDEX public.e ALTER COLUMN 1 SET STATISTICS 99;\n",
        True,
    ),
    "words": (
        A + KEY + "COMMENT ON INDEX public.i IS 'x';\nCOMMENT ON CONSTRAINT k ON public.a IS 'y';\n",
        True,
    ),
    "a drop": (A + "DROP INDEX public.i;\n" + A, True),
    "another name": (A + "ALTER INDEX public.i RENAME TO j;\n" + A, True),
    "a foreign key": (
        A + "ALTER TABLE ONLY public.b ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.a(id);\n",
        True,
    ),
    "a view that needs a key": (
        KEY + "CREATE VIEW public.v AS SELECT id, s, count(*) FROM public.a GROUP BY id;\n",
        True,
    ),
    "a column that goes": (
        "CREATE INDEX j ON public.a USING btree (s);\nALTER TABLE public.b DROP COLUMN a;\n",
        False,
    ),
    "rows that it refuses": (A + "COPY public.a (id, s) FROM stdin;\n1\tz\n\\.\n", False),
    "twice": (A + A, False),
    "a name that is taken": (A + "CREATE INDEX i ON public.b USING btree (a);\n", False),
    "what is not there": (A + "ALTER TABLE public.a CLUSTER ON j;\n", False),
    "doubles": ("CREATE UNIQUE INDEX j ON public.b USING btree ((a / a));\n", False),
    "strings of old": (
        "SET standard_conforming_strings = off;\n"
        "CREATE UNIQUE INDEX j ON public.a USING btree ((1)) WHERE (s <> '\\x79'::text);\n",
        True,
    ),
    "a role that may not": (
        "CREATE ROLE weak;\nSET SESSION AUTHORIZATION weak;\nSET default_tablespace = '';\n" + A,
        False,
    ),
}


@pytest.mark.parametrize("by_load", [False, True], ids=["read before", "by its load"])
@pytest.mark.parametrize("about", TEXT)
def test_what_is_said_about_an_index_that_is_being_built(
    about: str, by_load: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, good = TEXT[about]
    whole = HEAD.format("15.18") + TABLES + text + END
    one, verdict = judged(tmp_path / "a.sql", whole)
    assert (verdict is Verdict.PASS) == good, one.findings
    submit, handed, hand = Pool.submit, [0], EarlyBuilds._hand

    waits = itertools.chain([0.3], itertools.repeat(0.1))  # what is met first is built last

    def later(self: Pool, kind: str, work: Callable[[], None]) -> None:
        submit(self, kind, lambda: (time.sleep(next(waits)), work())[1])

    def counted(self: EarlyBuilds, *args: object) -> None:
        handed[0] += len(args[1])  # type: ignore[arg-type]
        hand(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(load, "EARLY_BYTES", 0)
    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0 if by_load else 1 << 30)
    monkeypatch.setattr(Pool, "submit", later)
    monkeypatch.setattr(EarlyBuilds, "_hand", counted)
    other, _ = judged(tmp_path / "a.sql", whole)
    assert told(other) == told(one)
    assert bool(handed[0]) == (about not in ("strings of old", "a role that may not"))
