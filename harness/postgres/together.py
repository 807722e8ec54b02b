"""Statements that go out together: one pipeline and one transaction instead of a round trip for each.

Where any of them fails the server keeps none, and the caller sends them one by one: the outcome is always
that of single statements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from . import patterns
from .dump import Statement
from .pool import Connection, idle

_MOST: Final = 500
_MOST_BYTES: Final = 4 << 20
_KINDS: Final = (  # what is frequent in dumps, and means the same within a transaction
    b"ALTER SEQUENCE ", b"ALTER TABLE ", b"COMMENT ON ", b"CREATE INDEX ", b"CREATE SCHEMA ",
    b"CREATE SEQUENCE ", b"CREATE TABLE ", b"CREATE UNIQUE INDEX ", b"GRANT ", b"INSERT INTO ", b"REVOKE ",
    b"SELECT pg_catalog.setval(", b"SET ",
)  # fmt: skip
# Nothing outside a transaction or to the one that is open; and what later names mean, which is asked for
# behind each batch
_APART: Final = re.compile(
    rb"SET\s+(?:(?:LOCAL|CONSTRAINTS|TRANSACTION|SCHEMA)\s"
    rb"|SESSION\s+CHARACTERISTICS\b|(?:SESSION\s+)?(?:search_path\b|(?:default_)?transaction_))",
    re.I,
)
_SEQUENCES: Final = """
SELECT seqrelid, pg_catalog.pg_sequence_last_value(seqrelid), seqstart FROM pg_catalog.pg_sequence"""


def joins(statement: bytes) -> bool:
    """Whether a statement may go out together with others."""
    plain = statement[:26].startswith(_KINDS) or patterns.is_insert(statement)
    return plain and not _APART.match(statement)


@dataclass
class Batch:
    """Statements held back."""

    items: list[Statement] = field(default_factory=list)
    size: int = 0

    def add(self, item: Statement) -> bool:
        """Hold one more back; True when there are enough."""
        self.items.append(item)
        self.size += len(item.sql)
        return len(self.items) >= _MOST or self.size >= _MOST_BYTES

    def take(self) -> list[Statement]:
        """What was held back; nothing is any more."""
        items, self.items, self.size = self.items, [], 0
        return items


def send(conn: Connection, items: Sequence[Statement]) -> list[int] | None:
    """Rows that each statement changed; None when they have to go out one by one.

    Raises psycopg.Error as the server does; nothing has happened then.
    """
    if len(items) < 2 or not idle(conn):
        return None
    writes = any(patterns.is_insert(item.sql) for item in items)
    before = conn.execute(_SEQUENCES).fetchall() if writes else []
    try:
        with conn.transaction(), conn.pipeline():
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")  # alone, each statement is looked at as it ends
            cursors = [conn.execute(item.sql) for item in items]
    except psycopg.Error:
        if before and idle(conn):
            _rewind(conn, before)
        raise
    return [cursor.rowcount for cursor in cursors]


def _rewind(conn: Connection, before: list[tuple[Any, ...]]) -> None:
    """Put the sequences back to where they stood, which no transaction does."""
    now = {row[0]: row for row in conn.execute(_SEQUENCES)}
    for row in before:
        oid, last, start = row
        if now.get(oid, row) != row:
            place = start if last is None else last
            conn.execute(
                "SELECT pg_catalog.setval(%s::oid::regclass, %s, %s)", (oid, place, last is not None)
            )
