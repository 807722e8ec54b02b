"""Bring a configuration backup back into a folder, all of it or nothing.

Everything is written beside the folder's files first, then a list of the renames is written, then they are
done. A run that dies in between is finished by the next one from that list.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..atomic import sync_folder, write_atomic
from ..component import DrillContext
from ..errors import ConfigError, RestoreError
from ..lock import folder_lock
from ..model import Artifact, Stage
from ..recovery import Recovered
from ..settings import Settings
from .restore import RestoredFiles, inspect, restore

JOURNAL: Final = ".provado-restore.json"
_NEW: Final = ".provado-new"
_NOT_RESTORED: Final = ("env-template.txt",)  # a template is no configuration: it would empty the secrets


@dataclass(frozen=True)
class Wish:
    """How to recover. `replace` allows files with other content to be replaced; `safety` is the folder for
    copies of them (None: none); `paths` chooses files or folders of the backup."""

    replace: bool = False
    safety: Path | None = Path("recovery-backups")
    paths: tuple[str, ...] = ()
    timeout_s: float = 600.0


@dataclass(frozen=True)
class Plan:
    """What a recovery would do; `refusal` says why it will not (None: it will). `files` are (name, mode)."""

    artifact: Artifact
    target: Path
    wish: Wish
    scratch: Path
    files: tuple[str, ...]
    changed: tuple[str, ...]
    steps: tuple[str, ...]
    refusal: str | None


def plan(artifact: Artifact, target: Path, wish: Wish, settings: Settings, scratch: Path) -> Plan:
    """What `recover` would do, in words, and why it would refuse. Raises ArtifactError for a bad backup."""
    with _unpacked(artifact, settings, scratch, wish.timeout_s) as (subject, folder):
        names = _chosen(subject, wish)
        new = [n for n in names if not (target / n).exists()]
        changed = [n for n in names if n not in new and not _same(folder / n, target / n)]
    steps = [f"check {artifact.path.name}: {len(names)} files"]
    if (target / JOURNAL).is_file():
        steps.append("finish the recovery that was interrupted here")
    if changed and wish.safety:
        steps.append(f"copy {len(changed)} files that would be replaced into {wish.safety}")
    steps.append(f"write {len(new)} new and {len(changed)} changed files into {target}, all at once")
    refusal = None
    if changed and not wish.replace:
        refusal = (
            f"{target} holds {len(changed)} of these files with another content: {', '.join(changed[:5])}"
        )
    return Plan(artifact, target, wish, scratch, tuple(names), tuple(changed), tuple(steps), refusal)


def recover(made: Plan, settings: Settings) -> Recovered:
    """Do what the plan says. Raises RestoreError (or ArtifactError); the folder is then as it was."""
    if made.refusal:
        raise RestoreError(made.refusal, remedy="nothing was changed; say --replace to replace them")
    target, done = made.target, Recovered(str(made.target))
    began = time.monotonic()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RestoreError(f"cannot be made: {error.strerror}", where=str(target)) from None
    with folder_lock(target):
        if finish(target):
            done.notes.append("finished a recovery that was interrupted here")
        shutil.rmtree(target / _NEW, ignore_errors=True)
        changed = [n for n in made.files if (target / n).exists()]
        if changed and made.wish.safety:
            done.safety = _save(target, changed, made.wish.safety)
            done.left.append(f"the files before: {done.safety}")
        try:
            with _unpacked(made.artifact, settings, made.scratch, made.wish.timeout_s) as (subject, folder):
                modes = {f.name: f.mode for f in subject.facts.files()}
                for name in made.files:
                    _stage(folder / name, target / _NEW / name, modes[name])
            _commit(target, made.files)
        except OSError as error:
            shutil.rmtree(target / _NEW, ignore_errors=True)
            raise RestoreError(
                f"cannot write: {error.strerror}", where=str(target), remedy="nothing was changed"
            ) from None
    done.arrived["files"] = len(made.files)
    done.stages.append(Stage("restore", round(time.monotonic() - began, 3)))
    if set(_NOT_RESTORED) & {p.name for p in _top(made)}:
        done.notes.append("env-template.txt is a template: fill it in and save it as .env yourself")
    return done


def finish(target: Path) -> bool:
    """Do the renames that an interrupted recovery had listed; True when there were any."""
    journal = target / JOURNAL
    if not journal.is_file():
        return False
    for name in json.loads(journal.read_text(encoding="utf-8"))["files"]:
        staged = target / _NEW / name
        if staged.is_file():  # else it was renamed already
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            staged.replace(target / name)
    for folder in {(target / n).parent for n in json.loads(journal.read_text(encoding="utf-8"))["files"]}:
        sync_folder(folder)
    journal.unlink()
    shutil.rmtree(target / _NEW, ignore_errors=True)
    sync_folder(target)
    return True


def _commit(target: Path, names: tuple[str, ...]) -> None:
    text = {
        "what": "A recovery was interrupted. Run `provado restore files` again: it finishes this one.",
        "files": list(names),
    }
    write_atomic(target / JOURNAL, json.dumps(text, indent=1))
    finish(target)


@contextlib.contextmanager
def _unpacked(
    artifact: Artifact, settings: Settings, scratch: Path, timeout_s: float
) -> Iterator[tuple[RestoredFiles, Path]]:
    folder = scratch / f"files-{time.monotonic_ns()}"
    folder.mkdir()
    ctx = DrillContext(settings, folder, time.monotonic() + timeout_s)
    inspection = inspect(artifact, ctx)
    with restore(inspection, ctx) as subject:
        if subject.folder is None:
            raise ConfigError("holds no file", where=str(artifact.path))
        yield subject, subject.folder


def _chosen(subject: RestoredFiles, wish: Wish) -> list[str]:
    """Names to restore. Raises ConfigError for a path that the backup does not hold."""
    names = [f.name for f in subject.facts.files() if f.name not in _NOT_RESTORED]
    if not wish.paths:
        return names
    chosen: dict[str, None] = {}
    for path in wish.paths:
        matching = [n for n in names if n == path or n.startswith(path.rstrip("/") + "/")]
        if not matching:
            raise ConfigError(f"the backup holds no {path}", remedy="nothing was changed")
        chosen.update(dict.fromkeys(matching))
    return list(chosen)


def _same(a: Path, b: Path) -> bool:
    return b.is_file() and not b.is_symlink() and _sha(a) == _sha(b)


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _save(target: Path, names: list[str], safety: Path) -> Path:
    place = safety / f"recovery-config-backup-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(target / name, place / name)
    return place


def _stage(source: Path, place: Path, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    place.chmod(mode & 0o777)
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _top(made: Plan) -> list[Path]:
    path = made.artifact.path
    return list(path.iterdir()) if path.is_dir() else []
