"""Checks of what provado.yaml expects: tables and their rows, invariants, extensions, roles, fresh data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import psycopg
from psycopg import errors

from ..check import Check, NotRun, check
from ..errors import ConfigError
from ..model import Finding, Origin, Proves, Severity
from ..settings.postgres import Invariant
from . import usability
from .checks_usability import asking
from .facts import DumpFacts
from .fingerprint import Connection, run
from .truth import PostgresSubject

_SHOWN: Final = 25
_LOOK: Final = "find out at the source where the rows went; use an older backup if they are needed"


@check(
    "pg.declared-tables",
    proves=Proves.DATA,
    severity=Severity.CRITICAL,
    remedy=_LOOK,
    origin=Origin.DECLARED,
)
def declared_tables(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every declared table is there with as many rows as declared."""
    tables = subject.settings.postgres.tables
    if not tables:
        raise _undeclared(subject, "tables (postgres.tables)")
    with asking(subject, needed=True) as conn:
        for name, expected in tables.items():
            relation = _relation(conn, name)
            if relation is None:
                yield self.finding(name, "the declared table is missing", expected="a table", observed="none")
                continue
            [(rows,)] = run(conn, f"SELECT count(*) FROM {relation}")  # noqa: S608 - quoted by the server
            if expected.min_rows is not None and rows < expected.min_rows:
                yield self.finding(
                    name,
                    "holds fewer rows than declared",
                    expected=f"at least {expected.min_rows:,}",
                    observed=f"{rows:,}",
                )
            if expected.max_rows is not None and rows > expected.max_rows:
                yield self.finding(
                    name,
                    "holds more rows than declared",
                    severity=Severity.HIGH,
                    expected=f"at most {expected.max_rows:,}",
                    observed=f"{rows:,}",
                )


@check(
    "pg.allowed-drop",
    proves=Proves.DATA,
    severity=Severity.CRITICAL,
    remedy=_LOOK,
    origin=Origin.LAST_GOOD,
)
def allowed_drop(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """No table lost more rows since the last good drill than allowed."""
    settings = subject.settings.postgres
    limits = {_full(name): t.allowed_drop for name, t in settings.tables.items()}
    if settings.allowed_drop is None and not any(v is not None for v in limits.values()):
        raise _undeclared(subject, "allowed drop (postgres.allowed_drop)")
    before = _rows_before(subject.last_good)
    if before is None:
        raise NotRun("no earlier passing drill of this series: nothing to compare row counts with")
    facts: DumpFacts = subject.inspection.facts
    now: dict[str, int] = {}
    for table in facts.tables:
        now[table.name] = now.get(table.name, 0) + table.rows
    if not now:
        raise NotRun("the backup's rows are not countable per table")
    told = 0
    for name, rows in before.items():
        allowed = limits.get(name)
        if allowed is None:
            allowed = settings.allowed_drop
        left = now.get(name, 0)
        if allowed is None or not rows or left >= rows * (1 - allowed):
            continue
        told += 1
        if told <= _SHOWN:
            yield self.finding(
                name,
                f"lost {(rows - left) / rows:.0%} of its rows since the last good drill;"
                f" {allowed:.0%} is allowed"
                + ("" if name in now else "; the table is no longer in the backup"),
                expected=f"at least {rows * (1 - allowed):,.0f}",
                observed=f"{left:,}",
            )
    if told > _SHOWN:
        yield self.finding("the rest", f"{told - _SHOWN} more tables lost more rows than allowed")


def _rows_before(last_good: Mapping[str, Any] | None) -> dict[str, int] | None:
    facts = (last_good or {}).get("facts")
    tables = facts.get("tables") if isinstance(facts, Mapping) else None
    if not isinstance(tables, Mapping):
        return None
    return {str(name): rows for name, rows in tables.items() if isinstance(rows, int)}


@check(
    "pg.invariants",
    proves=Proves.DATA,
    severity=Severity.CRITICAL,
    remedy="see at the source whether it holds there; if so, the backup is not whole",
    origin=Origin.DECLARED,
)
def invariants(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every declared SQL invariant holds in the restored database."""
    declared = subject.settings.postgres.invariants
    if not declared:
        raise _undeclared(subject, "invariants (postgres.invariants)")
    unanswered: list[str] = []
    failed = False
    for invariant in declared:
        value, problem = _ask(subject, invariant)
        if problem is None:
            problem = _unsuitable(invariant, value)
        if problem is not None:
            unanswered.append(f"{invariant.name}: {problem}")
        elif not _holds(invariant, value):
            failed = True
            yield self.finding(
                invariant.name,
                "the declared invariant does not hold",
                expected=_wanted(invariant),
                observed=_shown(value),
            )
    if unanswered and not failed:
        raise ConfigError("invariants without an answer: " + "; ".join(unanswered))
    for text in unanswered:
        name, _, problem = text.partition(": ")
        yield self.finding(name, f"the declared invariant has no answer: {problem}", expected="one value")


def _ask(subject: PostgresSubject, invariant: Invariant) -> tuple[Any, str | None]:
    """The query's one value, or why there is none. The server's messages may quote data: they stay unsaid."""
    with asking(subject, needed=True) as conn:
        try:
            usability.use_own_search_path(conn)
            with conn.transaction(force_rollback=True), conn.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute(invariant.sql.encode(), prepare=True)  # prepared: one statement, no second
                rows = cursor.fetchmany(2) if cursor.description else []
                columns = len(cursor.description or ())
        except errors.QueryCanceled:
            return None, "it took longer than postgres.statement_timeout"
        except psycopg.Error as error:
            return None, f"the query fails ({type(error).__name__})"
    if columns != 1 or len(rows) != 1:
        return None, f"it gives {'no row' if not rows else 'more than one row or column'}"
    if rows[0][0] is None:
        return None, "it gives NULL"
    return rows[0][0], None


def _unsuitable(invariant: Invariant, value: Any) -> str | None:
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if (invariant.min is not None or invariant.max is not None) and not number:
        return "it gives no number, but min or max is declared"
    if invariant.equals is None and invariant.min is None and invariant.max is None:
        return None if isinstance(value, bool) else "it gives neither true nor false"
    return None


def _holds(invariant: Invariant, value: Any) -> bool:
    if invariant.equals is not None:
        if isinstance(invariant.equals, bool) or isinstance(value, bool):
            return value is invariant.equals
        if isinstance(invariant.equals, str):
            return str(value) == invariant.equals
        try:
            return Decimal(str(value)) == Decimal(str(invariant.equals))
        except ArithmeticError:
            return False
    if invariant.min is not None or invariant.max is not None:
        low = invariant.min is None or value >= invariant.min
        return bool(low and (invariant.max is None or value <= invariant.max))
    return value is True


def _wanted(invariant: Invariant) -> str:
    if invariant.equals is not None:
        return str(invariant.equals)
    parts = [
        f"{word} {limit:g}"
        for word, limit in (("at least", invariant.min), ("at most", invariant.max))
        if limit is not None
    ]
    return ", ".join(parts) or "true"


def _shown(value: Any) -> str:
    """Numbers and truth values are shown; a text could be anybody's data."""
    return str(value) if isinstance(value, bool | int | float | Decimal) else "another value"


@check(
    "pg.declared-extensions",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    remedy="CREATE EXTENSION at the source, or dump without --extension / --schema",
    origin=Origin.DECLARED,
)
def declared_extensions(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every declared extension and role is in the restored server."""
    settings = subject.settings.postgres
    if not settings.extensions and not settings.roles:
        raise _undeclared(subject, "extensions or roles (postgres.extensions, postgres.roles)")
    with asking(subject, needed=True) as conn:
        there = {name for (name,) in run(conn, "SELECT extname FROM pg_extension")}
        roles = {name for (name,) in run(conn, "SELECT rolname FROM pg_roles")}
    roles -= set(subject.loaded.placeholder_roles)
    for name in settings.extensions:
        if name not in there:
            yield self.finding(f"extension {name}", "the declared extension is missing", observed="missing")
    for name in settings.roles:
        if name not in roles:
            yield self.finding(
                f"role {name}",
                "the declared role is missing",
                observed="missing",
                remedy="back up the roles too (pg_dumpall --globals-only) and give the file with --globals",
            )


@check(
    "pg.fresh",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    remedy="see whether the dump was taken of a replica that does not keep up, or is an older one",
    origin=Origin.DECLARED,
)
def fresh(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """When the backup was taken, the newest value of each declared column was as young as declared."""
    declared = subject.settings.postgres.fresh
    if not declared:
        raise _undeclared(subject, "fresh columns (postgres.fresh)")
    taken = subject.artifact.taken_at
    if taken is None or subject.artifact.taken_at_basis == "mtime":
        raise NotRun("nothing says when the backup was taken, so freshness cannot be judged")
    with asking(subject, needed=True) as conn:
        for place, limit_s in declared.items():
            table, _, column = place.rpartition(".")
            relation = _relation(conn, table)
            quoted = _column(conn, relation, column) if relation else None
            if relation is None or quoted is None:
                yield self.finding(place, "the declared column is missing", observed="missing")
                continue
            newest = usability.newest_value(conn, relation, quoted)
            limit = timedelta(seconds=limit_s)
            if newest is None:
                yield self.finding(place, "holds no point in time", expected=f"younger than {limit}")
            elif taken - newest > limit:
                age = timedelta(seconds=round((taken - newest).total_seconds()))
                yield self.finding(
                    place,
                    "its newest value is older than declared when the backup was taken",
                    expected=f"younger than {limit}",
                    observed=str(age),
                )


def _undeclared(subject: PostgresSubject, what: str) -> NotRun:
    """Said once for all checks when nothing is declared, else for each thing that is not."""
    declared = subject.settings.postgres
    if declared.tables or declared.invariants or declared.extensions or declared.roles or declared.fresh:
        return NotRun(f"provado.yaml declares no {what}")
    return NotRun("provado.yaml declares nothing of this database: it was not held against expectations")


def _full(name: str) -> str:
    return name if "." in name else f"public.{name}"


def _relation(conn: Connection, name: str) -> str | None:
    """A table as the configuration names it, quoted by the server: `schema.table`, case as written."""
    schema, _, table = _full(name).partition(".")
    rows = run(
        conn,
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname = %s AND c.relname = %s",
        schema.strip('"'),
        table.strip('"'),
    )
    return str(rows[0][0]) if rows else None


def _column(conn: Connection, relation: str, column: str) -> str | None:
    rows = run(
        conn,
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
        " AND attnum > 0 AND NOT attisdropped AND atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype,"
        " 'date'::regtype)",
        relation,
        column.strip('"'),
    )
    return str(rows[0][0]) if rows else None


CHECKS: Final = (declared_tables, allowed_drop, invariants, declared_extensions, fresh)
