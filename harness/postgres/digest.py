"""What is in the tables, as one number per table, whatever the order of rows and columns or the session.

Every stored column of a row, by name, is written as text by the server's own output functions (so numeric
scale, negative zero, infinities and the last bit of a float count), joined by a secret separator, hashed
twice with secret 64-bit seeds, and the hashes are summed without overflow. A sum sees what XOR cancels (two
equal rows gained or lost) and needs no order. Two differing tables agree by chance once in 2^128; nobody who
lacks the manifest's key can make two that do, because seeds and separator come from it. NULL is told from an
empty text by a flag of its own for the types whose text may be empty.

`concat` renders each value once and without escaping: a million wide rows take about as long as
`COPY (SELECT ...) TO '/dev/null'` (benchmarks/pg_digest.py), where `ROW(...)::text` took twice that.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .fingerprint import Connection, own, run, user_schema

_MAX_ARGUMENTS: Final = 90  # a function takes 100
_CHUNK_BYTES: Final = 16 << 20
MAX_LISTED_OBJECTS: Final = 20_000

# Types whose text is never empty: NULL, which concat() writes as nothing, cannot be mistaken for a value.
_NEVER_EMPTY: Final = frozenset(
    (
        *("bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "money", "uuid", "bytea"),
        *("date", "time", "timetz", "timestamp", "timestamptz", "interval", "json", "jsonb", "inet", "cidr"),
        *("macaddr", "macaddr8", "point", "box", "circle", "polygon", "line", "lseg", "path", "pg_lsn"),
        *("xid", "xid8"),
    )
)


@dataclass(frozen=True)
class Table:
    """A table whose rows are compared. `name` is quoted and qualified, as the server writes it.

    `kind` is "table" or "partition"; `condition` the rows of an extension's configuration table that a dump
    keeps ("" for all). `columns`, by name, are (quoted name, text may be empty). `filtered` tells that row
    security would hide rows from this role.
    """

    name: str
    kind: str
    unlogged: bool
    condition: str
    size_bytes: int
    columns: tuple[tuple[str, bool], ...]
    readable: bool
    filtered: bool


def list_tables(conn: Connection) -> tuple[Table, ...]:
    """Tables whose rows a dump holds, each partition and inheritance child on its own, biggest first.

    Materialized views are not among them: a restore computes them anew, so a stale one differs rightly.
    """
    never = ", ".join(f"'{name}'" for name in sorted(_NEVER_EMPTY))
    rows = run(
        conn,
        f"""
SELECT format('%I.%I', n.nspname, c.relname),
  CASE WHEN c.relispartition THEN 'partition' ELSE 'table' END,
  c.relpersistence = 'u', coalesce(x.condition, ''), pg_table_size(c.oid),
  has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid),
  coalesce((SELECT array_agg(quote_ident(a.attname) ORDER BY a.attname COLLATE "C") FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'), '{{}}'),
  coalesce((SELECT array_agg(NOT (b.typname IN ({never}) AND b.typnamespace = 'pg_catalog'::regnamespace
       OR b.typtype IN ('r', 'm') OR b.typcategory = 'A' AND b.typlen = -1 AND b.typelem <> 0)
     ORDER BY a.attname COLLATE "C")
    FROM pg_attribute a JOIN pg_type b ON b.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'), '{{}}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (SELECT e.extcondition[array_position(e.extconfig, c.oid)] AS condition FROM pg_extension e
  WHERE c.oid = ANY (e.extconfig)) x ON true
WHERE {user_schema()} AND c.relpersistence <> 't' AND c.relkind = 'r'
  AND ({own("pg_class", "c.oid")} OR x.condition IS NOT NULL)
ORDER BY pg_table_size(c.oid) DESC, 1""",
    )
    return tuple(
        Table(
            name, kind, unlogged, condition, size, tuple(zip(names, empty, strict=True)), readable, filtered
        )
        for name, kind, unlogged, condition, size, readable, filtered, names, empty in rows
    )


def _seed(key: bytes, what: str) -> int:
    return int.from_bytes(hmac.new(key, what.encode(), hashlib.sha256).digest()[:8], "big", signed=True)


def _separator(key: bytes) -> str:
    return "\x01" + hmac.new(key, b"separator", hashlib.sha256).hexdigest()[:7]


def row_text(table: Table, key: bytes, encoding: str) -> str:
    """SQL for the text of a row of `table AS a`: unambiguous, in UTF-8 whatever the database's encoding."""
    separator = "'" + _separator(key) + "'"
    arguments: list[str] = []
    for name, may_be_empty in table.columns:
        arguments += [f"a.{name}", separator]
        if may_be_empty:
            arguments.append(f"a.{name} IS NULL")
    parts = [
        f"concat({', '.join(arguments[i : i + _MAX_ARGUMENTS])})"
        for i in range(0, len(arguments), _MAX_ARGUMENTS)
    ] or ["''"]
    text = (parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})") + ' COLLATE "C"'
    if encoding in ("UTF8", "SQL_ASCII"):
        return text
    # The same characters give the same bytes; SQL_ASCII as the source keeps the server from converting back.
    return f"convert_from(convert_to({text}, 'UTF8'), 'SQL_ASCII') COLLATE \"C\""


def digest_sql(table: Table, key: bytes, encoding: str) -> str:
    """SELECT giving row count and digest of a table. OFFSET 0 keeps a row's text from being made twice."""
    where = f" {table.condition}" if table.condition else ""
    lanes = " || '/' || ".join(
        f"coalesce(sum(hashtextextended(x, {_seed(key, f'lane {lane}')})), 0)::text" for lane in (1, 2)
    )
    return (
        f"SELECT count(*), {lanes} FROM"
        f" (SELECT {row_text(table, key, encoding)} AS x FROM ONLY {table.name} AS a{where} OFFSET 0) s"
    )


def digest_table(conn: Connection, table: Table, key: bytes, encoding: str) -> dict[str, Any]:
    """Rows and digest of one table; the session must be pinned (`fingerprint.pin`)."""
    [(rows, digest)] = run(conn, digest_sql(table, key, encoding))
    return {"rows": rows, "digest": digest}


def count_rows(conn: Connection, table: Table) -> dict[str, Any]:
    """Row count alone, for `--no-digest`."""
    where = f" {table.condition}" if table.condition else ""
    [(rows,)] = run(conn, f"SELECT count(*) FROM ONLY {table.name} AS a{where}")
    return {"rows": rows}


def large_objects(conn: Connection, key: bytes) -> dict[str, Any]:
    """Count, one digest over all, and (up to 20,000) each large object's own digest by its OID.

    Content is read in pieces of 16 MiB, so a sparse object equals its restored, filled copy.
    """
    salt = hmac.new(key, b"large objects", hashlib.sha256).hexdigest()
    total = hashlib.sha256(salt.encode())
    count, listed = 0, {}
    for oid, size, digest in _large_object_rows(conn, salt):
        total.update(f"{oid} {size} {digest}\n".encode())
        if count < MAX_LISTED_OBJECTS:
            listed[str(oid)] = f"{size} {digest}"
        count += 1
    return {
        "count": count,
        "digest": total.hexdigest(),
        "objects": listed if count <= MAX_LISTED_OBJECTS else {},
    }


def _large_object_rows(conn: Connection, salt: str) -> Iterator[tuple[Any, ...]]:
    # 262144 = INV_READ. The descriptor is closed with the transaction; lo_close frees it at once.
    query = f"""
SELECT m.oid, s.size, encode(sha256(convert_to('{salt}', 'UTF8') || coalesce(
  (SELECT string_agg(sha256(lo_get(m.oid, i * {_CHUNK_BYTES}, {_CHUNK_BYTES})), '' ORDER BY i)
   FROM generate_series(0, (s.size - 1) / {_CHUNK_BYTES}) i WHERE s.size > 0), '')), 'hex')
FROM (SELECT oid FROM pg_largeobject_metadata ORDER BY oid) m,
  LATERAL (SELECT z.size, lo_close(z.fd) FROM
    (SELECT y.fd, lo_lseek64(y.fd, 0, 2) AS size
     FROM (SELECT lo_open(m.oid, 262144) AS fd OFFSET 0) y OFFSET 0) z
    OFFSET 0) s"""
    with conn.cursor() as cursor:
        cursor.execute(query.encode())
        yield from cursor
