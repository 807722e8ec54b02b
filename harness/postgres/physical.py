"""Physical backups: unpacked under guard, and what their files say before any server sees them.

Known layouts: what pg_basebackup writes (plain folder, or base.tar with pg_wal.tar, a tar per tablespace and
backup_manifest), and a folder or tar of a data directory however deep it lies in there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .. import archive
from ..component import DrillContext, Inspection
from ..errors import ArtifactError, ToolError
from ..model import Artifact
from ..sandbox.template import copy_tree
from ..stream import sniff
from . import patterns
from .facts import DumpFacts
from .physical_files import Files, compare
from .source import sha256_of

UNPACKED: Final = "base"  # the folder in the drill's scratch folder
_RATIO: Final = 20_000  # unused WAL is zeros, which zstd packs 30,000 to one; the size limit is the real one
_DEPTH: Final = 8
_TAR: Final = re.compile(r"(base|pg_wal|\d+)\.tar(?:\.\w+)?$")
_WAL_NAME: Final = re.compile(r"[0-9A-F]{24}$")
_START: Final = re.compile(r"^START TIME: (.+)$", re.M)
_TAKE_NEW: Final = "use an older backup and take a new one"
_SHUT_DOWN: Final = (1, 2)  # pg_control's DBState: shut down, shut down in recovery
_PAGE: Final = 8192
_XMAX_INVALID: Final = 0x0800
_AUTHID: Final = 1260  # pg_authid, the same in every version


@dataclass(frozen=True)
class BaseBackup:
    """What a data directory says of itself. `data` is its unpacked copy.

    `shut_down` is what pg_control says of the server it was copied from, `labelled` whether backup_label is
    there: one of both makes a copy consistent. `lacking` names files without which no server starts.
    """

    data: Path
    major: int | None = None
    superuser: str = "postgres"
    system_identifier: str | None = None
    shut_down: bool = False
    labelled: bool = False
    started: datetime | None = None
    stopped: datetime | None = None
    lacking: tuple[str, ...] = ()
    tablespaces: tuple[str, ...] = ()
    wal_files: int = 0
    pieces: tuple[str, ...] = ()  # files of an incremental backup, which no server reads
    files: Files | None = None  # compared with PostgreSQL's own backup_manifest; None without one


def inspect_physical(artifact: Artifact, ctx: DrillContext) -> Inspection:
    """Unpack into the drill's scratch folder and look at the files. Damage is kept in the facts."""
    facts = DumpFacts()
    base: BaseBackup | None = None
    try:
        base = _look(*_unpack(artifact, ctx))
    except ArtifactError as problem:
        facts.problem = problem
    facts.base = base
    if base and base.major:
        facts.headers["server-version"] = [str(base.major)]
    taken_at = (base.started or base.stopped) if base else None
    return Inspection(
        artifact=artifact,
        sha256=sha256_of(artifact.path),
        restorable=base is not None and not base.lacking,
        facts=facts,
        source_version=facts.server_version,
        taken_at=taken_at,
        taken_at_basis=None if taken_at is None or base is None else _basis(base),
    )


def _basis(base: BaseBackup) -> str:
    return "backup-label" if base.started else "pg-control"


def _unpack(artifact: Artifact, ctx: DrillContext) -> tuple[Path, Path | None]:
    """The data directory, unpacked, and the backup_manifest that goes with it."""
    path, root = artifact.path, ctx.scratch / UNPACKED
    limits = archive.Limits(archive.room(ctx.scratch, ctx.settings.sandbox.disk), 10_000_000, _RATIO)

    def tar(file: Path, packing: tuple[str, ...], to: Path) -> None:
        ctx.progress("unpack", 0, artifact.bytes)
        archive.unpack(file, packing, to, limits=limits, deadline=ctx.deadline)

    if path.is_dir() and not any(_TAR.match(child.name) for child in path.iterdir()):
        try:
            copy_tree(path, root, None)
            _follow_links(path, root)
        except OSError as error:
            raise ToolError(
                f"cannot be copied here: {error.strerror}",
                where=path.name,
                remedy="run as a user who may read all of it, with room for it in TMPDIR",
            ) from None
        return _data_folder(root, artifact), None
    folder = path if path.is_dir() else path.parent
    together = path.is_dir() or (_TAR.match(path.name) and (folder / "backup_manifest").is_file())
    if not together:
        tar(path, artifact.packing, root)
        return _data_folder(root, artifact), None
    parts = {found[1]: child for child in sorted(folder.iterdir()) if (found := _TAR.match(child.name))}
    if "base" not in parts:
        raise ArtifactError("holds no base.tar", where=artifact.path.name, remedy=_TAKE_NEW)
    tar(parts["base"], sniff(parts["base"])[0], root)
    data = _data_folder(root, artifact)
    for name, file in parts.items():
        if name != "base":
            tar(file, sniff(file)[0], data / "pg_wal" if name == "pg_wal" else data / "pg_tblspc" / name)
    manifest = folder / "backup_manifest"
    return data, manifest if manifest.is_file() else None


def _follow_links(path: Path, root: Path) -> None:
    """Copy what pg_wal and pg_tblspc/* of a plain folder point at, where it is what belongs there."""
    data = _shallowest(path)
    copied = _shallowest(root)
    if data is None or copied is None:
        return
    for link in [data / "pg_wal", *(data / "pg_tblspc").glob("*")]:
        if not link.is_symlink() or not link.is_dir():
            continue
        wanted = _WAL_NAME.match if link.name == "pg_wal" else re.compile(r"PG_\d").match
        if any(wanted(child.name) for child in link.iterdir()):
            copy_tree(link.resolve(), copied / link.relative_to(data), None)


def _data_folder(root: Path, artifact: Artifact) -> Path:
    found = _shallowest(root)
    if found is None:
        raise ArtifactError(
            "holds no data directory of PostgreSQL (no PG_VERSION, no global/ and base/)",
            where=artifact.path.name,
            remedy=_TAKE_NEW,
        )
    return found


def _shallowest(root: Path) -> Path | None:
    """The folder nearest to `root` that looks like a data directory."""
    level = [root]
    for _ in range(_DEPTH):
        for folder in level:
            if (folder / "PG_VERSION").is_file() or all((folder / n).is_dir() for n in ("global", "base")):
                return folder
        level = [c for f in level for c in sorted(f.iterdir()) if c.is_dir() and not c.is_symlink()]
    return None


def _look(data: Path, manifest: Path | None) -> BaseBackup:
    version = _text(data / "PG_VERSION").strip()
    major = int(version.split(".")[0]) if re.fullmatch(r"\d+(\.\d+)?", version) else None
    label = _text(data / "backup_label")
    began = _START.search(label)
    control = _control(data / "global" / "pg_control")
    needed = {"PG_VERSION": major is not None, "global/pg_control": control is not None}
    needed |= {f"{name}/": (data / name).is_dir() for name in ("global", "base", "pg_wal")}
    identifier, state, time = control or (None, 0, None)
    own = data / "backup_manifest"
    manifest = manifest or (own if own.is_file() else None)
    spaces = [p for p in (data / "pg_tblspc").glob("*") if p.is_dir()]
    return BaseBackup(
        data=data,
        major=major,
        superuser=_superuser(data, major or 0),
        system_identifier=identifier,
        shut_down=state in _SHUT_DOWN,
        labelled=bool(label),
        started=patterns.parse_time(began[1]) if began else None,
        stopped=time if state in _SHUT_DOWN else None,
        lacking=tuple(name for name, there in needed.items() if not there),
        tablespaces=tuple(sorted({*_mapped(data), *(p.name for p in spaces)})),
        wal_files=sum(1 for p in (data / "pg_wal").glob("*") if _WAL_NAME.match(p.name)),
        pieces=tuple(sorted(str(p.relative_to(data)) for p in data.glob("base/*/INCREMENTAL.*"))),
        files=compare(data, manifest) if manifest else None,
    )


def _mapped(data: Path) -> list[str]:
    """Object ids of the tablespaces that tablespace_map names."""
    lines = _text(data / "tablespace_map").splitlines()
    return [line.split(" ", 1)[0] for line in lines if re.match(r"\d+ ", line)]


def _text(path: Path) -> str:
    """A small text file, empty when it is not there."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


def _control(path: Path) -> tuple[str, int, datetime] | None:
    """System identifier, state and time of pg_control (source: pg_control.h, the same since 9.4).

    Raises ToolError for the file of a machine with the other byte order.
    """
    try:
        raw = path.read_bytes()[:_PAGE]
    except OSError:
        return None
    if len(raw) < 296 or not any(raw):
        return None
    identifier, version, _, state, time = struct.unpack_from("<QIIi4xq", raw)
    if version >> 16:
        raise ToolError(
            "the backup comes from a machine with another byte order",
            remedy="restore it on a machine like its source; a pg_dump can be restored anywhere",
        )
    try:
        return str(identifier), state, datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _superuser(data: Path, major: int) -> str:
    """Name of the role with object id 10, which initdb made; `postgres` where the file does not tell.

    Read from pg_authid's heap pages (sources: htup_details.h, bufpage.h, pg_authid.h).
    """
    node = _filenode(data / "global" / "pg_filenode.map", _AUTHID)
    try:
        with (data / "global" / str(node)).open("rb") as file:
            pages = file.read(64 * _PAGE)
    except OSError:
        return "postgres"
    names = [(valid, name) for oid, name, valid in _roles(pages, major) if oid == 10]
    return max(names, key=lambda pair: pair[0])[1] if names else "postgres"


def _roles(pages: bytes, major: int) -> Iterator[tuple[int, str, bool]]:
    """Object id and name of the rows of pg_authid, and whether a row is the role's present version."""
    for at in range(0, len(pages) - _PAGE + 1, _PAGE):
        page = pages[at : at + _PAGE]
        lower = struct.unpack_from("<H", page, 12)[0]
        for pointer in range(24, min(lower, _PAGE - 4), 4):
            word = struct.unpack_from("<I", page, pointer)[0]
            offset, used, length = word & 0x7FFF, word >> 15 & 3, word >> 17
            if used != 1 or offset + length > _PAGE or length < 100:
                continue
            row = page[offset : offset + length]
            head = row[22]
            oid = struct.unpack_from("<I", row, head if major >= 12 else head - 4)[0]
            name = row[head + (4 if major >= 12 else 0) :][:64].split(b"\0")[0]
            replaced_by, flags = struct.unpack_from("<I", row, 4)[0], struct.unpack_from("<H", row, 20)[0]
            yield oid, name.decode("utf-8", "replace"), not replaced_by or bool(flags & _XMAX_INVALID)


def _filenode(path: Path, oid: int) -> int:
    """File of a mapped catalog (source: relmapper.c): pairs of object id and file number."""
    try:
        raw = path.read_bytes()[:_PAGE]
        count = struct.unpack_from("<I", raw, 4)[0]
        pairs = dict(struct.unpack_from("<II", raw, 8 + 8 * n) for n in range(min(count, 62)))
    except (OSError, struct.error):
        return oid
    return int(pairs.get(oid, oid))
