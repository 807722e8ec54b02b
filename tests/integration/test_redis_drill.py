"""Whole drills of Redis backups on real servers: sound ones pass, spoilt ones fail with the loss named."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis_drills import archive, bad, verdict, verify
from redis_servers import Running, fill, running

from harness.catalog import identify
from harness.drill import drill
from harness.manifest import write_manifest
from harness.model import Verdict
from harness.redis.capture import capture
from harness.redis.inspect import recognise
from harness.settings import Settings

QUEUE = "bull:email:send"
RUN = "repeat:abc:1900000000000"
CORPUS = Path(__file__).parents[3] / "shared/corpus/redis"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, bytes, Path]]:
    """A server, its dump, and the manifest of what it held."""
    folder = tmp_path_factory.mktemp("source")
    with running(None) as one:
        fill(one.wire, one.vendor, one.version)
        for state, jobs in (("wait", range(1, 6)), ("active", range(6, 8))):
            for n in jobs:
                one.wire.call("HSET", f"{QUEUE}:{n}", "name", "send", "data", "{}")
                one.wire.call("LPUSH", f"{QUEUE}:{state}", n)
        one.wire.call("HSET", f"{QUEUE}:meta", "version", "bullmq:5")
        one.wire.call("SET", f"{QUEUE}:id", 7)
        one.wire.call("ZADD", f"{QUEUE}:repeat", 1_900_000_000_000, "cron")
        one.wire.call("HSET", f"{QUEUE}:{RUN}", "name", "cron")
        one.wire.call("ZADD", f"{QUEUE}:delayed", 1, RUN)
        one.wire.call("SAVE")
        write_manifest(folder / "m.json", capture(one.wire))
        yield one, one.dump.read_bytes(), folder / "m.json"


def test_a_sound_archive_passes(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    _, dump, manifest = source
    path = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": dump})
    evidence = verify(path, manifest, queues=[QUEUE], require={"bull:*": 10})
    assert bad(evidence) == {}
    assert verdict(evidence) is Verdict.PASS
    assert evidence.measured.keys and evidence.measured.rto_s
    assert evidence.facts[f"queue {QUEUE}"]
    text = (
        json.dumps([f.message for f in evidence.findings]) + json.dumps(evidence.facts) + manifest.read_text()
    )
    assert "word-1" not in text and "hash:3" not in text


def test_more_databases_than_anyone_has(tmp_path: Path) -> None:
    with running(None, databases="5000") as one:
        one.wire.call("SELECT", 4711)
        one.wire.call("SET", "far", "away")
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
    evidence = verify(tmp_path / "dump.rdb")
    assert verdict(evidence) is Verdict.PASS
    assert evidence.facts["keys_per_database"] == {"4711": 1}
    assert [f.check for f in evidence.findings] == ["redis.databases"]


def test_a_drop_since_the_last_good_drill(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(source[1])
    artifact = identify(tmp_path / "dump.rdb", {"redis": recognise})
    assert artifact is not None
    settings = Settings.model_validate({"redis": {"allowed_drop": 0.5}})
    keys = drill(artifact, settings).facts["keys_per_database"]
    assert isinstance(keys, dict)
    for factor, expected in ((1, []), (1.9, []), (3, ["redis.allowed-drop"])):
        before = {"facts": {"keys_per_database": {"0": int(keys["0"] * factor)}}}
        assert list(bad(drill(artifact, settings, last_good=before))) == expected


def test_a_lone_file_passes_and_says_what_it_cannot_tell(
    source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    path = tmp_path / "dump.rdb"
    path.write_bytes(source[1])
    evidence = verify(path)
    assert verdict(evidence) is Verdict.PASS
    assert any("no manifest" in reason for reason in evidence.unproven)


def test_an_archive_without_data(tmp_path: Path) -> None:
    """What the customer's own script makes: it never finds out where the data lies, and exits 0."""
    path = archive(tmp_path / "redis-backup-1.tar.gz", {"redis-info.txt": b"redis_version:7.0.15\r\n"})
    evidence = verify(path)
    assert verdict(evidence) is Verdict.FAIL
    assert list(bad(evidence).values()) == ["the backup holds no data: there is no RDB and no AOF in it"]


def test_an_empty_backup_fails_unless_the_source_was_empty(tmp_path: Path) -> None:
    with running(None) as one:
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
        write_manifest(tmp_path / "m.json", capture(one.wire))
    assert list(bad(verify(tmp_path / "dump.rdb"))) == ["redis.not-empty"]
    assert verdict(verify(tmp_path / "dump.rdb", tmp_path / "m.json")) is Verdict.PASS
    assert verdict(verify(tmp_path / "dump.rdb", may_be_empty=True)) is Verdict.PASS


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda d: d[:-8], "redis.rdb-whole"),
        (lambda d: d[: len(d) // 2], "redis.rdb-whole"),
        (lambda d: d[:-4096] + bytes(4096), "redis.rdb-whole"),
        (lambda d: d.replace(b"word-1", b"word-9", 1), "redis.rdb-whole"),
        (lambda d: b"#!/bin/sh\necho no dump\n", "redis.rdb-whole"),
        (lambda d: b"", "redis.rdb-whole"),
    ],
    ids=["no checksum", "half", "zeroed tail", "changed", "a script", "empty"],
)
def test_a_damaged_file(
    spoil: Callable[[bytes], bytes], check: str, source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    path = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": spoil(source[1])})
    evidence = verify(path)
    assert verdict(evidence) is Verdict.FAIL
    assert check in bad(evidence)


def test_an_old_file_under_a_new_name(source: tuple[Running, bytes, Path], tmp_path: Path) -> None:
    tomorrow = time.strftime("%Y%m%d-%H%M%S", time.gmtime(time.time() + 86400))
    path = archive(tmp_path / f"redis-backup-{tomorrow}.tar.gz", {"dump.rdb": source[1]})
    assert list(bad(verify(path))) == ["redis.age"]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("rdb_last_bgsave_status:ok\r\nrole:master\r\n", []),
        ("rdb_last_bgsave_status:err\r\n", ["redis.source-sound"]),
        ("role:slave\r\nmaster_link_status:down\r\n", ["redis.source-sound"]),
        ("loading:1\r\n", ["redis.source-sound"]),
        (f"rdb_last_save_time:{int(time.time()) + 86400}\r\n", ["redis.age"]),
        ("redis_version:5.0.14\r\n", ["redis.rdb-header"]),
        ("db0:keys=5000,expires=0\r\n", ["redis.source-told"]),
    ],
    ids=["sound", "bgsave", "replica", "loading", "older", "another server", "fewer keys"],
)
def test_what_the_source_said_of_itself(
    info: str, expected: list[str], source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    members = {"dump.rdb": source[1], "redis-info.txt": info.encode()}
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", members))
    assert list(bad(evidence)) == expected


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ((("DEL", f"{QUEUE}:3"),), "without a payload"),
        ((("LPUSH", f"{QUEUE}:wait", 6),), "in two states"),
        ((("LREM", f"{QUEUE}:wait", 0, 4),), "in no state"),
        ((("SET", f"{QUEUE}:id", 3),), "id counter"),
        (
            (
                ("ZREM", f"{QUEUE}:delayed", "repeat:abc:1900000000000"),
                ("DEL", f"{QUEUE}:repeat:abc:1900000000000"),
            ),
            "next run",
        ),
        ((("DEL", *(f"{QUEUE}:{k}" for k in ("meta", "id", "wait", "active"))),), "not there at all"),
    ],
    ids=["payload", "twice", "lost", "counter", "repeat", "gone"],
)
def test_queues(
    commands: tuple[tuple[str | int, ...], ...],
    words: str,
    source: tuple[Running, bytes, Path],
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dump.rdb").write_bytes(source[1])
    with running(None, data) as one:
        for command in commands:
            one.wire.call(*command)
        one.wire.call("SAVE")
        (tmp_path / "dump.rdb").write_bytes(one.dump.read_bytes())
    evidence = verify(tmp_path / "dump.rdb", queues=[QUEUE])
    assert list(bad(evidence)) == ["redis.queues"]
    assert words in bad(evidence)["redis.queues"]


@pytest.mark.parametrize(
    ("conf", "expected"),
    [
        ("appendonly no\nrequirepass secret\nport 7777\n", set()),
        ("appendonly yes\n", {"redis.rehearsal-complete", "redis.rehearsal-overwritten"}),
        ("save 900 1 # every 15 minutes\n", {"redis.rehearsal-starts"}),
        ("maxmemory 1100kb\nmaxmemory-policy allkeys-lru\n", {"redis.rehearsal-evicting"}),
        ("maxmemory 1mb\n", {"redis.rehearsal-evicting"}),
        ("dbfilename other.rdb\n", set()),
    ],
    ids=["sound", "appendonly", "comment", "evicting", "too small", "other name"],
)
def test_the_recovery_is_rehearsed(
    conf: str, expected: set[str], source: tuple[Running, bytes, Path], tmp_path: Path
) -> None:
    (tmp_path / "dump.rdb").write_bytes(source[1])
    (tmp_path / "redis.conf").write_text(conf)
    assert set(bad(verify(tmp_path / "dump.rdb", redis_conf=tmp_path / "redis.conf"))) == expected


@pytest.fixture(scope="module")
def aof(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Path]:
    """The parts of an AOF with commands behind its base, and the manifest of its server."""
    folder = tmp_path_factory.mktemp("aof")
    with running(None, appendonly="yes") as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("BGREWRITEAOF")
        until = time.monotonic() + 30
        while one.wire.info("persistence")["aof_rewrite_in_progress"] != "0" and time.monotonic() < until:
            time.sleep(0.02)
        one.wire.call("SET", "after", "the rewrite")
        one.wire.call("LPUSH", "list:3", "more")
        write_manifest(folder / "m.json", capture(one.wire))
        assert one.server.shared is not None
        parts = {
            f"appendonlydir/{p.name}": p.read_bytes() for p in (one.server.shared / "appendonlydir").iterdir()
        }
    return parts, folder / "m.json"


def test_a_sound_aof_passes(aof: tuple[dict[str, bytes], Path], tmp_path: Path) -> None:
    parts, manifest = aof
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", parts), manifest)
    assert bad(evidence) == {} and verdict(evidence) is Verdict.PASS
    unpacked = tmp_path / "redis"
    (unpacked / "appendonlydir").mkdir(parents=True)
    for name, data in parts.items():
        (unpacked / name).write_bytes(data)
    assert verdict(verify(unpacked, manifest)) is Verdict.PASS


@pytest.mark.parametrize(
    ("part", "spoil", "check"),
    [
        (r"incr", lambda d: d[:-3], "redis.aof-whole"),
        (r"incr", lambda d: d + bytes(64), "redis.aof-whole"),
        (r"incr", lambda d: d + b"*1\r\n$5\r\nMULTI\r\n", "redis.aof-whole"),
        (r"incr", lambda d: b"", "redis.source-keys"),
        (r"incr", lambda d: d[: d.rindex(b"*")], "redis.source-values"),
        (r"incr", lambda d: d + b"*1\r\n$8\r\nFLUSHALL\r\n", "redis.not-empty"),
        (r"incr", lambda d: None, "redis.aof-files"),
        (r"manifest", lambda d: None, "redis.aof-files"),
        (r"base", lambda d: d.replace(b"word-1", b"word-9", 1), "redis.rdb-whole"),
        (r"base", lambda d: b"", "redis.aof-files"),
    ],
    ids=[
        "cut",
        "nuls",
        "multi",
        "emptied",
        "cut between",
        "flushed",
        "no incr",
        "no manifest",
        "base",
        "no base",
    ],
)
def test_a_damaged_aof(
    part: str,
    spoil: Callable[[bytes], bytes | None],
    check: str,
    aof: tuple[dict[str, bytes], Path],
    tmp_path: Path,
) -> None:
    parts, manifest = aof
    changed = {n: spoil(d) if re.search(part, n.rsplit("/", 1)[1]) else d for n, d in parts.items()}
    kept = {name: data for name, data in changed.items() if data is not None}
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", kept), manifest)
    assert verdict(evidence) is Verdict.FAIL
    assert check in bad(evidence)


def test_hostile_archives(tmp_path: Path) -> None:
    """Nothing outside the scratch folder is touched, and each is refused within seconds."""
    outside = tmp_path / "outside"
    kinds = {
        "link": tarfile.SYMTYPE,
        "hardlink": tarfile.LNKTYPE,
        "fifo": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
    }
    for name, kind in kinds.items():
        path = tmp_path / f"redis-{name}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo("redis-backup/dump.rdb")
            info.type, info.linkname = kind, str(outside)
            tar.addfile(info)
        assert "redis.archive-whole" in bad(verify(path)), name
    for name in ("../../outside", str(outside)):
        path = tmp_path / "redis-escape.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"bad"))
        assert "redis.archive-whole" in bad(verify(path)), name
    assert not outside.exists()


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus lies outside the repository")
def test_the_public_corpus(tmp_path: Path) -> None:
    """Every case that its file, or its source's manifest, can tell is judged as the corpus says."""
    manifests = {}
    for name, good in (("main70", "C01"), ("main70aof", "C07")):
        data = tmp_path / name
        data.mkdir()
        packed = next((CORPUS / "good" / good).glob("*.tar.gz"))
        with tarfile.open(packed) as tar:  # a good one, made by us
            for member in tar:
                if member.name.endswith((".rdb", ".aof", ".manifest")):
                    target = data / member.name.partition("/")[2]
                    target.parent.mkdir(exist_ok=True)
                    stored = tar.extractfile(member)
                    assert stored is not None
                    target.write_bytes(stored.read())
        with running(None, data, appendonly="yes" if "aof" in name else "no") as one:
            write_manifest(tmp_path / f"{name}.json", capture(one.wire))
            manifests[f"manifests/{name}.json.gz"] = tmp_path / f"{name}.json"
    wrong = []
    for folder in sorted((CORPUS / "cases").iterdir()):
        case = json.loads((folder / "case.json").read_text())
        if not case["good"] and case["manifest"] not in manifests:
            continue  # only the manifest of a server that is not at hand could tell
        if case["family"] == "restore procedure":
            continue  # the file is a good one: the procedure is what is wrong, see the rehearsal
        found = verdict(verify(folder / case["archive"], manifests.get(case["manifest"])))
        if found is not (Verdict.PASS if case["good"] else Verdict.FAIL):
            wrong.append((case["id"], str(found)))
    assert wrong == []


def test_an_aof_of_commands_that_was_never_rewritten(tmp_path: Path) -> None:
    """Its base is empty, and it is whole; after a rewrite an empty base would be a doubt."""
    with running(None, appendonly="yes", aof_use_rdb_preamble="no") as one:
        one.wire.call("SET", "a", "1")
        assert one.server.shared is not None
        folder = one.server.shared / "appendonlydir"
        parts = {f"appendonlydir/{p.name}": p.read_bytes() for p in folder.iterdir()}
    assert parts["appendonlydir/appendonly.aof.1.base.aof"] == b""
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", parts))
    assert verdict(evidence) is Verdict.PASS and not evidence.findings
    later = {
        n.replace(".1.base", ".2.base"): d.replace(b"seq 1 type b", b"seq 2 type b") for n, d in parts.items()
    }
    later = {n: d.replace(b".1.base", b".2.base") for n, d in later.items()}
    evidence = verify(archive(tmp_path / "redis-backup-2.tar.gz", later))
    assert [f.check for f in evidence.findings] == ["redis.aof-files"]


def test_a_tightly_packed_backup_is_no_bomb(tmp_path: Path) -> None:
    """The same kilobyte under every key packs 70 to one, as bombs do."""
    page = "".join(f"{n * 7919:x}" for n in range(200)).encode()
    with running(None) as one:
        one.wire.call("SET", "first", "1")
        for start in range(0, 8000, 1000):
            one.wire.call("MSET", *(part for n in range(start, start + 1000) for part in (f"page:{n}", page)))
        one.wire.call("SAVE")
        dump = one.dump.read_bytes()
    path = archive(tmp_path / "redis-backup-20261123-020000.tar.gz", {"dump.rdb": dump})
    assert len(dump) > 5 << 20 and len(dump) > 20 * path.stat().st_size
    evidence = verify(path)
    assert verdict(evidence) is Verdict.PASS and evidence.measured.keys == 8001
    spoilt = dump[:-9] + b"\x00" + dump[-8:]
    path = archive(tmp_path / "redis-backup-20261124-020000.tar.gz", {"dump.rdb": spoilt})
    assert verdict(verify(path)) is Verdict.FAIL
