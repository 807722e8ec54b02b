"""Checks that the restored database can be worked with, told from itself alone."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from psycopg import errors

from ..check import Check, NotRun, check
from ..model import Finding, Origin, Proves, Severity
from . import usability
from .facts import DumpFacts
from .fingerprint import Connection, limit, pin, run
from .source import ARCHIVES
from .truth import PostgresSubject

_STALE: Final = timedelta(hours=36)  # a daily backup of a database in use holds rows younger than this
_READ_ONLY: Final = re.compile(r"default_transaction_read_only=(on|1|t(rue)?|y(es)?)", re.I)
_COLLISION: Final = {  # whether a sequence's column is a key -> how bad it is when the sequence is behind
    "alone": (Severity.CRITICAL, "the next INSERT fails on a duplicate key"),
    "part": (Severity.HIGH, "INSERTs may fail on duplicate keys"),
    "": (Severity.MEDIUM, "numbers will repeat"),
}


@contextlib.contextmanager
def asking(subject: PostgresSubject, *, needed: bool = False) -> Iterator[Connection]:
    """A pinned read-only connection whose statements end by the configured limit or the drill's deadline.

    What takes longer stays unproven; where the answer is `needed` the drill is inconclusive then.
    """
    left = max(1.0, min(subject.settings.postgres.statement_timeout, subject.deadline - time.monotonic()))
    try:
        with subject.connect() as opened:
            conn: Connection = opened
            pin(conn)
            limit(conn, left)
            yield conn
    except errors.QueryCanceled:
        raise NotRun(
            f"a query took longer than {left:.0f} s; raise postgres.statement_timeout", blocking=needed
        ) from None


def _source(subject: PostgresSubject, kind: str, name: str) -> dict[str, Any]:
    """An object's properties at the source, as the manifest has them; empty without one."""
    manifest = subject.manifest
    if manifest is None:
        return {}
    found: dict[str, Any] = manifest.facts.get("objects", {}).get(kind, {}).get(name, {})
    return found


@check(
    "pg.sequence-behind",
    proves=Proves.USABILITY,
    severity=Severity.CRITICAL,
    remedy="SELECT setval(sequence, (SELECT max(column) FROM table)) at the source, then take a new backup",
)
def sequence_behind(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """No sequence's next value collides with a stored one: else the first INSERT after recovery fails."""
    manifest = subject.manifest
    with asking(subject) as conn:
        for behind in usability.sequences_behind(conn):
            severity, follows = _COLLISION[behind.key]
            told = manifest.facts.get("sequences", {}).get(behind.sequence) if manifest else None
            if told and told["last_value"] + told["increment"] * told["is_called"] == behind.next_value:
                severity = Severity.MEDIUM  # the source stands so too: the backup is true to it
            yield self.finding(
                behind.sequence,
                f"its next value does not lie beyond the values of {behind.column}: {follows}",
                severity=severity,
                expected="beyond every stored value",
                observed=f"next value {behind.next_value}",
            )


@check(
    "pg.index-valid",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    remedy="REINDEX it at the source (or attach the missing partition's index), then take a new backup",
)
def index_valid(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every index is valid and used by the server."""
    with asking(subject) as conn:
        for index, table in usability.broken_indexes(conn):
            same = _source(subject, "index", index).get("valid") == "no"
            yield self.finding(
                f"index {index}",
                f"is not valid: queries on {table} do not use it" + ("; nor at the source" if same else ""),
                severity=Severity.INFO if same else self.severity,
                expected="valid",
                observed="invalid",
            )


@check(
    "pg.constraints-hold",
    proves=Proves.USABILITY,
    severity=Severity.CRITICAL,
    remedy="repair the rows at the source, VALIDATE CONSTRAINT, then take a new backup",
)
def constraints_hold(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Rows keep every foreign key and CHECK; those the server has not proven are scanned.

    NOT VALID is legal, with violating rows too, and comes back as it was: that is told, but no loss. All
    constraints are scanned when rows may have come in after them: no dump of pg_dump's, or with triggers off.
    """
    facts: DumpFacts = subject.inspection.facts
    with asking(subject) as conn:
        disabled = usability.disabled_triggers(conn)
        everything = facts.dump_version is None or facts.late_writes or facts.unguarded
        everything = everything or any(internal for _, _, internal in disabled)
        for name, table in sorted({(name, table) for name, table, internal in disabled if internal}):
            yield self.finding(
                f"constraint {name} on {table}",
                "the server does not enforce it: its internal triggers are disabled",
                severity=Severity.HIGH,
                remedy=f"ALTER TABLE {table} ENABLE TRIGGER ALL",
            )
        for c in usability.constraints(conn, everything=everything):
            what = f"constraint {c.name} on {c.table}"
            known = _source(subject, "constraint", f"{c.name} on {c.table}").get("validated") == "no"
            light = Severity.INFO if known else Severity.MEDIUM
            if c.violations > 0:
                rows = "orphans" if c.kind == "foreign key" else "violating rows"
                yield self.finding(
                    what,
                    f"{c.violations:,} rows violate this {c.kind} ({rows})"
                    + ("" if c.validated else "; it is NOT VALID"),
                    severity=self.severity if c.validated else light,
                    expected="0",
                    observed=f"{c.violations:,}",
                )
            elif not c.validated or c.violations < 0:
                yield self.finding(
                    what,
                    f"this {c.kind} is NOT VALID; no row violates it"
                    if c.violations == 0
                    else f"this {c.kind} could not be evaluated over the rows",
                    severity=Severity.INFO if c.violations == 0 else Severity.MEDIUM,
                )


@check(
    "pg.matviews-filled",
    proves=Proves.USABILITY,
    severity=Severity.MEDIUM,
    remedy="REFRESH MATERIALIZED VIEW after recovery, or populate it at the source",
)
def matviews_filled(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every materialized view can be queried."""
    with asking(subject) as conn:
        for name in usability.unpopulated(conn):
            if _source(subject, "materialized view", name).get("populated") != "no":
                yield self.finding(
                    f"materialized view {name}",
                    "is not populated: every query on it fails",
                    expected="populated",
                    observed="not populated",
                )


@check(
    "pg.triggers-fire",
    proves=Proves.USABILITY,
    severity=Severity.MEDIUM,
    remedy="ENABLE the trigger at the source if it should fire",
)
def triggers_fire(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """No trigger is disabled that is enabled at the source."""
    with asking(subject) as conn:
        for name, table, internal in usability.disabled_triggers(conn):
            same = _source(subject, "trigger", f"{name} on {table}").get("enabled") == "no"
            if not internal and not same:
                yield self.finding(
                    f"trigger {name} on {table}", "is disabled: it does not fire", observed="disabled"
                )


@check(
    "pg.row-security",
    proves=Proves.USABILITY,
    severity=Severity.MEDIUM,
    remedy="ALTER TABLE ... ENABLE ROW LEVEL SECURITY, or drop the policies",
)
def row_security(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Row security is on where there are policies: else every tenant sees every row."""
    with asking(subject) as conn:
        for name in usability.policies_without_security(conn):
            if _source(subject, "table", name).get("row security") != "no":
                yield self.finding(
                    f"table {name}",
                    "has row security policies that do not apply: row security is off",
                    expected="on",
                    observed="off",
                )
        for name, role in usability.roles_shut_out(conn) if subject.manifest is None else ():
            yield self.finding(
                f"table {name}",
                f"a restrictive policy is for role {role}, but none lets that role see a row: one seems lost",
                severity=Severity.HIGH,
                expected="a permissive policy",
                observed="none",
                remedy="compare the policies with the source; give a manifest, which tells them all",
            )


@check(
    "pg.views-usable",
    proves=Proves.USABILITY,
    severity=Severity.MEDIUM,
    remedy="qualify the names in it with their schema, so that it works with any search_path",
)
def views_usable(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every view can be planned in a fresh session of the restored database."""
    with asking(subject) as conn:
        for name, why in usability.unusable_views(conn):
            yield self.finding(f"view {name}", f"cannot be queried here: {why}", observed=why)


@check(
    "pg.collation-versions",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    remedy="REINDEX the text indexes, then ALTER COLLATION / DATABASE ... REFRESH COLLATION VERSION",
)
def collation_versions(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Collations have the version that the indexes were built with."""
    with asking(subject) as conn:
        for name in usability.collation_versions(conn):
            yield self.finding(
                name, "has another version than the system: text indexes may be in the wrong order"
            )


@check(
    "pg.large-object-references",
    proves=Proves.DATA,
    severity=Severity.HIGH,
    remedy="dump with --large-objects; if the source lacks them too, remove the references there",
)
def large_object_references(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every reference to a large object leads to one."""
    manifest = subject.manifest
    with asking(subject) as conn:
        for column, dangling in usability.dangling_large_objects(conn):
            kept = bool(manifest) and not _lost_large_objects(subject, conn)
            yield self.finding(
                column,
                f"{dangling:,} references to large objects that are not in the backup"
                + ("; the source lacks them too" if kept else ""),
                severity=Severity.MEDIUM if kept else self.severity,
                expected="0",
                observed=f"{dangling:,}",
            )


def _lost_large_objects(subject: PostgresSubject, conn: Connection) -> bool:
    manifest = subject.manifest
    wanted = manifest.facts.get("large_objects", {}).get("count", 0) if manifest else 0
    [(count,)] = run(conn, "SELECT count(*) FROM pg_largeobject_metadata")
    return bool(count < wanted)


@check(
    "pg.newest-row",
    proves=Proves.IDENTITY,
    severity=Severity.MEDIUM,
    remedy="see whether the dump was taken of a replica that does not keep up; declare postgres.fresh",
)
def newest_row(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """The newest rows are about as old as the backup claims to be (columns that default to the clock)."""
    # An old dump under a new name claims to be of the name's time, whatever its header says.
    told = (subject.inspection.artifact, subject.artifact)
    claims = [a.taken_at for a in told if a.taken_at and a.taken_at_basis != "mtime"]
    if not claims:
        raise NotRun("nothing says when the backup was taken")
    taken = max(claims)
    with asking(subject) as conn:
        newest = usability.newest_row(conn)
    if newest is None:
        raise NotRun("no table records when its rows were inserted")
    gap = taken - newest
    if gap > _STALE:
        yield self.finding(
            subject.artifact.path.name,
            f"its newest row was inserted {gap / timedelta(hours=1):,.0f} hours before the backup was taken:"
            " an older state, a replica that stopped, or a database nobody writes to",
            origin=Origin.ARTIFACT,
            expected=f"rows younger than {_STALE / timedelta(hours=1):.0f} h",
            observed=f"{gap / timedelta(hours=1):,.0f} h",
        )


@check(
    "pg.read-only",
    proves=Proves.RESTORE,
    severity=Severity.HIGH,
    remedy="restore with PGOPTIONS='-c default_transaction_read_only=off', and write that into the procedure",
)
def read_only(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """No setting of the database makes it read-only while psql restores it.

    pg_dump --create and pg_dumpall write the database's settings before they connect to it and fill it.
    """
    if subject.database not in subject.inspection.facts.databases:
        return  # nothing connects to it after its settings were made
    with asking(subject) as conn:
        settings = run(
            conn,
            "SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
            " WHERE d.datname = current_database() AND s.setrole = 0",
        )
    if any(_READ_ONLY.fullmatch(text) for (text,) in settings):
        yield self.finding(
            f"database {subject.database}",
            "sets default_transaction_read_only for itself: psql and pg_restore --create connect to it after"
            " that, and every statement fails",
            severity=Severity.MEDIUM if subject.artifact.format in ARCHIVES else self.severity,
            expected="off while restoring",
            observed="on",
        )


CHECKS: Final = (
    sequence_behind,
    index_valid,
    constraints_hold,
    matviews_filled,
    triggers_fire,
    row_security,
    views_usable,
    collation_versions,
    large_object_references,
    newest_row,
    read_only,
)
