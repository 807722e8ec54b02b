"""Archives whose large tables are read by several pg_restore at once are judged as those read by one."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_pg_reading import CORPUS, INSPECT, _artifact, _told

from harness.drill import drill
from harness.model import Artifact, Evidence, Status
from harness.postgres import apart, feeding
from harness.postgres.contents import Listed, listed
from harness.settings import load_settings

LOAD = importlib.import_module("harness.postgres.load")
SOME = int(os.environ.get("PROVADO_TEST_CASES", "8"))
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus lies outside this repository")


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every table is read apart; how many were, for each archive loaded."""
    load, seen = apart.load, []

    def counted(item: apart.Apart, *args: object, **more: object) -> None:
        seen.append(len(item.parts))
        load(item, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)
    monkeypatch.setattr(apart, "APART_BYTES", 0)
    monkeypatch.setattr(apart, "load", counted)
    return seen


def _whole(artifact: Artifact) -> Evidence:
    return drill(artifact, load_settings(None, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["email_gateway.dump", "email_gateway.dir"])
def test_good_archives_are_told_alike(
    name: str, in_parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = _artifact(CORPUS / "good" / name, manifest=None)
    parted = _told(_whole(artifact))
    parted["facts"]["statements"] -= 1  # type: ignore[index]  # the second text sets default_tablespace again
    assert len(in_parts) == 1
    assert in_parts[0] > 20
    monkeypatch.undo()
    assert parted == _told(_whole(artifact))


def _cases() -> Iterator[object]:
    for file in sorted((CORPUS / "cases").glob("*/case.json")) if CORPUS.is_dir() else ():
        case = json.loads(file.read_text())
        path = file.parent / (case.get("file") or "?")
        if (path / "toc.dat").is_file() or (path.is_file() and path.read_bytes()[:5] == b"PGDMP"):
            yield pytest.param(path, id=case["id"])


@pytest.mark.slow
@pytest.mark.parametrize("path", list(_cases())[:SOME])
def test_broken_archives_are_told_alike(
    path: Path, in_parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = _artifact(path, manifest=None)
    told = [_told(_whole(artifact))]
    monkeypatch.undo()
    told.append(_told(_whole(artifact)))
    for one in told:  # pg_restore's last words come in pieces: how far they go varies
        del one["facts"]
        one["findings"] = sorted(one["findings"], key=str)  # type: ignore[call-overload]
    assert told[0] == told[1]


def _listed(
    number: int, kind: str, name: str = "public.t", copy: str = "", size: int | None = None
) -> Listed:
    return Listed(number, kind, name, copy, (), size=size)


def _rows(number: int, name: str, size: int = 2 << 20, copy: str | None = None) -> Listed:
    written = copy if copy is not None else f"COPY {name} (a, b) FROM stdin;\n"
    return _listed(number, "TABLE DATA", name, written, size)


TABLES = (
    _listed(1, "SCHEMA", "s"),
    _listed(2, "ACL", "SCHEMA s"),
    _listed(4, "ACL", "DATABASE d"),
    _listed(3, "TABLE", "s.a"),
)


def test_large_tables_are_read_apart_and_rights_come_last() -> None:
    entries = (
        *TABLES, _rows(10, "s.a"), _rows(11, "s.small", 9), _rows(12, 's."b ""q"" c"'),
        _listed(13, "SEQUENCE SET"), _listed(20, "INDEX"), _listed(21, "TRIGGER"),
    )  # fmt: skip
    found = apart.split(entries)
    assert found is not None
    assert found.before == (1, 4, 3)
    assert [e.number for e in found.apart] == [10, 12]
    assert found.after == (2, 11, 13, 20, 21)


@pytest.mark.parametrize(
    ("why", "entries"),
    [
        ("no rows", TABLES),
        ("one large table", (*TABLES, _rows(10, "s.a"), _rows(11, "s.b", 9))),
        ("sizes not told", (*TABLES, _rows(10, "s.a", 0), _rows(11, "s.b", 0))),
        ("a trigger before rows", (*TABLES, _listed(5, "TRIGGER"), _rows(10, "s.a"), _rows(11, "s.b"))),
        ("a view among rows", (*TABLES, _rows(10, "s.a"), _listed(5, "VIEW"), _rows(11, "s.b"))),
        ("one number twice", (*TABLES, _rows(10, "s.a"), _rows(10, "s.b"))),
        ("through one root", (*TABLES, *(_rows(n, "s.p", copy="COPY s.r  FROM stdin;\n") for n in (8, 9)))),
        ("other statements", (*TABLES, *(_rows(n, "s.p", copy=f"DROP TABLE x;COPY s.r{n} (a) FROM stdin;\n")
                                         for n in (8, 9)))),
        ("COPY of a program", (*TABLES, *(_rows(n, "s.p", copy=f"COPY s.r{n} (a) FROM PROGRAM 'id';\n")
                                          for n in (8, 9)))),
    ],
)  # fmt: skip
def test_what_is_read_as_one(why: str, entries: tuple[Listed, ...]) -> None:
    assert apart.split(entries) is None, why


def test_a_table_that_cannot_be_filled_is_one_failure(
    in_parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that a server refuses: the other tables are there all the same, and the verdict is fail."""
    whichever = feeding.whichever

    def refusing(conn: object, statement: bytes, *args: object) -> object:
        if statement.startswith(b"COPY public.webhooks "):
            statement = statement.replace(b"COPY public.webhooks ", b"COPY public.nowhere ")
        return whichever(conn, statement, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(feeding, "whichever", refusing)
    evidence = _whole(_artifact(CORPUS / "good/email_gateway.dump", manifest=None))
    status = {c.id: c.status for c in evidence.checks}
    assert in_parts
    assert status["pg.statements"] is Status.FAIL
    assert status["pg.row-counts"] is Status.FAIL
    assert status["pg.row-content"] is Status.PASS
    assert {f.object for f in evidence.findings if f.check == "pg.row-counts"} == {"public.webhooks"}


def test_rows_that_are_not_what_the_contents_tell_stop_the_reading(
    in_parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_dump, calls = apart.read_dump, []

    def doubled(blocks: Iterator[bytes]) -> Iterator[object]:
        calls.append(1)
        text = list(blocks)
        return read_dump(iter([*text, *text]) if len(calls) == 5 else iter(text))  # type: ignore[return-value]

    monkeypatch.setattr(apart, "read_dump", doubled)
    evidence = _whole(_artifact(CORPUS / "good/email_gateway.dump", manifest=None))
    assert len(calls) >= 5
    assert evidence.sandbox.kind == "local"
    assert {c.id: c.status for c in evidence.checks}["pg.file-whole"] is Status.FAIL
    said = "the rows of a table are not as the archive's contents tell"
    assert [f.message for f in evidence.findings] == [said]


def test_sizes_are_those_of_the_archive() -> None:
    artifact = _artifact(CORPUS / "good/email_gateway.dump")
    rows = [e for e in listed(artifact, Path("/nowhere")) if e.kind == "TABLE DATA"]
    assert len(rows) > 20
    assert sum(e.size or 0 for e in rows) < artifact.path.stat().st_size
    assert min(e.size or 0 for e in rows) > 0
