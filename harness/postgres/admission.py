"""The role that restores keeps its rights and password, whatever globals say of one of its name."""

from __future__ import annotations

import re
from typing import Final

from psycopg import sql

from . import patterns
from .dump import Statement
from .pool import Connection

_ALTER_ROLE: Final = re.compile(rb'\s*ALTER (?:ROLE|USER) ("[^"]+"|\S+) WITH SUPERUSER ', re.I)
_OURSELVES: Final = ("CURRENT_USER", "CURRENT_ROLE", "SESSION_USER")


def locks_out(conn: Connection, item: Statement) -> bool:
    """Whether a statement takes rights from the role that restores (pg_dumpall never does)."""
    ours = patterns.altered_role(item.utf8) in (conn.info.user, *_OURSELVES)
    return ours and not _ALTER_ROLE.match(item.sql)


def keep(conn: Connection, statement: bytes) -> None:
    """Globals set the password of the source's superuser, often ours by name: our own is put back."""
    found, info = _ALTER_ROLE.match(statement), conn.info
    if found and found[1].strip(b'"').decode("utf-8", "replace") == info.user:
        again = sql.SQL("ALTER ROLE {} SUPERUSER LOGIN PASSWORD {} VALID UNTIL 'infinity'")
        conn.execute(again.format(sql.Identifier(info.user), sql.Literal(info.password)))
