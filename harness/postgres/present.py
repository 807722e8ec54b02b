"""Which objects of the TOC are in a database: names per TOC entry type, as pg_dump writes them there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from psycopg import sql

from .dump import Entry
from .pool import Connection

Name = tuple[str, str | None, str]  # TOC type, schema, name

_USER: Final = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
# One row per object: type, schema, name as in the TOC, and whether it belongs to
# an extension or (constructor functions of range types) came with another object.
_OBJECTS: Final = f"""
WITH member AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype IN ('e', 'i'))
SELECT CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'TABLE' WHEN 'f' THEN 'FOREIGN TABLE'
         WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'INDEX' END,
       n.nspname, c.relname,
       EXISTS (SELECT FROM member WHERE classid = 'pg_class'::regclass AND objid = c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r','p','f','v','m','S','i','I') AND {_USER}
UNION ALL
SELECT CASE k.contype WHEN 'f' THEN 'FK CONSTRAINT' WHEN 'c' THEN 'CHECK CONSTRAINT' ELSE 'CONSTRAINT' END,
       n.nspname, r.relname || ' ' || k.conname, false
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class r ON r.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE {_USER}
UNION ALL
SELECT 'TRIGGER', n.nspname, r.relname || ' ' || t.tgname, false
  FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class r ON r.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE NOT t.tgisinternal AND {_USER}
UNION ALL
SELECT 'POLICY', n.nspname, r.relname || ' ' || p.polname, false
  FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class r ON r.oid = p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
UNION ALL
SELECT 'ROW SECURITY', n.nspname, c.relname, false
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relrowsecurity
UNION ALL
SELECT 'RULE', n.nspname, r.relname || ' ' || u.rulename, false
  FROM pg_catalog.pg_rewrite u JOIN pg_catalog.pg_class r ON r.oid = u.ev_class
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE {_USER}
UNION ALL
SELECT 'DEFAULT', n.nspname, r.relname || ' ' || a.attname, false
  FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class r ON r.oid = d.adrelid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = d.adnum
  JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE {_USER}
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
       n.nspname, p.proname, EXISTS (SELECT FROM member WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE {_USER}
UNION ALL
SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, n.nspname, t.typname,
       EXISTS (SELECT FROM member WHERE classid = 'pg_type'::regclass AND objid = t.oid)
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE {_USER}
UNION ALL
SELECT 'COLLATION', n.nspname, c.collname, false
  FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE {_USER}
UNION ALL
SELECT 'CHECK CONSTRAINT', n.nspname, t.typname || ' ' || k.conname, false
  FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type t ON t.oid = k.contypid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE k.contype = 'c' AND {_USER}
UNION ALL
SELECT 'STATISTICS', n.nspname, s.stxname, false
  FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
UNION ALL
SELECT 'TEXT SEARCH CONFIGURATION', n.nspname, c.cfgname, false
  FROM pg_catalog.pg_ts_config c JOIN pg_catalog.pg_namespace n ON n.oid = c.cfgnamespace WHERE {_USER}
UNION ALL
SELECT 'TEXT SEARCH DICTIONARY', n.nspname, d.dictname, false
  FROM pg_catalog.pg_ts_dict d JOIN pg_catalog.pg_namespace n ON n.oid = d.dictnamespace WHERE {_USER}
UNION ALL
SELECT 'OPERATOR', n.nspname, o.oprname, false
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE {_USER}
UNION ALL SELECT 'SCHEMA', NULL, nspname, false FROM pg_catalog.pg_namespace
UNION ALL SELECT 'EXTENSION', NULL, extname, false FROM pg_catalog.pg_extension
UNION ALL SELECT 'EVENT TRIGGER', NULL, evtname, false FROM pg_catalog.pg_event_trigger
UNION ALL SELECT 'PUBLICATION', NULL, pubname, false FROM pg_catalog.pg_publication
UNION ALL SELECT 'SERVER', NULL, srvname, false FROM pg_catalog.pg_foreign_server
UNION ALL SELECT 'FOREIGN DATA WRAPPER', NULL, fdwname, false FROM pg_catalog.pg_foreign_data_wrapper
UNION ALL SELECT 'SUBSCRIPTION', NULL, subname, false FROM pg_catalog.pg_subscription s
   JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database()
"""  # noqa: S608 - put together from constants
_PERMANENT: Final = (
    "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = %s AND c.relkind = %s AND c.relpersistence = 'p'"
)
_SCHEMALESS: Final = frozenset(
    {"SCHEMA", "EXTENSION", "EVENT TRIGGER", "PUBLICATION", "SERVER", "FOREIGN DATA WRAPPER", "SUBSCRIPTION"}
)
_BESIDES: Final = frozenset(
    {"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE", "EVENT TRIGGER"}
)
KNOWN: Final = frozenset(re.findall(r"(?:SELECT|THEN|ELSE) '([A-Z ]{4,})'", _OBJECTS))


def missing(conn: Connection, entries: Iterable[Entry]) -> list[Entry]:
    """TOC entries whose object is not in the database `conn` is connected to; unknown types are left out."""
    there, _ = _objects(conn)
    lost = []
    for entry in entries:
        if entry.data or entry.type not in KNOWN:
            continue
        name = _key(entry)
        if there[name] > 0 or _named_alone(there, name):
            if entry.type in ("FUNCTION", "PROCEDURE", "AGGREGATE", "OPERATOR"):
                there[name] -= 1  # overloads: as many as the TOC has
        else:
            lost.append(entry)
    return lost


def besides(conn: Connection, entries: Iterable[Entry]) -> list[Name]:
    """Tables, views, routines and event triggers of the database that no TOC entry describes."""
    _, own = _objects(conn)
    known = {_key(e) for e in entries}
    return sorted((n for n in own if n[0] in _BESIDES and n not in known), key=str)


def without_rows(conn: Connection, entries: Sequence[Entry]) -> list[Name]:
    """Tables and sequences that the TOC has, but no rows or position of: pg_dump writes those of every one.

    Empty when the file holds rows of no table at all, or positions of no sequence. Left out are tables
    without rows of their own (partitioned), unlogged ones (a standby lacks theirs), and such as hold rows.
    """
    lists = {t: {_key(e) for e in entries if e.type == t} for t in ("TABLE", "SEQUENCE")}
    told = {t: {_key(e)[1:] for e in entries if e.type == t} for t in ("TABLE DATA", "SEQUENCE SET")}
    found = []
    for kind, data, relkind in (("TABLE", "TABLE DATA", "r"), ("SEQUENCE", "SEQUENCE SET", "S")):
        for name in sorted(lists[kind], key=str) if told[data] else ():
            if name[1:] in told[data] or name[1] is None:
                continue
            there = conn.execute(_PERMANENT, (name[1], name[2], relkind)).fetchone()
            if there is not None and (kind == "SEQUENCE" or _empty(conn, name[1], name[2])):
                found.append(name)
    return found


def _empty(conn: Connection, schema: str, table: str) -> bool:
    query = sql.SQL("SELECT NOT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(schema, table))
    row = conn.execute(query).fetchone()
    return bool(row and row[0])


def _objects(conn: Connection) -> tuple[Counter[Name], Counter[Name]]:
    """All objects, and those that are no extension's."""
    every: Counter[Name] = Counter()
    own: Counter[Name] = Counter()
    for kind, schema, name, member in conn.execute(_OBJECTS):
        key = (kind, None if schema is None else _flat(schema), _flat(name))
        every[key] += 1
        if not member:
            own[key] += 1
    return every, own


def _key(entry: Entry) -> Name:
    name = entry.name
    if entry.type in ("FUNCTION", "PROCEDURE", "AGGREGATE"):
        name = name[: name.rfind("(")] if "(" in name else name
    schema = None if entry.type in _SCHEMALESS else entry.schema
    return entry.type, schema, _flat(name)


def _named_alone(there: Counter[Name], name: Name) -> bool:
    """True for constraints, triggers and the like as pg_dump before 9.6 names them: without their table."""
    kind, schema, alone = name
    return " " not in alone and any(
        k == kind and s == schema and n.endswith(f" {alone}") for k, s, n in there if k not in _BESIDES
    )


def _flat(name: str) -> str:
    """pg_dump replaces line breaks in TOC names by spaces."""
    return name.replace("\n", " ").replace("\r", " ")
