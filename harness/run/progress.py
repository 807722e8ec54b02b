"""Progress of drills on stderr: live bars on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Any, Self


class Lines(AbstractContextManager["Lines"]):
    """One line per backup and stage, for logs of CI jobs. Safe to call from several threads."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._seen: dict[str, tuple[str, float]] = {}  # backup -> stage, when its drill began
        self._lock = threading.Lock()

    def __call__(self, backup: str, stage: str, done: int, total: int) -> None:
        """Tell that `backup` is at `stage`; repeated calls of one stage print nothing."""
        with self._lock:
            before, began = self._seen.get(backup, ("", time.monotonic()))
            if before == stage:
                return
            self._seen[backup] = (stage, began)
            took = f" after {time.monotonic() - began:.1f} s" if before else ""
            print(f"{backup}: {stage}{took}", file=self._out, flush=True)

    def __exit__(self, *exc: object) -> None:
        """Nothing to end."""


class Bars(AbstractContextManager["Bars"]):
    """A bar per running drill, gone when it ends."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[backup]}", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __call__(self, backup: str, stage: str, done: int, total: int) -> None:
        """Move the backup's bar; with an unknown total it only pulses."""
        with self._lock:
            if stage == "done":
                if backup in self._tasks:
                    self._progress.remove_task(self._tasks.pop(backup))
                return
            if backup not in self._tasks:
                self._tasks[backup] = self._progress.add_task(stage, backup=backup, total=None)
            self._progress.update(self._tasks[backup], description=stage, completed=done, total=total or None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing and give the terminal back."""
        self._progress.stop()


class Silence(AbstractContextManager["Silence"]):
    """No progress at all (`--quiet`)."""

    def __call__(self, backup: str, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def __exit__(self, *exc: object) -> None:
        """Nothing to end."""


def watcher(*, quiet: bool) -> Lines | Bars | Silence:
    """The fitting kind of progress for stderr; use it as a context manager and as a `session.Watcher`."""
    if quiet:
        return Silence()
    return Bars() if sys.stderr.isatty() else Lines()
