"""Can the restored database be worked with? Questions to the server that need no other truth than itself.

Each function takes a read-only superuser connection and returns facts without any row or key value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import errors

from .fingerprint import Connection, own, run, user_schema

_RELATION = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_NAME = "format('%I.%I', n.nspname, c.relname)"
_CLOCK: Final = r"^(pg_catalog\.)?(now\(\)|CURRENT_TIMESTAMP|LOCALTIMESTAMP|clock_timestamp\(\)|transaction_timestamp\(\))"
_SCAN_BYTES: Final = 256 << 20  # a column without an index is only scanned in tables up to this size
_BATCH: Final = 100  # sequences asked for in one query
# An oid column of that name refers to large objects.
_BLOB_NAME: Final = "(^|_)(blob|lob|lo|loid|large_?object)(_|$)"


@dataclass(frozen=True)
class Behind:
    """A sequence whose next value its column holds already or will meet.

    `key` tells whether the column is a key: "alone", as a "part" of one, or "" (numbers may repeat then).
    """

    sequence: str
    column: str
    next_value: int
    key: str


def sequences_behind(conn: Connection) -> Iterator[Behind]:
    """Sequences that feed a column (owned by it, or its default) and do not stand beyond its values."""
    pairs = run(
        conn,
        f"""
SELECT DISTINCT format('%I.%I', sn.nspname, s.relname), {_NAME}, quote_ident(a.attname), q.seqincrement,
  coalesce((SELECT CASE min(i.indnkeyatts) WHEN 1 THEN 'alone' ELSE 'part' END FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL AND a.attnum = ANY (i.indkey)
    HAVING count(*) > 0), '') AS key
FROM pg_sequence q JOIN pg_class s ON s.oid = q.seqrelid JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN LATERAL (
  SELECT d.refobjid AS rel, d.refobjsubid AS num FROM pg_depend d
   WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.refclassid = 'pg_class'::regclass
     AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
  UNION SELECT f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON f.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
     AND pg_get_expr(f.adbin, f.adrelid) ~ '^nextval\\(') u ON true
JOIN pg_attribute a ON a.attrelid = u.rel AND a.attnum = u.num
JOIN {_RELATION} ON c.oid = u.rel
WHERE NOT q.seqcycle AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
  AND NOT c.relispartition AND {user_schema()}
  AND (EXISTS (SELECT FROM pg_attrdef f WHERE f.adrelid = u.rel AND f.adnum = u.num) OR a.attidentity <> '')
ORDER BY 1""",
    )
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        union = " UNION ALL ".join(
            f"SELECT {i}, s.next, (SELECT {'max' if step > 0 else 'min'}({column}) FROM {table})"
            f" {'>=' if step > 0 else '<='} s.next"
            f" FROM (SELECT last_value + CASE WHEN is_called THEN {step} ELSE 0 END AS next FROM {sequence}) s"
            for i, (sequence, table, column, step, _) in enumerate(batch)
        )
        for i, next_value, met in run(conn, union):
            sequence, table, column, _, key = batch[i]
            if met:
                yield Behind(sequence, f"{table}.{column}", next_value, key)


def broken_indexes(conn: Connection) -> list[tuple[str, str]]:
    """(index, table) that the server does not use: not valid, not ready or not live."""
    return [
        (index, table)
        for index, table in run(
            conn,
            f"""
SELECT {_NAME}, i.indrelid::regclass::text FROM pg_index i JOIN {_RELATION} ON c.oid = i.indexrelid
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND {user_schema()} ORDER BY 1""",
        )
    ]


@dataclass(frozen=True)
class Constraint:
    """A foreign key or CHECK that the server has not proven, or that rows violate."""

    name: str
    table: str
    kind: str  # "foreign key" or "check"
    validated: bool
    violations: int


def constraints(conn: Connection, *, everything: bool) -> Iterator[Constraint]:
    """Scan for violating rows: constraints that are NOT VALID, and (`everything`) all others too.

    A constraint created after its rows was proven by the server then; `everything` is for restores where
    rows may have come in later, or past disabled triggers.
    """
    wanted = "true" if everything else "NOT k.convalidated"
    for name, table, kind, validated, query in run(
        conn,
        f"""
SELECT quote_ident(k.conname), {_NAME}, CASE k.contype WHEN 'f' THEN 'foreign key' ELSE 'check' END, k.convalidated,
  CASE k.contype WHEN 'c' THEN format('SELECT count(*) FROM %s%s WHERE NOT (%s)',
      CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END, {_NAME}, pg_get_expr(k.conbin, k.conrelid))
  ELSE format('SELECT count(*) FROM %s%s AS a WHERE %s AND NOT EXISTS (SELECT FROM %s AS b WHERE %s)',
      CASE WHEN c.relkind = 'p' THEN '' ELSE 'ONLY ' END, {_NAME},
      (SELECT string_agg(format('a.%I IS NOT NULL', x.attname), ' AND ') FROM unnest(k.conkey) num
        JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = num),
      k.confrelid::regclass,
      (SELECT string_agg(format('b.%I OPERATOR(%I.%s) a.%I', y.attname, o.nspname, p.oprname, x.attname), ' AND ')
       FROM unnest(k.conkey, k.confkey, k.conpfeqop) AS z(mine, theirs, op)
        JOIN pg_attribute x ON x.attrelid = k.conrelid AND x.attnum = z.mine
        JOIN pg_attribute y ON y.attrelid = k.confrelid AND y.attnum = z.theirs
        JOIN pg_operator p ON p.oid = z.op JOIN pg_namespace o ON o.oid = p.oprnamespace)) END
FROM pg_constraint k JOIN {_RELATION} ON c.oid = k.conrelid
WHERE k.contype IN ('f', 'c') AND k.conparentid = 0 AND {wanted} AND {user_schema()}
  AND c.relkind IN ('r', 'p') AND {own("pg_class", "c.oid")} ORDER BY 2, 1""",
    ):
        try:
            [(violations,)] = run(conn, query)
        except (errors.QueryCanceled, psycopg.OperationalError):
            raise
        except psycopg.Error:  # the condition itself cannot be evaluated: nothing is known of its rows
            violations = -1
        yield Constraint(name, table, kind, validated, violations)


def unpopulated(conn: Connection) -> list[str]:
    """Materialized views that cannot be queried until they are refreshed."""
    return [
        name
        for (name,) in run(
            conn,
            f"SELECT {_NAME} FROM {_RELATION} WHERE c.relkind = 'm' AND NOT c.relispopulated"
            f" AND {user_schema()} ORDER BY 1",
        )
    ]


def disabled_triggers(conn: Connection) -> list[tuple[str, str, bool]]:
    """(trigger, table, internal) that do not fire. An internal one enforces a foreign key: it then holds no more."""
    return [
        (name, table, internal)
        for name, table, internal in run(
            conn,
            f"""
SELECT coalesce(quote_ident(k.conname), quote_ident(t.tgname)), {_NAME}, t.tgisinternal
FROM pg_trigger t JOIN {_RELATION} ON c.oid = t.tgrelid LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
  AND t.tgisinternal
WHERE t.tgenabled = 'D' AND {user_schema()} GROUP BY 1, 2, 3 ORDER BY 2, 1""",
        )
    ]


def policies_without_security(conn: Connection) -> list[str]:
    """Tables that have row security policies which do not apply, because row security is off."""
    return [
        name
        for (name,) in run(
            conn,
            f"SELECT {_NAME} FROM {_RELATION} WHERE NOT c.relrowsecurity AND c.relkind IN ('r', 'p')"
            f" AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid) AND {user_schema()} ORDER BY 1",
        )
    ]


def roles_shut_out(conn: Connection) -> list[tuple[str, str]]:
    """(table, role) where a restrictive policy is for the role by name, but no permissive one lets it see a row."""
    return [
        (table, role)
        for table, role in run(
            conn,
            f"""
SELECT DISTINCT {_NAME}, r.rolname FROM pg_policy p JOIN {_RELATION} ON c.oid = p.polrelid
JOIN pg_roles r ON r.oid = ANY (p.polroles)
WHERE NOT p.polpermissive AND c.relrowsecurity AND {user_schema()} AND NOT r.rolsuper AND NOT r.rolbypassrls
  AND r.oid <> c.relowner AND NOT EXISTS (SELECT FROM pg_policy o, unnest(o.polroles) x
    WHERE o.polrelid = c.oid AND o.polpermissive AND (x = 0 OR pg_has_role(r.oid, x, 'USAGE')))
ORDER BY 1, 2""",
        )
    ]


def unusable_views(conn: Connection) -> Iterator[tuple[str, str]]:
    """(view, kind of error) of views that cannot be planned with the database's own search_path.

    Views over foreign tables are left out: planning them would reach for another server.
    """
    names = run(
        conn,
        f"""
WITH RECURSIVE uses AS (
  SELECT DISTINCT r.ev_class AS view, d.refobjid AS rel FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  WHERE d.refobjid <> r.ev_class),
foreign_ones AS (SELECT oid FROM pg_class WHERE relkind = 'f'
  UNION SELECT u.view FROM uses u JOIN foreign_ones f ON f.oid = u.rel)
SELECT {_NAME} FROM {_RELATION} WHERE c.relkind = 'v' AND {user_schema()} AND {own("pg_class", "c.oid")}
  AND c.oid NOT IN (SELECT oid FROM foreign_ones) ORDER BY 1""",
    )
    use_own_search_path(conn)
    try:
        for (name,) in names:
            try:
                run(conn, f"SELECT * FROM {name} LIMIT 0")
            except (
                errors.UndefinedTable,
                errors.UndefinedFunction,
                errors.UndefinedColumn,
                errors.UndefinedObject,
            ) as e:
                yield name, type(e).__name__
            except (errors.QueryCanceled, psycopg.OperationalError):
                raise
            except psycopg.Error:
                continue  # it can be planned; what it computes is not asked here
    finally:
        run(conn, "SELECT set_config('search_path', '', false)")


def use_own_search_path(conn: Connection) -> None:
    """What a fresh session of this database would have: the database's own setting, else the default."""
    run(
        conn,
        """
SELECT set_config('search_path', coalesce((SELECT substr(x, 13) FROM pg_db_role_setting s
    JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database(), unnest(s.setconfig) x
  WHERE s.setrole = 0 AND x LIKE 'search_path=%'), '"$user", public'), false)""",
    )


def collation_versions(conn: Connection) -> list[str]:
    """Collations whose recorded version is not the system's: text indexes may be in the wrong order."""
    found = [
        name
        for (name,) in run(
            conn,
            "SELECT format('%I.%I', n.nspname, l.collname) FROM pg_collation l JOIN pg_namespace n"
            " ON n.oid = l.collnamespace WHERE l.collversion IS NOT NULL"
            " AND l.collversion <> pg_collation_actual_version(l.oid) ORDER BY 1",
        )
    ]
    if conn.info.server_version >= 150000 and run(
        conn,
        "SELECT FROM pg_database WHERE datname = current_database() AND datcollversion IS NOT NULL"
        " AND datcollversion <> pg_database_collation_actual_version(oid)",
    ):
        found.append("the database's default collation")
    return found


def dangling_large_objects(conn: Connection) -> Iterator[tuple[str, int]]:
    """(column, references to large objects that do not exist), for columns that refer to large objects."""
    for table, column, named in run(
        conn,
        f"""
SELECT {_NAME}, quote_ident(a.attname), a.attname ~* '{_BLOB_NAME}' OR t.typname = 'lo'
FROM pg_attribute a JOIN {_RELATION} ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
WHERE (a.atttypid = 'oid'::regtype OR t.typbasetype = 'oid'::regtype) AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind = 'r' AND {user_schema()} ORDER BY 1, 2""",
    ):
        [(references, dangling)] = run(
            conn,
            f"""
SELECT count(*), count(*) FILTER (WHERE m.oid IS NULL) FROM {table} AS a
LEFT JOIN pg_largeobject_metadata m ON m.oid = a.{column} WHERE a.{column} <> 0""",
        )
        if dangling and (named or dangling < references):
            yield f"{table}.{column}", dangling


def newest_row(conn: Connection) -> datetime | None:
    """Newest insertion time: over the columns whose default is the clock. None without such columns or rows."""
    newest: datetime | None = None
    for table, column in run(
        conn,
        f"""
SELECT {_NAME}, quote_ident(a.attname) FROM pg_attrdef d
JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum JOIN {_RELATION} ON c.oid = d.adrelid
WHERE a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype) AND c.relkind = 'r' AND {user_schema()}
  AND pg_get_expr(d.adbin, d.adrelid) ~* '{_CLOCK}' AND a.attgenerated = ''
  AND (pg_table_size(c.oid) < {_SCAN_BYTES} OR EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am m ON m.oid = x.relam WHERE m.amname = 'btree' AND i.indrelid = c.oid AND i.indkey[0] = a.attnum
      AND i.indpred IS NULL AND i.indisvalid)) ORDER BY 1, 2""",
    ):
        found = newest_value(conn, table, column)
        if found and (newest is None or found > newest):
            newest = found
    return newest


def newest_value(conn: Connection, table: str, column: str) -> datetime | None:
    """Newest finite value of a timestamp column, as UTC; values in the future of the server's clock left out."""
    [(value,)] = run(
        conn,
        f"SELECT max({column}::timestamptz) FROM {table} WHERE isfinite({column}) AND {column}::timestamptz <= now()",
    )
    found: Any = value
    return found if isinstance(found, datetime) else None
