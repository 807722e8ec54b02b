"""The canary: a key of ours in the saved data, gone from the source afterwards, no key of the application."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_servers import SETTINGS, redis_address, redis_server
from redis_servers import Running, running
from test_redis_drill import archive, bad, verdict, verify

from harness import process
from harness.backups import Taken, order
from harness.errors import ArtifactError, ConfigError, ToolError
from harness.manifest import read_manifest, write_manifest
from harness.model import Verdict
from harness.redact import Secret
from harness.redis.backup import address, backup
from harness.redis.canary import Canary, Planted, from_record, planted, proven
from harness.redis.capture import capture, capture_saved
from harness.redis.digest import CANARY, Digester
from harness.redis.wire import Address, Wire
from harness.sandbox import Server

PATTERN = CANARY + b"*"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with redis_server() as started, Wire(redis_address(started)) as wire:
        list(wire.pipeline(("SET", f"cache:{n}", "v" * 50) for n in range(300)))
        yield started


def taken(server: Server, folder: Path, **settings: object) -> Taken:
    changed = SETTINGS.model_copy(update={"redis": SETTINGS.redis.model_copy(update=settings)})
    return backup(redis_address(server), order(folder, "daily", SETTINGS.policy.zone), changed)


def left(server: Server) -> list[bytes]:
    with Wire(redis_address(server)) as wire:
        found: list[bytes] = wire.call("KEYS", PATTERN)
        return found


def test_a_backup_proves_which_one_it_is(server: Server, tmp_path: Path) -> None:
    first, second = taken(server, tmp_path), taken(server, tmp_path)
    assert left(server) == []
    assert first.notes == second.notes == () and first.manifest and second.manifest
    record = read_manifest(first.manifest, "redis").facts["canary"]
    assert record["name"].encode().startswith(CANARY) and len(record["nonce"]) == 32
    evidence = verify(first.path, first.manifest, require={"*": 300})
    assert bad(evidence) == {} and verdict(evidence) is Verdict.PASS
    assert evidence.measured.keys == 300  # the canary is in the server, too, and is none of them
    assert {c.id: c.status for c in evidence.checks}["redis.source-canary"] == "pass"
    assert record["nonce"] not in json.dumps([f.message for f in evidence.findings])
    # The same keys, but of another run: only the canary can tell.
    other = verify(second.path, first.manifest)
    assert list(bad(other)) == ["redis.source-canary"] and verdict(other) is Verdict.FAIL
    assert "another or an older file" in bad(other)["redis.source-canary"]
    too_many = verify(first.path, first.manifest, require={"*": 301, "provado:*": 1})
    assert list(bad(too_many)) == ["redis.required-keys"]


def test_it_can_be_switched_off(server: Server, tmp_path: Path) -> None:
    without, with_one = taken(server, tmp_path, canary=False), taken(server, tmp_path)
    assert without.manifest and with_one.manifest and without.notes == ()
    assert "canary" not in read_manifest(without.manifest, "redis").facts
    assert verdict(verify(without.path, without.manifest)) is Verdict.PASS
    assert list(bad(verify(without.path, with_one.manifest))) == ["redis.source-canary"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (("+@all", "~*", "-set"), "refuses SET"),
        (("+@all", "%R~*"), "refuses SET"),
        (("+@all", "~*", "-del"), "could not be removed"),
    ],
    ids=["no set", "read only", "no del"],
)
def test_a_user_who_may_not_write_it(
    rules: tuple[str, ...], words: str, server: Server, tmp_path: Path
) -> None:
    with Wire(redis_address(server)) as wire:
        wire.call("ACL", "SETUSER", "backup", "reset", "on", "nopass", *rules)
        user = address(f"unix://backup:x@{server.unix_socket}")
        made = backup(user, order(tmp_path, "daily", SETTINGS.policy.zone), SETTINGS)
        assert len(made.notes) == 1 and words in made.notes[0]
        assert verdict(verify(made.path, made.manifest)) is Verdict.PASS
        for name in left(server):
            assert 0 < wire.call("PTTL", name) <= 600_000
            wire.call("DEL", name)


def test_never_on_a_replica_or_a_full_server() -> None:
    with running(None, replicaof="127.0.0.1 1", replica_read_only="no") as one:
        with planted(one.wire.address, one.wire) as found:
            assert one.wire.call("KEYS", PATTERN) == []
        assert found.why and "replica" in found.why
    with running(None, maxmemory_policy="volatile-ttl") as one:
        one.wire.call("CONFIG", "SET", "maxmemory", int(one.wire.info("memory")["used_memory"]) + 500_000)
        with planted(one.wire.address, one.wire) as found:
            assert one.wire.call("KEYS", PATTERN) == []
        assert found.why and "evict" in found.why


def test_on_a_node_of_a_cluster() -> None:
    """Its name falls into a slot that this node serves, however few they are."""
    with running(None, cluster_enabled="yes", cluster_require_full_coverage="no") as one:
        with planted(one.wire.address, one.wire) as found:
            assert found.why and "serves no slots" in found.why
        one.wire.call("CLUSTER", "ADDSLOTS", 7, *range(4000, 4010))
        until = time.monotonic() + 10
        while one.wire.info("cluster") and b"cluster_state:ok" not in one.wire.call("CLUSTER", "INFO"):
            assert time.monotonic() < until
            time.sleep(0.1)
        with planted(one.wire.address, one.wire) as found:
            assert found.why is None and len(one.wire.call("KEYS", PATTERN)) == 1
        assert one.wire.call("KEYS", PATTERN) == [] and found.stayed


def test_it_is_removed_when_the_backup_fails(server: Server, tmp_path: Path) -> None:
    with Wire(redis_address(server)) as wire:
        wire.call("ACL", "SETUSER", "backup", "reset", "on", "nopass", "+@all", "~*", "-sync", "-psync")
    with pytest.raises(ToolError, match="refuses to send"):
        user = address(f"unix://backup:x@{server.unix_socket}")
        backup(user, order(tmp_path, "daily", SETTINGS.policy.zone), SETTINGS)
    assert left(server) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_is_removed_when_the_backup_is_stopped(
    number: signal.Signals, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with Wire(redis_address(server)) as wire:
        wire.call("CONFIG", "SET", "rdb-key-save-delay", 50_000)  # 15 s for this data set
        env = {"REDIS_URL": f"unix://{server.unix_socket}", "PW": server.password.reveal()}
        argv = [sys.executable, "-m", "harness", "backup", "redis", "env:REDIS_URL", "--password", "env:PW"]
        child = process.start([*argv, "--output", tmp_path / "out"], env=env)
        try:
            until = time.monotonic() + 20
            while not (names := wire.call("KEYS", PATTERN)) and time.monotonic() < until:
                time.sleep(0.02)
            assert len(names) == 1
            child.send_signal(number)
            assert child.wait(60) == (130 if number != signal.SIGKILL else -9)
        finally:
            process.end(child)
            wire.call("CONFIG", "SET", "rdb-key-save-delay", 0)
        if number == signal.SIGKILL:  # nobody could remove it: the server will
            assert 0 < wire.call("PTTL", names[0]) <= 600_000
            wire.call("DEL", names[0])
        assert left(server) == [] and not list((tmp_path / "out").glob("*.tar.gz"))
        until = time.monotonic() + 20  # the server ends the child that saved for us
        while wire.info("persistence")["rdb_bgsave_in_progress"] == "1" and time.monotonic() < until:
            time.sleep(0.1)


def test_a_file_without_it_is_refused_at_once() -> None:
    digester = Digester(b"salt")
    canary = Canary("provado:canary:0011223344556677", "ab" * 16, "db:6379", "2026-11-24T00:00:00+00:00")
    held = {canary.name: canary.digest(digester)}
    assert proven(Planted(canary, stayed=True), held, digester) == canary.record()
    assert from_record(canary.record()) == canary
    with pytest.raises(ArtifactError, match="another server"):
        proven(Planted(canary, stayed=True), {}, digester)
    with pytest.raises(ArtifactError, match="another server"):
        proven(Planted(canary, stayed=True), {canary.name: "11" * 10}, digester)
    vanished = Planted(canary)
    assert proven(vanished, {}, digester) is None and vanished.notes()
    for broken in ({}, [], {**canary.record(), "nonce": 7}):
        with pytest.raises(ConfigError):
            from_record(broken)  # type: ignore[arg-type]


def url(one: Running) -> Secret:
    password = one.server.password.reveal()
    return Secret(f"unix://default:{password}@{one.server.unix_socket}")


def test_capture_describes_the_file_that_the_server_saves_now(tmp_path: Path) -> None:
    """For backups that other tools take by copying the dump: manifest and file are of one moment."""
    with running(None) as one:
        one.wire.call("SET", "a", "1")
        made, notes = capture_saved(url(one), one.dump)
        assert notes == [] and one.wire.call("KEYS", "*") == [b"a"]
        write_manifest(tmp_path / "m.json", made)
        copied = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": one.dump.read_bytes()})
        assert verdict(verify(copied, tmp_path / "m.json")) is Verdict.PASS
        one.wire.call("SAVE")
        later = archive(tmp_path / "redis-backup-2.tar.gz", {"dump.rdb": one.dump.read_bytes()})
        assert list(bad(verify(later, tmp_path / "m.json"))) == ["redis.source-canary"]
        stale = tmp_path / "old.rdb"
        shutil.copyfile(one.dump, stale)
        with pytest.raises(ArtifactError, match="another server"):
            capture_saved(url(one), stale)
        with pytest.raises(ConfigError):
            capture_saved(url(one), tmp_path / "not there.rdb")
        assert one.wire.call("KEYS", "*") == [b"a"]
        bare, _ = capture_saved(url(one), one.dump, canary=False)
        assert "canary" not in bare.facts and bare.facts["total_keys"] == 1


def test_a_live_capture_leaves_other_runs_canaries_out(tmp_path: Path) -> None:
    with running(None) as one:
        one.wire.call("SET", "a", "1")
        one.wire.call("SET", CANARY + b"0011223344556677", "of a backup that runs meanwhile", "PX", 60_000)
        made = capture(one.wire)
        assert made.facts["total_keys"] == 1 and "canary" not in made.facts
        write_manifest(tmp_path / "m.json", made)
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
        evidence = verify(tmp_path / "dump.rdb", tmp_path / "m.json")
        assert verdict(evidence) is Verdict.PASS and evidence.measured.keys == 1


@pytest.mark.parametrize("spoil", [False, True])
def test_an_aof_holds_it_as_a_command(spoil: bool, tmp_path: Path) -> None:
    with running(None, appendonly="yes") as one:
        one.wire.call("SET", "a", "1")
        assert one.server.shared is not None
        address = Address(one.server.unix_socket, password=one.server.password)
        made = backup(address, order(tmp_path, "daily", SETTINGS.policy.zone), SETTINGS, one.server.shared)
        assert made.notes == () and made.manifest
        if spoil:
            manifest = json.loads(made.manifest.read_text())
            manifest["facts"]["canary"]["nonce"] = "00" * 16
            made.manifest.write_text(json.dumps(manifest))
        evidence = verify(made.path, made.manifest)
        assert list(bad(evidence)) == (["redis.source-canary"] if spoil else [])
        assert evidence.measured.keys == 1
