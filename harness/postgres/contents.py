"""An archive's table of contents read without pg_restore, which believes whatever stands in it.

No checksum covers it. But pg_dump ends it where the rows begin, gives every entry a number of its own, and
lets entries need such entries only as are there (BuildArchiveDependencies in pg_dump.c): where one was lost,
the others tell.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from ..errors import ArtifactError
from ..model import Artifact
from ..stream import Stream, open_file
from .source import SCRATCH_ARCHIVE, SCRATCH_FOLDER

_VERSIONS: Final = ((1, 12), (1, 16))  # of PostgreSQL 9.0 to 18
_METHOD_SINCE, _COMPRESSION_SINCE, _KIND_SINCE = (1, 14), (1, 15), (1, 16)
_CUSTOM: Final = 1
_PLACED: Final = 2  # the state of an offset that is set
_LONGEST: Final = 1 << 26  # of a text; a length that was changed takes no memory
_BLOCKS: Final = b"\x01\x03"  # of rows, of large objects (pg_backup_archiver.h)
_PACKED: Final = {".lz4": "lz4", ".zst": "zstd"}
_DATA_FILE: Final = re.compile(r"(?:\d+|blob_\d+)\.dat(?:\.(?:gz|lz4|zst))?")
# Entries whose needs are looked up by what is in the archive; comments, rights, rows name theirs regardless.
_LOOKED_UP: Final = frozenset(
    {"AGGREGATE", "CHECK CONSTRAINT", "CONSTRAINT", "DEFAULT", "DOMAIN", "FK CONSTRAINT", "FUNCTION", "INDEX",
     "INDEX ATTACH", "MATERIALIZED VIEW", "OPERATOR", "POLICY", "RULE", "SEQUENCE", "SEQUENCE OWNED BY",
     "TABLE", "TABLE ATTACH", "TRIGGER", "TYPE", "VIEW"}
)  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """An entry of the contents, by its number: type, schema and name, the statement before its rows, and how
    many bytes of the archive they take, where it tells. `needs` are numbers of other entries."""

    number: int
    kind: str
    name: str
    copy: str
    needs: tuple[int, ...]
    file: str = ""
    begins: int = 0
    size: int | None = None


@dataclass(frozen=True)
class _Toc:
    entries: tuple[Listed, ...]
    behind: bool


class _Unreadable(Exception):
    """pg_restore says it better."""


@dataclass(frozen=True)
class Contents:
    """`twice` are entries with the number of another, `hanging` those that need an entry which is not there
    (as "TYPE schema.name"), `behind` whether something stands where the contents should have ended, `unknown`
    files of rows in a folder that no entry names, `cut` those of large objects that end too early."""

    twice: tuple[str, ...]
    hanging: tuple[str, ...]
    behind: bool
    unknown: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


def contents(artifact: Artifact, scratch: Path) -> Contents | None:
    """What is wrong with an archive's contents; None where they cannot be read."""
    path = place(artifact, scratch)
    with contextlib.suppress(_Unreadable, OSError, ArtifactError, tarfile.TarError, EOFError, KeyError):
        if artifact.format == "tar":
            with tarfile.open(path, "r:") as packed, packed.extractfile("toc.dat") or io.BytesIO() as file:
                return _judged(_read(io.BytesIO(file.read())))
        if artifact.format == "custom":
            with open_file(path) as file:
                return _judged(_read(file))
        with open_file(path / "toc.dat") as file:
            toc = _read(file)
        listed = {
            name for toc in path.glob("blobs*.toc") for name in re.findall(r"blob_\d+\.dat", _text(toc))
        }
        files = {e.file for e in toc.entries if e.file}
        known = {name.removesuffix(".gz") for name in files | listed}
        unknown = sorted(
            child.name
            for child in path.iterdir()
            if _DATA_FILE.fullmatch(child.name) and child.name.rsplit(".dat", 1)[0] + ".dat" not in known
        )
        return replace(_judged(toc), unknown=tuple(unknown), cut=tuple(_cut(path, listed)))
    return None


def listed(artifact: Artifact, scratch: Path) -> tuple[Listed, ...]:
    """The entries of an archive in custom or directory format; none where they cannot be read."""
    path = place(artifact, scratch)
    # ValueError: the name of a file may be none
    with contextlib.suppress(_Unreadable, OSError, ArtifactError, EOFError, ValueError):
        if artifact.format == "custom":
            with open_file(path) as file:
                entries = _read(file).entries
            end = path.stat().st_size
            ends = sorted({end, *(e.begins for e in entries if e.begins < end)})
            return tuple(
                replace(e, size=ends[bisect.bisect(ends, e.begins)] - e.begins) if 0 < e.begins < end else e
                for e in entries
            )
        with open_file(path / "toc.dat") as file:
            entries = _read(file).entries
        return tuple(replace(e, size=_size(path / e.file)) if e.file else e for e in entries)
    return ()


def place(artifact: Artifact, scratch: Path) -> Path:
    """The archive itself, where the backup had to be unpacked to get at it."""
    if artifact.format == "directory" and artifact.path.is_file():
        folders = [found.parent for found in (scratch / SCRATCH_FOLDER).rglob("toc.dat")]
        return folders[0] if len(folders) == 1 else scratch / SCRATCH_FOLDER
    return scratch / SCRATCH_ARCHIVE if artifact.packing else artifact.path


def _size(path: Path) -> int | None:
    """Bytes of an entry's file, whatever it is compressed with."""
    found = (p for p in (path, *(path.with_name(path.name + e) for e in (".gz", *_PACKED))) if p.is_file())
    return next((p.stat().st_size for p in found), None)


def _cut(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """Files of large objects that are cut: of lz4 and zstd pg_restore takes what is there, of gzip nothing
    for an empty file. (An empty object's file is empty with lz4 and zstd, but not with gzip.)

    The rows of a table have an end mark of their own.
    """
    for path in (folder / f"{name}{ending}" for name in sorted(names) for ending in (".gz", *_PACKED)):
        if not path.is_file():
            continue
        if path.suffix == ".gz":
            if path.stat().st_size == 0:
                yield path.name
            continue
        try:
            with open_file(path) as file:
                deque(Stream(file, path, (_PACKED[path.suffix],), hashed=False), maxlen=0)
        except ArtifactError:
            yield path.name


def _text(path: Path) -> str:
    return path.read_text("ascii", "replace")


@dataclass
class _Reader:
    file: IO[bytes]
    size: int = 4

    def exactly(self, count: int) -> bytes:
        if not 0 <= count <= _LONGEST or len(block := self.file.read(count)) != count:
            raise _Unreadable
        return block

    def number(self) -> int:
        sign, *digits = self.exactly(1 + self.size)
        return int.from_bytes(bytes(digits), "little") * (-1 if sign else 1)

    def text(self) -> str | None:
        length = self.number()
        return None if length < 0 else self.exactly(length).decode("utf-8", "replace")

    def texts(self, count: int) -> list[str | None]:
        return [self.text() for _ in range(count)]


def _read(file: IO[bytes]) -> _Toc:
    read = _Reader(file)
    magic, version = read.exactly(5), tuple(read.exactly(3))[:2]
    if magic != b"PGDMP" or not _VERSIONS[0] <= version <= _VERSIONS[1]:
        raise _Unreadable
    read.size, offset, form = read.exactly(3)
    if version >= _COMPRESSION_SINCE:
        read.exactly(1)
    else:
        read.number()
    for _ in range(7):  # when it was made
        read.number()
    read.texts(3)
    entries: list[Listed] = []
    for _ in range(read.number()):
        number, _ = read.number(), read.number()
        _, _, tag, kind = read.texts(4)
        read.number()
        _, _, copy, schema, _ = read.texts(5)
        if version >= _METHOD_SINCE:
            read.text()
        if version >= _KIND_SINCE:
            read.number()
        read.texts(2)
        needs = []
        while (need := read.text()) is not None:
            if need.isdigit():
                needs.append(int(need))
        found = Listed(number, kind or "", f"{schema + '.' if schema else ''}{tag}", copy or "", tuple(needs))
        if form == _CUSTOM:
            state, *digits = read.exactly(1 + offset)
            begins = int.from_bytes(bytes(digits), "little") if state == _PLACED else 0
            entries.append(replace(found, begins=begins))
        else:
            entries.append(replace(found, file=read.text() or ""))
    return _Toc(tuple(entries), _behind(read, form, {e.number for e in entries}))


def _judged(toc: _Toc) -> Contents:
    first: dict[int, Listed] = {}
    twice = []
    for entry in toc.entries:
        if entry.number in first:
            twice.append(f"{entry.kind} {entry.name}")
        first.setdefault(entry.number, entry)
    hanging = dict.fromkeys(
        f"{e.kind} {e.name}"
        for e in toc.entries
        if e.kind in _LOOKED_UP and any(need not in first for need in e.needs)
    )
    return Contents(tuple(twice), tuple(hanging), toc.behind)


def _behind(read: _Reader, form: int, numbers: set[int]) -> bool:
    """Whether what follows the contents is no block of an entry's rows (of a folder: anything)."""
    first = read.file.read(1)
    if not first or form != _CUSTOM:
        return bool(first)
    return first not in (_BLOCKS[:1], _BLOCKS[1:]) or read.number() not in numbers
