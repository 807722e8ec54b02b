"""Checks that everything in the file arrived in the server: statements, objects, rows, sequences, blobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import psycopg
import xxhash
from psycopg import sql

from ..check import Check, NotRun, check
from ..model import Finding, Proves, Severity
from . import blocks, inserted, owners, present
from .dump import Entry
from .facts import table_entries
from .proof import resolve
from .restore import HOME, RestoredPostgres

_SHOWN: Final = 20
_RETAKE: Final = (
    "the backup does not restore as it is: take a new one, and check the source for what is named here"
)
_LIGHT: Final = {
    "COMMENT": Severity.MEDIUM,
    "SECURITY LABEL": Severity.MEDIUM,
    "ACL": Severity.HIGH,
    "DEFAULT ACL": Severity.HIGH,
    "STATISTICS DATA": Severity.MEDIUM,  # the planner's, which ANALYZE makes anew
}


@check("pg.statements", proves=Proves.RESTORE, severity=Severity.CRITICAL, remedy=_RETAKE)
def statements(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every statement of the backup is taken by the server without an error."""
    if not subject.facts_of_file.statements:
        raise NotRun("the backup holds no statement")
    failed = subject.loaded.of_kind("error")
    for (what, why, kind), times in list(Counter((f.what, f.why, f.type) for f in failed).items())[:_SHOWN]:
        lines = sorted(f.line for f in failed if (f.what, f.why) == (what, why))
        again = f" ({times} times)" if times > 1 else ""
        yield self.finding(
            what,
            f"not restored{again}: {why}",
            severity=_LIGHT.get(kind, self.severity),
            expected="restored",
            observed=f"error at line {lines[0]}",
        )
    known = {line for line, _ in subject.facts_of_file.dangers}  # said by pg.hostile
    for refused in [f for f in subject.loaded.of_kind("refused") if f.line not in known][:_SHOWN]:
        yield self.finding(refused.what, f"not sent to the server: {refused.why}", observed="refused")
    if unseen := subject.loaded.unrecorded():
        worst = max((_LIGHT.get(kind, self.severity) for kind in unseen), key=lambda s: s.rank)
        yield self.finding("the rest", f"{sum(unseen.values())} more statements failed", severity=worst)


@check("pg.server-features", proves=Proves.RESTORE, severity=Severity.HIGH, remedy="see the reason")
def server_features(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The sandbox has what the source's server had: extensions, compression methods, locale providers."""
    lacking = subject.loaded.of_kind("lacking")
    if lacking:
        first = lacking[0]
        raise NotRun(
            f"this machine's server cannot take {first.what} ({first.why}); install it, or use --image with"
            " one that has it",
            blocking=True,
        )
    for name in subject.loaded.mapped_locales:
        yield self.finding(
            name,
            "the sandbox has not the database's locale; its own was used, so sort order was not compared",
            severity=Severity.INFO,
        )
    for name in subject.loaded.placeholder_tablespaces:
        yield self.finding(
            f"tablespace {name}",
            "the tablespace is not part of the backup; the sandbox made one of that name",
            severity=Severity.INFO,
            remedy="recreate the tablespace before a recovery, or restore with --no-tablespaces",
        )


@check(
    "pg.roles",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    remedy="back up the roles too (pg_dumpall --globals-only) and give the file with --globals",
)
def roles(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every role that the backup needs is in the backup or in the globals file given with it."""
    for name in subject.loaded.placeholder_roles:
        yield self.finding(
            f"role {name}",
            "the backup uses this role but nothing creates it: a recovery would stop or lose its rights here",
            expected="a role",
            observed="a placeholder made by the drill",
        )
    if subject.global_roles:
        for name in subject.global_roles.placeholder_roles:
            yield self.finding(
                f"role {name}",
                "the globals file uses this role but does not create it before: a recovery would lack it",
                expected="a role",
                observed="a placeholder made by the drill",
            )
        for failed in subject.global_roles.of_kind("error", "refused"):
            yield self.finding(failed.what, f"the globals file fails at line {failed.line}: {failed.why}")


@check("pg.objects", proves=Proves.SCHEMA, severity=Severity.CRITICAL, remedy=_RETAKE)
def objects(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every object of the backup's table of contents is in the server."""
    by_database = _entries(subject)
    known = [e for entries in by_database.values() for e in entries if e.type in present.KNOWN]
    if not known:
        raise NotRun("the file has no table of contents (pg_dump's comments were stripped)")
    for database, entries in by_database.items():
        with subject.connect(database) as conn:
            lost = present.missing(conn, entries)
        for entry in lost[:_SHOWN]:
            yield self.finding(
                f"{entry.type} {entry.schema + '.' if entry.schema else ''}{entry.name}",
                "stands in the backup but is not in the restored database",
                expected="present",
                observed="missing",
            )
        if len(lost) > _SHOWN:
            yield self.finding(database, f"{len(lost) - _SHOWN} more objects are missing")
        yield from _owners(self, subject, database, entries)


def _owners(self: Check, subject: RestoredPostgres, database: str, entries: list[Entry]) -> Iterator[Finding]:
    """Objects that belong to another role than their headers say: the statement that gives them is gone.

    Where none belongs to its own, somebody took all of these statements out, as --no-owner does.
    """
    with subject.connect(database) as conn:
        wrong, right = owners.astray(conn, entries)
    for entry, owner in wrong[:_SHOWN]:
        yield self.finding(
            f"{entry.type} {entry.schema + '.' if entry.schema else ''}{entry.name}",
            "does not belong to the role that the backup's contents name as its owner",
            severity=Severity.HIGH if right else Severity.MEDIUM,
            expected=entry.owner,
            observed=owner,
            remedy="find out who changed the file; ALTER ... OWNER TO sets it after restoring",
        )
    if len(wrong) > _SHOWN:
        yield self.finding(
            database,
            f"{len(wrong) - _SHOWN} more objects belong to another role",
            severity=Severity.HIGH if right else Severity.MEDIUM,
        )


@check("pg.nothing-besides", proves=Proves.SCHEMA, severity=Severity.HIGH, remedy="find out what made it")
def nothing_besides(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """No table, view, routine or event trigger is in the server that the backup's contents do not name."""
    facts = subject.facts_of_file
    named = sum(1 for _ in table_entries(facts, "TABLE", "FOREIGN TABLE"))
    if facts.create_tables and not named:
        raise NotRun("the file has no table of contents (pg_dump's comments were stripped)")
    for database, entries in _entries(subject).items():
        with subject.connect(database) as conn:
            extra = present.besides(conn, entries)
        for kind, schema, name in extra[:_SHOWN]:
            yield self.finding(
                f"{kind} {schema + '.' if schema else ''}{name}",
                "is in the restored database but not in the backup's table of contents",
                expected="absent",
                observed="present",
            )


@check("pg.row-counts", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_RETAKE)
def row_counts(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every table holds as many rows as the backup has for it."""
    groups = blocks.groups(subject)
    for table in [t for t in subject.facts_of_file.tables if not t.text][:_SHOWN]:
        yield self.finding(
            table.name,
            "its rows are not in pg_dump's format (CSV, a condition ...): they were not compared",
            severity=Severity.MEDIUM,
            remedy="dump it with pg_dump, or give a manifest",
        )
    if not groups:
        raise NotRun("the backup holds no rows")
    for database, entries in _entries(subject).items():
        with subject.connect(database) as conn:
            lacking = present.without_rows(conn, entries)
        for kind, schema, name in lacking[:_SHOWN]:
            yield self.finding(
                f"{schema}.{name}",
                "the backup has the table, but no entry for its rows"
                if kind == "TABLE"
                else "the backup has the sequence, but not where it stands",
                severity=Severity.HIGH,
                expected="an entry, as for the others",
                observed="none",
                remedy="dump without --exclude-table-data, or waive this with the reason",
            )
    for group in groups:
        if group.observed != group.expected:
            yield self.finding(
                group.name,
                _short(group.expected, group.observed),
                expected=group.expected,
                observed="not loaded" if group.observed is None else group.observed,
            )
    attempted = {target for _, target in subject.facts_of_file.inserts}
    for target in sorted(attempted - {target for _, target in subject.loaded.inserted}):
        yield self.finding(target, "none of its INSERT statements could be executed", observed="not loaded")


@check("pg.row-content", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_RETAKE)
def row_content(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every row in the server is the row in the file, value by value (digests of COPY text)."""
    groups = blocks.groups(subject)
    different = [*blocks.differing(subject, groups), *inserted.differing(subject, groups)]
    if not any(g.indexes for g in groups) and not inserted.compared(subject, groups):
        raise NotRun("the backup holds no rows whose values can be compared")
    for group, why in different:
        yield self.finding(
            group.name,
            f"the rows in the server are not the rows in the file: {why}",
            expected="the same digest",
            observed="another",
        )
    for group, values in inserted.negative_zeros(subject, groups):
        yield self.finding(
            group.name,
            f"{values:,} values of -0 stand in INSERTs without quotes: SQL reads 0, without the sign",
            severity=Severity.MEDIUM,
            expected="-0",
            observed="0",
            remedy="where the sign of zero counts, dump without --inserts: COPY keeps it",
        )


@check("pg.sequences", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_RETAKE)
def sequences(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every sequence stands where the backup puts it."""
    facts = subject.facts_of_file
    if not facts.sequences:
        raise NotRun("the backup sets no sequence")
    for (database, name), (value, called) in facts.sequences.items():
        with subject.connect(database or HOME) as conn:
            place = subject.loaded.places.get((database or HOME, name)) or resolve(conn, name)
            query = sql.SQL("SELECT last_value, is_called FROM {}")
            row = conn.execute(query.format(sql.Identifier(*place))).fetchone() if place else None
        if row != (value, called):
            yield self.finding(
                name,
                "the sequence does not stand where the backup puts it",
                expected=f"{value}{'' if called else ' (not yet used)'}",
                observed="missing" if row is None else f"{row[0]}{'' if row[1] else ' (not yet used)'}",
            )


@check("pg.large-objects", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_RETAKE)
def large_objects(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every large object of the backup is in the server, byte by byte."""
    wanted = subject.facts_of_file.large_objects
    if not wanted:
        raise NotRun("the backup holds no large objects")
    for (database, oid), digest in wanted.items():
        with subject.connect(database or HOME) as conn:
            found = _large_object(conn, oid)
        if found != digest:
            yield self.finding(
                f"large object {oid}",
                "is missing" if found is None else "has other content than in the file",
                expected=digest,
                observed=found or "missing",
            )


@check("pg.server-alive", proves=Proves.USABILITY, severity=Severity.CRITICAL, remedy=_RETAKE)
def server_alive(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The server still answers after everything is restored, and each restored database can be entered."""
    if not subject.databases:
        raise NotRun("no database was restored")
    for database in subject.databases:
        try:
            with subject.connect(database) as conn:
                conn.execute("SELECT 1")
        except psycopg.Error as error:
            yield self.finding(f"database {database}", f"cannot be entered ({type(error).__name__})")


def _short(expected: int, observed: int | None) -> str:
    if observed is None:
        return f"none of its {expected:,} rows could be loaded"
    if observed < expected:
        return f"{expected - observed:,} of {expected:,} rows did not arrive"
    return f"holds {observed - expected:,} more rows than the backup"


def _entries(subject: RestoredPostgres) -> dict[str, list[Entry]]:
    """TOC entries by the sandbox database they went to."""
    found: dict[str, list[Entry]] = {}
    for database, entry in subject.facts_of_file.entries:
        if entry.type not in ("DATABASE", "DATABASE PROPERTIES"):
            found.setdefault(database or HOME, []).append(entry)
    there = set(subject.databases) | {HOME}
    return {d: e for d, e in found.items() if d in there}


def _large_object(conn: psycopg.Connection[tuple[object, ...]], oid: int) -> str | None:
    digest, offset, step = xxhash.xxh3_128(), 0, 1 << 20
    while True:
        try:
            row = conn.execute("SELECT pg_catalog.lo_get(%s, %s, %s)", (oid, offset, step)).fetchone()
        except psycopg.Error:
            return None
        part = bytes(row[0]) if row else b""  # type: ignore[call-overload]
        digest.update(part)
        offset += len(part)
        if len(part) < step:
            return digest.hexdigest()


CHECKS: Final = (
    statements,
    server_features,
    roles,
    objects,
    nothing_besides,
    row_counts,
    row_content,
    sequences,
    large_objects,
    server_alive,
)
