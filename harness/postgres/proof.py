"""Are the rows in the server the rows in the file? Digests of COPY text, read back from the restored tables.

The server writes `COPY t (columns) TO` a named pipe in the sandbox's shared folder, which costs one scan
and no message per row; without a shared folder (some containers) the rows come over the connection.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Generator
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import xxhash
from psycopg import sql

from ..errors import SandboxError
from ..sandbox import Server
from . import pipes
from .pool import Connection

_FEW_BYTES: Final = 1 << 14  # fewer rows come over the connection sooner than a pipe is made
_GATHER_S: Final = 0.002  # the server writes 4 KiB at a time: to wake for each costs as much as the hashing


@dataclass(frozen=True)
class Rows:
    """What a table holds: number of rows and the xxh3-128 digest of its COPY text in stored order."""

    rows: int
    digest: str


def table_rows(
    conn: Connection,
    server: Server,
    schema: str | None,
    table: str,
    columns: tuple[str, ...],
    encoding: str = "UTF8",
    size: int | None = None,
) -> Rows:
    """Count and digest what the server holds for a table, of about `size` bytes where that is known.

    Raises psycopg.Error as the server does.
    """
    digest, blocks = xxhash.xxh3_128(), read_rows(conn, server, schema, table, columns, encoding, size)
    while True:
        try:
            digest.update(next(blocks))
        except StopIteration as end:
            return Rows(end.value, digest.hexdigest())


def read_rows(
    conn: Connection,
    server: Server,
    schema: str | None,
    table: str,
    columns: tuple[str, ...],
    encoding: str = "UTF8",
    size: int | None = None,
) -> Generator[bytes, None, int]:
    """The COPY text of a table (or of a partitioned table with all its partitions) in large blocks.

    `encoding` is PostgreSQL's name of the encoding that the text shall have. Returns the number of rows, as
    the server counts them.
    """
    kind = conn.execute(
        "SELECT relkind IN ('p', 'v', 'm') FROM pg_catalog.pg_class WHERE oid = %s::regclass",
        (sql.Identifier(*[p for p in (schema, table) if p]).as_string(conn),),
    ).fetchone()
    source: sql.Composable = sql.Identifier(*[p for p in (schema, table) if p])
    named = sql.SQL(", ").join(map(sql.Identifier, columns))
    if kind and kind[0]:
        source = sql.SQL("(SELECT {} FROM {})").format(named if columns else sql.SQL("*"), source)
    elif columns:
        source = sql.SQL("{} ({})").format(source, named)
    form = sql.SQL(" (ENCODING {})").format(encoding) if encoding != "UTF8" else sql.SQL("")
    few = size is not None and size < _FEW_BYTES
    shared = pipes.shared(server)
    if few or shared is None:
        query = sql.SQL("COPY {} TO STDOUT{}").format(source, form)
        rows = 0
        with conn.cursor() as cursor, cursor.copy(query) as copy:
            for block in copy:
                rows += 1  # the server sends a message per row
                yield bytes(block)
        return rows
    return (yield from _through_pipe(conn, *shared, source, form))


def _through_pipe(
    conn: Connection, folder: Path, inside: str, source: sql.Composable, form: sql.Composable
) -> Generator[bytes, None, int]:
    read = 0
    with pipes.named_pipe(folder) as path:
        query = sql.SQL("COPY {} TO {}{}").format(source, f"{inside}/{path.name}", form)
        with pipes.started(conn, query, path, os.O_RDONLY) as (copy, reader):
            waiting = select.poll()
            waiting.register(reader, select.POLLIN)
            while True:
                last = copy.done()
                if waiting.poll(0 if last else pipes.POLL_S * 1000):
                    block = os.read(reader, pipes.BLOCK)
                    if block:
                        yield block
                        read += len(block)
                        if read > pipes.BLOCK > 4 * len(block):
                            time.sleep(_GATHER_S)
                        continue
                if last:
                    break
                wait([copy], pipes.POLL_S / 100)
    return copy.result()


_LIKE_PG_DUMP: Final = {  # what pg_dump sets in its own session (pg_dump.c: setup_connection)
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "synchronize_seqscans": "off",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_OFF_SINCE: Final = (  # majors that brought them; a login trigger would run, and may fail, each time
    (14, "idle_session_timeout"),
    (17, "transaction_timeout"),
    (17, "event_triggers"),
)
_OURS: Final = {  # whatever the restored database or its roles set for themselves
    "lc_messages": "C",
    "check_function_bodies": "off",
    "client_min_messages": "warning",
    "default_transaction_read_only": "off",
    "default_tablespace": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "role": "none",
}
_PINNED: Final = {  # so that text does not depend on settings that the restored database brings
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "extra_float_digits": "1",
    "default_transaction_read_only": "on",
    "search_path": "",
}


def connect(server: Server, database: str, *, pinned: bool = False) -> Connection:
    """A superuser connection in autocommit.

    Its text output is that of the pg_dump that made the file: the settings pg_dump makes itself, else the
    restored database's own. `pinned` connections are for checks: read-only, and alike for all databases.

    Raises SandboxError when the server is gone, psycopg.OperationalError when the database is not there.
    """
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # its warnings may quote rows
    if not server.alive():
        raise SandboxError("the sandbox server ended by itself", remedy="see the limits in `sandbox:`")
    settings = {**_LIKE_PG_DUMP, **_OURS, **(_PINNED if pinned else {})}
    major = int(server.info.version.split(".")[0] or 0)
    settings |= {name: "0" for since, name in _OFF_SINCE if major >= since}
    conn = psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password.reveal(),
        dbname=database,
        autocommit=True,
        connect_timeout=30,
        application_name="provado",
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
    )
    conn.prepare_threshold = None  # every statement is different; the server need keep none
    return conn


def resolve(conn: Connection, written: str) -> tuple[str, str] | None:
    """Schema and name of the relation that an SQL name means in this session; None when there is none."""
    row = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass(%s)",
        (written,),
    ).fetchone()
    if row is None:
        return None
    # psycopg gives the bytes of text while client_encoding is SQL_ASCII
    schema, name = (n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in row)
    return schema, name
