"""Tar archives as hostile input: one guarded reader for every component.

Written instead of using `tarfile`, which ends silently at a damaged header, accepts a missing end, a wrong
gzip CRC and archives that hold a name twice, and reads extended headers of any size into memory. Here every
header's checksum counts, the stream is drained to its very end (so the compression's checksum is too),
and nothing but regular files and folders is ever made on disk, below one folder, within `Limits`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .errors import ArtifactError, ToolError
from .stream import Stream, open_file

_BLOCK: Final = 512
_META_BYTES: Final = 1 << 20  # extended headers hold names; a larger one is no name
_RATIO_FLOOR: Final = 64 << 20
_OTHERS: Final = {b"3": "a device", b"4": "a device", b"6": "a FIFO", b"S": "a sparse file"}


@dataclass(frozen=True)
class Limits:
    """What an archive may take. `ratio` is unpacked to packed size, looked at beyond 64 MiB only:
    deflate cannot do better than 1032, and real data stays far below."""

    total_bytes: int = 64 << 30
    members: int = 100_000
    ratio: int = 500


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


@dataclass(frozen=True)
class Unpacked:
    """What an archive held. `sha256` is the digest of the file as it lies on disk."""

    members: tuple[Member, ...]
    sha256: str
    plain_bytes: int


def is_tar(head: bytes) -> bool:
    """Whether the (unpacked) first bytes are a tar header with a valid checksum."""
    return len(head) >= _BLOCK and _checksum_holds(head[:_BLOCK])


def unpack(
    path: Path,
    packing: tuple[str, ...],
    folder: Path,
    *,
    limits: Limits = Limits(),
    deadline: float | None = None,
    links: bool = False,
) -> Unpacked:
    """Unpack a tar (packed as `packing`, see `stream.sniff`) below `folder`, which is made if need be.

    Files get mode 0600 and folders 0700; what the archive asks for stands in `Member.mode`. Raises
    ArtifactError when it is damaged, ends early, is a bomb, or holds anything that could reach out of the
    folder, hang a reader or be read in two ways: `..`, absolute names, hard links, devices, FIFOs, a name
    twice. Symbolic links are never made on disk: with `links` those whose target stays inside are listed,
    else they are refused too. Raises ToolError past `deadline` (`time.monotonic()` seconds).
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found: dict[str, Member] = {}
    with open_file(path) as file:
        stream = Stream(file, path, packing)
        reader = _Reader(stream, path.name, limits, deadline)
        for entry in _entries(reader):
            member = _admitted(entry, found, reader, links)
            place = folder / member.name
            if member.kind == "file":
                _write(place, reader.pieces(member.bytes))
                reader.skip(-member.bytes % _BLOCK)
            elif member.kind == "folder":
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if member.name:
                found[member.name] = member
        reader.drain()
        return Unpacked(tuple(found.values()), stream.sha256, stream.plain_bytes)


class _Reader:
    """The unpacked bytes by count, with the limits watched as they come."""

    def __init__(self, stream: Stream, where: str, limits: Limits, deadline: float | None) -> None:
        self.where, self.limits = where, limits
        self._stream, self._deadline = stream, deadline
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
            if plain > self.limits.total_bytes or (plain > _RATIO_FLOOR and plain > raw * self.limits.ratio):
                raise self.refuse(
                    f"the archive unpacks to over {plain:,} bytes from {raw:,}: it looks like a bomb",
                    "do not unpack it; find out who made it",
                )
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise ToolError("unpacking did not finish in time", where=self.where)
            self._rest = memoryview(block)
        return True

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
        """Read to the very end: only then have the compression's own checksums been compared."""
        while self._fill():
            self._rest = memoryview(b"")


def _entries(reader: _Reader) -> Iterator[Member]:
    """Entries as the archive states them; the caller consumes a file's bytes before asking for the next."""
    extended: dict[str, str] = {}
    lasting: dict[str, str] = {}
    count = 0
    while True:
        header = reader.take(_BLOCK)
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
        if kind in (b"x", b"g", b"L", b"K"):
            if size > _META_BYTES:
                raise reader.refuse(
                    f"an extended header claims {size:,} bytes", "do not unpack it; find out who made it"
                )
            data = reader.take(size)
            reader.skip(-size % _BLOCK)
            if kind == b"g":
                lasting |= _pax(data, reader)
            elif kind == b"x":
                extended |= _pax(data, reader)
            else:
                text = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
                extended["path" if kind == b"L" else "linkpath"] = text
            continue
        count += 1
        if count > reader.limits.members:
            raise reader.refuse(f"the archive holds more than {count - 1:,} entries", "do not unpack it")
        yield _member(header, kind, size, lasting | extended, reader)
        extended = {}


def _member(header: bytes, kind: bytes, size: int, told: dict[str, str], reader: _Reader) -> Member:
    name = _text(header[0:100])
    if header[257:263] == b"ustar\0" and header[345] != 0:
        name = f"{_text(header[345:500])}/{name}"
    name = told.get("path", name)
    if any(key.startswith("GNU.sparse") for key in told):
        kind = b"S"
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
    if kind == b"2":
        return replace(base, kind="link", target=told.get("linkpath", _text(header[157:257])))
    if kind not in (b"0", b"\0", b"7"):
        raise reader.refuse(f"entry {name!r} is of an unknown type", "make the archive with a usual tar")
    if "size" in told:
        if not told["size"].isdecimal():
            raise reader.refuse(f"entry {name!r} has no valid size", "the archive is damaged")
        size = int(told["size"])
    if size < 0 or size > reader.limits.total_bytes:
        raise reader.refuse(f"entry {name!r} claims {size:,} bytes", "more than a backup may take here")
    return replace(base, bytes=size)


def _admitted(member: Member, found: dict[str, Member], reader: _Reader, links: bool) -> Member:
    """Bring the name into its one canonical form; refuse what could do harm or means two things."""
    hostile = "do not unpack it; find out who made it"
    if member.name.startswith("/") or "\0" in member.name or ".." in member.name.split("/"):
        raise reader.refuse(f"the archive reaches outside its folder: {member.name!r}", hostile)
    parts = _parts(member.name)
    if len(parts) > 64 or any(len(os.fsencode(part)) > 255 for part in parts):
        raise reader.refuse(f"the archive holds a name that is too long: {member.name[:80]!r}...", hostile)
    name = "/".join(parts)
    if not name and member.kind != "folder":
        raise reader.refuse("the archive holds an entry without a name", hostile)
    for depth in range(1, len(parts)):
        above = found.get("/".join(parts[:depth]))
        if above and above.kind != "folder":
            raise reader.refuse(f"the archive puts {name!r} below something that is no folder", hostile)
    before = found.get(name)
    if before and (before.kind, member.kind) != ("folder", "folder"):
        raise reader.refuse(
            f"the archive holds {name!r} twice",
            "which one counts depends on the tool that unpacks; make the archive again",
        )
    if member.kind == "link":
        target = member.target or ""
        inside = os.path.normpath("/".join([*parts[:-1], target]))
        if not links or target.startswith("/") or inside.split("/")[0] == "..":
            raise reader.refuse(
                f"the archive holds a link: {name!r}",
                "a backup holds regular files only; make the archive with `tar --dereference`",
            )
    return replace(member, name=name)


def _write(place: Path, pieces: Iterator[memoryview]) -> None:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            for piece in pieces:
                while piece:  # a raw file may take less than it was given
                    piece = piece[file.write(piece) :]
    except FileExistsError:
        raise ArtifactError(f"the archive holds {place.name!r} twice, as file and as folder") from None
    except OSError as error:
        raise ToolError(f"cannot unpack {place.name!r} here: {error.strerror}") from None


def _checksum_holds(header: bytes) -> bool:
    """Sum of all bytes with the field itself as blanks; some old writers summed signed bytes."""
    stated = header[148:156].split(b"\0")[0].strip()
    if not stated or stated.strip(b"01234567"):
        return False
    rest = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(rest)
    return int(stated, 8) in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _number(field: bytes, reader: _Reader) -> int:
    if field[0] in (0x80, 0xFF):  # GNU: base 256, for sizes beyond 8 GiB and negative times
        return int.from_bytes(field[1:], "big") - (1 << 8 * (len(field) - 1) if field[0] == 0xFF else 0)
    text = field.split(b"\0")[0].strip()
    if text.strip(b"01234567"):
        raise reader.refuse("a header holds no number where one must stand", "the archive is damaged")
    return int(text or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _pax(data: bytes, reader: _Reader) -> dict[str, str]:
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
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
    return found
