"""Who owns what, by the headers that pg_dump writes over its statements: the text names every owner twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .dump import Entry
from .pool import Connection

_OWNERS: Final = """
SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
         WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, c.relname,
       pg_catalog.pg_get_userbyid(c.relowner)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname !~ '^(pg_|information_schema$)'
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, n.nspname,
       p.proname, pg_catalog.pg_get_userbyid(p.proowner)
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)'
UNION ALL
SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, n.nspname, t.typname,
       pg_catalog.pg_get_userbyid(t.typowner)
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)'
UNION ALL
SELECT 'SCHEMA', NULL, n.nspname, pg_catalog.pg_get_userbyid(n.nspowner)
  FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^(pg_|information_schema$|public$)'"""
_CALLED: Final = frozenset({"AGGREGATE", "FUNCTION", "PROCEDURE"})


def astray(conn: Connection, entries: Iterable[Entry]) -> tuple[list[tuple[Entry, str]], int]:
    """Entries whose object belongs to another role than they say, with it; and how many belong to theirs.

    Those of the role that restores count for neither side: nothing has to be set for them.
    """
    there: dict[tuple[str, str | None, str], set[str]] = {}
    for kind, schema, name, owner in conn.execute(_OWNERS):
        there.setdefault((kind, _flat(schema), _flat(name) or ""), set()).add(owner)
    wrong: list[tuple[Entry, str]] = []
    right = 0
    for entry in entries:
        name = entry.name[: entry.name.rfind("(")] if entry.type in _CALLED else entry.name
        owners = there.get((entry.type, _flat(entry.schema), _flat(name) or ""))
        if entry.data or entry.owner in (None, conn.info.user) or owners is None:
            continue
        if entry.owner in owners:
            right += 1
        else:
            wrong.append((entry, min(owners)))
    return wrong, right


def _flat(name: str | None) -> str | None:
    """pg_dump replaces line breaks in the names of its headers by spaces."""
    return name and name.replace("\n", " ").replace("\r", " ")
