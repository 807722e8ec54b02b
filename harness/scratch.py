"""Private scratch folders that vanish with their drill, or with the next run when a drill was killed.

A folder holds a lock file that its process keeps locked: an unlocked one belongs to a dead process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = "provado-scratch-"
_LOCK: Final = "lock"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A fresh folder (mode 0700) below the temporary directory; removed with all in it on leaving."""
    while True:
        with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
            handle = os.open(Path(name) / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.fstat(handle).st_nlink == 0:
                    continue  # another run took the lock first, and the folder away
                work = Path(name) / "work"
                work.mkdir()
                yield work
                return
            finally:
                os.close(handle)


def sweep_scratch() -> list[str]:
    """Remove scratch folders of this user whose process is gone; returns their paths."""
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.geteuid():
            continue
        if _remove_abandoned(folder):
            removed.append(str(folder))
    return removed


def _remove_abandoned(folder: Path) -> bool:
    """Under its lock, so that who just made it waits, and sees that it is gone."""
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # being made or being removed at this moment
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
