"""Append-only files: whole commands, open transactions, touched keys, and the AOF's manifest."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from harness.model import Severity
from harness.redis.aof import AofFacts, read
from harness.redis.digest import Digester
from harness.redis.layout import look

D = Digester()


def command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)


def facts_of(data: bytes) -> AofFacts:
    return read(io.BytesIO(data), D, AofFacts(), deadline=time.monotonic() + 10)


def names(*keys: str) -> set[bytes]:
    return {D.name(key.encode()) for key in keys}


def test_commands_and_what_they_touch() -> None:
    data = b"#TS:1700000000\r\n" + command("SELECT", "0") + command("SET", "a", "1")
    data += command("DEL", "b", "c") + command("MSET", "d", "1", "e", "2") + command("RENAME", "f", "g")
    data += command("XGROUP", "CREATE", "h", "g", "$") + command("hset", "i", "f", "v")
    facts = facts_of(data)
    assert facts.damage is None and facts.open_transaction == 0
    assert facts.last_time == 1_700_000_000
    assert facts.touched == names("a", "b", "c", "d", "e", "f", "g", "h", "i")
    assert facts.commands == 7


@pytest.mark.parametrize("word", ["FLUSHALL", "SWAPDB", "EVAL", "flushdb"])
def test_commands_that_may_touch_anything(word: str) -> None:
    assert facts_of(command("SET", "a", "1") + command(word, "0", "1")).touched is None


def test_open_transaction() -> None:
    whole = command("MULTI") + command("SET", "a", "1") + command("EXEC")
    assert facts_of(whole).open_transaction == 0
    assert facts_of(whole + command("MULTI")).open_transaction == 1
    assert facts_of(whole + command("MULTI") + command("SET", "a", "2")).open_transaction == 2


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (b"\0" * 100, "NUL"),
        (b"*2\r\n$3\r\nDEL\r\n$5\r\nab", "middle"),
        (b"*2\r\n$3\r\nDEL\r\n$1\r\nabc\r\n", "length is wrong"),
        (b"hello world, this is no command at all\r\n", "no command"),
        (b"*99999999999999\r\n", "count"),
        (b"#" * 1000, "annotation"),
        (b"*1\r\nPING\r\n", "no length"),
    ],
)
def test_damage_is_named(tail: bytes, words: str) -> None:
    facts = facts_of(command("SET", "a", "1") + tail)
    assert facts.damage and words in facts.damage
    assert facts.commands == 1


def folder(tmp_path: Path, manifest: str | None, *files: str) -> Path:
    parts = tmp_path / "appendonlydir"
    parts.mkdir()
    for name in files:
        (parts / name).write_bytes(b"REDIS0010" if name.endswith(".rdb") else b"")
    if manifest is not None:
        (parts / "appendonly.aof.manifest").write_text(manifest)
    return tmp_path


BASE, INCR = "appendonly.aof.2.base.rdb", "appendonly.aof.2.incr.aof"
LISTED = f"file {BASE} seq 2 type b\nfile {INCR} seq 2 type i\n"


@pytest.mark.parametrize(
    ("manifest", "files", "severities"),
    [
        (LISTED, (BASE, INCR), []),
        (LISTED + "file appendonly.aof.1.base.rdb seq 1 type h\n", (BASE, INCR), []),
        (LISTED, (BASE, INCR, "appendonly.aof.1.incr.aof"), [Severity.INFO]),
        (LISTED, (BASE,), [Severity.CRITICAL]),
        (f"file {BASE} seq 2 type b\n", (BASE, INCR), [Severity.CRITICAL]),
        (f"file {INCR} seq 2 type i\n", (BASE, INCR), [Severity.CRITICAL, Severity.CRITICAL]),
        ("file appendonly.aof.1.incr.aof seq 1 type i\n", ("appendonly.aof.1.incr.aof",), []),
        (LISTED + "file ../../etc/passwd seq 3 type i\n", (BASE, INCR), [Severity.CRITICAL]),
        (LISTED + "nonsense type x\n", (BASE, INCR), [Severity.CRITICAL]),
        (LISTED.replace("type i", "type h"), (BASE, INCR), [Severity.CRITICAL]),
        (LISTED + "file appendonly.aof.3.base.rdb seq 3 type h\n", (BASE, INCR), [Severity.CRITICAL]),
        (LISTED + f"file {INCR} seq 3 type i\n", (BASE, INCR), [Severity.CRITICAL]),
        (f"file {BASE} seq 2 type b\n", (BASE,), [Severity.MEDIUM]),
        (None, (BASE, INCR), [Severity.CRITICAL]),
    ],
)
def test_the_manifest_and_its_files(
    manifest: str | None, files: tuple[str, ...], severities: list[Severity], tmp_path: Path
) -> None:
    found = look(folder(tmp_path, manifest, *files), "backup")
    assert [p.severity for p in found.problems if p.check == "redis.aof-files"] == severities
    assert found.broken_aof == (manifest is None)


def test_a_manifest_of_any_size_is_few_findings(tmp_path: Path) -> None:
    many = "".join(f"file appendonly.aof.{n}.incr.aof seq {n} type i\n" for n in range(3, 9000))
    found = look(folder(tmp_path, LISTED + many + 'file "' + "a" * 500_000, BASE, INCR), "backup")
    assert 20 < len(found.problems) < 50
    assert "8,95" in found.problems[-1].message


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"REDIS0010")
    inside = tmp_path / "backup"
    inside.mkdir()
    (inside / "dump.rdb").symlink_to(secret)
    assert look(inside, "backup").empty


def test_data_away_from_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dump.rdb").write_bytes(b"REDIS0010")
    assert look(tmp_path, "backup").problems == []
    (tmp_path / "redis-info.txt").write_text("# Server\r\nredis_version:7.0.15\r\ndb0:keys=3,expires=1\r\n")
    found = look(tmp_path, "backup")
    assert [p.severity for p in found.problems] == [Severity.HIGH]
    assert found.notes == {"redis_version": "7.0.15", "db0": "keys=3,expires=1"}


def test_a_name_the_server_does_not_look_for(tmp_path: Path) -> None:
    (tmp_path / "other.rdb").write_bytes(b"REDIS0010")
    assert [p.severity for p in look(tmp_path, "b").problems] == [Severity.INFO]
    (tmp_path / "redis-config.txt").write_text("dir\n/data\ndbfilename\ndump.rdb\n")
    assert [p.severity for p in look(tmp_path, "b").problems] == [Severity.HIGH]
    (tmp_path / "redis-config.txt").write_text("dir\n/data\ndbfilename\nother.rdb\n")
    assert look(tmp_path, "b").problems == []
    (tmp_path / "redis-config.txt").write_text("dbfilename other.rdb\nappendonly yes\n")
    told = look(tmp_path, "b").problems
    assert [p.severity for p in told] == [Severity.INFO] and "starts empty" in told[0].message
