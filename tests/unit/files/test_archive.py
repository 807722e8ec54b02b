"""harness/archive.py: what it unpacks, what it refuses, and that nothing ever lands outside its folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from pathlib import Path

import pytest
import zstandard

from harness.archive import Limits, is_tar, members, unpack
from harness.errors import ArtifactError, ToolError
from harness.sandbox.template import copy_tree
from harness.stream import sniff


def tar_with(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def unpacked(tmp_path: Path, data: bytes, **options: object) -> Path:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "config-backup-20261123.tar.gz"
    path.write_bytes(gzip.compress(data))
    unpack(path, ("gzip",), tmp_path / "out", **options)  # type: ignore[arg-type]
    return tmp_path / "out"


def test_what_gnu_tar_adds_for_itself(tmp_path: Path) -> None:
    """A label of the archive (-V), and folders with lists of their files (-g)."""
    data = tar_with(
        (entry("label", b"V"), b""),
        (entry("pasta", b"D"), b"Ya.conf\0\0"),
        (entry("pasta/a.conf"), b"a"),
        format=tarfile.GNU_FORMAT,
    )
    folder = unpacked(tmp_path, data)
    assert [str(p.relative_to(folder)) for p in sorted(folder.rglob("*"))] == ["pasta", "pasta/a.conf"]


@pytest.mark.parametrize("kind", [b"0", b"x", b"L", b"V", b"D"])
def test_a_size_below_nothing(tmp_path: Path, kind: bytes) -> None:
    header = bytearray(tar_with((entry("a", kind), b""), format=tarfile.GNU_FORMAT)[:512])
    header[124:136] = (-5 + (1 << 96)).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ArtifactError, match="-5 bytes"):
        unpacked(tmp_path, bytes(header) + os.urandom(5000) + bytes(1024))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_of_every_tar_format_come_out_whole(tmp_path: Path, format: int) -> None:
    long = "pasta/" + "n" * 90 + "/" + "m" * 90 + ".conf"
    data = tar_with(
        (entry("pasta", tarfile.DIRTYPE), b""),
        (entry(long), b"x" * 70_000),
        (entry("./pasta/script.sh", mode=0o755), b"echo"),
        (entry("vazio"), b""),
        format=format,
    )
    folder = unpacked(tmp_path, data)
    assert (folder / long).read_bytes() == b"x" * 70_000
    assert (folder / "pasta/script.sh").read_bytes() == b"echo"
    assert (folder / "vazio").read_bytes() == b""
    assert (folder / "pasta/script.sh").stat().st_mode & 0o777 == 0o600


def test_modes_and_digest_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_with((entry("a.sh", mode=0o4755), b"#!")))
    told = unpack(path, (), tmp_path / "out")
    assert [(m.name, m.bytes, oct(m.mode)) for m in told.members] == [("a.sh", 2, "0o4755")]
    assert (told.plain_bytes, len(told.sha256)) == (path.stat().st_size, 64)


HOSTILE = {
    "parent": tar_with((entry("../escaped"), b"x")),
    "parent inside": tar_with((entry("a/../../escaped"), b"x")),
    "absolute": tar_with((entry("/tmp/provado-escaped"), b"x")),
    "hard link": tar_with((entry("h", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "link": tar_with((entry("l", tarfile.SYMTYPE, "ok.txt"), b"")),
    "file through a link": tar_with((entry("d", tarfile.SYMTYPE, "/tmp"), b""), (entry("d/x"), b"x")),
    "FIFO": tar_with((entry("dump.rdb", tarfile.FIFOTYPE), b"")),
    "device": tar_with((entry("null", tarfile.CHRTYPE), b"")),
    "twice": tar_with((entry("a"), b"1"), (entry("a"), b"2")),
    "twice, spelt otherwise": tar_with((entry("d/a"), b"1"), (entry("./d//a"), b"2")),
    "file below a file": tar_with((entry("a"), b"1"), (entry("a/b"), b"2")),
    "folder over a file": tar_with((entry("a"), b"1"), (entry("a", tarfile.DIRTYPE), b"")),
    "file over a folder": tar_with((entry("a/b"), b"1"), (entry("a"), b"2")),
    "deep": tar_with((entry("/".join("d" * 70)), b"1")),
    "no tar": b"SELECT 1;" * 200,
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError):
        unpacked(tmp_path, HOSTILE[name])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config-backup-20261123.tar.gz", "out"]
    assert not Path("/tmp/provado-escaped").exists()
    assert all(p.is_dir() or (p.is_file() and not p.is_symlink()) for p in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("keep", [100, 512, 700, 1024, 1536, 2000])
def test_an_archive_cut_anywhere_is_damaged(tmp_path: Path, keep: int) -> None:
    data = tar_with((entry("a"), b"1" * 600), (entry("b"), b"2" * 600), format=tarfile.USTAR_FORMAT)
    with pytest.raises(ArtifactError):
        unpacked(tmp_path, data[:keep])


def test_a_damaged_second_header_is_no_end(tmp_path: Path) -> None:
    data = bytearray(tar_with((entry("a"), b"1"), (entry("b"), b"2"), format=tarfile.USTAR_FORMAT))
    data[1024] ^= 1
    with pytest.raises(ArtifactError, match="entry 2"):
        unpacked(tmp_path, bytes(data))


def test_a_wrong_gzip_checksum_is_seen_although_tar_ended_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    packed = bytearray(gzip.compress(tar_with((entry("a"), b"1"))))
    packed[-8] ^= 1
    path.write_bytes(packed)
    with pytest.raises(ArtifactError, match="gzip"):
        unpack(path, ("gzip",), tmp_path / "out")


def test_a_bomb_is_stopped_early(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    info = entry("dump.rdb")
    info.size = 1 << 30
    with gzip.open(path, "wb", compresslevel=9) as out:
        out.write(info.tobuf())
        for _ in range(200):
            out.write(bytes(1 << 20))
    with pytest.raises(ArtifactError, match="bomb"):
        unpack(path, ("gzip",), tmp_path / "out")
    assert (tmp_path / "out/dump.rdb").stat().st_size < 100 << 20


def test_runs_of_zeros_take_no_disk_and_read_as_zeros(tmp_path: Path) -> None:
    zeros = bytes(8 << 20)
    data = tar_with((entry("wal"), b"a" + zeros + b"b"), (entry("only"), zeros))
    folder = unpacked(tmp_path, data)
    assert (folder / "wal").read_bytes() == b"a" + zeros + b"b"
    assert (folder / "only").read_bytes() == zeros
    assert sum((folder / name).stat().st_blocks for name in ("wal", "only")) * 512 < 5 << 20
    copy_tree(folder, tmp_path / "copy", None)
    assert (tmp_path / "copy/wal").read_bytes() == b"a" + zeros + b"b"
    assert (tmp_path / "copy/only").read_bytes() == zeros
    assert (tmp_path / "copy/only").stat().st_blocks * 512 < 1 << 20


def test_zeros_in_large_pieces_become_holes_too(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.zst"
    zeros = bytes(64 << 20)
    path.write_bytes(zstandard.ZstdCompressor().compress(tar_with((entry("wal"), zeros))))
    unpack(path, ("zstd",), tmp_path / "out", limits=Limits(ratio=100_000))
    assert (tmp_path / "out/wal").stat().st_size == len(zeros)
    assert (tmp_path / "out/wal").stat().st_blocks * 512 < 4 << 20


def test_folders_that_only_names_imply_count_as_entries(tmp_path: Path) -> None:
    data = tar_with(*((entry("/".join(f"{n}{depth}" for depth in range(20))), b"") for n in range(10)))
    with pytest.raises(ArtifactError, match="more than 100 entries"):
        unpacked(tmp_path, data, limits=Limits(members=100))
    assert len(list((tmp_path / "out").rglob("*"))) <= 120


def test_extended_headers_and_what_follows_the_end_have_a_bound(tmp_path: Path) -> None:
    record = b"1000014 path=" + b"a" * 1_000_000 + b"\n"
    header = entry("x", tarfile.XHDTYPE)
    header.size = len(record)
    one = header.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512)
    with pytest.raises(ArtifactError, match="extended header"):
        unpacked(tmp_path / "a", one * 80)
    with pytest.raises(ArtifactError, match="behind its end"):
        unpacked(tmp_path / "b", tar_with((entry("a"), b"1")) + b"A" * (65 << 20), limits=Limits(ratio=5000))


def test_no_more_than_wanted_is_written_and_members_are_read_without_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_with((entry("dump.rdb"), b"REDIS0011" + b"x" * 9000), (entry("log"), b"y" * 9000)))
    told = unpack(path, (), tmp_path / "out", keep=lambda m, head: m.bytes if head[:5] == b"REDIS" else 10)
    assert [m.bytes for m in told.members] == [9009, 9000]
    assert (tmp_path / "out/dump.rdb").read_bytes() == b"REDIS0011" + b"x" * 9000
    assert (tmp_path / "out/log").read_bytes() == b"y" * 10
    read = {m.name: (body.head(5), body.read(7), body.read(1 << 20)) for m, body in members(path, ())}
    assert read["dump.rdb"] == (b"REDIS", b"REDIS00", b"11" + b"x" * 9000)


def test_a_huge_extended_header_is_not_read_into_memory(tmp_path: Path) -> None:
    info = entry("././@PaxHeader", tarfile.XHDTYPE)
    info.size = 3 << 30
    with pytest.raises(ArtifactError, match="extended header claims"):
        unpacked(tmp_path, info.tobuf(tarfile.USTAR_FORMAT) + bytes(4096))


def test_limits_of_size_number_and_time(tmp_path: Path) -> None:
    data = tar_with(*((entry(str(n)), b"x" * 1000) for n in range(20)))
    with pytest.raises(ArtifactError, match="more than 10 entries"):
        unpacked(tmp_path / "a", data, limits=Limits(members=10))
    with pytest.raises(ToolError, match="5,000 bytes"):
        unpacked(tmp_path / "b", data, limits=Limits(total_bytes=5000))
    with pytest.raises(ToolError, match="in time"):
        unpacked(tmp_path / "c", data, deadline=time.monotonic() - 1)


def test_links_that_stay_inside_are_listed_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar_with(
            (entry("ssl/archive/cert1.pem"), b"x"),
            (entry("ssl/live/cert.pem", tarfile.SYMTYPE, "../archive/cert1.pem"), b""),
        )
    )
    told = unpack(path, (), tmp_path / "out", links=True)
    assert told.members[1].target == "../archive/cert1.pem"
    assert not os.path.lexists(tmp_path / "out/ssl/live/cert.pem")
    path.write_bytes(tar_with((entry("ssl/cert.pem", tarfile.SYMTYPE, "../../etc/passwd"), b"")))
    with pytest.raises(ArtifactError, match="link"):
        unpack(path, (), tmp_path / "out2", links=True)


def test_is_tar_knows_a_tar_from_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tar_with((entry("a"), b"1"))))
    assert is_tar(sniff(path)[1])
    assert not is_tar(bytes(1024))
    assert not is_tar(b"-- PostgreSQL database dump\n" * 40)
