"""What is in the tables, as one number per table, whatever the order of rows and columns or the session.

Every stored column of a row, by name, is hashed as the text that the server's own output functions write (so
numeric scale, negative zero, infinities and the last bit of a float count). A row's hash has 64 bits and
starts from a secret seed; the hashes of all rows are summed without overflow. A sum sees what XOR cancels
(two equal rows gained or lost) and needs no order. Two tables that differ agree by chance once in 2^64. Seed,
separator and the mark for NULL come from the manifest's key: who lacks it cannot aim at a sum. Who may write
the backup is kept out by the checksum of the file and by signatures, not by this.

Columns of character data are hashed where they lie, each with the hash of those before it as its seed: no
copy of the row is made. `concat_ws` renders each of the others once and without escaping. It skips NULLs; a
column that may be NULL writes the mark then, so every row has a part for every column. A million wide rows
take less than `COPY (SELECT ...) TO '/dev/null'` does (benchmarks/pg_digest.py).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .fingerprint import Connection, own, run, user_schema

_MAX_COLUMNS: Final = 49  # a function takes 100 arguments, a column up to two
_MAX_CHAINED: Final = 200  # calls within calls
_CHUNK_BYTES: Final = 16 << 20
MAX_LISTED_OBJECTS: Final = 20_000


@dataclass(frozen=True)
class Table:
    """A table whose rows are compared. `name` is quoted and qualified, as the server writes it.

    `kind` is "table" or "partition"; `condition` the rows of an extension's configuration table that a dump
    keeps ("" for all). `columns`, by name, are (quoted name, may be NULL, is text or varchar).
    `filtered` tells that row security would hide rows from this role.
    """

    name: str
    kind: str
    unlogged: bool
    condition: str
    size_bytes: int
    columns: tuple[tuple[str, bool, bool], ...]
    readable: bool
    filtered: bool


def list_tables(conn: Connection) -> tuple[Table, ...]:
    """Tables whose rows a dump holds, each partition and inheritance child on its own, biggest first.

    Materialized views are not among them: a restore computes them anew, so a stale one differs rightly.
    """
    nullable = "NOT a.attnotnull"
    if conn.info.server_version >= 180000:  # NOT NULL may be not validated there
        nullable = (
            "NOT (a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid"
            " AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated))"
        )
    rows = run(
        conn,
        f"""
SELECT format('%I.%I', n.nspname, c.relname),
  CASE WHEN c.relispartition THEN 'partition' ELSE 'table' END,
  c.relpersistence = 'u', coalesce(x.condition, ''), pg_table_size(c.oid),
  has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid),
  coalesce((SELECT jsonb_agg(jsonb_build_array(a.attname, quote_ident(a.attname), {nullable},
      a.atttypid IN ('text'::regtype, 'varchar'::regtype))) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'), '[]')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (SELECT e.extcondition[array_position(e.extconfig, c.oid)] AS condition FROM pg_extension e
  WHERE c.oid = ANY (e.extconfig)) x ON true
WHERE {user_schema()} AND c.relpersistence <> 't' AND c.relkind = 'r'
  AND ({own("pg_class", "c.oid")} OR x.condition IS NOT NULL)
ORDER BY pg_table_size(c.oid) DESC, 1""",
    )
    return tuple(
        Table(name, kind, unlogged, condition, size, _by_name(columns), readable, filtered)
        for name, kind, unlogged, condition, size, readable, filtered, columns in rows
    )


def _by_name(columns: list[list[Any]]) -> tuple[tuple[str, bool, bool], ...]:
    """Sorted here: the server would sort names by their bytes, in another order in each encoding."""
    return tuple((quoted, may_be_null, is_text) for _, quoted, may_be_null, is_text in sorted(columns))


def _seed(key: bytes, what: str) -> int:
    return int.from_bytes(hmac.new(key, what.encode(), hashlib.sha256).digest()[:8], "big", signed=True)


def _mark(key: bytes, what: str) -> str:
    """Four bytes that no value holds by chance, as SQL: a control character and three secret letters."""
    letters = base64.b32encode(hmac.new(key, what.encode(), hashlib.sha256).digest())[:3].decode()
    return {"separator": "'\x01", "null": "'\x02"}[what] + letters + "'"


def row_hash(table: Table, key: bytes, encoding: str) -> str:
    """SQL for the hash (bigint) of a row of `table AS a`: of its text in UTF-8 whatever the encoding."""
    separator, null = _mark(key, "separator"), _mark(key, "null")
    chained = [name for name, _, is_text in table.columns if is_text][:_MAX_CHAINED]
    columns = [
        f"a.{name}, CASE WHEN a.{name} IS NULL THEN {null} END" if may_be_null else f"a.{name}"
        for name, may_be_null, _ in table.columns
        if name not in chained
    ]
    parts = [
        f"concat_ws({separator}, {', '.join(columns[i : i + _MAX_COLUMNS])})"
        for i in range(0, len(columns), _MAX_COLUMNS)
    ]
    texts = [f"coalesce(a.{name}, {null})" for name in chained]
    texts += parts if len(parts) < 2 else [f"concat_ws({separator}, {', '.join(parts)})"]
    found = str(_seed(key, "row"))
    for text in texts or ["''"]:
        found = _hash(text, found, encoding)
    return found


def _hash(text: str, seed: str, encoding: str) -> str:
    """The same number for the same characters: of their bytes in UTF-8."""
    if encoding in ("UTF8", "SQL_ASCII"):
        return f'hashtextextended({text} COLLATE "C", {seed})'
    # Bytes of UTF-8 are no text here, and nothing hashes a bytea before 18; a row of one hashes as its text.
    return f"hash_record_extended(ROW(convert_to({text}, 'UTF8')), {seed})"


def digest_sql(table: Table, key: bytes, encoding: str) -> str:
    """SELECT giving row count and digest (a decimal number) of a table."""
    where = f" {table.condition}" if table.condition else ""
    return (
        f"SELECT count(*), coalesce(sum({row_hash(table, key, encoding)}), 0)::text"
        f" FROM ONLY {table.name} AS a{where}"
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
