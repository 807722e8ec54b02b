"""The manifest of a live PostgreSQL database: everything that a restored copy must show again.

All of it is read inside one REPEATABLE READ READ ONLY transaction whose snapshot is exported, so that
`pg_dump --snapshot` writes the very same instant. Tables are locked (ACCESS SHARE, as pg_dump does) before
the snapshot is taken: TRUNCATE is not MVCC-safe. Sequences know no snapshots: they may run ahead, never
behind.

Needed: a role that may SELECT from every table and sequence, with BYPASSRLS where row security is on
(`pg_read_all_data` and BYPASSRLS suffice). Superuser rights add large objects of others. What a role could
not read (role passwords' methods, user mappings, subscriptions' connections without `pg_read_all_data`) the
manifest says.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from ..errors import ToolError
from ..manifest import Manifest
from ..redact import Secret
from . import digest
from .digest import Table
from .fingerprint import Connection, fingerprint, limit, pin, run, user_schema
from .snapshot import run_quiet
from .snapshot import snapshot as snapshot

FORMAT: Final = 3  # of `facts`; another number is not compared
_BATCH: Final = 200

Connect = Callable[[], AbstractContextManager[Connection]]
Progress = Callable[[int, int, str], None]
"""Called with bytes read so far, bytes in all, and the table read next."""


def capture_facts(
    conn: Connection,
    *,
    key: str | None = None,
    digests: bool = True,
    jobs: int = 1,
    connect: Connect | None = None,
    progress: Progress = lambda done, total, name: None,
    timeout_s: float = 0,
) -> dict[str, Any]:
    """Everything a manifest says about the database that `conn` is connected to.

    `key` (hex) makes the digests comparable with another capture's: pass the manifest's own `facts["key"]`
    when looking at a restored copy. With `jobs` > 1 and `connect`, that many connections digest tables side
    by side in the same snapshot. No statement may take longer than `timeout_s` (psycopg's QueryCanceled; 0:
    no limit). Inside `snapshot(conn)` it reads that snapshot, else one of its own.
    """
    if conn.info.transaction_status is TransactionStatus.IDLE:
        conn.autocommit = True
        with snapshot(conn) as name:
            return _facts(conn, name, key, digests, jobs, connect, progress, timeout_s)
    [(name,)] = run(conn, "SELECT pg_export_snapshot()") if jobs > 1 else [("",)]
    return _facts(conn, str(name), key, digests, jobs, connect, progress, timeout_s)


def capture(
    url: Secret,
    *,
    digests: bool = True,
    jobs: int = 1,
    progress: Progress = lambda done, total, name: None,
) -> Manifest:
    """Connect to a live source and make its manifest. Raises ToolError when it cannot be read whole."""

    def connect() -> Connection:
        try:
            return psycopg.connect(url.reveal(), autocommit=True, application_name="provado")
        except psycopg.Error as error:
            raise ToolError(
                f"cannot connect to PostgreSQL ({type(error).__name__})",
                remedy="check the URL, the password and that the server is up",
            ) from None

    with contextlib.suppress(psycopg.Error):  # a wrong URL is said below
        Secret(str(conninfo_to_dict(url.reveal()).get("password", "")))  # masked from here on
    try:
        with connect() as conn, snapshot(conn) as name:
            facts = _facts(conn, name, None, digests, jobs, connect, progress, 0)
    except psycopg.Error as error:
        raise ToolError(
            f"the source could not be read to the end ({type(error).__name__})",
            remedy="see the server's log, and run it again",
        ) from None
    return to_manifest(facts, snapshot=name)


def to_manifest(
    facts: Mapping[str, Any], *, snapshot: str | None = None, artifact: Mapping[str, Any] | None = None
) -> Manifest:
    """The manifest around facts; `artifact` is sha256 and bytes of the file made in the same snapshot."""
    server = facts["server"]
    source = {name: server[name] for name in ("version", "major", "database", "system_identifier", "standby")}
    return Manifest(
        "postgres", source, datetime.fromisoformat(server["time"]), dict(facts), snapshot, artifact
    )


def _facts(
    conn: Connection,
    snapshot_name: str,
    key: str | None,
    digests: bool,
    jobs: int,
    connect: Connect | None,
    progress: Progress,
    timeout_s: float,
) -> dict[str, Any]:
    pin(conn)
    limit(conn, timeout_s)
    key = key or secrets.token_hex(16)
    raw = bytes.fromhex(key)
    server = _server(conn)
    unreadable = _unreadable(conn)
    tables = digest.list_tables(conn)
    try:
        objects = fingerprint(conn, raw, skip=unreadable)
        work = _Work(tables, raw, server["encoding"], digests, progress)
        work.run(conn, snapshot_name, jobs, connect, timeout_s)
        large = _large_objects(conn, raw, digests, unreadable)
    except errors.InsufficientPrivilege as error:
        raise ToolError(
            f"the role may not read everything ({error.diag.table_name or 'an object'})",
            remedy="capture as a superuser or as a member of pg_read_all_data with BYPASSRLS",
        ) from None
    except (errors.InternalError_, errors.UndefinedObject, errors.UndefinedTable, errors.UndefinedFunction):
        # The server's own pg_get_...def() look at the catalogs of now, not of the snapshot.
        raise ToolError(
            "an object was changed or dropped while it was read",
            remedy="run it again when no migration runs",
        ) from None
    return {
        "format": FORMAT,
        "key": key,
        "server": server,
        "objects": objects,
        "tables": work.found,
        "sequences": _sequences(conn),
        "large_objects": large,
        "digests": digests,
        "unreadable": sorted(unreadable),
    }


class _Work:
    """Digests of many tables, biggest first, over one or several connections that share a snapshot."""

    def __init__(
        self, tables: tuple[Table, ...], key: bytes, encoding: str, digests: bool, progress: Progress
    ) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self._tables, self._key, self._encoding, self._digests = tables, key, encoding, digests
        self._progress, self._done = progress, 0
        self._total = sum(t.size_bytes for t in tables)
        self._todo: queue.SimpleQueue[Table] = queue.SimpleQueue()
        self._lock, self._errors = threading.Lock(), list[BaseException]()

    def run(
        self, conn: Connection, snapshot_name: str, jobs: int, connect: Connect | None, timeout_s: float
    ) -> None:
        for table in self._tables:
            self._todo.put(table)
        helpers = [
            threading.Thread(target=self._help, args=(snapshot_name, connect, timeout_s), daemon=True)
            for _ in range(min(jobs, len(self._tables)) - 1 if connect else 0)
        ]
        for helper in helpers:
            helper.start()
        try:
            self._drain(conn)
        except BaseException as error:
            self._errors.insert(0, error)
        for helper in helpers:
            helper.join()
        if not self._errors:
            self._drain(conn)  # what helpers had to give back
        if self._errors:
            raise self._errors[0]
        self.found = dict(sorted(self.found.items()))

    def _help(self, snapshot_name: str, connect: Connect, timeout_s: float) -> None:
        try:
            with connect() as conn:
                conn.autocommit = True
                pin(conn)
                limit(conn, timeout_s)
                run_quiet(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                run_quiet(conn, f"SET TRANSACTION SNAPSHOT '{snapshot_name}'")
                self._drain(conn, helping=True)
                conn.rollback()
        except BaseException as error:
            self._errors.append(error)

    def _drain(self, conn: Connection, *, helping: bool = False) -> None:
        """Work until nothing is left. The first connection holds locks on all tables; a helper that would
        wait for its own (behind a TRUNCATE that waits for the first one's) gives the table back and ends:
        the server cannot see that we would wait for each other."""
        while not self._errors:
            try:
                table = self._todo.get_nowait()
            except queue.Empty:
                return
            if helping:
                try:
                    run_quiet(conn, f"LOCK TABLE ONLY {table.name} IN ACCESS SHARE MODE NOWAIT")
                except errors.LockNotAvailable:
                    self._todo.put(table)
                    return
            self._progress(self._done, self._total, table.name)
            if self._digests:
                found = digest.digest_table(conn, table, self._key, self._encoding)
            else:
                found = digest.count_rows(conn, table)
            with self._lock:
                self._done += table.size_bytes
                self.found[table.name] = {"kind": table.kind, "unlogged": table.unlogged, **found}


def _server(conn: Connection) -> dict[str, Any]:
    """What and when: version, database, identity, place in the WAL, newest commit."""
    [(version, database, encoding, now, standby, collation)] = run(
        conn,
        "SELECT current_setting('server_version'), current_database(), current_setting('server_encoding'),"
        " transaction_timestamp(), pg_is_in_recovery(), current_setting('server_version_num')::int >= 150000",
    )
    lsn = "pg_last_wal_replay_lsn()" if standby else "pg_current_wal_lsn()"
    newest = "pg_last_xact_replay_timestamp()" if standby else "NULL::timestamptz"
    [(commits,)] = run(conn, "SELECT current_setting('track_commit_timestamp')")
    if commits == "on" and not standby:
        newest = "(SELECT timestamp FROM pg_last_committed_xact())"
    [(wal, committed)] = run(conn, f"SELECT {lsn}::text, {newest}")
    identifier = None
    if _may(conn, "has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"):
        [(identifier,)] = run(conn, "SELECT system_identifier::text FROM pg_control_system()")
    versions: dict[str, str] = {}
    if collation:
        [(stored, actual)] = run(
            conn,
            "SELECT datcollversion, pg_database_collation_actual_version(oid) FROM pg_database"
            " WHERE datname = current_database()",
        )
        versions = {"collation version": stored or "", "collation version of the system": actual or ""}
    [(user, superuser)] = run(
        conn, "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    return {
        "version": version.split()[0],
        "major": conn.info.server_version // 10000,
        "database": database,
        "encoding": encoding,
        "system_identifier": identifier,
        "standby": standby,
        "time": now.astimezone(UTC).isoformat(),
        "wal_lsn": wal,
        "newest_commit": committed.astimezone(UTC).isoformat() if committed else None,
        "user": user,
        "superuser": superuser,
        **versions,
    }


def _may(conn: Connection, condition: str) -> bool:
    [(may,)] = run(conn, f"SELECT {condition}")
    return bool(may)


def _unreadable(conn: Connection) -> set[str]:
    """Classes whose catalogs this role may not read, by name."""
    from .fingerprint_cluster import RESTRICTED

    return {
        name
        for name, (table, column) in RESTRICTED.items()
        if not _may(conn, f"has_column_privilege('{table}', '{column}', 'SELECT')")
    }


def _large_objects(conn: Connection, key: bytes, digests: bool, unreadable: set[str]) -> dict[str, Any]:
    [(count,)] = run(conn, "SELECT count(*) FROM pg_largeobject_metadata")
    if not digests or not count:
        return {"count": count, "digest": None if count else "empty", "objects": {}}
    run_quiet(conn, "SAVEPOINT large_objects")
    try:
        return digest.large_objects(conn, key)
    except errors.InsufficientPrivilege:
        run_quiet(conn, "ROLLBACK TO large_objects")
        unreadable.add("large object content")
        return {"count": count, "digest": None, "objects": {}}


def _sequences(conn: Connection) -> dict[str, dict[str, Any]]:
    """Position of every sequence. They ignore snapshots: this is at or after the snapshot's instant."""
    names = run(
        conn,
        "SELECT format('%I.%I', n.nspname, c.relname), s.seqincrement, s.seqcycle"
        " FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relpersistence <> 't' AND {user_schema()} ORDER BY 1",
    )
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        union = " UNION ALL ".join(
            f"SELECT {i}, last_value, is_called FROM {name}" for i, (name, _, _) in enumerate(batch)
        )
        for i, last_value, is_called in run(conn, union):
            name, increment, cycle = batch[i]
            found[name] = {
                "last_value": last_value,
                "is_called": is_called,
                "increment": increment,
                "cycle": cycle,
            }
    return found
