"""The entries of a tar file, one after the other, each header held to its checksum.

A reader of our own: `tarfile` ends silently at a damaged header, and reads extended headers of any size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from .errors import ArtifactError, ToolError
from .stream import Stream

BLOCK: Final = 512
DISK_BLOCK: Final = 4096
HOSTILE: Final = "do not unpack it; find out who made it"
_BEHIND_BYTES: Final = 64 << 20  # padding of tapes; and all extended headers together
_META_BYTES: Final = 1 << 20  # extended headers hold names; a larger one is no name
_TOLD: Final = frozenset(("path", "linkpath", "size"))  # what counts of an extended header
_OTHERS: Final = {b"3": "a device", b"4": "a device", b"6": "a FIFO"}


@dataclass(frozen=True)
class Limits:
    """What an archive may take. `total_bytes` counts what lies on the disk, folders and blocks included;
    `members` also counts folders that only names imply. `ratio` is unpacked to packed size, looked at beyond
    `floor` bytes only: what it may be depends on the kind of backup (deflate cannot do better than 1032)."""

    total_bytes: int = 64 << 30
    members: int = 100_000
    ratio: int = 500
    floor: int = 64 << 20


@dataclass(frozen=True)
class Member:
    """One entry. `kind` is "file", "folder" or "link" (symbolic, to `target`, inside the archive's tree);
    `mode` holds the permission bits as archived, `mtime` Unix seconds."""

    name: str
    kind: str
    bytes: int = 0
    mode: int = 0
    mtime: int = 0
    target: str | None = None


class TooDense(ArtifactError):
    """More came out of an archive than `Limits.ratio` allows for what went in."""


def is_tar(head: bytes) -> bool:
    """Whether the (unpacked) first bytes are a tar header with a valid checksum."""
    return len(head) >= BLOCK and _checksum_holds(head[:BLOCK])


class Reader:
    """The unpacked bytes by count, with the limits watched as they come."""

    def __init__(self, stream: Stream, where: str, limits: Limits, deadline: float | None) -> None:
        self.where, self.limits = where, limits
        self._stream, self._deadline = stream, deadline
        self._made = 0
        self._blocks = iter(stream)
        self._rest = memoryview(b"")

    def refuse(self, what: str, remedy: str) -> ArtifactError:
        return ArtifactError(what, where=self.where, remedy=remedy)

    def cut(self) -> ArtifactError:
        return self.refuse(
            f"the archive ends in the middle, after {self._stream.plain_bytes:,} unpacked bytes",
            "the file was cut (disk full, interrupted copy?); use an older backup and take a new one",
        )

    def _fill(self) -> bool:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return False
            plain, raw = self._stream.plain_bytes, self._stream.raw_bytes
            if plain > self.limits.floor and plain > raw * self.limits.ratio:
                raise TooDense(
                    f"the archive unpacks to over {plain:,} bytes from {raw:,}: it looks like a bomb",
                    where=self.where,
                    remedy=HOSTILE,
                )
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise ToolError("unpacking did not finish in time", where=self.where)
            self._rest = memoryview(block)
        return True

    def makes(self, count: int) -> None:
        """Count a file or folder of `count` bytes that is about to be made on the disk."""
        self._made += -(-count // DISK_BLOCK) * DISK_BLOCK
        if self._made > self.limits.total_bytes:
            raise ToolError(
                f"unpacks to more than the {self.limits.total_bytes:,} bytes that it may take here",
                where=self.where,
                remedy="make room in TMPDIR, or raise sandbox.disk (files.max_bytes for configuration)",
            )

    def pieces(self, count: int) -> Iterator[memoryview]:
        while count:
            if not self._fill():
                raise self.cut()
            piece = self._rest[:count]
            self._rest = self._rest[len(piece) :]
            count -= len(piece)
            yield piece

    def take(self, count: int) -> bytes:
        return b"".join(self.pieces(count))

    def skip(self, count: int) -> None:
        for _ in self.pieces(count):
            pass

    def drain(self) -> None:
        """Read to the very end: only then have the compression's own checksums been compared.

        Tapes and tools pad with anything; entries behind the end are read by some tools and not by others.
        """
        ended = self._stream.plain_bytes
        behind: bytes | None = b""
        while self._fill():
            if behind is not None:
                behind = self._entry_begins(behind + self._rest)
            self._rest = memoryview(b"")
            if self._stream.plain_bytes > ended + _BEHIND_BYTES:
                raise self.refuse("the archive goes on for long behind its end", HOSTILE)

    def _entry_begins(self, data: bytes) -> bytes | None:
        """What is left of `data` behind its whole blocks of zeros; None once something else stands there."""
        for start in range(0, len(data) - BLOCK + 1, BLOCK):
            block = data[start : start + BLOCK]
            if any(block):
                if _checksum_holds(block):
                    raise self.refuse(
                        "the archive goes on with a second one behind its end, which most tools ignore",
                        "unpack it with `tar --ignore-zeros`, see which state counts, and make it again",
                    )
                return None
        return data[len(data) - len(data) % BLOCK :]


def entries(reader: Reader) -> Iterator[Member]:
    """Entries as the archive states them; the caller consumes a file's bytes before asking for the next."""
    extended: dict[str, str] = {}
    lasting: dict[str, str] = {}
    count = told = 0
    while True:
        header = reader.take(BLOCK)
        if not any(header):
            if extended:
                raise reader.cut()
            return
        if not _checksum_holds(header):
            raise reader.refuse(
                f"the archive is damaged: entry {count + 1} has a wrong header checksum"
                if count
                else "is not a tar archive: its first header has a wrong checksum",
                "what follows cannot be read; use an older backup and take a new one",
            )
        kind, size = header[156:157], _number(header[124:136], reader)
        if size < 0:
            raise reader.refuse(f"entry {count + 1} claims {size:,} bytes", "the archive is damaged")
        if kind in (b"x", b"g", b"L", b"K"):
            told += size
            if size > _META_BYTES or told > _BEHIND_BYTES:
                raise reader.refuse(f"an extended header claims {size:,} bytes", HOSTILE)
            data = reader.take(size)
            reader.skip(-size % BLOCK)
            if kind == b"g":
                lasting |= _pax(data, reader)
            elif kind == b"x":
                extended |= _pax(data, reader)
            else:
                text = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
                extended["path" if kind == b"L" else "linkpath"] = text
            continue
        if kind == b"V":  # a label of the whole archive (tar -V)
            reader.skip(size + -size % BLOCK)
            continue
        count += 1
        yield _member(header, kind, size, lasting | extended, reader)
        extended = {}


def _member(header: bytes, kind: bytes, size: int, told: dict[str, str], reader: Reader) -> Member:
    name = _text(header[0:100])
    if header[257:263] == b"ustar\0" and header[345] != 0:
        name = f"{_text(header[345:500])}/{name}"
    name = told.get("path", name)
    if any(key.startswith("GNU.sparse") for key in told):
        kind = b"S"
    if kind == b"S":
        raise ToolError(
            f"the archive holds {name!r} in sparse form, which is not read here",
            where=reader.where,
            remedy="make the archive without --sparse (-S)",
        )
    if kind in _OTHERS or kind == b"1":
        raise reader.refuse(
            f"the archive holds {_OTHERS.get(kind, 'a hard link')}: {name!r}",
            "a backup holds regular files only; make the archive again from the files themselves",
        )
    base = Member(name, "file", 0, _number(header[100:108], reader) & 0o7777)
    base = replace(base, mtime=_number(header[136:148], reader))
    if kind == b"5" or (kind == b"\0" and name.endswith("/")):
        if size:
            raise reader.refuse(f"the folder {name!r} claims to hold bytes", "the archive is damaged")
        return replace(base, kind="folder")
    if kind == b"D":  # with a list of what is in it, for incremental backups (tar -g)
        return replace(base, kind="folder", bytes=size)
    if kind == b"2":
        return replace(base, kind="link", target=told.get("linkpath", _text(header[157:257])))
    if kind not in (b"0", b"\0", b"7"):
        raise reader.refuse(f"entry {name!r} is of an unknown type", "make the archive with a usual tar")
    if "size" in told:
        if not told["size"].isdecimal():
            raise reader.refuse(f"entry {name!r} has no valid size", "the archive is damaged")
        size = int(told["size"])
    return replace(base, bytes=size)


def _checksum_holds(header: bytes) -> bool:
    """Sum of all bytes with the field itself as blanks; some old writers summed signed bytes."""
    stated = header[148:156].split(b"\0")[0].strip()
    if not stated or stated.strip(b"01234567"):
        return False
    rest = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(rest)
    return int(stated, 8) in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _number(field: bytes, reader: Reader) -> int:
    if field[0] in (0x80, 0xFF):  # GNU: base 256, for sizes beyond 8 GiB and negative times
        return int.from_bytes(field[1:], "big") - (1 << 8 * (len(field) - 1) if field[0] == 0xFF else 0)
    text = field.split(b"\0")[0].strip()
    if text.strip(b"01234567"):
        raise reader.refuse("a header holds no number where one must stand", "the archive is damaged")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(data: bytes, reader: Reader) -> dict[str, str]:
    """Records `<length> <key>=<value>\\n`, the length counting itself (POSIX pax)."""
    found: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) + 2 < int(length) <= len(data):
            raise reader.refuse("an extended header is damaged", "use an older backup and take a new one")
        record, data = data[len(length) + 1 : int(length)], data[int(length) :]
        key, sign, value = record.partition(b"=")
        if not sign or not value.endswith(b"\n"):
            raise reader.refuse("an extended header is damaged", "use an older backup and take a new one")
        name = key.decode("utf-8", "replace")
        if name in _TOLD or name.startswith("GNU.sparse"):
            found[name] = value[:-1].decode("utf-8", "surrogateescape")
    return found
