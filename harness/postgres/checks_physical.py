"""Checks of physical backups: whole files, a recovery that works, every page readable, sound indexes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import errors, sql

from ..check import Check, NotRun, check
from ..model import Finding, Proves, Severity
from .physical import BaseBackup
from .physical_restore import attempt, extension, relations
from .pool import Connection
from .proof import connect
from .restore import RestoredPostgres
from .zeroed import rows_in_zeroed_pages

_SHOWN: Final = 20
_TAKE_NEW: Final = "use the newest older backup that passes, and take a new one"
_NO_FILE: Final = ("could not open file", "lacks a main", "does not exist for this relation")
_KINDS: Final = {"r": "table", "m": "materialized view", "t": "TOAST table", "S": "sequence", "i": "index"}


def _base(subject: RestoredPostgres) -> BaseBackup:
    base = subject.facts_of_file.base
    if base is None:
        raise NotRun("the backup could not be unpacked to its end")
    return base


@check(
    "pg.base-complete", proves=Proves.FILE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False
)
def base_complete(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The data directory has what a server needs: version, control file, folders, WAL, a start point."""
    base = _base(subject)
    for name in base.lacking:
        yield self.finding(name, "is missing or unreadable: no server starts without it", observed="missing")
    if base.lacking:
        return
    if not base.wal_files and not base.shut_down:
        yield self.finding(
            "pg_wal",
            "the backup holds no WAL, and the server ran while it was taken: it cannot become consistent",
            expected="WAL segments",
            observed=0,
            remedy="take it with pg_basebackup -X stream, or put the archived WAL of that time into pg_wal",
        )
    if base.pieces:
        yield self.finding(
            base.pieces[0],
            "is a piece of an incremental backup: what changed after the full one is not in the tables",
            expected="whole files",
            observed=f"{len(base.pieces)} pieces",
            remedy="join them by pg_combinebackup; never copy one folder over another",
        )
    if not base.labelled and not base.shut_down:
        yield self.finding(
            "backup_label",
            "the files were copied from a running server without pg_basebackup: only an atomic snapshot of"
            " the whole disk is good then",
            severity=Severity.HIGH,
            remedy="use pg_basebackup, or stop the server before copying; waive this for atomic snapshots",
        )


@check(
    "pg.base-manifest", proves=Proves.FILE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False
)
def base_manifest(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every file is the one that PostgreSQL's own backup_manifest lists: none missing, changed or added."""
    files = _base(subject).files
    if files is None:
        raise NotRun(
            "no backup_manifest of PostgreSQL: files changed or lost since the backup show only as damage"
        )
    worst = self.severity
    if not files.authentic:
        worst = Severity.HIGH
        yield self.finding(
            "backup_manifest",
            "does not match its own checksum: it was changed or damaged, so it proves nothing",
            severity=Severity.HIGH,
        )
    for word, names in (("missing", files.missing), ("changed", files.changed)):
        for name in names[:_SHOWN]:
            yield self.finding(
                name, f"is {word}", severity=worst, expected="as in backup_manifest", observed=word
            )
        if len(names) > _SHOWN:
            yield self.finding("files", f"{len(names) - _SHOWN} more are {word}", severity=worst)
    for name in files.extra[:_SHOWN]:
        yield self.finding(
            name,
            "is not in backup_manifest: it came into the backup afterwards",
            severity=Severity.MEDIUM,
            expected="absent",
            observed="present",
            remedy="find out what put it there; the listed files are whole",
        )
    if len(files.extra) > _SHOWN:
        yield self.finding("files", f"{len(files.extra) - _SHOWN} more are extra", severity=Severity.MEDIUM)
    if files.unsummed:
        yield self.finding(
            "backup_manifest",
            f"{files.unsummed} files are listed without a checksum: only their sizes were compared",
            severity=Severity.MEDIUM,
            remedy="leave out --manifest-checksums=NONE",
        )


@check(
    "pg.base-starts", proves=Proves.RESTORE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False
)
def base_starts(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """A server of the source's major version starts on the backup and recovers from its own WAL."""
    if subject.problem:
        yield self.finding(subject.artifact.path.name, subject.problem.what, remedy=subject.problem.remedy)
    elif not subject.restored:
        raise NotRun("no server was started on it")


@check("pg.base-readable", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_TAKE_NEW)
def base_readable(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every table of every database can be read to its last row, and all else to its last block."""
    for database in subject.databases:
        bad: list[tuple[str, psycopg.Error]] = []
        with _writing(subject, database) as conn:
            pages = extension(conn, "pg_prewarm")
            for oid, schema, name, kind in _listed(conn, database, bad):
                if kind in ("r", "m") and schema != "pg_catalog":
                    query = sql.SQL("COPY (SELECT * FROM ONLY {}) TO '/dev/null'").format(
                        sql.Identifier(schema, name)
                    )
                elif kind == "S":
                    query = sql.SQL("SELECT pg_catalog.pg_sequence_last_value({}::oid::regclass)").format(oid)
                elif pages:
                    query = sql.SQL("SELECT pg_catalog.pg_prewarm({}::oid::regclass, 'buffer')").format(oid)
                else:
                    continue
                if (error := attempt(conn, query)) is not None:
                    _lacking(error)
                    bad.append((f"{_KINDS[kind]} {schema}.{name}", error))
        for what, error in bad[:_SHOWN]:
            yield self.finding(what, f"cannot be read to its end: {_plain(error)}", observed="damaged")
        if len(bad) > _SHOWN:
            yield self.finding(f"database {database}", f"{len(bad) - _SHOWN} more cannot be read")


@check("pg.base-structure", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_TAKE_NEW)
def base_structure(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Rows are well-formed, and rows and indexes lead to one another (amcheck; both ways of counting)."""
    for database in subject.databases:
        bad: list[tuple[str, str]] = []
        unread: list[tuple[str, psycopg.Error]] = []
        with _writing(subject, database) as conn:
            if not extension(conn, "amcheck"):
                raise NotRun("this server has no amcheck: all was read, but its structure was not looked at")
            pages = extension(conn, "pageinspect")
            for oid, schema, name, kind in _listed(conn, database, unread):
                if kind in ("r", "m", "t") and subject.sandbox_major >= 14:
                    query = sql.SQL(
                        "SELECT count(*) FROM pg_catalog.verify_heapam({}::oid::regclass)"
                    ).format(oid)
                    found, error = _asked(conn, query)
                    if found:
                        bad.append((f"{_KINDS[kind]} {schema}.{name}", f"{found} places are damaged"))
                    elif error is None:
                        lost, error = (0, None) if kind == "t" else _lost(conn, schema, name)
                        if error is None and not lost and pages:
                            lost = rows_in_zeroed_pages(conn, oid)
                        if lost:
                            bad.append(
                                (f"{_KINDS[kind]} {schema}.{name}", f"{lost:,} rows of an index are lost")
                            )
                elif kind == "i" and _btree(conn, oid):
                    query = sql.SQL("SELECT pg_catalog.bt_index_check({}::oid::regclass, true)").format(oid)
                    error = attempt(conn, query)
                else:
                    continue
                if error is not None and not any(words in str(error) for words in _NO_FILE):
                    _lacking(error)
                    bad.append((f"{_KINDS[kind]} {schema}.{name}", _plain(error)))
        bad += [(what, _plain(error)) for what, error in unread]
        for what, why in bad[:_SHOWN]:
            yield self.finding(what, f"is damaged: {why}", observed="damaged")
        if len(bad) > _SHOWN:
            yield self.finding(f"database {database}", f"{len(bad) - _SHOWN} more are damaged")


@check(
    "pg.base-collations",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    remedy="REINDEX after a recovery onto another system library",
)
def base_collations(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Text sorts here as at the source, so that its indexes can be trusted (collation versions are equal)."""
    if subject.sandbox_major < 15:
        raise NotRun("PostgreSQL before 15 does not record the version of a database's collation")
    with connect(subject.server, "template1") as conn:  # type: ignore[arg-type]
        rows = conn.execute(
            "SELECT datname, datcollversion, pg_catalog.pg_database_collation_actual_version(oid)"
            " FROM pg_catalog.pg_database WHERE datallowconn ORDER BY 1"
        ).fetchall()
    for name, recorded, actual in rows:
        if name in subject.databases and recorded != actual:
            raise NotRun(
                f"database {name} was sorted by version {recorded or 'unknown'} of its collation, this "
                f"machine has {actual or 'none'}: whether its text indexes are sound cannot be told here; "
                "use a sandbox with the source's system (--image), and REINDEX after such a move",
                blocking=True,
            )
    yield from ()


def _listed(
    conn: Connection, database: str, bad: list[tuple[str, psycopg.Error]]
) -> list[tuple[int, str, str, str]]:
    """Everything with storage; damage to the catalogs that list it goes to `bad`."""
    try:
        return relations(conn)
    except (psycopg.InternalError, psycopg.DataError) as error:
        bad.append((f"database {database}", error))
        return []


@contextlib.contextmanager
def _writing(subject: RestoredPostgres, database: str) -> Iterator[Connection]:
    """A connection in a transaction that is rolled back: for extensions that are needed for a moment only."""
    if subject.server is None:
        raise NotRun("no server was started on it")
    try:
        conn = connect(subject.server, database)
    except psycopg.OperationalError as error:
        if "locale" in str(error):
            raise NotRun(
                f"database {database} needs a locale that this machine lacks; install it, or use --image",
                blocking=True,
            ) from None
        raise
    try:
        conn.execute("BEGIN")
        yield conn
        conn.execute("ROLLBACK")
    finally:
        conn.close()


def _lost(conn: Connection, schema: str, name: str) -> tuple[int, psycopg.Error | None]:
    """How many rows an index of the table leads to that the table does not have; the error where it ends.

    An index-only scan asks the table for what is not visible to all: never more rows than there are, unless
    a page was zeroed or the file's end is gone. Without a B-tree both counts are the table's own.
    """
    count = sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, name))
    counts = []
    for by_index in ("off", "on"):
        by_table = "off" if by_index == "on" else "on"
        conn.execute(
            f"SET LOCAL enable_seqscan = {by_table}; SET LOCAL enable_bitmapscan = off;"
            f" SET LOCAL enable_indexscan = {by_index}; SET LOCAL enable_indexonlyscan = {by_index}"
        )
        rows, error = _asked(conn, count)
        if error is not None:
            return 0, error
        counts.append(rows)
    return max(0, counts[1] - counts[0]), None


def _asked(conn: Connection, query: sql.Composed) -> tuple[int, psycopg.Error | None]:
    error = attempt(conn, query)
    if error is not None:
        return 0, error
    row = conn.execute(query).fetchone()
    return (int(row[0]) if row else 0), None


def _btree(conn: Connection, oid: int) -> bool:
    row = conn.execute(
        "SELECT a.amname = 'btree' AND i.indisvalid AND i.indisready FROM pg_catalog.pg_index i"
        " JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am a ON a.oid = c.relam"
        " WHERE i.indexrelid = %s",
        (oid,),
    ).fetchone()
    return bool(row and row[0])


def _lacking(error: psycopg.Error) -> None:
    """Let a lack of this machine stop the check: it says nothing about the backup."""
    if isinstance(error, errors.UndefinedFile) and "$libdir" in (error.diag.message_primary or ""):
        raise NotRun("a library of an extension is not installed here; use --image with one", blocking=True)


def _plain(error: psycopg.Error) -> str:
    """The error without any value that the server may have quoted."""
    message = error.diag.message_primary or ""
    for words, plain in (
        ("invalid page", "a page has a wrong checksum"),
        *((words, "a file is missing") for words in _NO_FILE),
        ("could not read block", "a file is too short"),
        ("missing chunk", "a large value is incomplete"),
        ("item order invariant", "its entries are out of order"),
        ("lacks matching index tuple", "a row is not in the index"),
        ("bad magic number in sequence", "its page is not a sequence's"),
    ):
        if words in message:
            return plain
    return f"{type(error).__name__} (SQLSTATE {error.sqlstate or 'none'})"


CHECKS: Final = (base_complete, base_manifest, base_starts, base_readable, base_structure, base_collations)
