"""Connections kept open per database, and work that runs over them while the load goes on."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

import psycopg

from ..sandbox import Server

Connection = psycopg.Connection[tuple[Any, ...]]
_CANCEL_S: Final = 5.0


def idle(conn: Connection) -> bool:
    """Whether a connection is open and in no transaction."""
    return not conn.closed and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def cancel(conn: Connection) -> None:
    """Have the server end what a connection has under way; that of a lost one it ends by itself."""
    with contextlib.suppress(psycopg.Error):
        conn.cancel_safe(timeout=_CANCEL_S)


def workers() -> int:
    """How many connections work side by side: one a core, at least two, at most eight."""
    return max(2, min(8, len(os.sched_getaffinity(0))))


class Pool:
    """Up to `workers` threads, each borrowing a connection to the database its work is about.

    `connect(database)` opens a connection in autocommit, to `server` where that is known.
    Close with `close()`, which lets running work end.
    """

    def __init__(
        self, connect: Callable[[str], Connection], workers: int, server: Server | None = None
    ) -> None:
        self.server = server
        self._connect = connect
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="provado-load")
        self._idle: dict[str, list[Connection]] = {}
        self._lock = threading.Lock()
        self._pending: dict[str, set[Future[None]]] = {}

    @contextlib.contextmanager
    def connection(self, database: str) -> Iterator[Connection]:
        """An idle connection, returned afterwards unless it broke."""
        with self._lock:
            kept = self._idle.setdefault(database, [])
            conn = kept.pop() if kept else None
        if conn is None:
            conn = self._connect(database)
        try:
            yield conn
        finally:
            if not idle(conn):
                conn.close()
            else:
                with self._lock:
                    self._idle[database].append(conn)

    def idle(self) -> int:
        """How many cores have no work of the pool's, but for the caller's own; at most eight."""
        with self._lock:
            busy = sum(not one.done() for pending in self._pending.values() for one in pending)
        return max(0, min(8, len(os.sched_getaffinity(0))) - 1 - busy)

    def submit(self, kind: str, work: Callable[[], None]) -> None:
        """Run `work` as soon as a thread is free; what it raises comes out of `wait()` for its kind."""
        with self._lock:
            self._pending.setdefault(kind, set()).add(self._threads.submit(work))

    def wait(self, kind: str) -> None:
        """Wait for all work of a kind, also such as was submitted by other work meanwhile."""
        while True:
            with self._lock:
                pending = self._pending.pop(kind, None)
            if not pending:
                return
            wait(pending)
            for future in pending:
                future.result()

    def close(self) -> None:
        """Drop work not begun, wait for the rest, close the connections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for kept in self._idle.values():
                for conn in kept:
                    conn.close()
            self._idle.clear()
