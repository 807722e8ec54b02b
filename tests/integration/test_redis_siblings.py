"""Relatives of the corpus's cases: what only looks whole, and what only looks odd."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis_drills import archive, bad, verdict, verify
from redis_servers import SERVERS, Running, has_field_expiry, running

from harness.backups import order
from harness.manifest import write_manifest
from harness.model import Severity, Verdict
from harness.redis.backup import backup
from harness.redis.capture import capture
from harness.redis.crc64 import crc64
from harness.settings import Settings

SOON = 40_000  # ms


def sealed(rdb: bytes) -> bytes:
    """The RDB with the checksum that fits it."""
    return rdb[:-8] + crc64(rdb[:-8]).to_bytes(8, "little")


def info(one: Running) -> bytes:
    return "\r\n".join(f"{name}:{value}" for name, value in one.wire.info().items()).encode()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, bytes, Path]]:
    """A server with two databases, its dump, and the manifest of what it held."""
    folder = tmp_path_factory.mktemp("source")
    with running(None, save="") as one:
        for db in (0, 5):
            one.wire.call("SELECT", db)
            one.wire.call("MSET", *(part for n in range(60) for part in (f"key:{n}", n)))
        one.wire.call("SELECT", 0)
        one.wire.call("PEXPIRE", "key:0", SOON)
        one.wire.call("SAVE")
        write_manifest(folder / "m.json", capture(one.wire))
        yield one, one.dump.read_bytes(), folder / "m.json"


@pytest.mark.parametrize(
    ("magic", "words"),
    [(b"REDIS0099", "newer version"), (b"VALKEY080", "Valkey's"), (b"REDIS0012", "newer version")],
)
def test_a_header_that_its_writer_does_not_write(
    magic: bytes, words: str, source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    path = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": sealed(magic + source[1][9:])})
    evidence = verify(path)
    assert verdict(evidence) is Verdict.FAIL
    assert words in bad(evidence)["redis.rdb-header"]


def test_a_database_that_info_tells_of(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    one, dump, _ = source
    text = info(one)
    path = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": dump, "redis-info.txt": text})
    assert verdict(verify(path)) is Verdict.PASS
    half = sealed(dump[: dump.index(b"\xfe\x05\xfb")] + b"\xff" + bytes(8))
    path = archive(tmp_path / "redis-backup-2.tar.gz", {"dump.rdb": half, "redis-info.txt": text})
    found = [f for f in verify(path).findings if f.check == "redis.source-told"]
    assert {f.object for f in found} == {path.name, "db5"}
    assert all(f.severity is Severity.HIGH for f in found)
    stale = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"
    path = archive(tmp_path / "redis-backup-3.tar.gz", {"appendonly.aof": stale, "redis-info.txt": text})
    assert "redis.source-told" in bad(verify(path))  # an AOF that nobody writes to any more


def test_a_server_that_only_started_again(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    """It tells its start as the time of its last save: the dump that it loaded is older, and current."""
    _, dump, manifest = source
    at = dump.index(b"ctime") + 6
    week = int.from_bytes(dump[at : at + 4], "little") - 7 * 86_400
    old = sealed(dump[:at] + week.to_bytes(4, "little") + dump[at + 4 :])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dump.rdb").write_bytes(old)
    with running(None, tmp_path / "data", save="") as one:
        quiet = info(one)
        one.wire.call("SET", "key:1", 1)
        busy = info(one)
    path = archive(tmp_path / "redis-backup.tar.gz", {"dump.rdb": old, "redis-info.txt": quiet})
    assert verdict(verify(path, manifest)) is Verdict.PASS
    path = archive(tmp_path / "redis-backup-2.tar.gz", {"dump.rdb": old, "redis-info.txt": busy})
    assert "redis.age" in bad(verify(path, manifest))


def test_a_clock_that_runs_ahead_hides_no_loss(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    one = source[0]
    one.wire.call("COPY", "key:0", "kept", "DB", 0)
    one.wire.call("PEXPIREAT", "kept", 4_000_000_000_000)
    full = tmp_path / "full.json"
    write_manifest(full, capture(one.wire))
    one.wire.call("DEL", "kept")
    one.wire.call("SAVE")
    dump = one.dump.read_bytes()
    at = dump.index(b"ctime") + 6
    ahead = sealed(dump[:at] + (2**31 - 1).to_bytes(4, "little") + dump[at + 4 :])
    (tmp_path / "dump.rdb").write_bytes(ahead)
    assert "redis.source-keys" in bad(verify(tmp_path / "dump.rdb", full))


@pytest.mark.parametrize("kind", ["plain", "twice", "dump"])
def test_a_name_that_misleads_the_runbook(
    kind: str, source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    good = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": source[1]})
    packed = {"plain": gzip.decompress(good.read_bytes()), "twice": gzip.compress(good.read_bytes())}
    path = tmp_path / "redis-backup-2.tar.gz"
    path.write_bytes(packed.get(kind) or gzip.compress(source[1]))
    evidence = verify(path)
    assert "no tar.gz" in bad(evidence)["redis.archive-data"]
    assert evidence.measured.keys  # and still it is restored


def test_a_second_archive_behind_the_first(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    parts = [archive(tmp_path / f"redis-{n}.tar.gz", {"dump.rdb": source[1]}) for n in (1, 2)]
    path = tmp_path / "redis-backup.tar.gz"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert "second one" in bad(verify(path))["redis.archive-whole"]
    for padding in (bytes(5000), bytes(1024) + b"padding of a tape" * 100):
        path.write_bytes(gzip.compress(gzip.decompress(parts[0].read_bytes()) + padding))
        assert verdict(verify(path)) is Verdict.PASS


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
def test_a_sparse_archive_is_not_the_backups_fault(
    source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    with (tmp_path / "dump.rdb").open("wb") as file:
        file.write(source[1])
        file.truncate(8 << 20)
    path = tmp_path / "redis-backup-1.tar.gz"
    subprocess.run(["tar", "-C", tmp_path, "-czSf", path, "dump.rdb"], check=True)
    assert verdict(verify(path)) is Verdict.INCONCLUSIVE


@pytest.fixture(scope="module")
def aof(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Path]:
    """An AOF with commands behind its base, and its source's manifest."""
    manifest = tmp_path_factory.mktemp("aof") / "m.json"
    with running(None, appendonly="yes", save="") as one:
        one.wire.call("RPUSH", "list", "a")
        one.wire.call("SET", "text", "x")
        write_manifest(manifest, capture(one.wire))
        assert one.server.shared is not None
        parts = {
            f"appendonlydir/{p.name}": p.read_bytes() for p in (one.server.shared / "appendonlydir").iterdir()
        }
    return parts, manifest


MANIFEST = "appendonlydir/appendonly.aof.manifest"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: m + m.replace(b"seq 1", b"seq 2")[m.index(b"\n") + 1 :], "twice"),
        (lambda m: m + m[m.index(b"\n") + 1 :], "twice"),
        (lambda m: m.replace(b"type i", b"type h"), "history"),
    ],
    ids=["carried out twice", "listed twice", "passed off as history"],
)
def test_a_manifest_that_misuses_a_part(
    spoil: Callable[[bytes], bytes], words: str, aof: tuple[dict[str, bytes], Path], tmp_path: Path
) -> None:
    parts = {**aof[0], MANIFEST: spoil(aof[0][MANIFEST])}
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", parts))
    assert verdict(evidence) is Verdict.FAIL
    assert words in bad(evidence)["redis.aof-files"]


def test_what_an_aof_leaves_unproven(aof: tuple[dict[str, bytes], Path], tmp_path: Path) -> None:
    parts, manifest = aof
    path = archive(tmp_path / "redis-backup-1.tar.gz", parts)
    alone, compared = verify(path).unproven, verify(path, manifest).unproven
    assert any("cut between two commands" in text for text in alone)
    assert any(text.startswith("2 keys written by the AOF") for text in alone)
    assert not any("AOF" in text and "written" in text for text in compared)


def test_a_command_that_no_server_knows(aof: tuple[dict[str, bytes], Path], tmp_path: Path) -> None:
    parts = {name: data.replace(b"RPUSH", b"RPUSZ") for name, data in aof[0].items()}
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", parts))
    assert verdict(evidence) is Verdict.FAIL
    assert "do not know" in bad(evidence)["redis.loads"]


YOUNG = [n for n in SERVERS if has_field_expiry(n.split("-")[0], tuple(map(int, n.split("-")[1].split("."))))]


@pytest.mark.parametrize("server", YOUNG)
def test_commands_that_only_newer_servers_know(server: str, tmp_path: Path) -> None:
    """An AOF of commands states no version: the oldest server at hand may not know them all."""
    with running(SERVERS[server], appendonly="yes", aof_use_rdb_preamble="no", save="") as one:
        one.wire.call("HSET", "hash", "field", "value", "other", "x")
        one.wire.call("HPEXPIREAT", "hash", 4_000_000_000_000, "FIELDS", 1, "field")
        write_manifest(tmp_path / "m.json", capture(one.wire))
        text = info(one)
        time.sleep(0.05)
        assert one.server.shared is not None
        folder = one.server.shared / "appendonlydir"
        parts = {f"appendonlydir/{p.name}": p.read_bytes() for p in folder.iterdir()}
    path = archive(tmp_path / "redis-backup-1.tar.gz", {**parts, "redis-info.txt": text})
    assert verdict(verify(path, tmp_path / "m.json")) is Verdict.PASS


def test_an_increment_that_is_missing_in_between(aof: tuple[dict[str, bytes], Path], tmp_path: Path) -> None:
    text = aof[0][MANIFEST]
    part = next(name for name in aof[0] if ".incr." in name)
    again = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    for number, right in ((2, True), (3, False)):
        other = part.replace(".1.incr", f".{number}.incr")
        line = f"file {other.rpartition('/')[2]} seq {number} type i\n".encode()
        parts = {**aof[0], MANIFEST: text + line, other: again}
        evidence = verify(archive(tmp_path / f"redis-backup-{number}.tar.gz", parts))
        assert (verdict(evidence) is Verdict.PASS) is right
        assert right or "without gaps" in bad(evidence)["redis.aof-files"]


def test_an_aof_that_nobody_writes_to_any_more(
    source: tuple[Running, bytes, Path], aof: tuple[dict[str, bytes], Path], tmp_path: Path
) -> None:
    stale = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"
    path = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": source[1], "appendonly.aof": stale})
    assert "nobody writes to" in bad(verify(path))["redis.aof-current"]
    older = source[1].index(b"ctime") + 6  # a dump of long ago beside an AOF that is in use
    dump = sealed(source[1][:older] + (1_600_000_000).to_bytes(4, "little") + source[1][older + 4 :])
    path = archive(tmp_path / "redis-backup-2.tar.gz", {**aof[0], "dump.rdb": dump})
    assert verdict(verify(path)) is Verdict.PASS


def test_a_damaged_dump_beside_an_aof_of_commands(
    source: tuple[Running, bytes, Path], aof: tuple[dict[str, bytes], Path], tmp_path: Path
) -> None:
    stale = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"
    members = {"appendonly.aof": stale, "dump.rdb": source[1][:-20]}
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", members))
    assert verdict(evidence) is Verdict.FAIL
    assert "beside the AOF" in bad(evidence)["redis.rdb-whole"]


def test_an_end_where_a_database_begins(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    dump = source[1]
    cut = sealed(dump[: dump.index(b"\xfe\x05\xfb") + 2] + b"\xff" + bytes(8))
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": cut}))
    assert "ends before its keys" in bad(evidence)["redis.rdb-counts"]


def test_more_than_one_aof(aof: tuple[dict[str, bytes], Path], tmp_path: Path) -> None:
    stale = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"
    for number, (members, words) in enumerate(
        (
            ({"a.aof": stale, "b.aof": stale}, "not clear"),
            ({"appendonly.aof": stale, "b.aof": stale}, "was taken"),
            ({**aof[0], "appendonly.aof": stale}, "beside a folder"),
            ({**aof[0], "old/appendonly.aof.7.incr.aof": stale}, "apart from"),
        )
    ):
        evidence = verify(archive(tmp_path / f"redis-backup-{number}.tar.gz", members))
        assert any(f.check == "redis.aof-files" and words in f.message for f in evidence.findings)
    beside = {**aof[0], "appendonlydir/temp-rewriteaof-bg-12.aof": stale}
    assert not bad(verify(archive(tmp_path / "redis-backup-9.tar.gz", beside)))


def test_the_base_of_an_aof_is_no_whole_dump(tmp_path: Path) -> None:
    with running(None, appendonly="yes", save="") as one:
        one.wire.call("SET", "key", "value")
        one.wire.call("BGREWRITEAOF")
        assert one.server.shared is not None
        folder = one.server.shared / "appendonlydir"
        until = time.monotonic() + 20
        while not (base := sorted(folder.glob("*.2.base.rdb"))) and time.monotonic() < until:
            time.sleep(0.05)
        path = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": base[0].read_bytes()})
    assert any("base of an AOF" in f.message for f in verify(path).findings)


@pytest.mark.parametrize("name", ["redis-backup-1.tar.gz", "dump.rdb.gz"])
def test_bytes_behind_the_compressed_data(
    name: str, source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    path = archive(tmp_path / name, {"dump.rdb": source[1]})
    if name.endswith("rdb.gz"):
        path.write_bytes(gzip.compress(source[1]))
    path.write_bytes(path.read_bytes() + b"\n")
    assert not verify(path).findings
    path.write_bytes(path.read_bytes() + b"garbage!" * 10)
    evidence = verify(path)
    assert verdict(evidence) is Verdict.PASS
    assert any(f.check == "redis.archive-whole" and "follow" in f.message for f in evidence.findings)


OLD = next((folder for name, folder in SERVERS.items() if name.startswith("redis-6.2")), None)


@pytest.mark.skipif(OLD is None, reason="needs a server before 7.0")
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_an_aof_of_one_piece_that_a_newer_server_took_over(preamble: str, tmp_path: Path) -> None:
    """It stays the base until the next rewrite, under its old name: an RDB, or not, and then commands."""
    with running(OLD, appendonly="yes", aof_use_rdb_preamble=preamble, save="") as one:
        one.wire.call("SET", "before", "1")
        one.wire.call("BGREWRITEAOF")
        until = time.monotonic() + 20
        while one.wire.info()["aof_rewrite_in_progress"] == "1" and time.monotonic() < until:
            time.sleep(0.05)
        one.wire.call("SET", "after", "2")
        time.sleep(0.05)
        assert one.server.shared is not None
        (tmp_path / "data").mkdir()
        shutil.copyfile(one.server.shared / "appendonly.aof", tmp_path / "data/appendonly.aof")
    dated = tmp_path / "appendonly.aof.20261123"
    shutil.copyfile(tmp_path / "data/appendonly.aof", dated)
    assert verify(dated).measured.keys == 2
    with running(None, tmp_path / "data", appendonly="yes", save="") as one:
        one.wire.call("SET", "later", "3")
        time.sleep(0.05)
        write_manifest(tmp_path / "m.json", capture(one.wire))
        assert one.server.shared is not None
        folder = one.server.shared / "appendonlydir"
        parts = {f"appendonlydir/{p.name}": p.read_bytes() for p in folder.iterdir()}
    base, text = "appendonlydir/appendonly.aof", parts[MANIFEST]
    assert base in parts and text.startswith(b"file appendonly.aof seq 1 type b\n")
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", parts), tmp_path / "m.json")
    assert verdict(evidence) is Verdict.PASS and not evidence.findings
    cut = archive(tmp_path / "redis-backup-2.tar.gz", {**parts, base: parts[base][:-3]})
    assert "middle of a command" in bad(verify(cut))["redis.aof-whole"]
    unlisted = archive(tmp_path / "redis-backup-3.tar.gz", {**parts, MANIFEST: text.split(b"\n", 1)[1]})
    assert "not list" in bad(verify(unlisted))["redis.aof-files"]


def test_parts_listed_as_what_they_are_not(tmp_path: Path) -> None:
    """The base as the increment and the increment as the base, both of commands: servers load them so."""
    select = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    text = b"file appendonly.aof.1.base.aof seq 1 type %b\nfile appendonly.aof.1.incr.aof seq 1 type %b\n"
    sets = {
        f"appendonlydir/appendonly.aof.1.{kind}.aof": select
        + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n%d\r\n" % n
        for n, kind in enumerate(("base", "incr"))
    }
    right = archive(tmp_path / "redis-backup-1.tar.gz", {**sets, MANIFEST: text % (b"b", b"i")})
    assert verdict(verify(right)) is Verdict.PASS
    wrong = archive(tmp_path / "redis-backup-2.tar.gz", {**sets, MANIFEST: text % (b"i", b"b")})
    assert "than its name says" in bad(verify(wrong))["redis.aof-files"]


@pytest.mark.parametrize(
    ("name_s", "clock_s", "words"),
    [(-90_000, 0, None), (-172_800, 0, "younger than its name"), (172_800, 172_800, "clock inside the file")],
    ids=["a day of another zone", "another file under an old name", "a clock that runs ahead"],
)
def test_a_file_that_is_younger_than_told(
    name_s: int, clock_s: int, words: str | None, source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    """A doubt, no more: whoever copies a dump may name the copy after anything."""
    named = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() + name_s))
    at = source[1].index(b"ctime") + 6
    clock = int.from_bytes(source[1][at : at + 4], "little") + clock_s
    dump = source[1][:at] + clock.to_bytes(4, "little") + source[1][at + 4 : -8] + bytes(8)
    evidence = verify(archive(tmp_path / f"redis-backup-{named}.tar.gz", {"dump.rdb": dump}))
    assert verdict(evidence) is Verdict.PASS
    assert [words in f.message for f in evidence.findings if f.check == "redis.age"] == [True] * bool(words)


def test_our_own_backup_of_a_server_with_names_of_its_own(tmp_path: Path) -> None:
    """Under others its server would start empty, so a drill refuses what is packed under others."""
    names = {"dbfilename": "my dump.rdb", "appendfilename": "prod.aof", "appenddirname": "aof-of-prod"}
    with running(None, appendonly="yes", **names) as one:
        one.wire.call("SET", "key", "value")
        where = order(tmp_path, "daily", Settings().policy.zone)
        taken = backup(one.wire.address, where, Settings(), one.server.shared)
    assert taken.manifest is not None
    evidence = verify(taken.path, taken.manifest)
    assert verdict(evidence) is Verdict.PASS
    assert not [f for f in evidence.findings if f.check == "redis.archive-data"]


def test_an_aof_that_the_source_had_switched_off(aof: tuple[dict[str, bytes], Path], tmp_path: Path) -> None:
    with running(None, save="") as one:
        one.wire.call("MSET", *(part for n in range(60) for part in (f"key:{n}", n)))
        one.wire.call("SAVE")
        write_manifest(tmp_path / "m.json", capture(one.wire))
        members = {**aof[0], "dump.rdb": one.dump.read_bytes(), "redis-info.txt": info(one)}
    for number, left_out in enumerate(("", MANIFEST, "redis-info.txt")):
        parts = {name: data for name, data in members.items() if name != left_out}
        evidence = verify(archive(tmp_path / f"redis-backup-{number}.tar.gz", parts), tmp_path / "m.json")
        told = [f.message for f in evidence.findings if f.check == "redis.aof-current"]
        right = left_out != "redis-info.txt"  # nothing else says that a server would not load the AOF
        assert (verdict(evidence) is Verdict.PASS) is right
        assert any("switched off" in message for message in told) is right
