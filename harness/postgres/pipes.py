"""Named pipes between a server and the harness: rows without a message for each, in a folder both see."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from psycopg import sql

from ..sandbox import Server
from .pool import Connection, cancel

BLOCK: Final = 1 << 20  # bytes that a pipe of ours holds, and that are read at once
POLL_S: Final = 0.1
_OPEN_S: Final = 0.02


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


@contextlib.contextmanager
def started(
    conn: Connection, query: bytes | sql.Composed, path: Path, mode: int
) -> Iterator[tuple[Future[int], int]]:
    """A COPY from or to a pipe, in a thread, which gives the server's number of rows; and our end of the pipe
    (`mode`), which never waits. Over when the block ends; cancelled where that fails."""
    end = os.open(path, mode | os.O_NONBLOCK)
    with contextlib.suppress(OSError):  # a whole block, where the system allows that much
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, BLOCK)
    with ThreadPoolExecutor(1, "provado-rows-copy") as aside:
        copy = aside.submit(lambda: conn.execute(query, binary=True).rowcount)
        try:
            yield copy, end
        except BaseException:
            if not copy.done():
                cancel(conn)
            raise
        finally:
            os.close(end)
            while not wait([copy], _OPEN_S).done:
                os.close(os.open(path, mode | os.O_NONBLOCK))  # who opens it only now waits for us
