"""What every backup shares: its name, a lock, room, the log, and a final name only once it is whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from .atomic import sync_folder
from .errors import ConfigError, ProvadoError, ToolError
from .lock import folder_lock
from .redact import mask

KINDS: Final = ("daily", "weekly", "monthly", "recovery", "emergency")
LOG: Final = "backup.log"
_PARTIAL: Final = ".partial"
_SPARE_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Taken:
    """A finished backup: its final path, those of the files beside it, size and time it took.

    `notes` say in plain words what this backup does not hold or prove.
    """

    path: Path
    manifest: Path | None
    globals: Path | None
    bytes: int
    sha256: str
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """One backup asked for. `at` is the time in its name, on the clock that names are written by."""

    folder: Path
    kind: str
    at: datetime
    prefix: str | None = None
    timeout_s: float = 4 * 3600.0

    def path(self, prefix: str, ending: str, *, with_kind: bool = True) -> Path:
        """`<prefix>-<kind>-YYYYMMDD-HHMMSS<ending>`, as the runbook names backups; the next free second."""
        kind = f"-{self.kind}" if with_kind else ""
        for later in range(60):
            stamp = self.at + timedelta(seconds=later)
            path = self.folder / f"{self.prefix or prefix}{kind}-{stamp:%Y%m%d-%H%M%S}{ending}"
            if not path.exists():
                return path
        raise ToolError("holds a backup of every second of this minute", where=str(self.folder))


def order(
    folder: Path, kind: str, zone: ZoneInfo, *, prefix: str | None = None, timeout_s: float = 4 * 3600.0
) -> Order:
    """An order for now. `recovery-backup`, the runbook's word, means `recovery`.

    Raises ConfigError for an unknown kind or a prefix that is no plain name.
    """
    kind = kind.removesuffix("-backup")
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is no kind of backup", remedy=f"one of {', '.join(KINDS)}")
    if prefix is not None and (not prefix or prefix.startswith((".", "-")) or "/" in prefix):
        raise ConfigError(f"{prefix!r} cannot begin a file name")
    return Order(folder, kind, datetime.now(UTC).astimezone(zone), prefix, timeout_s)


class Log:
    """backup.log: the lines that the runbook greps for, with the time on the clock of the names."""

    def __init__(self, folder: Path, zone: ZoneInfo) -> None:
        self._path, self._zone = folder / LOG, zone

    def write(self, line: str) -> None:
        """Append one line."""
        stamp = datetime.now(UTC).astimezone(self._zone)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"[{stamp:%Y-%m-%d %H:%M:%S}] {mask(line)}\n")


@contextlib.contextmanager
def taking(folder: Path, zone: ZoneInfo, what: str) -> Iterator[Log]:
    """Hold the folder's lock, remove what interrupted runs left, and log how it ends.

    Raises ToolError when another run holds the lock or the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ToolError(f"cannot be made: {error.strerror}", where=str(folder)) from None
    with folder_lock(folder):
        for left in folder.glob(f".*{_PARTIAL}"):  # nobody else writes here while we hold the lock
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        log = Log(folder, zone)
        log.write(f"Iniciando backup {what}")
        try:
            yield log
        except ProvadoError as error:
            log.write(f"ERRO: backup {what}: {error}")
            raise
        except BaseException as error:
            log.write(f"ERRO: backup {what} interrompido ({type(error).__name__})")
            raise


def need_room(folder: Path, expected: int) -> None:
    """Raises ToolError when the disk has less room than `expected` bytes and a little more."""
    free = shutil.disk_usage(folder).free
    if free < expected + _SPARE_BYTES:
        raise ToolError(
            f"{free:,} bytes are free, about {expected + _SPARE_BYTES:,} are needed for this backup",
            where=str(folder),
            remedy="make room (provado prune) or choose another --output",
        )


def partial(folder: Path, name: str) -> Path:
    """Where a backup is written until it is whole: hidden, and of a name that is never taken for a backup."""
    return folder / f".{name}.{uuid.uuid4().hex[:8]}{_PARTIAL}"


@contextlib.contextmanager
def discarded_on_error(path: Path) -> Iterator[Path]:
    """The partial file, removed when the block is left by an exception."""
    try:
        yield path
    except BaseException:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        raise


def finish(path: Path, final: Path, *, mode: int = 0o640) -> None:
    """Give a whole backup its final name, so that a power cut cannot leave the name without the bytes.

    Raises ToolError when something of that name is there already.
    """
    if final.exists():
        raise ToolError("is there already", where=str(final), remedy="wait a second and run again")
    for child in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if child.is_file() and not child.is_symlink():
            _sync(child)
    if path.is_dir():
        for child in (*(p for p in path.rglob("*") if p.is_dir()), path):
            sync_folder(child)
    else:
        path.chmod(mode)
    path.rename(final)
    sync_folder(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
