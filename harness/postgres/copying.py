"""The rows of one COPY on their way into a table: over one connection, or shared by several."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import psycopg
import xxhash

from .pool import Connection, idle
from .rows import Unordered, whole_rows

QUALIFIED: Final = re.compile(rb'COPY ((?:"(?:[^"]|"")+"|[^\s."(]+)\.(?:"(?:[^"]|"")+"|[^\s."(]+))', re.I)
_WAIT_S: Final = 0.1
_SWITCH_S: Final = 1e-4

# A table whose rows mean the same whoever sends them, in whatever order: nothing fires, computes or looks up.
_ANY_ORDER: Final = """
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(table)s) AND c.relkind = 'r' AND c.relpersistence = 'p'
  AND NOT c.relhastriggers AND NOT c.relhasindex AND NOT c.relhasrules
  AND current_user = session_user AND session_user = %(user)s
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (
      (a.atthasdef OR a.attidentity <> '') AND a.attgenerated = '' AND a.attname <> ALL (%(columns)s::text[])
      OR t.typname ~ '^_?(reg|aclitem)'))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    LEFT JOIN pg_catalog.pg_constraint k
      ON d.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'c'
    LEFT JOIN (pg_catalog.pg_attrdef f JOIN pg_catalog.pg_attribute a
        ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> '')
      ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid
    WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass)
      AND (k.conrelid = c.oid OR k.contypid <> 0 OR f.adrelid = c.oid))
"""
# Its TOAST table and that one's index belong to it.
_PERSISTENCE: Final = """
UPDATE pg_catalog.pg_class SET relpersistence = %(kind)s WHERE oid = %(table)s OR oid IN (
  SELECT unnest(ARRAY[c.reltoastrelid, i.indexrelid]) FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.reltoastrelid
  WHERE c.oid = %(table)s AND c.reltoastrelid <> 0)
"""


@dataclass(frozen=True)
class Sent:
    """What several connections sent into one table: its rows whatever their order, and the xxh3-128 digest
    of their text in the file's."""

    rows: Unordered
    digest: str


class _Stopped(Exception):
    """Has a COPY given up, because another one, or what reads the file, failed."""


def first_rows(blocks: Iterable[bytes], enough: int) -> list[bytes]:
    """Blocks of `enough` bytes in all, or fewer where there are no more."""
    first: list[bytes] = []
    size = 0
    for block in blocks if enough else ():
        first.append(block)
        size += len(block)
        if size >= enough:
            break
    return first


def send(conn: Connection, statement: bytes, blocks: Iterable[bytes], *, emptied: bool = False) -> int:
    """Rows the server took over one connection; `emptied` tells that `empty_first` began the transaction."""
    try:
        with conn.cursor() as cursor:
            with cursor.copy(statement + b" WITH (FREEZE true)" if emptied else statement) as copy:
                for block in blocks:
                    copy.write(block)
            taken = cursor.rowcount
        if emptied:
            conn.execute("COMMIT")
        return taken
    finally:
        if emptied and not conn.closed and not idle(conn):
            conn.execute("ROLLBACK")


def empty_first(conn: Connection, table: bytes) -> bool:
    """Begin a transaction that empties a table without rows: then COPY ... FREEZE writes no WAL and spares
    later visibility checks (PostgreSQL: wal_level minimal). False, and no transaction, where that fails."""
    try:
        conn.execute("BEGIN")
        with conn.cursor() as cursor:
            if cursor.execute(b"SELECT FROM ONLY " + table + b" LIMIT 1", binary=True).rowcount:
                raise psycopg.DataError("rows came through a partitioned table above")
            cursor.execute(b"TRUNCATE ONLY " + table, binary=True)
    except psycopg.Error:  # a partitioned or foreign table, a view: the plain way
        conn.execute("ROLLBACK")
        return False
    return True


def any_order(conn: Connection, table: bytes, columns: tuple[str, ...]) -> int | None:
    """OID of an empty table whose rows several connections may send at once; None where they may not.

    `columns` are those that the rows bring.
    """
    named = {
        "table": table.decode("utf-8", "replace"),
        "user": conn.info.user,
        "columns": list(columns) or None,
    }
    found = conn.execute(_ANY_ORDER, named).fetchone()
    if found is None or conn.execute(b"SELECT FROM ONLY " + table + b" LIMIT 1", binary=True).rowcount:
        return None
    return int(found[0])


def like(conn: Connection, others: Iterable[Connection]) -> None:
    """Give other connections the settings made in this session. Raises psycopg.Error where one refuses."""
    made = conn.execute(
        "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'"
    ).fetchall()
    for other in others:
        for setting in made:
            other.execute("SELECT pg_catalog.set_config(%s, %s, false)", [*map(_text, setting)])


def _text(value: str | bytes) -> str:
    """psycopg gives the bytes of text while client_encoding is SQL_ASCII."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def share(
    conn: Connection,
    others: list[Connection],
    table: bytes,
    statement: bytes,
    blocks: Iterable[bytes],
    oid: int,
) -> tuple[int, Sent]:
    """Rows the server took over all the `others` at once, and what was sent; `conn` looks after the table.

    Without a write-ahead log: meanwhile the table is an unlogged one. All or nothing, as with one COPY.
    """
    conn.execute(_PERSISTENCE, {"kind": "u", "table": oid})
    done = False
    try:
        taken, sent = _shared(others, statement, blocks)
        done = True
    finally:
        conn.execute(_PERSISTENCE, {"kind": "p", "table": oid})
        if not done:
            conn.execute(b"TRUNCATE ONLY " + table)
    return taken, sent


def _shared(conns: list[Connection], statement: bytes, blocks: Iterable[bytes]) -> tuple[int, Sent]:
    waiting: queue.Queue[bytes | None] = queue.Queue(2 * len(conns))
    stop = threading.Event()

    def write(conn: Connection) -> int:
        try:
            with conn.cursor() as cursor:
                with cursor.copy(statement) as copy:
                    while (rows := waiting.get()) is not None and not stop.is_set():
                        copy.write(rows)
                    if stop.is_set():
                        raise _Stopped
                return cursor.rowcount
        except BaseException:
            stop.set()
            raise

    def put(rows: bytes | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(rows, timeout=_WAIT_S)
                return
        raise _Stopped

    digest, seen = xxhash.xxh3_128(), Unordered()
    with _quick_switches(), ThreadPoolExecutor(len(conns), thread_name_prefix="provado-rows") as threads:
        writers = [threads.submit(write, conn) for conn in conns]
        try:
            for rows in whole_rows(blocks):
                digest.update(rows)
                seen.add(rows)
                put(rows)
            for _ in conns:
                put(None)
        except BaseException as error:
            stop.set()
            _wake(waiting, writers)
            if not isinstance(error, _Stopped):
                raise
    failed = [e for w in writers if (e := w.exception()) is not None]
    for why in sorted(failed, key=lambda e: isinstance(e, _Stopped)):
        raise why
    return sum(w.result() for w in writers), Sent(seen, digest.hexdigest())


def _wake(waiting: queue.Queue[bytes | None], writers: Iterable[Future[int]]) -> None:
    """Have every writer see that it is to stop."""
    for writer in writers:
        while not writer.done():
            with contextlib.suppress(queue.Empty):
                waiting.get_nowait()
            with contextlib.suppress(queue.Full):
                waiting.put(None, timeout=_WAIT_S)


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    """Writers get at the interpreter at once, or the server waits for rows: 5 ms are 400 KB of them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(_SWITCH_S, before))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
