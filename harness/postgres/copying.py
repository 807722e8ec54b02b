"""The rows of one COPY on their way into a table: over one connection, or shared by several."""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

import psycopg
import xxhash
from psycopg import errors

from ..sandbox import Server
from . import feeding
from .pool import Connection, Pool, cancel, idle
from .rows import Unordered, whole_rows

QUALIFIED: Final = re.compile(rb'COPY ((?:"(?:[^"]|"")+"|[^\s."(]+)\.(?:"(?:[^"]|"")+"|[^\s."(]+))', re.I)
SHARE_BYTES: Final = 4 << 20  # fewer rows are in sooner than several connections agree
_WAIT_S: Final = 0.1
_SWITCH_S: Final = 1e-4
# Their characters may hold the bytes of a backslash: where rows end is not to be seen by bytes alone.
_DEEP: Final = ("BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC")

# A table whose rows mean the same whoever sends them, in whatever order: nothing fires, computes or looks up.
_ANY_ORDER: Final = """
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(%(table)s) AND c.relkind = 'r' AND c.relpersistence = 'p'
  AND NOT c.relhastriggers AND NOT c.relhasindex AND NOT c.relhasrules
  AND current_user = session_user AND session_user = %(user)s
  AND pg_catalog.pg_client_encoding() <> ALL (%(deep)s)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (
      (a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL) AND a.attgenerated = ''
        AND a.attname <> ALL (%(columns)s::text[])
      OR t.typname ~ '^_?(reg|aclitem)'))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) u
    JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = u.relid
    WHERE p.partexprs IS NOT NULL OR EXISTS (SELECT FROM unnest(p.partclass::oid[]) o WHERE o >= 16384))
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
_SETTINGS: Final = """
SELECT json_object_agg(name, setting)::text FROM pg_catalog.pg_settings
WHERE context IN ('user', 'superuser') AND setting IS NOT NULL"""
_SET: Final = """
SELECT pg_catalog.count(pg_catalog.set_config(made.key, made.value, false))
FROM pg_catalog.json_each_text(%s::json) made LEFT JOIN pg_catalog.pg_settings s ON s.name = made.key
WHERE s.setting IS DISTINCT FROM made.value"""


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


def send(conn: Connection, statement: bytes, blocks: Iterable[bytes]) -> int:
    """Rows the server took over one connection."""
    with feeding.over_connection(conn, statement) as copy:
        for block in blocks:
            copy.write(block)
    return copy.taken


def filled(
    conn: Connection, table: bytes, statement: bytes, blocks: Iterable[bytes], server: Server | None
) -> int:
    """Rows the server took over one connection, into a table without rows where it has none."""
    if not _empty_first(conn, table):
        return send(conn, statement, blocks)
    try:
        with feeding.whichever(conn, statement, b" WITH (FREEZE true)", server) as copy:
            for block in blocks:
                copy.write(block)
        conn.execute("COMMIT")
        return copy.taken
    finally:
        if not conn.closed and not idle(conn):
            conn.execute("ROLLBACK")


def _empty_first(conn: Connection, table: bytes) -> bool:
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
        "table": table.decode(conn.info.encoding, "replace"),
        "user": conn.info.user,
        "columns": list(columns) or None,
        "deep": list(_DEEP),
    }
    try:
        found = conn.execute(_ANY_ORDER, named).fetchone()
    except UnicodeError:  # a name that is none in the encoding of the text
        return None
    if found is None or conn.execute(b"SELECT FROM ONLY " + table + b" LIMIT 1", binary=True).rowcount:
        return None
    return int(found[0])


def like(conn: Connection, others: Iterable[Connection]) -> None:
    """Give other connections this session's settings. Raises psycopg.Error where one refuses."""
    ((made,),) = conn.execute(_SETTINGS).fetchall()
    for other in others:  # psycopg gives the bytes of text while client_encoding is SQL_ASCII
        other.execute(_SET, (made if isinstance(made, str) else made.decode("utf-8", "replace"),))


@contextlib.contextmanager
def alike(conn: Connection, borrowed: AbstractContextManager[Connection]) -> Iterator[Connection]:
    """A borrowed connection with the settings of `conn`, given back as it was."""
    with borrowed as other:
        try:
            like(conn, [other])
            yield other
        finally:
            if idle(other):
                with contextlib.suppress(psycopg.Error):  # it is lost, then, and nobody gets it again
                    other.execute("RESET ALL")


def partners(
    conn: Connection,
    pool: Pool,
    database: str,
    table: bytes,
    columns: tuple[str, ...],
    opened: contextlib.ExitStack,
) -> tuple[int, list[Connection]] | None:
    """OID of a table and connections that may fill it together, one for each idle core and one more; None
    where one does it alone. Raises psycopg.Error where there are not as many."""
    ways = pool.idle()  # a single one has the rows to unpack and to send: two COPYs would wait for it
    oid = any_order(conn, table, columns) if ways > 1 else None
    if oid is None:
        return None
    return oid, [opened.enter_context(alike(conn, pool.connection(database))) for _ in range(1 + ways)]


def share(
    conn: Connection,
    others: list[Connection],
    table: bytes,
    statement: bytes,
    blocks: Iterable[bytes],
    oid: int,
    server: Server | None,
) -> tuple[int, Sent]:
    """Rows the server took over all the `others` at once, and what was sent; `conn` looks after the table.

    Without a write-ahead log: meanwhile the table is an unlogged one. All or nothing, as with one COPY.
    """
    conn.execute(_PERSISTENCE, {"kind": "u", "table": oid})
    done = False
    try:
        taken, sent = _shared(others, statement, blocks, server)
        done = True
    finally:
        conn.execute(_PERSISTENCE, {"kind": "p", "table": oid})
        if not done:
            conn.execute(b"TRUNCATE ONLY " + table)
    return taken, sent


def _shared(
    conns: list[Connection], statement: bytes, blocks: Iterable[bytes], server: Server | None
) -> tuple[int, Sent]:
    waiting: queue.Queue[tuple[bytes, bool] | None] = queue.Queue(2 * len(conns))
    stop, turn = threading.Event(), threading.Lock()

    def take() -> tuple[bytes, bool] | None:
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                return waiting.get(timeout=_WAIT_S)
        raise _Stopped

    def put(rows: tuple[bytes, bool] | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return waiting.put(rows, timeout=_WAIT_S)
        raise _Stopped

    def write(conn: Connection) -> int:
        try:
            with feeding.whichever(conn, statement, b"", server) as copy:
                while True:
                    with turn:  # all of a row goes the same way
                        while (rows := take()) is not None and not rows[1]:
                            copy.write(rows[0])
                    if rows is None:
                        break
                    copy.write(rows[0])
            return copy.taken
        except BaseException:
            stop.set()
            raise

    digest, seen = xxhash.xxh3_128(), Unordered()
    with _quick_switches(), ThreadPoolExecutor(len(conns), thread_name_prefix="provado-rows") as threads:
        try:
            writers = [threads.submit(write, conn) for conn in conns]
            for rows in whole_rows(blocks):
                digest.update(rows[0])
                seen.add(rows[0])
                put(rows)
            for _ in conns:
                put(None)
            wait(writers)
        except _Stopped:
            pass  # a writer tells why
        except BaseException:
            stop.set()
            for conn in conns:  # what they have to send may take the server long
                cancel(conn)
            raise
    seen.end()
    failed = [e for w in writers if (e := w.exception()) is not None]
    for why in sorted(failed, key=lambda e: isinstance(e, _Stopped)):
        if isinstance(why, psycopg.OperationalError) and why.sqlstate is None:
            raise errors.CrashShutdown from why  # a lost connection says nothing of the rows
        raise why
    return sum(w.result() for w in writers), Sent(seen, digest.hexdigest())


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    """Writers get at the interpreter at once, or the server waits for rows: 5 ms are 400 KB of them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(_SWITCH_S, before))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
