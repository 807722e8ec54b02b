"""Read a Redis backup without a server: unpack it guarded, find its data, begin to walk it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from .. import archive
from ..component import DrillContext, Inspection
from ..errors import ArtifactError, ConfigError
from ..manifest import Manifest, read_manifest
from ..model import Artifact, Severity
from ..stream import open_file
from . import aof as aof_reader
from . import layout, packed, walker
from .aof import AofFacts
from .digest import Digester
from .facts import RedisFacts
from .layout import MAGICS, Layout, Problem
from .rdb import RdbFacts, peek, walk

_UNPACK_S: Final = 3600.0
_LINE_END: Final = 2


def recognise(path: Path, head: bytes) -> str | None:
    """`rdb`, `aof`, `archive` or `folder`; None when it is nothing of Redis.

    An archive is recognised by its name alone (what lies in it shows when it is unpacked): one without any
    data in it must be judged, not passed over.
    """
    if path.is_dir():
        return "folder" if _is_data_folder(path) else None
    if head.startswith(MAGICS):  # commands may follow, whatever is appended to the name of an AOF
        return "aof" if ".aof" in path.name and ".rdb" not in path.name else "rdb"
    if archive.is_tar(head) and "redis" in path.name.lower():
        return "archive"
    if ".aof" in path.name and head[:1] in (b"*", b"#"):
        return "aof"
    return None


def _is_data_folder(folder: Path) -> bool:
    names = [child.name for child in folder.iterdir()]
    return any(n.endswith(".manifest") or n in ("dump.rdb", "appendonly.aof", "appendonlydir") for n in names)


def inspect(artifact: Artifact, ctx: DrillContext) -> Inspection:
    """Everything the file says; what is wrong with it is kept as problems, not raised.

    Raises ConfigError for an unusable manifest, ToolError when this machine cannot unpack it.
    """
    manifest = read_manifest(artifact.manifest, "redis") if artifact.manifest else None
    salt = _salt(manifest)
    digester = Digester(salt)
    found, sha256 = _open(artifact, digester, ctx)
    head = beside = None
    walk = aof = None
    source = found.rdb
    if found.aof:
        base = found.aof.base or (found.aof.parts[0] if found.aof.single else None)
        source = base if base and _has_magic(base) else None
        if found.rdb and found.rdb != source:
            beside = _second_rdb(found, found.rdb, digester, ctx)
    if source and source.is_file():
        head = peek(source)
        walk = walker.start(source, salt, ctx.scratch, ctx.deadline, _teller(ctx))
    if found.aof:
        # The one file of servers before 7.0 goes on with commands; later ones keep it as a base as it is.
        mixed = source if walk and source and (found.aof.single or source.suffix != ".rdb") else None
        start = walk.result()[0].end if walk and mixed else 0
        aof = _read_aof(found, mixed, start, digester, ctx)
    facts = RedisFacts(found, tuple(found.problems), digester, head, walk, aof, manifest, beside)
    # The clock of an AOF's base is that of the last rewrite: the backup itself is younger.
    clock = layout.moment(aof.last_time if aof else head.ctime if head else None)
    version = (head.source_version if head else None) or found.notes.get("redis_version")
    return Inspection(
        artifact,
        sha256,
        restorable=not found.empty and not _stops(found),
        facts=facts,
        source_version=version,
        taken_at=clock,
        taken_at_basis="rdb-aux" if clock else None,
    )


def _stops(found: Layout) -> bool:
    """Whether parts of the AOF are missing: no server starts with the others."""
    aof = found.aof
    return aof is not None and not all(map(layout.regular, (*aof.parts, *([aof.base] if aof.base else ()))))


def _salt(manifest: Manifest | None) -> bytes:
    if manifest is None:
        return secrets.token_bytes(16)
    try:
        salt = bytes.fromhex(str(manifest.facts["salt"]))
        Digester(salt)
    except (KeyError, ValueError):
        raise ConfigError("the manifest is damaged: it has no salt", remedy="capture it again") from None
    return salt


def _open(artifact: Artifact, digester: Digester, ctx: DrillContext) -> tuple[Layout, str]:
    path, place = artifact.path, ctx.scratch / "unpacked"
    until = min(ctx.deadline, time.monotonic() + _UNPACK_S)
    try:
        if path.is_dir():
            return layout.look(path, path.name), _folder_digest(path)
        if artifact.format == "archive" or (artifact.format == "unknown" and _looks_packed(artifact)):
            known = packed.unpack(artifact, place, digester, ctx, until)
            made, sha256 = layout.look(place, path.name), known.sha256
            made.problems += _followed(path.name, known)
        elif artifact.packing:
            single, known = packed.unpack_one(artifact, place, digester, ctx, until)
            made, sha256 = _single(single, known.sha256, artifact)
            made.problems += _followed(path.name, known)
        else:
            made, sha256 = _single(path, _sha256(path), artifact)
        made.problems += _misleading(artifact)
        return made, sha256
    except ArtifactError as error:
        broken = Layout()
        broken.problems.append(Problem("redis.archive-whole", path.name, error.what, remedy=error.remedy))
        return broken, _sha256(path)


def _followed(name: str, known: archive.Unpacked) -> Iterator[Problem]:
    if known.trailing_bytes > _LINE_END:
        yield Problem(
            "redis.archive-whole",
            name,
            f"{known.trailing_bytes:,} bytes follow the compressed data, and nobody reads them",
            Severity.MEDIUM,
            remedy="find out what else writes to this file: some tools (tar, xz) end with an error",
        )


def _misleading(artifact: Artifact) -> Iterator[Problem]:
    """What reads the data here may not be what a runbook calls."""
    name = artifact.path.name
    right = artifact.format == "archive" and artifact.packing == ("gzip",)
    if name.endswith((".tar.gz", ".tgz")) and not right:
        yield Problem(
            "redis.archive-data",
            name,
            "the file is no tar.gz, as its name says: `tar -xzf` does not unpack it",
            Severity.HIGH,
            expected="tar in gzip",
            observed=" in ".join(("tar" if artifact.format == "archive" else "RDB", *artifact.packing[::-1])),
            remedy="name the file after what it is, or correct the backup script",
        )


def _looks_packed(artifact: Artifact) -> bool:
    return ".tar" in artifact.path.name or ".tgz" in artifact.path.name


def _single(path: Path, sha256: str, artifact: Artifact) -> tuple[Layout, str]:
    made = Layout()
    if artifact.format == "aof":
        made.aof = layout.Aof(path.name, path.parent, None, (path,), single=True)
    elif artifact.format == "rdb":
        made.rdb = path
    else:
        what = "is empty" if not path.stat().st_size else "is no RDB, no AOF and no archive of them"
        made.problems.append(
            Problem("redis.archive-data", artifact.path.name, f"the file {what}", remedy="take a new backup")
        )
    return made, sha256


def _read_aof(
    found: Layout, mixed: Path | None, start: int, digester: Digester, ctx: DrillContext
) -> AofFacts:
    """The commands of all parts; those of `mixed` begin at `start`."""
    facts = AofFacts()
    aof = found.aof
    if aof is None:
        return facts
    begun = [aof.base] if aof.base and (aof.base == mixed or not _has_magic(aof.base)) else []
    texts = [*begun, *aof.parts]
    for part in texts:
        if facts.damage or not part.is_file():
            continue
        with part.open("rb") as file:
            file.seek(start if part == mixed else 0)
            aof_reader.read(file, digester, facts, deadline=ctx.deadline)
        if facts.damage:
            found.problems.append(
                Problem(
                    "redis.aof-whole",
                    part.name,
                    f"the append-only file {facts.damage}",
                    remedy="what follows is lost: take a new backup. By default servers drop the end "
                    "silently (aof-load-truncated yes)",
                )
            )
        if facts.open_transaction:
            found.problems.append(
                Problem(
                    "redis.aof-whole",
                    part.name,
                    "a transaction at the end is open (MULTI without EXEC): the server undoes it at load",
                    expected="EXEC",
                    observed=f"{facts.open_transaction} commands in an open transaction",
                    remedy="the file was copied in the middle of a write: copy it again with writes paused",
                )
            )
            break
    return facts


def _second_rdb(found: Layout, path: Path, digester: Digester, ctx: DrillContext) -> RdbFacts:
    """A dump beside an AOF: servers with appendonly ignore it. It has to be whole; how many keys it has tells
    whether the AOF is in use (`redis.aof-current`)."""
    with path.open("rb") as file:
        facts = walk(
            file,
            path.stat().st_size,
            digester,
            lambda *key: None,
            deadline=ctx.deadline,
            keys_only=True,
        )
    if facts.damage or (facts.stated_crc and facts.stated_crc != facts.computed_crc):
        what = facts.damage or "has a checksum that does not hold"
        found.problems.append(Problem("redis.rdb-whole", path.name, f"the RDB beside the AOF {what}"))
    return facts


def _has_magic(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8).startswith(MAGICS)


def _teller(ctx: DrillContext) -> Callable[[int, int], None]:
    return lambda done, total: ctx.progress("inspect", done, total)


def _sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type] # a raw file will do


def _folder_digest(folder: Path) -> str:
    """Digest over the names and digests of all regular files below `folder`, in order of their names."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        digest.update(f"{_sha256(path)}  {path.relative_to(folder)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
