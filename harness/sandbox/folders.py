"""Where sandboxes keep things: the cache of templates, leases of running servers, the throwaway folders.

Nothing here changes the permissions of a folder that it did not make.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ..errors import SandboxError

PREFIX = "provado-sandbox-"
_GET_FLAGS, _SET_FLAGS, _TOP_FOLDER = 0x80086601, 0x40086602, 0x00020000
# A Unix socket's address holds 107 bytes; "/run/.s.PGSQL.5432" and eight random letters come on top.
_LONGEST_BASE = 107 - len(PREFIX) - 8 - len("/run/.s.PGSQL.5432") - 2


@lru_cache(maxsize=1)
def cache() -> Path:
    """The private cache folder of this user: /var/cache/provado for root, else below XDG_CACHE_HOME.

    A folder that belongs to somebody else or that others may write is never used: whoever can write a
    template decides what our server runs. Then a fresh folder below the temporary directory serves.
    """
    if os.geteuid() == 0:
        wanted = Path("/var/cache/provado")
    else:
        named = os.environ.get("XDG_CACHE_HOME")
        wanted = (Path(named) if named else home() / ".cache") / "provado"
    for candidate in (wanted, Path(tempfile.gettempdir()) / f"provado-cache-{os.geteuid()}"):
        try:
            candidate.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError:
            continue
        if is_private(candidate) and os.access(candidate, os.W_OK):
            return candidate
    return Path(tempfile.mkdtemp(prefix="provado-cache-"))


def home() -> Path:
    """The home folder of the user we are; / for a user who has none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def is_private(path: Path) -> bool:
    """True when `path` is a real folder of ours that nobody else may write."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def reachable(path: Path) -> bool:
    """True when any user may walk to `path` (every folder on the way has its search bit for others)."""
    try:
        return all(part.stat().st_mode & 0o001 for part in (path, *path.parents) if part.is_dir())
    except OSError:
        return False


def new_sandbox_folder(announce: Callable[[Path], None]) -> Path:
    """A fresh folder that only we (and, as root, the server's user by way of its own subfolders) can enter.

    `announce` is told its name before it is made, so that a lease names it from the first moment.

    It lies in TMPDIR when that suits, else in /var/tmp, else in /tmp: a restored database is large, and /tmp
    is memory on many systems. Raises SandboxError when none can be written.
    """
    named = os.environ.get("TMPDIR")
    for candidate in ([Path(named)] if named else []) + [Path("/var/tmp"), Path("/tmp")]:  # noqa: S108
        base = candidate.resolve()
        if len(os.fsencode(base)) > _LONGEST_BASE or (os.geteuid() == 0 and not reachable(base)):
            continue
        folder = base / f"{PREFIX}{secrets.token_hex(4)}"
        if not os.access(base, os.W_OK | os.X_OK):
            continue
        announce(folder)
        try:
            folder.mkdir(mode=0o700)  # refuses what is already there, links included
        except OSError:
            continue
        if os.geteuid() == 0:
            folder.chmod(0o711)
        _spread(folder)
        return folder
    raise SandboxError(
        "no folder for a throwaway server can be made in TMPDIR, /tmp or /var/tmp",
        remedy="Free space there, or set TMPDIR to a writable folder with a short name",
    )


def _spread(folder: Path) -> None:
    """Ask ext4 to put each subfolder into another part of the disk (the `T` attribute of chattr).

    Without a journal ext4 avoids inodes that were freed within the last minute, and searches past them one
    by one: after a few drills a copy of a data directory took 0.9 s instead of 0.05 s. Other file systems
    do not know the attribute and need no help.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(handle, _GET_FLAGS, bytes(8)))[0]
        fcntl.ioctl(handle, _SET_FLAGS, struct.pack("l", flags | _TOP_FOLDER))
    except OSError:
        return
    finally:
        os.close(handle)


def remove(folder: Path) -> bool:
    """Delete a sandbox folder and all in it; True when it is gone. Refuses anything not made by us."""
    if folder.name.startswith(PREFIX) and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():  # a hostile server may have taken its own write bits away
            for parent, names, _ in os.walk(folder):
                for name in names:
                    inner = Path(parent) / name
                    if not inner.is_symlink():
                        inner.chmod(0o700)
            shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
