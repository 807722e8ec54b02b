"""A logical backup of any format as one stream of SQL text.

Plain dumps are read as they lie; custom, directory and tar archives become the same stream through
`pg_restore --create -f -`, which reads them without any server.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import select
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from .. import archive, process
from ..component import DrillContext
from ..errors import ArtifactError, ToolError
from ..model import Artifact
from ..sandbox import find_tools
from ..settings import SandboxSettings
from ..stream import Stream, encryption_of, open_file

_NO_ROWS: Final = ("--section=pre-data", "--section=post-data")
ARCHIVES: Final = {"custom", "directory", "tar"}
SCRATCH_ARCHIVE, SCRATCH_FOLDER = "unpacked-archive", "unpacked-folder"  # what was packed once more
_BLOCK: Final = 1 << 18
# A pg_restore that writes nothing for this long is stuck: on a cut tar archive it spins forever
# (PostgreSQL 15, 17 and 18). The second figure allows for seeking through a large archive.
_SILENCE_S: Final = 60.0
_SEEK_BYTES_PER_S: Final = 50e6
_SMALL: Final = 64 << 20
_RATIO: Final = 1000  # beyond 64 MiB: no rows of a table pack as well as zeros do

_HEADERS: Final = (b"-- PostgreSQL database dump", b"-- PostgreSQL database cluster dump")
_IN_DATA_FOLDER: Final = re.compile(  # what only a data directory of PostgreSQL holds
    rb"(?:^|/)(?:PG_VERSION|backup_label(?:\.old)?|tablespace_map|global/pg_control|base/1/|pg_(?:xact|wal|multixact)/)"
)
_OF_DIRECTORY: Final = re.compile(  # a file of a dump in directory format, packed with tar
    rb"(?:^|/)(?:toc\.dat|\d+\.dat(?:\.\w+)?|blobs(?:_\d+)?\.toc|blob_\d+\.dat(?:\.\w+)?)$"
)
_OF_TAR: Final = re.compile(rb"(?:\d+\.dat|blobs\.toc|blob_\d+\.dat|restore\.sql)$")  # of pg_dump -Ft itself
_SQL_START: Final = re.compile(  # the first word behind comments; a program that only quotes SQL has another
    rb"(?:\s++|--[^\n]*+\n|/\*.*?\*/)*+(?:CREATE|SET|INSERT\s+INTO|COPY|DROP|ALTER|SELECT|BEGIN|START|DELETE|TRUNCATE"
    rb"|\\(?:connect|c|restrict))\b",
    re.I | re.S,
)


def recognise(path: Path, head: bytes) -> str | None:
    """Format of a backup: plain, pg_dumpall, custom, directory, tar, physical, encrypted; else None."""
    if path.is_dir():
        if (path / "toc.dat").is_file():
            return "directory"
        whole = any((path / n).is_file() for n in ("PG_VERSION", "data/PG_VERSION", "backup_manifest"))
        return "physical" if whole or any(path.glob("base.tar*")) else None
    if head.startswith(b"PGDMP"):
        return "custom"
    if head[257:262] == b"ustar":
        names = list(_members(head))
        if any(map(_IN_DATA_FOLDER.search, names)):
            return "physical"
        if names[0] == b"toc.dat" or any(map(_OF_TAR.match, names)):  # without its contents it is damaged
            return "tar"
        return "directory" if any(map(_OF_DIRECTORY.search, names)) else None
    if encryption_of(head):
        return "encrypted" if ".sql" in path.name or ".dump" in path.name else None
    text = head.removeprefix(b"\xef\xbb\xbf")
    if any(b"\n" + line in b"\n" + text for line in _HEADERS[1:]):
        return "pg_dumpall"
    if b"\0" not in text.rstrip(b"\0") and (b"\n" + _HEADERS[0] in b"\n" + text or _SQL_START.match(text)):
        return "plain"
    return None


def _members(head: bytes) -> Iterator[bytes]:
    """Names of the tar members whose headers stand in the first bytes of a file."""
    at = 0
    while head[at + 257 : at + 262] == b"ustar":
        yield head[at : at + 100].split(b"\0")[0]
        size = head[at + 124 : at + 135]
        if not size.isdigit():
            return
        at += 512 + (int(size, 8) + 511) // 512 * 512


@contextlib.contextmanager
def sql_text(
    artifact: Artifact, ctx: DrillContext, stage: str, *, rows: bool = True, create: bool = True
) -> Iterator[Iterator[bytes]]:
    """The backup as blocks of SQL text; progress is told as `stage` in bytes of the backup read.

    Without `rows` an archive gives its sections before and after the rows only (plain dumps have none);
    without `create` it leaves out making its database, as pg_restore does without `--create`.

    Raises ArtifactError when the file is damaged (also after the last block: archives report at the end),
    ToolError when no pg_restore at hand can read the archive's version.
    """
    if artifact.format in ARCHIVES:
        options = (*(("--create",) if create else ()), *(() if rows else _NO_ROWS))
        with _archive_text(artifact, ctx, stage, options) as blocks:
            yield blocks
        return
    with open_file(artifact.path) as file:
        yield counted(Stream(file, artifact.path, artifact.packing, hashed=False), artifact, ctx, stage)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder: over its files' relative names and digests in sorted order."""
    if path.is_file():
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    total = hashlib.sha256()
    for child in sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink()):
        total.update(f"{child.relative_to(path)}\0{sha256_of(child)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def counted(stream: Stream, artifact: Artifact, ctx: DrillContext, stage: str) -> Iterator[bytes]:
    """The stream's blocks, with progress told as `stage` in bytes of the file."""
    for block in stream:
        _in_time(ctx)
        ctx.progress(stage, stream.raw_bytes, artifact.bytes)
        yield block


def _in_time(ctx: DrillContext) -> None:
    """Raise ToolError past the drill's deadline: a small file may unpack to days of reading."""
    if time.monotonic() > ctx.deadline:
        raise ToolError("the drill ran out of time", remedy="raise sandbox.timeout in provado.yaml")


def entries_text(
    artifact: Artifact, ctx: DrillContext, stage: str
) -> Callable[[tuple[int, ...], bool], contextlib.AbstractContextManager[Iterator[bytes]]]:
    """What opens the text of some entries of an archive, by number, in that order; with `create` also what
    makes the database. Several may be open at once; progress is told of all together."""
    path, written, names = _ready(artifact, ctx), [0], itertools.count()
    tool = pg_restore_for(path, ctx.settings.sandbox)

    @contextlib.contextmanager
    def opened(numbers: tuple[int, ...], create: bool) -> Iterator[Iterator[bytes]]:
        wanted = ctx.scratch / f"entries-{next(names)}"
        wanted.write_text("".join(f"{n};\n" for n in numbers))
        options = (*(("--create",) if create else ()), "-L", str(wanted))
        with _restored(tool, options, path, artifact, ctx, stage, written) as blocks:
            yield blocks

    return opened


@contextlib.contextmanager
def _archive_text(
    artifact: Artifact, ctx: DrillContext, stage: str, options: tuple[str, ...]
) -> Iterator[Iterator[bytes]]:
    path = _ready(artifact, ctx)
    tool = pg_restore_for(path, ctx.settings.sandbox)
    with _restored(tool, options, path, artifact, ctx, stage, [0]) as blocks:
        yield blocks


def _ready(artifact: Artifact, ctx: DrillContext) -> Path:
    """An archive that pg_restore may be let at."""
    path = artifact.path
    if artifact.format == "directory" and path.is_file():
        path = _untarred(artifact, ctx)
    elif artifact.packing:
        path = _unpacked(artifact, ctx)
    if artifact.format == "tar":
        _whole_tar(path)
    if artifact.format == "directory":
        _plain_files(path)
    return path


@contextlib.contextmanager
def _restored(
    tool: Path,
    options: tuple[str, ...],
    path: Path,
    artifact: Artifact,
    ctx: DrillContext,
    stage: str,
    written: list[int],
) -> Iterator[Iterator[bytes]]:
    limit_s = _SILENCE_S + artifact.bytes / _SEEK_BYTES_PER_S
    with process.reading([tool, *options, "-f", "-", path]) as (out, pipe):
        yield _archive_blocks(out, pipe, artifact, ctx, stage, limit_s, written)


def pg_restore_for(archive: Path, settings: SandboxSettings) -> Path:
    """A pg_restore that knows the archive's version and compression; a damaged archive gets the newest."""
    tools = find_tools("pg_restore", settings)
    if not tools:
        raise ToolError("no pg_restore found", remedy="install a PostgreSQL client or provado[embedded]")
    lacks = []
    for tool in tools:
        errors = process.run([tool, "-l", archive], timeout_s=60).stderr.decode("utf-8", "replace")
        if "does not support compression" not in errors and "unsupported version" not in errors:
            return tool
        lacks.append(str(tool))
    raise ToolError(
        "no pg_restore here reads the archive: it is newer, or compressed in a way that they do not know",
        where=archive.name,
        remedy=f"install the PostgreSQL client of the version that wrote it (tried {', '.join(lacks)})",
    )


def _archive_blocks(
    out: IO[bytes],
    pipe: process.Pipe,
    artifact: Artifact,
    ctx: DrillContext,
    stage: str,
    limit_s: float,
    written: list[int],
) -> Iterator[bytes]:
    while True:
        if not select.select([out], [], [], min(limit_s, max(1.0, ctx.deadline - time.monotonic())))[0]:
            _in_time(ctx)
            raise ArtifactError(
                f"pg_restore wrote nothing for {limit_s:.0f} s and was ended",
                where=artifact.path.name,
                remedy="the archive is most likely cut; take a new backup",
            )
        block = out.read1(_BLOCK)  # type: ignore[attr-defined]
        if not block:
            break
        _in_time(ctx)
        written[0] += len(block)
        ctx.progress(stage, written[0], 0)
        yield block
    done = pipe.finish()
    if done.code == 0:
        return
    errors = done.error_text()
    raise ArtifactError(
        f"pg_restore could not read the archive to its end ({_reason(errors)})",
        where=artifact.path.name,
        remedy="the archive is damaged or incomplete; use an older backup and take a new one",
    )


_REASONS: Final = {  # pg_restore's messages may quote data; only known phrases are passed on
    "could not uncompress": "compressed data are damaged",
    "could not decompress": "compressed data are damaged",
    "unexpected end of file": "unexpected end of file",
    "could not read from input file": "unexpected end of file",
    "could not open input file": "a data file is missing",
    "could not open large object": "a large object's file is missing",
    "did not find magic string": "no archive header",
    "corrupt tar header": "damaged tar header",
    "found unexpected block ID": "blocks out of order",
    "unrecognized data block type": "damaged block header",
    "does not appear to be a valid archive": "not a valid archive",
    "could not find header for file": "a member is missing",
    "No such file or directory": "a data file is missing",
}


def _reason(errors: str) -> str:
    return next((plain for phrase, plain in _REASONS.items() if phrase in errors), "damaged")


def _unpacked(artifact: Artifact, ctx: DrillContext) -> Path:
    """An archive that was compressed once more, unpacked: pg_restore needs the file itself."""
    target = ctx.scratch / SCRATCH_ARCHIVE
    if target.exists():
        return target
    limit, partial = archive.room(ctx.scratch, ctx.settings.sandbox.disk), target.with_suffix(".partial")
    with open_file(artifact.path) as file, partial.open("wb") as out:
        stream = Stream(file, artifact.path, artifact.packing)
        for block in stream:
            if stream.plain_bytes > limit:
                raise ToolError(
                    f"unpacks to more than the {limit:,} bytes that it may take here",
                    where=artifact.path.name,
                    remedy="make room in TMPDIR, or raise sandbox.disk",
                )
            if stream.plain_bytes > _SMALL and stream.plain_bytes > stream.raw_bytes * _RATIO:
                raise ArtifactError(
                    f"unpacks to over {stream.plain_bytes:,} bytes from {stream.raw_bytes:,}: "
                    "it looks like a bomb",
                    where=artifact.path.name,
                    remedy="do not unpack it; find out who made it",
                )
            out.write(block)
    partial.rename(target)
    return target


def _untarred(artifact: Artifact, ctx: DrillContext) -> Path:
    """A dump in directory format that was packed with tar: its folder, unpacked under guard."""
    target = ctx.scratch / SCRATCH_FOLDER
    if not target.exists():
        limits = archive.Limits(archive.room(ctx.scratch, ctx.settings.sandbox.disk))
        archive.unpack(artifact.path, artifact.packing, target, limits=limits, deadline=ctx.deadline)
    folders = [contents.parent for contents in target.rglob("toc.dat")]
    if len(folders) != 1:
        raise ArtifactError(
            f"holds {len(folders)} tables of contents (toc.dat) instead of one",
            where=artifact.path.name,
            remedy="pack one whole folder of pg_dump --format=directory",
        )
    return folders[0]


def _whole_tar(path: Path) -> None:
    """A tar archive up to its end-of-archive blocks, before pg_restore would spin on a cut one."""
    try:
        with tarfile.open(path, "r:") as archive:
            for _ in archive:
                pass
            end = archive.offset
        if path.stat().st_size < end:
            raise tarfile.ReadError("cut")
    except (tarfile.TarError, ValueError, EOFError):
        raise ArtifactError(
            "the tar archive ends early or has a damaged member header",
            where=path.name,
            remedy="use an older backup and take a new one",
        ) from None


def _plain_files(path: Path) -> None:
    """A directory archive holds regular files only: a link could read elsewhere, a FIFO never ends."""
    for child in path.iterdir():
        if child.is_symlink() or not child.is_file():
            raise ArtifactError("holds something that is no regular file", where=f"{path.name}/{child.name}")
