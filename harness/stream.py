"""A backup's bytes, however packed: one reader for plain, gzip, zstd, lz4, xz and bz2, also nested.

Every codec here checks its own checksums to the very end; a stream that ends early, or is damaged, raises
`ArtifactError`, never a short read. Memory stays flat whatever the compression ratio (bombs included).
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import lz4.frame
import psutil
import zstandard
from isal import isal_zlib

from .errors import ArtifactError, ToolError

HEAD_BYTES: Final = 4096
_BLOCK: Final = 1 << 18
_OUTPUT: Final = 1 << 18
_MAX_NESTING: Final = 3
_MEMORY: Final = re.compile(r"too much memory|[Mm]emory usage limit")
_SKIPPED: Final = re.compile(rb"[\x50-\x5f]\*M\x18(.{4})", re.DOTALL)  # a frame that holds no data
_SKIPPED_MAGIC: Final = b"*M\x18"


@dataclass(frozen=True)
class _Codec:
    name: str
    magic: tuple[bytes, ...]
    make: Callable[[], Any]
    error: Any
    slice_bytes: int | None = None  # how much input one call may see, where the output cannot be bounded
    skips: bool = False  # has frames without data: pzstd begins with one, seekable files end with one


def _room() -> int:
    """How far back a compressed stream may refer, which has to be held in memory: what `zstd --long=31`
    writes is no damage."""
    return max(1 << 28, min(1 << 31, psutil.virtual_memory().available // 4))


# zstandard's decompressor cannot bound its output: a 3-byte run-length block gives 128 KiB, so it is fed
# 2 KiB at a time (<= 90 MB at the very worst). The others are asked for at most _OUTPUT bytes a call.
_CODECS: Final = (
    _Codec("gzip", (b"\x1f\x8b\x08",), lambda: isal_zlib.decompressobj(31), isal_zlib.error),
    _Codec(
        "zstd",
        (b"\x28\xb5\x2f\xfd",),
        lambda: zstandard.ZstdDecompressor(max_window_size=_room()).decompressobj(),
        zstandard.ZstdError,
        2048,
        skips=True,
    ),
    _Codec("lz4", (b"\x04\x22\x4d\x18",), lz4.frame.LZ4FrameDecompressor, RuntimeError, skips=True),
    _Codec(
        "xz",
        (b"\xfd7zXZ\x00",),
        lambda: lzma.LZMADecompressor(memlimit=_room()),
        lzma.LZMAError,
    ),
    _Codec(
        "bzip2",
        tuple(b"BZh%d1AY&SY" % n for n in range(1, 10)),
        bz2.BZ2Decompressor,
        (OSError, ValueError),
    ),
)
_ENCRYPTED: Final = {
    b"age-encryption.org/v1": "age",
    b"-----BEGIN AGE ENCRYPTED FILE": "age",
    b"-----BEGIN PGP MESSAGE": "gpg",
    b"\x85\x01": "gpg",
    b"\x85\x02": "gpg",
    b"\x8c\x0d\x04": "gpg",
}


def codec_of(head: bytes) -> str | None:
    """Name of the compression whose magic number `head` starts with, else None."""
    at = 0
    while skipped := _SKIPPED.match(head, at):
        at = skipped.end() + int.from_bytes(skipped[1], "little")
    return next((c.name for c in _CODECS if head.startswith(c.magic, at) and (c.skips or not at)), None)


def encryption_of(head: bytes) -> str | None:
    """`age` or `gpg` when `head` is the start of an encrypted file, else None."""
    return next((name for magic, name in _ENCRYPTED.items() if head.startswith(magic)), None)


class Stream:
    """The unpacked bytes of one file, read once from start to end by iterating.

    After the last block `sha256` holds the digest of the file as it lies on disk ("" when not `hashed`),
    `plain_bytes` the unpacked size, and `trailing_bytes` how much followed the last compressed member (gzip
    tools ignore it; a naive `gzip -t` complains). `raw_bytes` grows while reading, for progress.
    """

    def __init__(self, file: IO[bytes], path: Path, packing: tuple[str, ...], *, hashed: bool = True) -> None:
        self.path, self.packing, self._hashed = path, packing, hashed
        self.raw_bytes = self.plain_bytes = self.trailing_bytes = 0
        self.sha256 = ""
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        blocks = self._raw()
        for name in self.packing:
            codec = next(c for c in _CODECS if c.name == name)
            blocks = self._unpacked(blocks, codec)
        for block in blocks:
            self.plain_bytes += len(block)
            yield block

    def _raw(self) -> Iterator[bytes]:
        digest = hashlib.sha256()
        while block := self._file.read(_BLOCK):
            if self._hashed:
                digest.update(block)
            self.raw_bytes += len(block)
            yield block
        self.sha256 = digest.hexdigest() if self._hashed else ""

    def _unpacked(self, blocks: Iterator[bytes], codec: _Codec) -> Iterator[bytes]:
        member: Any = None
        carry = b""
        skip = 0
        for block in blocks:
            data = carry + block if carry else block
            carry, held = b"", False
            while data or held:
                if skip:
                    skip, data = max(0, skip - len(data)), data[skip:]
                    continue
                if member is None:
                    if self.trailing_bytes:  # after foreign bytes nothing is a member any more
                        self.trailing_bytes += len(data)
                        break
                    data = data.lstrip(b"\0")  # padding between members is customary on tapes
                    if codec.skips and (skipped := _SKIPPED.match(data)):
                        skip = skipped.end() + int.from_bytes(skipped[1], "little")
                        continue
                    if len(data) < 10 and _may_begin(codec, data):
                        carry = data  # too little to tell a new member from trailing bytes: wait for more
                        break
                    if not data.startswith(codec.magic):
                        self.trailing_bytes += len(data)
                        break
                    member = codec.make()
                try:
                    out, data, held = _step(member, data, codec.slice_bytes)
                except codec.error as error:
                    if _MEMORY.search(str(error)):
                        raise ToolError(
                            f"unpacking the {codec.name} stream takes more memory than it may here",
                            where=self.path.name,
                            remedy="verify it on a machine with more memory, or pack it without --long",
                        ) from None
                    raise ArtifactError(
                        f"the {codec.name} stream is damaged after {self.plain_bytes:,} bytes: {error}",
                        where=self.path.name,
                        remedy="the rest cannot be read; use an older backup and take a new one",
                    ) from None
                if out:
                    yield out
                if member.eof:
                    member = None
        self.trailing_bytes += len(carry)
        if member is not None or skip or carry.startswith(codec.magic):
            raise ArtifactError(
                f"the {codec.name} stream ends in the middle, after {self.plain_bytes:,} unpacked bytes",
                where=self.path.name,
                remedy="the file was cut (disk full, interrupted copy?); take a new backup",
            )


def _may_begin(codec: _Codec, data: bytes) -> bool:
    """Whether so few bytes may be the beginning of a member."""
    if codec.skips and b"\x50" <= data[:1] <= b"\x5f" and _SKIPPED_MAGIC.startswith(data[1:4]):
        return True
    return any(magic.startswith(data[: len(magic)]) for magic in codec.magic)


def _step(member: Any, data: bytes, slice_bytes: int | None) -> tuple[bytes, bytes, bool]:
    """Feed one decompressor: what came out, the input it has not seen yet, and whether it holds back more."""
    if slice_bytes:
        out = member.decompress(data[:slice_bytes])
        return out, (member.unused_data if member.eof else b"") + data[slice_bytes:], False
    out = member.decompress(data, _OUTPUT)
    if member.eof:
        return out, member.unused_data or b"", False
    if hasattr(member, "unconsumed_tail"):
        return out, member.unconsumed_tail, False
    return out, b"", bool(out) and not member.needs_input


def sniff(path: Path) -> tuple[tuple[str, ...], bytes]:
    """How a regular file is packed (outermost first), and the first 4 KiB of what is inside.

    Raises ArtifactError when the compression is damaged before that, or the file cannot be read.
    """
    packing: tuple[str, ...] = ()
    head = _head(path, packing)
    while len(packing) < _MAX_NESTING and (codec := codec_of(head)):
        packing += (codec,)
        head = _head(path, packing)
    return packing, head


def _head(path: Path, packing: tuple[str, ...]) -> bytes:
    head = b""
    with open_file(path) as file:
        for block in Stream(file, path, packing):
            head += block
            if len(head) >= HEAD_BYTES:
                break
    return head[:HEAD_BYTES]


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file for reading; never a FIFO or device, which could hang or never end."""
    try:
        if not path.is_file():
            raise ArtifactError("is not a regular file", where=str(path))
        return path.open("rb", buffering=0)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}", where=str(path)) from None
