"""One property changed in the source after the backup: exactly one finding, and it names what changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_servers import LATER, SERVERS, Running, fill, has_field_expiry, running

from harness.catalog import identify
from harness.check import run_checks
from harness.component import DrillContext
from harness.manifest import write_manifest
from harness.model import Finding, Severity
from harness.redis import COMPONENT
from harness.redis.capture import capture
from harness.redis.inspect import recognise
from harness.redis.wire import Wire
from harness.settings import Settings

NEWEST = max(SERVERS, key=lambda name: [int(n) for n in name.split("-")[1].split(".")])
Change = tuple[tuple[object, ...], ...]
MUTATIONS: dict[str, tuple[Change, str, str]] = {
    "value": ((("SET", "text", "y"),), "redis.source-values", "another value"),
    "type": ((("DEL", "text"), ("RPUSH", "text", "x")), "redis.source-values", "another type"),
    "expiry by one second": (
        (("PEXPIREAT", "later", LATER + 1000),),
        "redis.source-expiry",
        "expiry differs",
    ),
    "expiry lost": ((("PERSIST", "later"),), "redis.source-expiry", "expiry is lost"),
    "list order": ((("LMOVE", "list:3", "list:3", "LEFT", "RIGHT"),), "redis.source-values", "another value"),
    "last bit of a score": (
        (("ZADD", "zset:odd", "0.10000000000000002", "e"),),
        "redis.source-values",
        "another value",
    ),
    "stream entry": ((("XDEL", "stream", "1004-1"),), "redis.source-values", "another value"),
    "stream's last id": ((("XSETID", "stream", "99999-0"),), "redis.source-values", "another value"),
    "group": ((("XGROUP", "DESTROY", "stream", "idle"),), "redis.source-values", "consumer groups"),
    "group's position": (
        (("XGROUP", "SETID", "stream", "idle", "1000-1"),),
        "redis.source-values",
        "consumer groups",
    ),
    "pending entry's consumer": (
        (("XCLAIM", "stream", "workers", "bob", 0, "1000-3", "JUSTID", "TIME", 1, "RETRYCOUNT", 1),),
        "redis.source-values",
        "pending entries",
    ),
    "pending entry's count": (
        (("XCLAIM", "stream", "workers", "ann", 0, "1000-3", "RETRYCOUNT", 9, "JUSTID"),),
        "redis.source-values",
        "pending entries",
    ),
    "idle consumer": (
        (("XGROUP", "DELCONSUMER", "stream", "workers", "nobody"),),
        "redis.source-values",
        "consumers",
    ),
    "key gone": ((("DEL", "text"),), "redis.source-keys", "missing"),
    "key too many": ((("SET", "new", "1"),), "redis.source-keys", "should not exist"),
    "database": ((("MOVE", "text", 7),), "redis.source-keys", "another database"),
    "hash field's expiry": (
        (("HPEXPIREAT", "hfe:small", LATER + 1, "FIELDS", 1, "f0"),),
        "redis.source-values",
        "fields expire",
    ),
    "function": (
        (
            (
                "FUNCTION",
                "LOAD",
                "REPLACE",
                "#!lua name=mylib\nredis.register_function('f', function(k, a) end)",
            ),
        ),
        "redis.source-functions",
        "other source text",
    ),
    "function gone": ((("FUNCTION", "FLUSH"),), "redis.source-functions", "missing"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path, Path]]:
    """A server with its dump and the manifest captured beside it; tests change it and change it back."""
    folder = tmp_path_factory.mktemp("source")
    with running(SERVERS[NEWEST], enable_debug_command="yes") as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("SAVE")
        write_manifest(folder / "m.json", capture(one.wire))
        yield one, folder, folder / "m.json"


def findings(dump: Path, manifest: Path, scratch: Path) -> list[Finding]:
    artifact = identify(dump, {"redis": recognise}, manifest=manifest)
    assert artifact is not None
    scratch.mkdir()
    ctx = DrillContext(Settings(), scratch, time.monotonic() + 60)
    subject = COMPONENT.subject(COMPONENT.inspect(artifact, ctx), ctx)
    results, _ = run_checks(COMPONENT.checks, subject, fail_on=Severity.HIGH, not_restored="static")
    assert not [r for r in results if r.status == "error"]
    return [f for r in results for f in r.findings if f.severity.rank >= Severity.HIGH.rank]


def test_nothing_changed(source: tuple[Running, Path, Path], tmp_path: Path) -> None:
    one, _, manifest = source
    assert findings(one.dump, manifest, tmp_path / "scratch") == []


@pytest.mark.parametrize("name", MUTATIONS)
def test_one_change_one_finding(name: str, source: tuple[Running, Path, Path], tmp_path: Path) -> None:
    one, _, manifest = source
    change, check, words = MUTATIONS[name]
    if "HPEXPIREAT" in change[0] and not has_field_expiry(one.vendor, one.version):
        pytest.skip("no server with hash-field expiry at hand")
    original = one.dump.read_bytes()
    try:
        for command in change:
            one.wire.call(*command)
        one.wire.call("SELECT", 0)
        one.wire.call("SAVE")
        changed = tmp_path / "dump.rdb"
        changed.write_bytes(one.dump.read_bytes())
    finally:
        _reset(one.wire, one.dump, original)
    found = findings(changed, manifest, tmp_path / "scratch")
    assert len(found) == 1, found
    assert found[0].check == check and words in found[0].message


def _reset(wire: Wire, dump: Path, original: bytes) -> None:
    dump.write_bytes(original)
    wire.call("DEBUG", "RELOAD", "NOSAVE")
