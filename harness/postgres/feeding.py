"""The text of a COPY on its way into the server: over the connection, or through a named pipe.

From a pipe the server takes 64 KiB at a time, without a message for each block: a tenth of the CPU time of
loading a large table.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from ..sandbox import Server
from . import pipes
from .pool import Connection

_FROM_STDIN: Final = re.compile(rb"(?<=[\s)])FROM\s+STDIN\s*$", re.I)
_COMMENT: Final = re.compile(rb"--|/\*")  # may hold the words, too


@dataclass
class Feed:
    """A COPY under way: `write(text)` sends it rows, `taken` tells how many the server took once it ended."""

    write: Callable[[bytes], object]
    taken: int = 0


@contextlib.contextmanager
def over_connection(conn: Connection, statement: bytes) -> Iterator[Feed]:
    """COPY in one statement: all rows, or none where the block ends with an error."""
    with conn.cursor() as cursor:
        with cursor.copy(statement) as copy:
            feed = Feed(copy.write)
            yield feed
        feed.taken = cursor.rowcount


def whichever(
    conn: Connection, statement: bytes, options: bytes, server: Server | None
) -> AbstractContextManager[Feed]:
    """COPY for a caller who takes all rows back where the block ends with an error: from a pipe, the server
    may have taken those before it. Through a pipe of `server` where the session's role may read one."""
    shared = pipes.shared(server)
    plain = _FROM_STDIN.search(statement) and not _COMMENT.search(statement)
    if shared and plain and _may_read(conn):
        return _through_pipe(conn, *shared, statement, options)
    return over_connection(conn, statement + options)


def _may_read(conn: Connection) -> bool:
    found = conn.execute("SELECT pg_catalog.pg_has_role('pg_read_server_files', 'USAGE')").fetchone()
    return bool(found and found[0])


@contextlib.contextmanager
def _through_pipe(
    conn: Connection, folder: Path, inside: str, statement: bytes, options: bytes
) -> Iterator[Feed]:
    def write(text: bytes) -> None:
        left = memoryview(text)
        while left:
            if copy.done():
                raise copy.exception() or psycopg.DataError("COPY ended before its rows")
            try:
                left = left[os.write(pipe, left) :]
            except BlockingIOError:
                room.poll(pipes.POLL_S * 1000)

    with (
        pipes.named_pipe(folder) as path,
        os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0),
    ):
        # Our own reading end keeps what was written until the server opens the pipe, and us from waiting.
        place = b"FROM " + sql.Literal(f"{inside}/{path.name}").as_bytes(conn)
        query = _FROM_STDIN.sub(lambda _: place, statement) + options
        with pipes.started(conn, query, path, os.O_WRONLY) as (copy, pipe):
            room = select.poll()
            room.register(pipe, select.POLLOUT)
            feed = Feed(write)
            yield feed
        feed.taken = copy.result()
