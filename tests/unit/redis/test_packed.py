"""harness/redis/packed.py: how tightly a backup is packed proves nothing; bombs never reach the disk."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from pathlib import Path

import pytest
import zstandard
from rdb_files import key, rdb

from harness.catalog import identify
from harness.component import DrillContext
from harness.errors import ArtifactError, ToolError
from harness.redis.digest import Digester
from harness.redis.inspect import recognise
from harness.redis.packed import unpack, unpack_one
from harness.settings import Settings

MANY = 12 << 20
ONE_PAGE = b"".join(b"%d" % (n * 7919) for n in range(300))
PAGES = rdb(b"\xfe\x00" + b"".join(key(b"page:%d" % n, ONE_PAGE) for n in range(8000)))
SMALL = rdb(b"\xfe\x00" + key(b"a", b"1"))
SET = b"*3\r\n$3\r\nSET\r\n$6\r\npage:%d\r\n$%d\r\n%s\r\n"
COMMANDS = b"".join(SET % (n, len(ONE_PAGE), ONE_PAGE) for n in range(1, 10)) * 900


def packed(folder: Path, *files: tuple[str, bytes], ending: str = "tar.gz") -> Path:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path = folder / f"redis-backup-20261123-020000.{ending}"
    pack = zstandard.ZstdCompressor().compress if ending.endswith("zst") else gzip.compress
    path.write_bytes(pack(out.getvalue()))
    return path


def unpacked(path: Path, scratch: Path) -> Path:
    artifact = identify(path, {"redis": recognise})
    assert artifact is not None
    until = time.monotonic() + 60
    ctx = DrillContext(Settings(), scratch, until)
    if artifact.format == "archive":
        unpack(artifact, scratch / "out", Digester(), ctx, until)
    else:
        unpack_one(artifact, scratch / "out", Digester(), ctx, until)
    return scratch / "out"


def on_disk(folder: Path) -> int:
    return sum(p.lstat().st_blocks * 512 for p in folder.rglob("*"))


@pytest.mark.parametrize("ending", ["tar.gz", "tar.zst"])
def test_a_good_backup_is_no_bomb_however_tightly_it_is_packed(tmp_path: Path, ending: str) -> None:
    path = packed(tmp_path, ("redis-backup/dump.rdb", PAGES), ("redis-backup/info.txt", b"x"), ending=ending)
    assert len(PAGES) > 40 * path.stat().st_size
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert (unpacked(path, scratch) / "redis-backup/dump.rdb").read_bytes() == PAGES


@pytest.mark.parametrize(
    ("name", "data"),
    [("dump.rdb", PAGES), ("appendonly.aof", COMMANDS), ("appendonly.aof", PAGES + COMMANDS)],
    ids=["rdb", "commands", "rdb and commands"],
)
def test_nor_is_a_single_file(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress(data))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert next(unpacked(path, scratch).iterdir()).read_bytes() == data


BOMBS = {
    "zeros": (("dump.rdb", bytes(MANY)),),
    "a header and zeros": (("dump.rdb", b"REDIS0010\xfe\x00" + bytes(MANY)),),
    "two keys again and again": (
        ("dump.rdb", b"REDIS0010\xfe\x00" + (key(b"a", b"") + key(b"b", b"")) * 999_999),
    ),
    "a letter": (("dump.rdb", b"REDIS0010\xfe\x00" + key(b"a", b"1") + b"A" * MANY),),
    "one long value, no checksum": (
        ("dump.rdb", b"REDIS0010" + key(b"a", b"A" * MANY) + b"\xff" + b"1" * 8),
    ),
    "a cut value": (("dump.rdb", b"REDIS0010" + key(b"a", bytes(MANY))[:-100]),),
    "behind the end mark": (("dump.rdb", SMALL + bytes(70 << 20)),),
    "no data": (("dump.rdb", SMALL), ("core", bytes(70 << 20))),
    "many files": (("dump.rdb", SMALL), *((f"{n}.log", bytes(1 << 20)) for n in range(70))),
    "commands and zeros": (("appendonly.aof", COMMANDS[:5000] + bytes(MANY)),),
    "commands behind an RDB, and zeros": (("appendonly.aof", SMALL + COMMANDS[:5000] + bytes(MANY)),),
}


@pytest.mark.parametrize("ending", ["tar.gz", "tar.zst"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_lies_on_the_disk(tmp_path: Path, name: str, ending: str) -> None:
    path = packed(tmp_path, *BOMBS[name], ending=ending)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    began = time.monotonic()
    with pytest.raises(ArtifactError):
        unpacked(path, scratch)
    assert on_disk(scratch) < 6 << 20
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("data", [bytes(MANY), b"REDIS0010\xfe\x00" + bytes(MANY)], ids=["zeros", "header"])
def test_nor_does_a_single_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "dump.rdb.gz"
    path.write_bytes(gzip.compress(data))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(ArtifactError):
        unpacked(path, scratch)
    assert on_disk(scratch) < 6 << 20


def test_what_cannot_be_told_from_a_bomb_is_no_verdict(tmp_path: Path) -> None:
    newer = rdb(b"\xfe\x00" + key(b"a", bytes(MANY)), b"REDIS0077")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(ToolError, match="newer"):
        unpacked(packed(tmp_path, ("dump.rdb", newer)), scratch)


def test_of_what_lies_beside_the_data_only_the_beginning_is_kept(tmp_path: Path) -> None:
    path = packed(tmp_path, ("dump.rdb", SMALL), ("server.log", bytes(range(256)) * 20_000))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    out = unpacked(path, scratch)
    assert (out / "server.log").stat().st_size == 1 << 20
    assert (out / "dump.rdb").read_bytes() == SMALL
