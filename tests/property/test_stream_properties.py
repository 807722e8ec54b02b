"""harness/stream.py: whatever was packed comes out again, wherever a read happens to end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import lz4.frame
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness import stream
from harness.errors import ArtifactError, ToolError
from harness.stream import Stream, sniff

PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
EMPTY_FRAME: Final = struct.pack("<II", 0x184D2A50, 0)
FRAME: Final = struct.pack("<II", 0x184D2A5E, 9) + b"seek here"


class InPieces(io.BytesIO):
    """A file whose reads end where they like."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        super().__init__(data)
        self.sizes, self.turn = sizes, 0

    def read(self, count: int | None = -1, /) -> bytes:
        self.turn += 1
        return super().read(self.sizes[self.turn % len(self.sizes)])


def unpacked(data: bytes, codec: str, sizes: list[int]) -> tuple[bytes, int]:
    opened = Stream(InPieces(data, sizes), Path("backup"), (codec,))
    return b"".join(opened), opened.trailing_bytes


PARTS = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4)
SIZES = st.lists(st.sampled_from([1, 2, 3, 7, 9, 10, 11, 50, 1000]), min_size=1, max_size=5)


@settings(max_examples=200, deadline=None)
@given(codec=st.sampled_from(sorted(PACK)), parts=PARTS, sizes=SIZES, padding=st.sampled_from([0, 4, 512]))
@example(codec="bzip2", parts=[b"first", b"second"], sizes=[1], padding=0)
def test_members_in_any_pieces(codec: str, parts: list[bytes], sizes: list[int], padding: int) -> None:
    packed = b"".join(PACK[codec](part) + bytes(padding) for part in parts)
    assert unpacked(packed, codec, sizes) == (b"".join(parts), 0)
    assert unpacked(packed + b"!garbage", codec, sizes) == (b"".join(parts), 8)


@settings(max_examples=200, deadline=None)
@given(codec=st.sampled_from(sorted(PACK)), part=st.binary(max_size=300), sizes=SIZES, data=st.data())
def test_a_cut_is_seen(codec: str, part: bytes, sizes: list[int], data: st.DataObject) -> None:
    packed = PACK[codec](b"x" + part)
    cut = data.draw(st.integers(10, len(packed) - 1))
    for before in (b"", packed):  # of the only member, and of one behind another
        with pytest.raises(ArtifactError):
            unpacked(before + packed[:cut], codec, sizes)


@settings(max_examples=100, deadline=None)
@given(codec=st.sampled_from(["lz4", "zstd"]), parts=PARTS, sizes=SIZES)
def test_frames_without_data(codec: str, parts: list[bytes], sizes: list[int]) -> None:
    """pzstd begins every frame with one, seekable files end with one."""
    packed = b"".join(FRAME + PACK[codec](part) for part in parts) + EMPTY_FRAME + FRAME
    assert unpacked(packed, codec, sizes) == (b"".join(parts), 0)
    with pytest.raises(ArtifactError):
        unpacked(packed[:-1], codec, sizes)
    assert stream.codec_of(packed) == codec


def test_what_takes_more_memory_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on a large machine nor on a small one."""
    wide = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    far = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    packed = {
        "zst": zstandard.ZstdCompressor(compression_params=wide).compressobj(),
        "xz": lzma.LZMACompressor(filters=far),
    }
    for ending, packer in packed.items():
        path = tmp_path / f"backup.{ending}"
        path.write_bytes(packer.compress(bytes(5000)) + packer.flush())
        monkeypatch.setattr(stream, "_room", lambda: 1 << 31)
        assert sniff(path)[1] == bytes(4096)
        monkeypatch.setattr(stream, "_room", lambda: 1 << 20)
        with pytest.raises(ToolError, match="more memory"):
            sniff(path)
