"""Backups that only their restore reads are judged as those that are read before it."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness import catalog, components
from harness.component import DrillContext, inspected
from harness.drill import drill
from harness.errors import SandboxError, ToolError
from harness.evidence.record import judge
from harness.model import Artifact, Evidence, Proves, Status
from harness.postgres import COMPONENT
from harness.postgres.dump import Copy
from harness.postgres.reading import Reading
from harness.settings import load_settings

FIXTURES = Path(__file__).parents[2] / "fixtures"
CORPUS = Path(__file__).parents[3] / "shared/corpus/postgres"
INSPECT = importlib.import_module("harness.postgres.inspect")  # the package has a function of that name
READING = importlib.import_module("harness.postgres.reading")
SOME = int(os.environ.get("PROVADO_TEST_CASES", "5"))  # of each family
DAILY = sorted((FIXTURES / "backups").glob("*daily*.sql.gz"))[-1]


@pytest.fixture
def by_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)


def _artifact(path: Path, **more: object) -> Artifact:
    return replace(catalog.find(path, components.recognisers())[0], **more)


def _told(evidence: Evidence) -> dict[str, object]:
    """All that a drill says, but for times and what the sandbox is called."""
    return {
        "checks": [(c.id, c.status, c.reason) for c in evidence.checks],
        "findings": [(f.check, f.severity, f.object, f.message) for f in evidence.findings],
        "sha256": evidence.sha256,
        "source": evidence.source_version,
        "taken_at": evidence.artifact.taken_at,
        "rows": evidence.measured.rows,
        "unproven": evidence.unproven,
        "facts": evidence.facts,
    }


def _both(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> tuple[Evidence, Evidence]:
    settings = load_settings(None, {})
    before = drill(artifact, settings)
    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)
    monkeypatch.setattr(READING, "AHEAD_BYTES", 0)
    return before, drill(artifact, settings)


def _cases() -> Iterator[Path]:
    yield DAILY
    if CORPUS.is_dir():
        good = CORPUS / "good"
        yield from (good / n for n in ("email_gateway.dump", "email_gateway.dir", "email_gateway.tar"))
        yield good / "plain-full.sql.gz"


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in _cases()])
def test_good_backups_are_told_alike(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = _both(_artifact(path, manifest=None), monkeypatch)
    assert _told(after) == _told(before)


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus lies outside this repository")
@pytest.mark.parametrize(
    "family", ["file-damage", "archive-damage", "altered-data", "unrestorable", "control"]
)
def test_broken_backups_are_told_alike(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [json.loads(c.read_text()) for c in sorted((CORPUS / "cases").glob("*/case.json"))]
    chosen = [c for c in cases if c["family"] == family and c.get("file")][:SOME]
    assert chosen
    for case in chosen:
        file = CORPUS / "cases" / case["id"] / case["file"]
        artifact = _artifact(file, manifest=None)
        monkeypatch.undo()
        told = [_told(e) for e in _both(artifact, monkeypatch)]
        if family == "archive-damage":  # pg_restore's last words come in pieces: how far they go varies
            for one in told:
                del one["facts"]
        assert told[0] == told[1], case["id"]


def test_text_that_needs_another_server_than_it_began_with_is_restored_again(
    by_load: None, tmp_path: Path
) -> None:
    backup = tmp_path / "late.sql"
    backup.write_text(
        "CREATE TABLE public.t (v text);\nCOPY public.t (v) FROM stdin;\na\n\\.\n"
        "CREATE EXTENSION citext;\nCREATE TABLE public.u (v citext);\nCOPY public.u (v) FROM stdin;\nb\n\\.\n"
    )
    evidence = drill(_artifact(backup), load_settings(None, {}))
    failed = {c.id for c in evidence.checks if c.status in (Status.FAIL, Status.ERROR)}
    assert not failed & {"pg.statements", "pg.row-counts", "pg.row-content"}
    assert evidence.measured.rows == 2


def test_damage_found_by_the_load_leaves_nothing_restored(by_load: None, tmp_path: Path) -> None:
    whole = gzip.decompress(DAILY.read_bytes())
    backup = tmp_path / "email-gateway-daily-20260101-020000.sql.gz"
    backup.write_bytes(gzip.compress(whole[: len(whole) * 2 // 3]))
    evidence = drill(_artifact(backup), load_settings(None, {}))
    assert judge(evidence).verdict.value == "fail"
    assert evidence.sandbox.kind == "none"
    assert evidence.sha256


@pytest.mark.parametrize("format", ["plain", "custom"])
def test_the_file_is_judged_where_no_server_serves_it(
    format: str, by_load: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = _artifact(_dump(tmp_path) if format == "custom" else DAILY, manifest=None)

    def none(*_: object, **__: object) -> None:
        raise SandboxError("no server here")

    monkeypatch.setattr(importlib.import_module("harness.postgres.restore"), "postgres_sandbox", none)
    evidence = drill(artifact, load_settings(None, {}))
    assert judge(evidence).verdict.value == "inconclusive"
    assert evidence.sha256
    assert evidence.source_version
    assert [c for c in evidence.checks if c.proves is Proves.FILE and c.status is Status.PASS]


def test_no_more_is_read_before_the_restore_than_it_needs(by_load: None, tmp_path: Path) -> None:
    backup = tmp_path / "big.sql"
    with backup.open("w") as file:
        file.write("CREATE TABLE public.t (v text);\nCOPY public.t (v) FROM stdin;\n")
        for _ in range(400):
            file.write(("x" * 99 + "\n") * 10_000)
        file.write("\\.\n")
    read = [0]
    ctx = DrillContext(
        load_settings(None, {}),
        tmp_path,
        time.monotonic() + 60,
        progress=lambda stage, done, total: read.append(done),
    )
    begun = COMPONENT.inspect(_artifact(backup), ctx)
    assert begun.rest is not None
    assert read[-1] < backup.stat().st_size / 20


def test_what_reads_ahead_knows_the_plan_and_ends_with_the_drill(
    by_load: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READING, "AHEAD_BYTES", 0)
    ctx = DrillContext(load_settings(None, {}), tmp_path, time.monotonic() + 60)
    whole = gzip.decompress(DAILY.read_bytes())
    cut, endless = tmp_path / "cut.sql", tmp_path / "endless.sql"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with endless.open("wb") as file:
        file.write(b"CREATE TABLE public.t (v text);\nCOPY public.t (v) FROM stdin;\n")
        file.truncate(8 << 30)
    for backup, known in ((DAILY, True), (cut, False)):
        begun = COMPONENT.inspect(_artifact(backup), ctx)
        assert isinstance(begun.rest, Reading)
        assert begun.rest.plan() is None
        items = begun.rest.items()
        while not isinstance(next(items), Copy):
            assert begun.rest._ahead is None
        assert begun.rest._ahead
        begun.rest._ahead._thread.join()
        plan = begun.rest.plan()
        assert bool(plan and plan.indexes) is known
    begun = COMPONENT.inspect(_artifact(endless), ctx)
    assert isinstance(begun.rest, Reading)
    items = begun.rest.items()
    while not isinstance(next(items), Copy):
        pass
    assert [t for t in threading.enumerate() if t.name == "provado-ahead"]
    begun.rest.stop()
    assert not [t for t in threading.enumerate() if t.name == "provado-ahead"]


@pytest.mark.parametrize("tables", [1, 2])
def test_nothing_reads_ahead_for_the_last_table(
    by_load: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: int
) -> None:
    """Where all rows are in one table, its indexes are met as soon as anyone could know them."""
    monkeypatch.setattr(READING, "AHEAD_BYTES", 1 << 20)
    dump = tmp_path / "dump.sql"
    with dump.open("w") as file:
        for number in range(tables):
            file.write(f"CREATE TABLE public.t{number} (v text);\nCOPY public.t{number} (v) FROM stdin;\n")
            file.write(f"{'x' * 1023}\n" * 1024 + "\\.\n\n")
        file.write("CREATE INDEX i ON public.t0 (v);\n")
    ctx = DrillContext(load_settings(None, {}), tmp_path, time.monotonic() + 60)
    begun = COMPONENT.inspect(_artifact(dump), ctx)
    assert isinstance(begun.rest, Reading)
    for _ in begun.rest.items():
        pass
    assert bool(begun.rest._ahead) is (tables == 2)
    begun.rest.stop()


def test_the_deadline_ends_the_reading(by_load: None, tmp_path: Path) -> None:
    ctx = DrillContext(load_settings(None, {}), tmp_path, time.monotonic() - 1)
    with pytest.raises(ToolError, match="out of time"):
        inspected(COMPONENT, _artifact(DAILY), ctx)


def _dump(folder: Path) -> Path:
    found = sorted(CORPUS.glob("good/*.dump")) if CORPUS.is_dir() else []
    if not found:
        pytest.skip("no archive at hand: the corpus lies outside this repository")
    return found[0]
