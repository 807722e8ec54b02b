"""The text of a COPY on its way into the server: over the connection, or through a named pipe.

From a pipe the server takes 64 KiB at a time, without a message for each block: a tenth of the CPU time of
loading a large table.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from ..sandbox import Server
from .pool import Connection

_FROM_STDIN: Final = re.compile(rb"(?<=[\s)])FROM\s+STDIN\s*$", re.I)
_COMMENT: Final = re.compile(rb"--|/\*")  # may hold the words, too
_PIPE_BYTES: Final = 1 << 20
_POLL_S: Final = 0.1
_OPEN_S: Final = 0.02
_CANCEL_S: Final = 5.0


@dataclass
class Feed:
    """A COPY under way: `write(text)` sends it rows, `taken` tells how many the server took once it ended."""

    write: Callable[[bytes], object]
    taken: int = 0


def over_connection(conn: Connection, statement: bytes) -> AbstractContextManager[Feed]:
    """COPY in one statement: all rows, or none where the block ends with an error."""
    return _over_connection(conn, statement)


def whichever(
    conn: Connection, statement: bytes, options: bytes, server: Server | None
) -> AbstractContextManager[Feed]:
    """COPY for a caller who takes all rows back where the block ends with an error: from a pipe, the server
    may have taken those before it. Through a pipe of `server` where the session's role may read one."""
    if (
        server is not None
        and server.shared is not None
        and server.shared_inside is not None
        and _FROM_STDIN.search(statement)
        and not _COMMENT.search(statement)
        and _may_read(conn)
    ):
        path = server.shared / f"feed-{os.urandom(8).hex()}"
        place = sql.Literal(f"{server.shared_inside}/{path.name}").as_bytes(conn)
        return _through_pipe(conn, path, _FROM_STDIN.sub(lambda _: b"FROM " + place, statement) + options)
    return _over_connection(conn, statement + options)


def _may_read(conn: Connection) -> bool:
    found = conn.execute("SELECT pg_catalog.pg_has_role('pg_read_server_files', 'USAGE')").fetchone()
    return bool(found and found[0])


@contextlib.contextmanager
def _over_connection(conn: Connection, statement: bytes) -> Iterator[Feed]:
    with conn.cursor() as cursor:
        with cursor.copy(statement) as copy:
            feed = Feed(copy.write)
            yield feed
        feed.taken = cursor.rowcount


@contextlib.contextmanager
def _through_pipe(conn: Connection, path: Path, statement: bytes) -> Iterator[Feed]:
    ended = threading.Event()
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            feed.taken = conn.execute(statement, binary=True).rowcount
        except BaseException as error:
            trouble.append(error)
        finally:
            ended.set()

    def write(text: bytes) -> None:
        left = memoryview(text)
        while left:
            if ended.is_set():
                raise trouble[0] if trouble else psycopg.DataError("COPY ended before its rows")
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                room.poll(_POLL_S * 1000)

    os.mkfifo(path)
    path.chmod(0o666)  # the folder itself admits only the server and us
    # Our own reading end keeps what was written until the server opens the pipe, and us from waiting for it.
    ours = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    room = select.poll()
    room.register(pipe, select.POLLOUT)
    feed = Feed(write)
    copy = threading.Thread(target=run, name="provado-rows-copy")
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        copy.start()
        yield feed
    except BaseException:
        if not ended.is_set():
            with contextlib.suppress(psycopg.Error):  # it is lost, then, and the server ends the COPY itself
                conn.cancel_safe(timeout=_CANCEL_S)
        raise
    finally:
        os.close(pipe)
        while copy.ident is not None and not ended.wait(_OPEN_S):
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # one that opens it only now waits for us
        os.close(ours)
        if copy.ident is not None:
            copy.join()
        path.unlink(missing_ok=True)
    if trouble:
        raise trouble[0]
