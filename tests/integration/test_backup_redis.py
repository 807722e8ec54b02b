"""`provado backup redis` against real servers: none of their files needed, nothing hangs or is missing."""

from __future__ import annotations

import re
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_servers import SETTINGS, redis_address, redis_server

from harness.backups import order
from harness.catalog import identify
from harness.component import DrillContext
from harness.errors import ConfigError, ToolError
from harness.manifest import read_manifest
from harness.redis.backup import address, backup
from harness.redis.inspect import inspect, recognise
from harness.redis.wire import Wire
from harness.sandbox import Server

UTC = SETTINGS.policy.zone


@pytest.fixture(scope="module", params=["no", "yes"], ids=["rdb", "aof"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with redis_server(appendonly=request.param) as started, Wire(redis_address(started)) as wire:
        fill(wire)
        yield started


def fill(wire: Wire) -> None:
    list(wire.pipeline(("SET", f"cache:{n}", "v" * 50, "EX", 5000 + n) for n in range(500)))
    list(wire.pipeline(("HSET", f"bull:email:send:{n}", "data", f'{{"id":"c{n}"}}') for n in range(200)))
    wire.call("RPUSH", "bull:email:send:wait", *range(200))
    wire.call("XADD", "bull:email:send:events", "*", "event", "added")
    wire.call("SELECT", 3)
    wire.call("SET", "elsewhere", "1")
    wire.call("SELECT", 0)


def test_the_archive_holds_every_key(server: Server, tmp_path: Path) -> None:
    taken = backup(redis_address(server), order(tmp_path, "daily", UTC), SETTINGS)
    assert re.fullmatch(r"redis-backup-\d{8}-\d{6}\.tar\.gz", taken.path.name)
    assert taken.notes == ()
    folder = taken.path.name.removesuffix(".tar.gz")
    with tarfile.open(taken.path) as tar:
        members = {m.name for m in tar}
        config = tar.extractfile(f"{folder}/redis-config.txt")
        assert config is not None and server.password.reveal().encode() not in config.read()
    wanted = ("dump.rdb", "redis-info.txt", "redis-config.txt", "backup-metadata.txt")
    assert members == {f"{folder}/{name}" for name in wanted}
    artifact = identify(taken.path, {"redis": recognise})
    assert artifact is not None and artifact.format == "archive"
    (tmp_path / "scratch").mkdir()
    found = inspect(artifact, DrillContext(SETTINGS, tmp_path / "scratch", time.monotonic() + 60))
    rdb = found.facts.rdb()
    assert found.restorable and rdb.damage is None and rdb.total == 703 and rdb.keys[3] == 1
    manifest = read_manifest(taken.path.with_name(taken.path.name + ".manifest.json"), "redis")
    assert manifest.facts["total_keys"] == 703
    assert manifest.artifact == {"sha256": taken.sha256, "bytes": taken.bytes}
    assert {p.name for p in tmp_path.iterdir() if ".partial" in p.name} == set()
    assert "Backup concluído" in (tmp_path / "backup.log").read_text()
    weekly = backup(redis_address(server), order(tmp_path, "weekly", UTC), SETTINGS)
    assert weekly.path.name.startswith("redis-backup-weekly-")


def test_under_writes_the_counts_are_those_of_one_moment(server: Server, tmp_path: Path) -> None:
    over = threading.Event()

    def busy() -> None:
        with Wire(redis_address(server)) as wire:
            n = 0
            while not over.is_set():
                list(wire.pipeline(("SET", f"busy:{n + i}", "x") for i in range(50)))
                n += 50
            wire.call("EVAL", "for _,k in ipairs(redis.call('keys','busy:*')) do redis.call('del',k) end", 0)

    worker = threading.Thread(target=busy)
    worker.start()
    try:
        for _ in range(3):
            assert backup(redis_address(server), order(tmp_path, "daily", UTC), SETTINGS).notes == ()
    finally:
        over.set()
        worker.join()


def test_a_wrong_password_or_a_dead_server_ends_at_once(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()  # GATEWAY 8: the seed's loop waits for ever
    (tmp_path / "pw").write_text("wrong")
    with pytest.raises(ConfigError, match="password"):
        wrong = address(f"unix://{server.unix_socket}", f"file:{tmp_path / 'pw'}")
        backup(wrong, order(tmp_path, "daily", UTC), SETTINGS)
    with pytest.raises((ToolError, ConfigError)):
        backup(address("redis://127.0.0.1:1"), order(tmp_path, "daily", UTC), SETTINGS)
    assert time.monotonic() - began < 5
    assert not list(tmp_path.glob("*.tar.gz"))


def test_a_server_that_cannot_save_is_an_error(tmp_path: Path) -> None:
    with redis_server() as started, Wire(redis_address(started)) as wire:
        fill(wire)
        wire.call("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", "-sync", "-psync")
        limited = address(f"unix://limited:x@{started.unix_socket}")
        with pytest.raises(ToolError, match="refuses to send its data"):
            backup(limited, order(tmp_path, "daily", UTC), SETTINGS)
    assert not list(tmp_path.glob("*.tar.gz"))
