"""Named pipes between a server and the harness: rows without a message for each, in a folder both see."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..sandbox import Server

BLOCK: Final = 1 << 20  # bytes that a pipe of ours holds, and that are read at once
POLL_S: Final = 0.1


def shared(server: Server | None) -> tuple[Path, str] | None:
    """The folder for them, as we and as the server see it; None where there is none (some containers)."""
    if server is None or server.shared is None or server.shared_inside is None:
        return None
    return server.shared, server.shared_inside


@contextlib.contextmanager
def named_pipe(folder: Path) -> Iterator[Path]:
    """A new pipe in the shared folder, removed afterwards."""
    path = folder / f"rows-{os.urandom(8).hex()}"
    os.mkfifo(path)
    try:
        path.chmod(0o666)  # the folder itself admits only the server and us
        yield path
    finally:
        path.unlink(missing_ok=True)


def widen(end: int) -> None:
    """Let the pipe of a file descriptor hold a whole block, where the system allows that much."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, BLOCK)
