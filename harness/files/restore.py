"""Inspect a configuration backup, bring it into a scratch folder, and say what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .. import archive
from ..component import DrillContext, Inspection, Outcome
from ..errors import ArtifactError, ToolError
from ..manifest import Manifest, read_manifest
from ..model import Artifact, Measured, SandboxInfo, Stage
from ..stream import sniff
from .facts import Entry, FolderFacts, read_folder, read_unpacked
from .redis_conf import RedisStart, try_redis_conf

_TEXT_BYTES: Final = 1 << 20
_RESERVE_BYTES: Final = 64 << 20


@dataclass
class RestoredFiles:
    """What the checks examine: the restored folder, the facts of the backup, and trial starts of Redis.

    `folder` is None when nothing could be restored. `redis_starts` holds one result per redis.conf.
    """

    inspection: Inspection
    facts: FolderFacts
    ctx: DrillContext
    manifest: Manifest | None
    folder: Path | None = None
    redis_starts: tuple[RedisStart, ...] = ()
    stages: list[Stage] = field(default_factory=list)

    @property
    def restored(self) -> bool:
        """True once the folder stands."""
        return self.folder is not None

    def text(self, name: str) -> str:
        """A restored file as text; undecodable bytes become U+FFFD. Raises ArtifactError beyond 1 MiB."""
        return self.data(name).decode("utf-8-sig", "replace")

    def data(self, name: str) -> bytes:
        """A restored file's bytes. Raises ArtifactError when it is too large for a configuration file."""
        if self.folder is None:
            raise ToolError("nothing was restored")
        path = self.folder / name
        if path.stat().st_size > _TEXT_BYTES:
            raise ArtifactError("is too large for a configuration file", where=name)
        return path.read_bytes()

    def named(self, wanted: Callable[[str], bool]) -> list[str]:
        """Names of restored files for which `wanted(name)` is true."""
        return [entry.name for entry in self.facts.files() if wanted(entry.name)]


def inspect(artifact: Artifact, ctx: DrillContext) -> Inspection:
    """Read the backup's entries. Raises ArtifactError for what is no configuration backup at all."""
    settings = ctx.settings.files
    if artifact.path.is_dir() and not artifact.path.is_symlink():
        facts = read_folder(
            artifact.path, max_bytes=settings.max_bytes, max_files=settings.max_files, deadline=ctx.deadline
        )
        sha256 = facts.digest()
    elif artifact.path.is_file():
        unpacked = archive.unpack(
            artifact.path,
            sniff(artifact.path)[0],  # again: what could not be unpacked when found now says why
            ctx.scratch / "unpacked",
            limits=archive.Limits(settings.max_bytes, settings.max_files),
            deadline=ctx.deadline,
            links=True,
        )
        facts = read_unpacked(ctx.scratch / "unpacked", unpacked.members, _prefix(unpacked.members))
        sha256 = unpacked.sha256
    else:
        raise ArtifactError(
            "is neither a folder nor an archive",
            where=artifact.path.name,
            remedy="a configuration backup is a folder or a tar archive of one",
        )
    if not any(True for _ in facts.files()):
        raise ArtifactError(
            "holds no file at all",
            where=artifact.path.name,
            remedy="take the backup again and look at the log",
        )
    return Inspection(artifact, sha256, True, facts)


@contextlib.contextmanager
def restore(inspection: Inspection, ctx: DrillContext) -> Iterator[RestoredFiles]:
    """Bring everything into a private folder, as the runbook's `cp` would; start Redis on each redis.conf.

    Raises ToolError where links lead to more than a configuration backup may take, or there is no room.
    """
    made = subject(inspection, ctx)
    began = time.perf_counter()
    target = ctx.scratch / "restored"
    target.mkdir(mode=0o700)
    size = sum(file.bytes for file in made.facts.files())
    if size > ctx.settings.files.max_bytes:  # many links to one large file
        raise ToolError(
            f"restored, it takes {size:,} bytes",
            where=made.inspection.artifact.path.name,
            remedy="raise files.max_bytes if that is right for a configuration backup",
        )
    if shutil.disk_usage(target).free < size + _RESERVE_BYTES:
        raise ToolError(f"there is no room to restore {size:,} bytes", where=str(ctx.scratch))
    done = 0
    for file in made.facts.files():
        _bring(file, target / file.name, ours=made.inspection.artifact.path.is_file())
        done += file.bytes
        ctx.progress("restore", done, size)
        if time.monotonic() > ctx.deadline:
            raise ToolError("restoring the configuration did not finish in time")
    made.folder = target
    made.stages.append(Stage("restore", round(time.perf_counter() - began, 4)))
    began = time.perf_counter()
    made.redis_starts = try_redis_conf(made.facts, target, ctx)
    if made.redis_starts:
        made.stages.append(Stage("start redis", round(time.perf_counter() - began, 4)))
    try:
        yield made
    finally:
        shutil.rmtree(target, ignore_errors=True)


def subject(inspection: Inspection, ctx: DrillContext) -> RestoredFiles:
    """The subject before anything is restored. Raises ConfigError for an unreadable manifest."""
    place = inspection.artifact.manifest
    return RestoredFiles(inspection, inspection.facts, ctx, read_manifest(place, "files") if place else None)


def outcome(made: RestoredFiles) -> Outcome:
    """Figures and limits of what was shown."""
    return Outcome(
        SandboxInfo("none"),
        tuple(made.stages),
        Measured(
            rto_s=next((stage.seconds for stage in made.stages if stage.name == "restore"), None),
            files=sum(1 for _ in made.facts.files()),
        ),
        tuple(start.untested for start in made.redis_starts if start.untested),
        None,
        {
            **made.facts.as_manifest(),
            "redis_conf_tested_with": sorted({start.server for start in made.redis_starts if start.server}),
        },
    )


def _prefix(members: tuple[archive.Member, ...]) -> str:
    """The one folder that everything in an archive lies in, "" when there is none."""
    tops = {member.name.split("/")[0] for member in members if member.name}
    only = tops.pop() if len(tops) == 1 else ""
    return only if all(m.name != only or m.kind == "folder" for m in members) else ""


def _bring(file: Entry, target: Path, *, ours: bool) -> None:
    """A copy of the user's file; of one that we unpacked ourselves a second name will do."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.source is None:
        raise ToolError(f"{file.name} was not read")
    try:
        if ours:
            target.hardlink_to(file.source)
        else:
            handle = os.open(file.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy, 1 << 18)
        target.chmod(file.mode & 0o700 | 0o600)  # ours to read, whatever it was; the original stands in facts
    except OSError as error:
        raise ToolError(f"{file.name} cannot be restored: {error.strerror}") from None
