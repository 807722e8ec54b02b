"""Roles and tablespaces that a backup refers to and does not bring: empty ones in their place."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from psycopg import sql

from .failures import lacked
from .loaded import Loaded
from .pool import Connection


def make(error: psycopg.Error, loaded: Loaded, connect: Callable[[], Connection]) -> bool:
    """Create the role or tablespace that `error` misses, once; False if it is about another thing."""
    lacking = lacked(error)
    if lacking is None:
        return False
    kind, name = lacking
    if kind == "role":
        made, statement = loaded.placeholder_roles, sql.SQL("CREATE ROLE {} NOLOGIN")
    else:
        made, statement = loaded.placeholder_tablespaces, sql.SQL("CREATE TABLESPACE {} LOCATION ''")
    if name in made:
        return False
    made.append(name)
    return execute(connect, statement.format(sql.Identifier(name)))


def execute(connect: Callable[[], Connection], statement: sql.Composed) -> bool:
    """Run a statement about the whole server on a connection of its own; False when it fails."""
    with connect() as conn:
        try:
            conn.execute("SET allow_in_place_tablespaces = on")
            conn.execute(statement)
        except psycopg.Error:
            return False
    return True
