"""The user's own redis.conf with an AOF backup: broken set-ups are caught, the right ones left alone."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from redis_servers import SERVERS, fill, running
from test_redis_drill import archive, bad, verdict, verify

from harness.model import Verdict

FIRST = next((name for name in sorted(SERVERS) if name.startswith("redis-7")), "")
pytestmark = pytest.mark.skipif(not FIRST, reason="no Redis 7 here: an AOF as the customer's is NOT tested")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The data folder of a server that writes an AOF: its parts, and a dump of an earlier state."""
    with running(SERVERS[FIRST], appendonly="yes") as one:
        one.wire.call("SET", "early", "1")
        one.wire.call("SAVE")
        assert one.server.shared is not None
        early = one.dump.read_bytes()
        fill(one.wire, one.vendor, one.version)
        one.wire.call("BGREWRITEAOF")
        until = time.monotonic() + 30
        while one.wire.info("persistence")["aof_rewrite_in_progress"] != "0" and time.monotonic() < until:
            time.sleep(0.02)
        one.wire.call("SET", "after", "the rewrite")
        folder = one.server.shared / "appendonlydir"
        return {"dump.rdb": early, **{f"appendonlydir/{p.name}": p.read_bytes() for p in folder.iterdir()}}


def rehearsed(parts: dict[str, bytes], conf: str, folder: Path) -> dict[str, str]:
    (folder / "redis.conf").write_text(conf)
    path = archive(folder / "redis-backup-1.tar.gz", parts)
    return bad(verify(path, redis_conf=folder / "redis.conf"))


def without_dump(parts: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in parts.items() if name != "dump.rdb"}


@pytest.mark.parametrize(
    ("conf", "check", "words"),
    [
        ("appendonly yes\n", None, ""),
        ("appendonly yes\nappendfsync everysec\naof-load-truncated yes\nrequirepass x\n", None, ""),
        ('appendonly "yes"\nappenddirname "appendonlydir"\nappendfilename "appendonly.aof"\n', None, ""),
        ("appendonly no\n", "redis.rehearsal-complete", "ignores the AOF"),
        ("# nothing about it\n", "redis.rehearsal-complete", "ignores the AOF"),
        ("appendonly yes\nappenddirname aof\n", "redis.rehearsal-complete", "another name"),
        ("appendonly yes\nappendfilename redis.aof\n", "redis.rehearsal-complete", "another name"),
        ("appendonly yes\nmaxmemory 1100kb\nmaxmemory-policy allkeys-lru\n", "redis.rehearsal-evicting", ""),
        ("appendonly yes\ndatabases 2\n", "redis.rehearsal-starts", ""),
    ],
    ids=["yes", "usual", "quoted", "no", "default", "dirname", "filename", "evicting", "databases"],
)
def test_an_aof_with_the_users_configuration(
    conf: str, check: str | None, words: str, parts: dict[str, bytes], tmp_path: Path
) -> None:
    found = rehearsed(without_dump(parts), conf, tmp_path)
    assert list(found) == ([check] if check else [])
    if check:
        assert words in found[check]


def test_an_older_dump_beside_the_aof(parts: dict[str, bytes], tmp_path: Path) -> None:
    """With appendonly no the server is not empty, but of another day."""
    found = rehearsed(parts, "appendonly no\n", tmp_path)
    assert list(found) == ["redis.rehearsal-complete"] and "fewer keys" in found["redis.rehearsal-complete"]
    assert rehearsed(parts, "appendonly yes\n", tmp_path) == {}


def test_a_dump_of_the_same_number_of_keys(tmp_path: Path) -> None:
    with running(SERVERS[FIRST], appendonly="yes") as one:
        one.wire.call("SET", "a", "1")
        one.wire.call("SAVE")
        assert one.server.shared is not None
        folder = one.server.shared / "appendonlydir"
        same = {"dump.rdb": one.dump.read_bytes()}
        same.update({f"appendonlydir/{p.name}": p.read_bytes() for p in folder.iterdir()})
        one.wire.call("SET", "a", "2")
        later = {**same, **{f"appendonlydir/{p.name}": p.read_bytes() for p in folder.iterdir()}}
    assert rehearsed(same, "appendonly no\n", tmp_path) == {}  # the dump holds all that the AOF does
    found = rehearsed(later, "appendonly no\n", tmp_path)
    assert "another state" in found["redis.rehearsal-complete"]


def test_a_cut_aof_that_the_configuration_takes(parts: dict[str, bytes], tmp_path: Path) -> None:
    """The file is bad at any rate; that the server would not say so is a fault of the procedure."""
    cut = {
        name: data[:-5] if re.search(r"incr\.aof$", name) else data
        for name, data in without_dump(parts).items()
    }
    found = rehearsed(cut, "appendonly yes\n", tmp_path)
    assert set(found) == {"redis.aof-whole", "redis.loads", "redis.rehearsal-complete"}
    assert "drops the cut end" in found["redis.rehearsal-complete"]
    strict = rehearsed(cut, "appendonly yes\naof-load-truncated no\n", tmp_path)
    assert set(strict) == {"redis.aof-whole", "redis.loads"}


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_an_aof_of_one_piece(name: str, tmp_path: Path) -> None:
    """As servers before 7.0 write it; newer ones take it over when it lies under the configured name."""
    with running(SERVERS[name]) as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("SAVE")
        whole = one.dump.read_bytes() + b"*3\r\n$3\r\nSET\r\n$5\r\nafter\r\n$1\r\n1\r\n"
    assert rehearsed({"appendonly.aof": whole}, "appendonly yes\n", tmp_path) == {}
    other = rehearsed({"appendonly.aof": whole}, "appendonly yes\nappendfilename other.aof\n", tmp_path)
    assert list(other) == ["redis.rehearsal-complete"]


def test_a_folder_that_is_the_aof_itself(parts: dict[str, bytes], tmp_path: Path) -> None:
    """Given without the folder around it, it is put where the configuration looks for it."""
    folder = tmp_path / "of-today"
    folder.mkdir()
    for name, data in without_dump(parts).items():
        (folder / name.partition("/")[2]).write_bytes(data)
    (tmp_path / "redis.conf").write_text("appendonly yes\nappenddirname elsewhere\n")
    evidence = verify(folder, redis_conf=tmp_path / "redis.conf")
    assert bad(evidence) == {} and verdict(evidence) is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "target", "fits"),
    [
        ("redis-7", "7.0", True),
        ("redis-7", "redis 7.2.4", True),
        ("redis-7", "6.2", False),
        ("redis-7", "valkey 8.1", True),
        ("redis-8", "7.0", False),
        ("redis-8", "redis 8.2", True),
        ("redis-8", "valkey 9.0", False),
        ("valkey-9", "8.2", False),
        ("valkey-9", "valkey 8.1", False),
        ("valkey-9", "valkey 9.1", True),
    ],
)
def test_the_target_must_load_what_is_saved(name: str, target: str, fits: bool, tmp_path: Path) -> None:
    """A good backup, and a recovery that would end with an empty server that refuses to start."""
    folder = next((SERVERS[n] for n in sorted(SERVERS) if n.startswith(name)), None)
    if folder is None:
        pytest.skip(f"no {name} at hand")
    with running(folder) as one:
        one.wire.call("SET", "a", "1")
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
    evidence = verify(tmp_path / "dump.rdb", target=target)
    assert list(bad(evidence)) == ([] if fits else ["redis.target"])
