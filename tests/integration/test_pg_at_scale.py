"""Databases under load and of some size; `tests/pg_writers.py` and `tests/pg_million.py` do it in full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pg_million
import pg_writers
import pytest
from live_servers import live, postgres, query

from harness.manifest import Manifest, read_manifest
from harness.postgres.capture import capture_facts
from harness.postgres.compare_data import compare_large_objects, compare_rows
from harness.sandbox import Server, find_tool
from harness.settings import SandboxSettings

pytestmark = pytest.mark.slow


@pytest.mark.skipif(find_tool("pgbench", SandboxSettings()) is None, reason="no pgbench here")
def test_backups_while_others_write(tmp_path: Path) -> None:
    with postgres() as server:
        query(server, "postgres", f"CREATE DATABASE {pg_writers.BASE}")
        pairs = pg_writers.taken(server, tmp_path, 5, 4)
        assert pairs
        made, later = pairs[-1]
        manifest = made.with_name(made.name + ".manifest.json")
        assert pg_writers.verdict(server, made, manifest, tmp_path / "reports") == ("pass", [])
        verdict, told = pg_writers.verdict(server, later, manifest, tmp_path / "reports")
        assert verdict == "fail"
        assert {"public.pgbench_accounts", "public.pgbench_history"} <= set(told)


@pytest.fixture(scope="module")
def million() -> Iterator[Server]:
    """A fifth of it: what a digest finds does not depend on the number of rows."""
    with postgres() as server:
        pg_million.make(server, 200_000)
        pg_million.copied(server)
        yield server


@pytest.fixture(scope="module")
def manifest(million: Server, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    path = tmp_path_factory.mktemp("million") / "manifest.json"
    pg_million.capture(million, path)
    return read_manifest(path, "postgres")


@pytest.mark.parametrize("change", pg_million.CHANGES)
def test_one_change_in_many_rows(change: str, million: Server, manifest: Manifest) -> None:
    statements, objects = pg_million.CHANGES[change]
    pg_million.copied(million, *statements)
    with live(million, pg_million.COPY).connect() as conn:
        facts = capture_facts(conn, key=manifest.facts["key"])
    assert facts["objects"] == manifest.facts["objects"]
    differing = [
        *compare_rows(manifest.facts, facts).differing,
        *compare_large_objects(manifest.facts, facts),
    ]
    assert {d.object for d in differing} == objects
