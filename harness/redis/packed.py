"""Bring a packed Redis backup to the disk: only what is data, once, and a bomb never.

How tightly a backup is packed proves nothing: the same kilobyte under 200,000 keys packs as well as a bomb
does. So what is packed tightly is read through to its end before any of it lies on the disk: an RDB whose
records and checksum hold, or an append-only file of nothing but commands, is a backup however large.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from .. import archive
from ..component import DrillContext
from ..errors import ArtifactError, ToolError
from ..model import Artifact
from ..stream import Stream, open_file
from . import aof
from .digest import Digester, Value
from .layout import MAGICS, PART, SMALL_BYTES
from .rdb import OnKey, walk
from .rdb_values import Damaged, Source

_TIGHT: Final = 10  # unpacked to packed; below that a bomb is no more than a large file
_UNBOUNDED: Final = 1 << 62
_SMALL: Final = 4 << 20  # below that nothing is a bomb, not even in keys, which take more than their bytes
_MEMBERS: Final = 1_000
_SPARE_BYTES: Final = 64 << 20  # what may lie beside the data
_REMEMBERED: Final = 100_000
_HEAD_BYTES: Final = 16
_TAKE_NEW: Final = "use an older backup and take a new one"
_HOSTILE: Final = "do not unpack it; find out who made it"


def unpack(
    artifact: Artifact, folder: Path, digester: Digester, ctx: DrillContext, deadline: float
) -> archive.Unpacked:
    """Unpack an archive below `folder`.

    Raises ArtifactError for what is damaged, hostile or no Redis backup, ToolError when this machine has no
    room or time for it, or cannot tell a backup from a bomb.
    """
    path, packing = artifact.path, artifact.packing
    limits = archive.Limits(archive.room(ctx.scratch, ctx.settings.sandbox.disk), _MEMBERS, _TIGHT, _SMALL)
    free = replace(limits, ratio=_UNBOUNDED)
    try:
        return archive.unpack(path, packing, folder, limits=limits, deadline=deadline, keep=_keep)
    except archive.TooDense:
        shutil.rmtree(folder)
    spare = _SPARE_BYTES
    for member, body in archive.members(path, packing, limits=free, deadline=deadline):
        head = body.head(_HEAD_BYTES)
        if _is_data(member.name, head):
            _prove(body, member.bytes, member.name, head, digester, deadline)
        else:
            spare -= member.bytes
        if spare < 0:
            raise ArtifactError(
                f"the archive holds {member.bytes:,} tightly packed bytes that are no data of Redis: "
                "it looks like a bomb",
                where=path.name,
                remedy=_HOSTILE,
            )
    return archive.unpack(path, packing, folder, limits=free, deadline=deadline, keep=_keep)


def unpack_one(
    artifact: Artifact, folder: Path, digester: Digester, ctx: DrillContext, deadline: float
) -> tuple[Path, archive.Unpacked]:
    """A compressed RDB or append-only file on the disk, and what is known of the file as it lies.

    Raises as `unpack`.
    """
    folder.mkdir(mode=0o700)
    target = folder / ("appendonly.aof" if artifact.format == "aof" else "dump.rdb")
    most = archive.room(ctx.scratch, ctx.settings.sandbox.disk)
    proven = False
    while True:
        with open_file(artifact.path) as file, target.open("wb") as out:
            stream = Stream(file, artifact.path, artifact.packing)
            for block in stream:
                if not proven and _is_tight(stream):
                    break
                if stream.plain_bytes > most:
                    raise ToolError(
                        f"unpacks to more than the {most:,} bytes that it may take here",
                        where=artifact.path.name,
                        remedy="make room in TMPDIR, or raise sandbox.disk",
                    )
                out.write(block)
            else:
                plain, behind = stream.plain_bytes, stream.trailing_bytes
                return target, archive.Unpacked((), stream.sha256, plain, behind)
        target.unlink()
        _prove_one(artifact, target.name, digester, deadline)
        proven = True


def _is_tight(stream: Stream) -> bool:
    return stream.plain_bytes > _SMALL and stream.plain_bytes > stream.raw_bytes * _TIGHT


def _prove_one(artifact: Artifact, name: str, digester: Digester, deadline: float) -> None:
    with open_file(artifact.path) as file:
        stream = Stream(file, artifact.path, artifact.packing, hashed=False)
        source = _Blocks(iter(stream))
        head = source.read(_HEAD_BYTES)
        _prove(_Before(head, source), None, name, head, digester, deadline)


def _is_data(name: str, head: bytes) -> bool:
    last = name.rsplit("/", 1)[-1]
    return head.startswith(MAGICS) or last.endswith((".rdb", ".aof")) or bool(PART.match(last))


def _keep(member: archive.Member, head: bytes) -> int:
    """Data as a whole; of what lies beside it no more than is read."""
    return member.bytes if _is_data(member.name, head) else SMALL_BYTES


def _prove(
    source: Source, size: int | None, name: str, head: bytes, digester: Digester, deadline: float
) -> None:
    """Read a file of `size` bytes (None: to its end) to see that servers wrote it; raises where not."""
    whole = _Remembering(source)
    if head.startswith(MAGICS):
        facts = walk(
            whole,
            _UNBOUNDED if size is None else size,
            digester,
            _no_key_twice(),
            deadline=deadline,
            keys_only=True,
        )
        if facts.unknown:
            raise ToolError(
                f"{facts.unknown}: whether the archive is a bomb shows only when it is unpacked",
                where=name,
                remedy="unpack it by hand, if you know who made it",
            )
        if facts.damage or (facts.stated_crc and facts.stated_crc != facts.computed_crc):
            what = facts.damage or "has a checksum that does not hold"
            raise ArtifactError(f"the RDB {name!r} {what}", remedy=_TAKE_NEW)
        rest: Source = _Before(whole.behind(facts.end), source)
        if not name.endswith(".aof"):
            _ends(rest, name)
            return
    elif name.endswith(".aof"):
        rest = whole
    else:
        raise ArtifactError(f"{name!r} does not begin as an RDB does", remedy=_TAKE_NEW)
    told = aof.read(rest, digester, aof.AofFacts(touched=None), deadline=deadline)
    if told.damage:
        raise ArtifactError(f"the append-only file {name!r} {told.damage}", remedy=_TAKE_NEW)


def _ends(source: Source, name: str) -> None:
    """Servers ignore what follows the end mark, but there is no reason for much of it."""
    spare = _SPARE_BYTES
    while block := source.read(1 << 20):
        spare -= len(block)
        if spare < 0:
            raise ArtifactError(f"the RDB {name!r} goes on for long behind its end", remedy=_HOSTILE)


def _no_key_twice() -> OnKey:
    """Takes keys and refuses one that came before, as servers do; remembers some: enough for a filler."""
    seen: set[int] = set()

    def take(db: int, key: bytes, value: Value, expiry: int) -> None:
        if len(seen) >= _REMEMBERED:
            seen.clear()
        before = len(seen)
        seen.add(hash((db, key)))
        if len(seen) == before:
            raise Damaged("holds a key twice")

    return take


class _Blocks:
    """Blocks as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._held = blocks, b""

    def read(self, count: int, /) -> bytes:
        held = [self._held]
        left = count - len(self._held)
        while left > 0 and (block := next(self._blocks, b"")):
            held.append(block)
            left -= len(block)
        found = b"".join(held)
        self._held = found[count:]
        return found[:count]


class _Before:
    """Some bytes, and then a file."""

    def __init__(self, first: bytes, then: Source) -> None:
        self._first, self._then = first, then

    def read(self, count: int, /) -> bytes:
        first, self._first = self._first[:count], self._first[count:]
        return first + self._then.read(count - len(first)) if len(first) < count else first


class _Remembering:
    """A file that still knows its last block: a reader of records takes more than it needs."""

    def __init__(self, source: Source) -> None:
        self._source, self._last, self._at = source, b"", 0

    def read(self, count: int, /) -> bytes:
        block = self._source.read(count)
        if block:
            self._at += len(self._last)
            self._last = block
        return block

    def behind(self, offset: int) -> bytes:
        """What was read from `offset` on, which lies in the last block."""
        return self._last[offset - self._at :] if offset >= self._at else b""
