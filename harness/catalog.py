"""Which backups exist: paths -> artifacts, and which of them to judge.

What a backup is called decides which component it must satisfy (a Redis archive under the name of the
SQL dump is a broken PostgreSQL backup); only a name that says nothing lets the content decide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .errors import ArtifactError, ConfigError, ToolError
from .model import Artifact
from .stream import sniff

Recogniser = Callable[[Path, bytes], str | None]

RUNBOOK_LAYOUT: Final = {
    "./backups": "postgres",
    "./redis-backups": "redis",
    "./config-backups": "files",
}
_STAMP: Final = re.compile(
    r"(?<!\d)(\d{4})-?(\d{2})-?(\d{2})(?:[-_T]?(\d{2})[-:]?(\d{2})[-:]?(\d{2})?)?(?!\d)"
)
_KIND: Final = re.compile(r"(?:^|[-_.])(daily|weekly|monthly|recovery|emergency)(?:-backup)?(?=[-_.]|$)")
_BY_NAME: Final = (  # first match wins; only names that leave no doubt
    (re.compile(r"redis.*\.(tar|tgz|tar\.\w+)$|\.(rdb|aof)(\.\w+)?$|^appendonlydir$", re.I), "redis"),
    (re.compile(r"\.(sql|pgdump|dump|backup)(\.(gz|zst|lz4|xz|bz2|age|gpg))*$", re.I), "postgres"),
    (re.compile(r"(config|conf)[-_]?backup.*\.(tar|tgz|tar\.\w+)$", re.I), "files"),
)
_BESIDE: Final = re.compile(  # files that stand beside backups and are none themselves
    r"(^globals\.sql$|\.globals\.sql$|\.manifest\.json$|\.(md|log|txt|json|sha256|asc|sig|prom|lock|partial|tmp)$"
    r"|^SHA256SUMS$|^lost\+found$|^\.)",
    re.I,
)


def named_component(name: str) -> str | None:
    """The component that a backup's name claims, None when it could be anything."""
    return next((component for pattern, component in _BY_NAME if pattern.search(name)), None)


def named_time(name: str) -> datetime | None:
    """The time in a name like `...-20261123-020000...` or `20261123`, read as UTC; None without one."""
    for found in _STAMP.finditer(name):
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            continue
    return None


def named_kind(name: str) -> str | None:
    """daily, weekly, monthly, recovery or emergency when the name says so, else None."""
    found = _KIND.search(name)
    return found[1] if found else None


def identify(
    path: Path,
    recognisers: Mapping[str, Recogniser],
    *,
    component: str | None = None,
    manifest: Path | None = None,
    globals_file: Path | None = None,
) -> Artifact | None:
    """The artifact at `path`, or None when nothing says that it is a backup.

    With a component claimed by the caller or the name the result is never None: if the content is
    something else the format is "unknown", and the component's checks say what is wrong.
    """
    claimed = component or named_component(path.name)
    packing: tuple[str, ...] = ()
    head = b""
    try:
        if path.is_file():
            packing, head = sniff(path)
    except ArtifactError:
        if claimed is None:
            return None
    found = {
        name: kind
        for name, recognise in recognisers.items()
        if (claimed in (None, name)) and (kind := recognise(path, head))
    }
    if not found and claimed is None:
        return None
    name, kind = next(iter(found.items())) if found else (str(claimed), "unknown")
    taken = named_time(path.name)
    return Artifact(
        path=path,
        component=name,
        format=kind,
        packing=packing,
        bytes=_size(path),
        kind=named_kind(path.name),
        taken_at=taken or datetime.fromtimestamp(path.stat().st_mtime, UTC),
        taken_at_basis="name" if taken else "mtime",
        manifest=manifest or _beside(path, ".manifest.json"),
        globals=globals_file or _beside(path, ".globals.sql") or _existing(path.parent / "globals.sql"),
    )


def find(
    path: Path,
    recognisers: Mapping[str, Recogniser],
    *,
    component: str | None = None,
    manifest: Path | None = None,
    globals_file: Path | None = None,
) -> list[Artifact]:
    """Backups at `path`: itself, or those in the folder it is and in its sub-folders; oldest first.

    Raises ConfigError when there is no such path, or it is a file that nothing recognises; ToolError when
    a folder cannot be read: a backup may lie in it.
    """
    try:
        return _find(path, recognisers, component, manifest, globals_file)
    except OSError as error:
        raise ToolError(
            f"cannot be read: {error.strerror}",
            where=os.fsdecode(error.filename or path),
            remedy="run as a user who may read it",
        ) from None


def _find(
    path: Path,
    recognisers: Mapping[str, Recogniser],
    component: str | None,
    manifest: Path | None,
    globals_file: Path | None,
) -> list[Artifact]:
    if not path.exists():
        raise ConfigError("does not exist", where=str(path), remedy="name a backup or a folder of backups")
    claims = {"component": component, "manifest": manifest, "globals_file": globals_file}

    def inside(folder: Path, depth: int) -> Iterator[Artifact]:
        for child in sorted(folder.iterdir()):
            if _BESIDE.search(child.name) or child.is_symlink():
                continue
            if found := identify(child, recognisers, **claims):  # type: ignore[arg-type]
                yield found
            elif child.is_dir() and depth > 1:
                yield from inside(child, depth - 1)

    own = identify(path, recognisers, **claims) if path.is_file() or _is_one(path, recognisers) else None  # type: ignore[arg-type]
    if own:
        return [own]
    if path.is_file():
        raise ConfigError(
            "is no backup of a kind known here",
            where=str(path),
            remedy="say what it should be with --component postgres|redis|files",
        )
    if not path.is_dir():
        raise ConfigError("is neither a file nor a folder", where=str(path), remedy="name a backup")
    return sorted(inside(path, 2), key=lambda a: (a.taken_at is None, a.taken_at, a.path.name))


def series(artifact: Artifact) -> str:
    """What backups of the same thing have in common: the name without kind, time and endings."""
    name = _KIND.sub("", _STAMP.sub("", artifact.path.name.split(".")[0]))
    return f"{artifact.component}:{artifact.path.parent}:{name.strip('-_.')}"


def select(artifacts: Iterable[Artifact], choice: str) -> list[Artifact]:
    """`newest` of every series, `all`, or those whose file name or kind is `choice`.

    Raises ConfigError when a name selects nothing: an empty selection proves nothing.
    """
    candidates = list(artifacts)
    if choice == "all":
        return candidates
    if choice == "newest":
        return list({series(a): a for a in candidates}.values())
    chosen = [a for a in candidates if choice in (a.path.name, a.kind)]
    if candidates and not chosen:
        names = ", ".join(a.path.name for a in candidates[-3:])
        raise ConfigError(f"--select {choice} matches no backup", remedy=f"there are: {names}")
    return chosen


def _is_one(path: Path, recognisers: Mapping[str, Recogniser]) -> bool:
    return any(recognise(path, b"") for recognise in recognisers.values())


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def _beside(path: Path, ending: str) -> Path | None:
    return _existing(path.with_name(path.name + ending))


def _existing(path: Path) -> Path | None:
    try:
        return path if path.is_file() else None
    except OSError:  # the name with its ending is longer than the system takes: so there is none
        return None
