"""`provado restore redis`: round trips into servers with and without an AOF; no target half restored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_servers import SETTINGS, redis_address, redis_server

from harness.backups import order
from harness.catalog import identify
from harness.errors import ArtifactError, ConfigError, RestoreError
from harness.model import Artifact
from harness.redis.backup import backup
from harness.redis.inspect import recognise
from harness.redis.recover import Wish, plan, recover
from harness.redis.wire import Wire
from harness.sandbox import Server


def fill(wire: Wire) -> None:
    wire.call("FLUSHALL")
    list(wire.pipeline(("SET", f"cache:{n}", "v" * 50, "PXAT", 4102444800000 + n) for n in range(300)))
    list(wire.pipeline(("HSET", f"bull:email:send:{n}", "data", f'{{"id":"c{n}"}}') for n in range(200)))
    wire.call("RPUSH", "bull:email:send:wait", *range(200))
    wire.call("XADD", "bull:email:send:events", "1-1", "event", "added")
    wire.call("XGROUP", "CREATE", "bull:email:send:events", "workers", "0")
    wire.call("XREADGROUP", "GROUP", "workers", "w1", "STREAMS", "bull:email:send:events", ">")
    wire.call(
        "FUNCTION", "LOAD", "REPLACE", "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    )
    wire.call("SELECT", 3)
    wire.call("ZADD", "scores", 1.5, "a", 2, "b")
    wire.call("SELECT", 0)


def content(wire: Wire) -> dict[str, Any]:
    """Everything a server holds: per database and key its dump and expiry, and its functions."""
    held: dict[str, Any] = {"functions": wire.call("FUNCTION", "DUMP")}
    for database in range(16):
        wire.call("SELECT", database)
        for key in wire.call("KEYS", "*"):
            held[f"{database}:{key!r}"] = (wire.call("DUMP", key), wire.call("PEXPIRETIME", key))
    wire.call("SELECT", 0)
    return held


@pytest.fixture(scope="module", params=["yes", "no"], ids=["aof", "rdb"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with redis_server(appendonly=request.param, enable_debug_command="yes") as started:
        yield started


@pytest.fixture(scope="module")
def good(server: Server) -> Iterator[tuple[Artifact, dict[str, Any]]]:
    """A backup, and what the server held when it was taken."""
    with Wire(redis_address(server)) as wire, tempfile.TemporaryDirectory() as folder:
        fill(wire)
        held = content(wire)
        taken = backup(redis_address(server), order(Path(folder), "daily", SETTINGS.policy.zone), SETTINGS)
        artifact = identify(taken.path, {"redis": recognise})
        assert artifact is not None
        yield artifact, held


@pytest.fixture
def wire(server: Server, good: tuple[Artifact, dict[str, Any]]) -> Iterator[Wire]:
    with Wire(redis_address(server)) as wire:
        fill(wire)
        yield wire


def wish(folder: Path, **more: Any) -> Wish:
    return Wish(**{"replace": True, "safety": folder / "recovery", **more})


def test_damage_and_recovery_of_the_whole(
    server: Server, good: tuple[Artifact, dict[str, Any]], wire: Wire, tmp_path: Path
) -> None:
    artifact, held = good
    wire.call("DEL", "bull:email:send:wait")
    wire.call("SET", "cache:1", "damaged")
    wire.call("FUNCTION", "FLUSH")
    wire.call("SELECT", 5)
    wire.call("SET", "not in the backup", "1")
    done = recover(artifact, redis_address(server), wish(tmp_path), SETTINGS, tmp_path)
    assert done.arrived["keys"] == len(held) - 1 and done.notes == []
    assert done.safety is not None and done.safety.exists()
    assert content(wire) == held
    if (
        wire.call("CONFIG", "GET", "appendonly")[1] == b"yes"
    ):  # GATEWAY 6 and 7: the AOF wins at the next start
        wire.call("DEBUG", "LOADAOF")
        assert content(wire) == held


def test_chosen_keys_and_databases(
    server: Server, good: tuple[Artifact, dict[str, Any]], wire: Wire, tmp_path: Path
) -> None:
    artifact, held = good
    wire.call("FLUSHALL")
    wire.call("SET", "stays", "1")
    wire.call("SET", "cache:7", "old")
    done = recover(
        artifact,
        redis_address(server),
        wish(tmp_path, keys=("cache:7",), prefixes=("bull:",)),
        SETTINGS,
        tmp_path,
    )
    now = content(wire)
    assert done.arrived["keys"] == 203 and now.pop("0:b'stays'")
    expected = {k: v for k, v in held.items() if ":b'bull:" in k or k == "0:b'cache:7'"}
    assert {k: v for k, v in now.items() if k != "functions"} == expected
    done = recover(artifact, redis_address(server), wish(tmp_path, databases=(3,)), SETTINGS, tmp_path)
    assert done.arrived["keys"] == 1
    assert content(wire)["3:b'scores'"] == held["3:b'scores'"]
    assert "0:b'stays'" in content(wire)


def test_a_target_with_data_is_refused(
    server: Server, good: tuple[Artifact, dict[str, Any]], wire: Wire, tmp_path: Path
) -> None:
    artifact, _ = good
    before = content(wire)
    with pytest.raises(RestoreError, match="holds 503 keys"):
        recover(artifact, redis_address(server), Wish(), SETTINGS, tmp_path)
    with pytest.raises(ConfigError, match="no such key"):
        recover(artifact, redis_address(server), wish(tmp_path, keys=("nothing",)), SETTINGS, tmp_path)
    assert plan(artifact, redis_address(server), Wish(), SETTINGS, tmp_path).refusal
    assert content(wire) == before


def test_a_small_maxmemory_is_refused_not_evicted(
    server: Server, good: tuple[Artifact, dict[str, Any]], wire: Wire, tmp_path: Path
) -> None:
    before = content(wire)  # GATEWAY 14
    wire.call("CONFIG", "SET", "maxmemory", int(wire.info("memory")["used_memory"]) + 50_000)
    try:
        with pytest.raises(RestoreError, match="maxmemory"):
            recover(good[0], redis_address(server), wish(tmp_path), SETTINGS, tmp_path)
    finally:
        wire.call("CONFIG", "SET", "maxmemory", 0)
    assert content(wire) == before


def test_a_damaged_backup_leaves_the_target_as_it_was(
    server: Server, good: tuple[Artifact, dict[str, Any]], wire: Wire, tmp_path: Path
) -> None:
    before = content(wire)
    data = good[0].path.read_bytes()
    bad = tmp_path / "redis-backup-20260101-000000.tar.gz"
    bad.write_bytes(data[: len(data) // 2])
    artifact = identify(bad, {"redis": recognise})
    assert artifact is not None
    with pytest.raises(ArtifactError):
        recover(artifact, redis_address(server), wish(tmp_path), SETTINGS, tmp_path)
    assert content(wire) == before


def test_what_an_interrupted_recovery_left_is_emptied(
    server: Server, good: tuple[Artifact, dict[str, Any]], wire: Wire, tmp_path: Path
) -> None:
    artifact, held = good
    wire.call("SELECT", 15)
    wire.call("SET", "provado:restore:staging", "1")
    wire.call("SET", "half", "1")
    wire.call("SET", "provado:restore:alive", "1", "PX", 60_000)
    with pytest.raises(RestoreError, match="another recovery"):
        recover(artifact, redis_address(server), wish(tmp_path), SETTINGS, tmp_path)
    wire.call("DEL", "provado:restore:alive")
    recover(artifact, redis_address(server), wish(tmp_path, safety=None), SETTINGS, tmp_path)
    assert content(wire) == held
