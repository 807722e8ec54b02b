"""One writer at a time in a folder of backups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from .errors import ToolError

NAME: Final = ".provado.lock"


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the kernel releases it when the process dies, however it dies.

    Raises ToolError at once when another run holds it.
    """
    try:
        with FileLock(folder / NAME, timeout=0, thread_local=False):
            yield
    except Timeout:
        raise ToolError(
            "another backup or prune is running in this folder",
            where=str(folder),
            remedy="wait until it has finished; its lock goes with its process",
        ) from None
    except PermissionError:
        raise ToolError("the folder cannot be written to", where=str(folder)) from None
