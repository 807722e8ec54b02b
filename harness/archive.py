"""Tar archives as hostile input: one guarded reader for every component.

Written instead of using `tarfile`, which ends silently at a damaged header, accepts a missing end, a wrong
gzip CRC and archives that hold a name twice, and reads extended headers of any size into memory. Here every
header's checksum counts, the stream is drained to its very end (so the compression's checksum is too),
and nothing but regular files and folders is ever made on disk, below one folder, within `Limits`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .errors import ArtifactError, ToolError
from .stream import Stream, open_file
from .tar import BLOCK, DISK_BLOCK, HOSTILE, Limits, Member, Reader, TooDense, entries, is_tar

__all__ = ["Body", "Limits", "Member", "TooDense", "Unpacked", "is_tar", "members", "room", "unpack"]

_NAME_BYTES: Final = 2048  # of a whole path: systems take 4096, with the folder that it is unpacked in
_ROOM_BYTES: Final = 1 << 30  # what unpacking leaves free on the disk
_LIMITS: Final = Limits()
_ZEROS: Final = memoryview(bytes(1 << 20))


@dataclass(frozen=True)
class Unpacked:
    """What an archive held. `sha256` is the digest of the file as it lies on disk; `trailing_bytes` follow
    the compressed data in it."""

    members: tuple[Member, ...]
    sha256: str
    plain_bytes: int
    trailing_bytes: int = 0


def room(folder: Path, most: int) -> int:
    """Bytes that unpacking may take on the disk of `folder`: at most `most`; 1 GiB stays free, or half."""
    free = shutil.disk_usage(folder).free
    return min(most, max(free - _ROOM_BYTES, free // 2))


class Body:
    """The bytes of one member, to be read once and in order, as from a file."""

    def __init__(self, reader: Reader, size: int) -> None:
        self._reader, self._ahead, self.left = reader, b"", size

    def head(self, count: int = 16) -> bytes:
        """The first bytes, which are read again afterwards."""
        if not self._ahead:
            self._ahead = self._reader.take(min(count, self.left))
        return self._ahead

    def pieces(self, count: int) -> Iterator[bytes | memoryview]:
        """The next `count` bytes, as they come."""
        if self._ahead and count:
            first, self._ahead = self._ahead[:count], self._ahead[count:]
            self.left -= len(first)
            count -= len(first)
            yield first
        for piece in self._reader.pieces(min(count, self.left)):
            self.left -= len(piece)
            yield piece

    def makes(self, count: int) -> None:
        """Count a file of `count` bytes, before it is written."""
        self._reader.makes(count)

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`; none at the end."""
        return b"".join(self.pieces(min(count, self.left)))


def unpack(
    path: Path,
    packing: tuple[str, ...],
    folder: Path,
    *,
    limits: Limits = _LIMITS,
    deadline: float | None = None,
    links: bool = False,
    keep: Callable[[Member, bytes], int] = lambda member, head: member.bytes,
) -> Unpacked:
    """Unpack a tar (packed as `packing`, see `stream.sniff`) below `folder`, which is made if need be.

    Files get mode 0600 and folders 0700; what the archive asks for stands in `Member.mode`. Of a file only
    the first bytes are written, as many as `keep(member, its first bytes)` says. Blocks of zeros become
    holes. Raises ArtifactError when the archive is damaged, ends early, is a bomb, or holds anything that
    could reach out of the folder, hang a reader or be read in two ways: `..`, absolute names, hard links,
    devices, FIFOs, a name twice. Symbolic links are never made on disk: with `links` those whose target
    stays inside are listed, else they are refused too. Raises ToolError past `deadline` (`time.monotonic()`
    seconds), and where it takes more disk than it may.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_file(path) as file:
        stream = Stream(file, path, packing)
        found: dict[str, Member] = {}
        for member, body in _walk(stream, path.name, limits, deadline, links=links):
            place = folder / member.name
            if member.kind == "file":
                count = min(member.bytes, keep(member, body.head()))
                body.makes(count)
                _write(place, body.pieces(count), count)
            elif member.kind == "folder":
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if member.name:
                found[member.name] = member
        return Unpacked(tuple(found.values()), stream.sha256, stream.plain_bytes, stream.trailing_bytes)


def members(
    path: Path, packing: tuple[str, ...], *, limits: Limits = _LIMITS, deadline: float | None = None
) -> Iterator[tuple[Member, Body]]:
    """What an archive holds, read under the same guard without writing anything; raises as `unpack`."""
    with open_file(path) as file:
        yield from _walk(Stream(file, path, packing), path.name, limits, deadline, links=False)


def _walk(
    stream: Stream, where: str, limits: Limits, deadline: float | None, *, links: bool
) -> Iterator[tuple[Member, Body]]:
    found: dict[str, Member] = {}
    folders: set[str] = set()
    reader = Reader(stream, where, limits, deadline)
    for entry in entries(reader):
        member = _admitted(entry, found, reader, links)
        parts = member.name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in found and folder not in folders:
                folders.add(folder)
                reader.makes(DISK_BLOCK)
        if len(found) + len(folders) >= limits.members:
            raise reader.refuse(f"the archive holds more than {limits.members:,} entries", "do not unpack it")
        if member.kind == "folder":
            reader.makes(DISK_BLOCK)
        body = Body(reader, member.bytes)
        yield member, body
        for _ in body.pieces(body.left):
            pass
        reader.skip(-member.bytes % BLOCK)
        if member.name:
            found[member.name] = member
    reader.drain()


def _admitted(member: Member, found: dict[str, Member], reader: Reader, links: bool) -> Member:
    """Bring the name into its one canonical form; refuse what could do harm or means two things."""
    if member.name.startswith("/") or "\0" in member.name or ".." in member.name.split("/"):
        raise reader.refuse(f"the archive reaches outside its folder: {member.name!r}", HOSTILE)
    parts = _parts(member.name)
    if (
        len(parts) > 64
        or len(os.fsencode(member.name)) > _NAME_BYTES
        or any(len(os.fsencode(part)) > 255 for part in parts)
    ):
        raise reader.refuse(f"the archive holds a name that is too long: {member.name[:80]!r}...", HOSTILE)
    name = "/".join(parts)
    if not name and member.kind != "folder":
        raise reader.refuse("the archive holds an entry without a name", HOSTILE)
    for depth in range(1, len(parts)):
        above = found.get("/".join(parts[:depth]))
        if above and above.kind != "folder":
            raise reader.refuse(f"the archive puts {name!r} below something that is no folder", HOSTILE)
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


def _parts_of(pieces: Iterator[bytes | memoryview]) -> Iterator[memoryview]:
    """The same bytes in parts no larger than the zeros that they are compared with."""
    for piece in pieces:
        for start in range(0, len(piece), len(_ZEROS)):
            yield memoryview(piece)[start : start + len(_ZEROS)]


def _write(place: Path, pieces: Iterator[bytes | memoryview], size: int) -> None:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            for part in _parts_of(pieces):
                if len(part) >= DISK_BLOCK and part == _ZEROS[: len(part)]:
                    file.seek(len(part), os.SEEK_CUR)  # a hole: unused WAL is zeros, and so are most bombs
                    continue
                while part:  # a raw file may take less than it was given
                    part = part[file.write(part) :]
            file.truncate(size)
    except FileExistsError:
        raise ArtifactError(f"the archive holds {place.name!r} twice, as file and as folder") from None
    except OSError as error:
        raise ToolError(f"cannot unpack {place.name!r} here: {error.strerror}") from None


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]
