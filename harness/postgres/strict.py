"""Send a dump to a user's own server: stop at the first error, invent nothing, touch one database only.

The sandbox's loader goes on after errors and makes up missing roles, since there every loss is a finding.
Here a loss is a reason to stop while the target is still as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.pq import TransactionStatus

from ..errors import ArtifactError, RestoreError
from .dump import Copy, Header, Item, Meta, Statement, read_dump
from .failures import explain, harmless, label
from .hostile import bare, classify, classify_insert, classify_meta
from .live import Connection
from .patterns import VALUES, connect_target, insert_target, is_insert, unquoted

_DATABASE: Final = re.compile(
    rb"\s*(?:DROP DATABASE|CREATE DATABASE|ALTER DATABASE|COMMENT ON DATABASE|"
    rb"""SECURITY LABEL (?:FOR (?:'[^']*'|"[^"]*"|\S+) )?ON DATABASE|"""
    rb'ALTER (?:ROLE|USER) (?:"(?:[^"]|"")+"|\S+) IN DATABASE|'
    rb'(?:GRANT|REVOKE) [\w\s,]+? ON DATABASE)\s+(?:IF EXISTS\s+)?("(?:[^"]|"")+"|[^\s;]+)',
    re.I | re.S,
)
_CLUSTER: Final = re.compile(  # of all databases: a recovery of one must not touch them
    rb"(?:CREATE|ALTER|DROP) (?:ROLE|USER|GROUP|TABLESPACE)\s(?!(?:IF EXISTS )?\S+ IN DATABASE\s)(?!MAPPING)"
    rb"|(?:GRANT|REVOKE)\s(?!.*\sON\s)|(?:GRANT|REVOKE)\s.*?\sON (?:PARAMETER|TABLESPACE)\s"
    rb"|(?:COMMENT|SECURITY LABEL (?:FOR \S+ )?)\s*ON (?:ROLE|TABLESPACE)\s"
    rb"|UPDATE pg_catalog\.pg_database\s",  # pg_dumpall --clean, of template1
    re.I | re.S,
)
_MAY_BE_CLUSTER: Final = re.compile(
    rb"\s*(?:(?:CREATE|ALTER|DROP) (?:ROLE|USER|GROUP|TABLESPACE)|GRANT|REVOKE|COMMENT ON|SECURITY LABEL"
    rb"|UPDATE pg_catalog)\b",
    re.I,
)
_OWN: Final = re.compile(rb"\s*(?:DROP|CREATE) DATABASE\s", re.I)
_MAY_FAIL: Final = re.compile(
    rb"\s*(?:DROP\s|ALTER\s.*?\sDROP\s|SET\s|CREATE SCHEMA|COMMENT ON EXTENSION|CREATE EXTENSION"
    rb"|SELECT \* FROM pg_catalog\.pg_restore_)",
    re.I | re.S,
)
_STATISTICS: Final = re.compile(  # which ANALYZE makes anew
    rb"SELECT \* FROM pg_catalog\.pg_restore_\w+_stats\s*\(", re.I
)
_ROLE: Final = re.compile(r'role "(.+)" does not exist')
_HOSTILE: Final = "do not restore this file; find out who changed it"


@dataclass
class Sent:
    """What was sent: rows per table as the server counted them, in COPY and in INSERTs, and what it did not
    take but need not."""

    rows: dict[str, int] = field(default_factory=dict)
    inserted: dict[str, int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    @property
    def arrived(self) -> dict[str, int]:
        """Rows per table, however they came."""
        names = self.rows | self.inserted
        return {n: self.rows.get(n, 0) + self.inserted.get(n, 0) for n in names}


def items_of(blocks: Iterable[bytes], database: str | None) -> Iterator[Item]:
    """The items of a dump that belong to `database` (None: of the only one there is).

    Raises ArtifactError where the text ends too early, and for whatever psql would act upon outside the
    database: such a dump is hostile or broken.
    """
    current: str | None = None
    for item in read_dump(blocks):
        if isinstance(item, Header) and item.kind == "truncated":
            raise ArtifactError(
                f"the dump ends {item.value} (line {item.line})",
                remedy="use an older backup; this one was cut",
            )
        if isinstance(item, Meta):
            danger = classify_meta(item.text)
            if danger and danger.refuse:
                raise ArtifactError(f"line {item.line}: {danger.message}", remedy=_HOSTILE)
            current = connect_target(item.text) or current
        elif current is None or database is None or current == database or _is_about(item, database):
            yield item


def _is_about(item: Item, database: str) -> bool:
    """Whether a statement names the database: its owner is set before a dump connects to it."""
    found = _DATABASE.match(item.sql) if isinstance(item, Statement) else None
    return found is not None and unquoted(found[1]) == database


def send(
    conn: Connection,
    items: Iterable[Item],
    *,
    source: str | None,
    target: str,
    progress: Callable[[str], None] = lambda table: None,
) -> Sent:
    """Send items over `conn`, which is connected to database `target`.

    Statements about database `source` are made to be about `target`; those that drop or create one, or are
    about roles and tablespaces, are left out. Raises RestoreError naming the object at the first error that
    means something is missing.
    """
    sent = Sent()
    for item in items:
        if isinstance(item, Copy):
            name = f"{item.schema}.{item.table}" if item.schema else item.table
            progress(name)
            sent.rows[name] = sent.rows.get(name, 0) + copy_rows(conn, item)
        elif isinstance(item, Statement) and not left_out(item.sql):
            statement = mapped(item.sql, source, target)
            rows = 0 if statement is None else execute(conn, item, statement)
            if rows is None:
                entry = None if item.sql[:4].upper() == b"SET " else item.entry
                sent.skipped.append(label(entry, item.sql))
            elif is_insert(item.sql) and (table := insert_target(item.utf8, item.schema)):
                sent.inserted[table] = sent.inserted.get(table, 0) + rows
    return sent


def copy_rows(conn: Connection, item: Copy) -> int:
    """Load one COPY block; returns how many rows the server took. Raises RestoreError."""
    danger = classify(item.sql)
    if danger and danger.refuse:
        raise ArtifactError(f"line {item.line}: {danger.message}", remedy=_HOSTILE)
    try:
        with conn.cursor() as cursor:
            with cursor.copy(item.sql) as copy:
                for block in item.data:
                    copy.write(block)
                if not item.data.ended:
                    raise ArtifactError(f"the dump ends inside the rows of {item.table}")
            return cursor.rowcount
    except psycopg.Error as error:
        raise stopped(item, error) from None


def execute(conn: Connection, item: Statement, statement: bytes | None = None) -> int | None:
    """Send one statement; how many rows it changed, None when the server refused what does not matter.

    Raises RestoreError, also for a row that the server took and did not store.
    """
    text = item.sql if statement is None else statement
    inserts = is_insert(text)
    danger = classify_insert(text) if inserts else classify(text)
    if danger and danger.refuse:
        raise ArtifactError(f"line {item.line}: {danger.message}", remedy=_HOSTILE)
    try:
        if _MAY_FAIL.match(text) and conn.info.transaction_status == TransactionStatus.INTRANS:
            with conn.transaction():  # a savepoint: a harmless refusal must not end the whole
                rows = conn.execute(text, binary=True).rowcount
        else:
            rows = conn.execute(text, binary=True).rowcount
    except psycopg.Error as error:
        comment = text[:20].upper() == b"COMMENT ON EXTENSION"
        unneeded = comment and isinstance(error, errors.InsufficientPrivilege)
        if harmless(text, error) or unneeded or _STATISTICS.match(text):
            return None
        raise stopped(item, error) from None
    if inserts and not rows and VALUES.match(text):
        raise RestoreError(
            f"line {item.line}, {label(item.entry, item.sql)}: the server took the INSERT and stored no row",
            remedy="a rule, a trigger, or a row that is there already (ON CONFLICT) keeps it out",
        )
    return rows


def stopped(item: Statement | Copy, error: psycopg.Error) -> RestoreError:
    """What stopped the recovery, without the server's words where they may quote data."""
    role = _ROLE.search(error.diag.message_primary or "")
    remedy = f"create the role {role[1]} first, or give the backup's roles with --globals" if role else None
    return RestoreError(f"line {item.line}, {label(item.entry, item.sql)}: {explain(error)}", remedy=remedy)


def left_out(statement: bytes) -> bool:
    """Whether a statement is about all databases of the server: roles, tablespaces, parameters."""
    return bool(_MAY_BE_CLUSTER.match(statement) and _CLUSTER.match(bare(statement)))


def mapped(statement: bytes, source: str | None, target: str) -> bytes | None:
    """A statement about database `source` made to be about `target`; None when it is not to be sent."""
    found = _DATABASE.match(statement)
    if found is None:
        return statement
    if _OWN.match(statement) or (source is not None and unquoted(found[1]) != source):
        return None
    begin, end = found.span(1)
    return statement[:begin] + sql.Identifier(target).as_bytes(None) + statement[end:]
