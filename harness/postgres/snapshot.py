"""One consistent view of a live database, held for a capture and a dump: locks first, then the snapshot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import errors

from ..errors import ProvadoError, ToolError
from . import digest
from .fingerprint import Connection, limit, pin, run, user_schema

_BATCH: Final = 200
_LOCK_TIMEOUT: Final = "5min"
_ATTEMPTS: Final = 5


@contextlib.contextmanager
def snapshot(conn: Connection) -> Iterator[str]:
    """Hold one consistent view of the database; yields the name for `pg_dump --snapshot`.

    `conn` must be idle and in autocommit. While held, `capture_facts(conn)` reads the very same state.
    Raises ToolError when a table cannot be read whole: no privilege, row security, or a lock held for long.
    """
    pin(conn)
    limit(conn, 0)
    for _ in range(_ATTEMPTS):
        wanted = _lockable(conn)
        run_quiet(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            run_quiet(conn, f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            _lock(conn, wanted)
            [(name,)] = run(conn, "SELECT pg_export_snapshot()")
            if set(_lockable(conn)) <= set(wanted):
                _readable(conn)
                yield str(name)
                return
        finally:
            with contextlib.suppress(psycopg.OperationalError):  # the connection is gone: nothing to end
                conn.rollback()
    raise ToolError(
        "tables were created while the snapshot was taken, five times in a row",
        remedy="try again when fewer tables are being created",
    )


def run_quiet(conn: Connection, statement: str) -> None:
    """Execute a statement of this package that gives no rows."""
    with conn.cursor() as cursor:
        cursor.execute(statement.encode())


def _lockable(conn: Connection) -> list[str]:
    return [
        name
        for (name,) in run(
            conn,
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {user_schema()}"
            " AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1",
        )
    ]


def _lock(conn: Connection, names: list[str]) -> None:
    for start in range(0, len(names), _BATCH):
        tables = ", ".join(f"ONLY {name}" for name in names[start : start + _BATCH])
        try:
            run_quiet(conn, f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
        except errors.LockNotAvailable:
            raise ToolError(
                f"a table stayed locked by another session for {_LOCK_TIMEOUT}",
                remedy="take the backup when no ALTER TABLE, TRUNCATE or VACUUM FULL runs",
            ) from None
        except errors.UndefinedTable:
            raise ToolError(
                "a table was dropped while the snapshot was taken", remedy="run it again"
            ) from None


def _readable(conn: Connection) -> None:
    """Every row of every table must be visible, else the manifest would certify a part as the whole."""
    tables = digest.list_tables(conn)
    denied = [t.name for t in tables if not t.readable]
    hidden = [t.name for t in tables if t.readable and t.filtered]
    problem: ProvadoError | None = None
    if denied:
        problem = ToolError(
            f"no privilege to read {_some(denied)}",
            remedy="GRANT pg_read_all_data to the backup role, or capture as a superuser",
        )
    elif hidden:
        problem = ToolError(
            f"row security hides rows of {_some(hidden)} from this role",
            remedy="ALTER ROLE ... BYPASSRLS for the backup role, or capture as a superuser",
        )
    if problem:
        raise problem


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
