"""Fingerprint of tables and all that hangs on them: columns, constraints, indexes, views, sequences, triggers."""

from __future__ import annotations

from typing import Final

from .fingerprint import Query, identity, own, relation_class, user_schema

_FROM = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_NAME = "format('%I.%I', n.nspname, c.relname)"
_IN_SCHEMA = "format('schema %I', n.nspname)"
_MINE = f"{user_schema()} AND c.relpersistence <> 't' AND {own('pg_class', 'c.oid')}"
_SPACE = "(SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace)"
_METHOD = "(SELECT amname FROM pg_am WHERE oid = c.relam)"
_QUALIFIED = (
    "(SELECT format('%I.%I', x.nspname, y.{name}) FROM {table} y JOIN pg_namespace x ON x.oid = y.{ns}"
    " WHERE y.oid = {oid})"
)
# Debian's PostgreSQL 15.20 stamps every column on creation with an option of its own; two restores differ in it.
_STAMP = "pg_attver"
_PERSISTENCE = "CASE c.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'permanent' END"


def _tables(major: int) -> str:
    return f"""
SELECT {_NAME} AS object, {_IN_SCHEMA} AS "of", {_PERSISTENCE} AS persistence, {_METHOD} AS "access method",
  c.relrowsecurity AS "row security", c.relforcerowsecurity AS "forced row security",
  CASE c.relreplident WHEN 'd' THEN 'primary key' WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' ELSE 'index '
    || coalesce((SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                 WHERE i.indrelid = c.oid AND i.indisreplident), '?') END AS "replica identity",
  c.reloptions AS "storage#options",
  (SELECT t.reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid) AS "toast storage#options",
  pg_get_partkeydef(c.oid) AS "partition key", pg_get_expr(c.relpartbound, c.oid) AS "partition bound",
  (SELECT array_agg(p.inhparent::regclass::text ORDER BY p.inhseqno) FROM pg_inherits p
    WHERE p.inhrelid = c.oid) AS "parents",
  CASE WHEN c.reloftype <> 0 THEN format_type(c.reloftype, NULL) END AS "of type",
  {_SPACE} AS tablespace
FROM {_FROM} WHERE c.relkind IN ('r', 'p') AND {_MINE}"""


def _foreign_tables(major: int) -> str:
    return f"""
SELECT {_NAME} AS object, format('foreign server %I', s.srvname) AS "of", s.srvname AS server,
  t.ftoptions AS "option#options", pg_get_expr(c.relpartbound, c.oid) AS "partition bound",
  (SELECT array_agg(p.inhparent::regclass::text ORDER BY p.inhseqno) FROM pg_inherits p
    WHERE p.inhrelid = c.oid) AS "parents"
FROM {_FROM} JOIN pg_foreign_table t ON t.ftrelid = c.oid JOIN pg_foreign_server s ON s.oid = t.ftserver
WHERE {_MINE}"""


def _columns(major: int) -> str:
    not_null = "a.attnotnull::text"
    if major >= 18:
        not_null = (
            "CASE WHEN NOT a.attnotnull THEN 'false' WHEN EXISTS (SELECT FROM pg_constraint k"
            " WHERE k.conrelid = c.oid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]"
            " AND NOT k.convalidated) THEN 'not validated' ELSE 'true' END"
        )
    # Before 18 they have no name; what inherits one has its parent's, or is given one by the restore.
    named = (
        """(SELECT CASE WHEN k.connoinherit THEN {} ELSE {} END FROM pg_constraint k WHERE k.conrelid = c.oid
    AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum])"""
        if major >= 18
        else "NULL"
    )
    # A partition's column is an identity from 17 on when its parent's is: said of the parent only.
    return f"""
SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS object, {relation_class()} AS "of",
  row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) AS "@position",
  format_type(a.atttypid, a.atttypmod) AS type,
  CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
  CASE a.attgenerated WHEN '' THEN NULL WHEN 's' THEN 'stored ' ELSE 'virtual ' END
    || pg_get_expr(d.adbin, d.adrelid) AS generated,
  CASE CASE WHEN c.relispartition THEN '' ELSE a.attidentity END WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END AS identity,
  {not_null} AS "not null", {named.format("k.conname", "k.conname")} AS "not null named (18)",
  {named.format("'no'", "'yes'")} AS "not null inherited (18)",
  CASE WHEN a.attcollation <> t.typcollation THEN
    {_QUALIFIED.format(name="collname", table="pg_collation", ns="collnamespace", oid="a.attcollation")}
    END AS collation,
  CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage::text END AS storage,
  nullif(a.attcompression::text, '') AS compression,
  nullif(a.attstattarget, -1) AS "statistics target",
  (SELECT array_agg(o) FROM unnest(a.attoptions) o WHERE o !~ '^{_STAMP}=') AS "attribute#options", a.attfdwoptions AS "option#options"
FROM pg_attribute a JOIN {_FROM} ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND {_MINE}"""


def _constraints(major: int) -> str:
    # NOT NULL is a column's property (18 keeps it as a constraint too); constraint triggers are triggers;
    # a partition's share of a foreign key has a made-up name and comes with its parent's.
    return f"""
SELECT format('%I on %s', k.conname, {_NAME}) AS object, {relation_class()} AS "of",
  regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') AS definition, k.convalidated AS validated
FROM pg_constraint k JOIN {_FROM} ON c.oid = k.conrelid
WHERE k.contype IN ('p', 'u', 'x', 'f', 'c') AND NOT (k.contype = 'f' AND k.conparentid <> 0)
  AND {_MINE}"""


def _indexes(major: int) -> str:
    # What a constraint says of its index is said there; a partitioned index that misses a part is not valid.
    return f"""
SELECT {_NAME} AS object,
  coalesce('constraint ' || quote_ident(k.conname) || ' on ' || t.oid::regclass::text, {relation_class("t")}) AS "of",
  CASE WHEN k.oid IS NULL THEN pg_get_indexdef(c.oid) END AS definition,
  CASE WHEN k.oid IS NOT NULL THEN c.reloptions END AS "storage#options",
  i.indisvalid AS valid, i.indisready AS ready, i.indisclustered AS clustered, {_SPACE} AS tablespace,
  (SELECT array_agg(a.attnum || '=' || a.attstattarget ORDER BY a.attnum) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attstattarget >= 0) AS "statistics target"
FROM pg_index i JOIN {_FROM} ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
WHERE {_MINE}"""


def _view(kind: str, extra: str) -> str:
    # The columns a view's query reads tell apart what its unqualified text cannot (a.id for b.id).
    return f"""
SELECT {_NAME} AS object, {_IN_SCHEMA} AS "of", pg_get_viewdef(c.oid) AS "definition#query",
  (SELECT array_agg(x ORDER BY x) FROM (SELECT DISTINCT format('%s.%s', p.refobjid::regclass, a.attname) x
     FROM pg_rewrite r JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = r.oid
       AND p.refclassid = 'pg_class'::regclass AND p.refobjsubid > 0
     JOIN pg_attribute a ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
     WHERE r.ev_class = c.oid AND p.refobjid <> c.oid) z) AS "columns read",
  (SELECT array_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum)
    FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  (SELECT array_agg(format('%I %s', a.attname, pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid) AS "column defaults",
  c.reloptions AS "option#options"{extra}
FROM {_FROM} WHERE c.relkind = '{kind}' AND {_MINE}"""


def _views(major: int) -> str:
    return _view("v", "")


def _matviews(major: int) -> str:
    tuning = f"""
  (SELECT array_agg(format('%I %s', a.attname, x) ORDER BY a.attnum) FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid, LATERAL (SELECT nullif(concat_ws(' ',
      'statistics ' || nullif(a.attstattarget, -1), 'compression ' || nullif(a.attcompression::text, ''),
      CASE WHEN a.attstorage <> t.typstorage THEN 'storage ' || a.attstorage::text END,
      (SELECT string_agg(o, ' ' ORDER BY o) FROM unnest(a.attoptions) o WHERE o !~ '^{_STAMP}=')), '') AS x) z
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND x IS NOT NULL) AS "column tuning"
"""
    return _view(
        "m",
        f', c.relispopulated AS populated, {_METHOD} AS "access method", {_SPACE} AS tablespace, {tuning}',
    )


def _sequences(major: int) -> str:
    return f"""
SELECT {_NAME} AS object,
  coalesce((SELECT 'column ' || {identity("pg_class", "d.refobjid", "d.refobjsubid")} FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
      AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0), {_IN_SCHEMA}) AS "of",
  {_PERSISTENCE} AS persistence, format_type(s.seqtypid, NULL) AS type, s.seqstart AS start,
  s.seqincrement AS increment, s.seqmin AS minimum, s.seqmax AS maximum, s.seqcache AS cache, s.seqcycle AS cycle,
  (SELECT {identity("pg_class", "d.refobjid", "d.refobjsubid")} FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
      AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0) AS "owned by"
FROM pg_sequence s JOIN {_FROM} ON c.oid = s.seqrelid WHERE {_MINE}"""


def _triggers(major: int) -> str:
    # A partition's copy of a trigger comes with its parent's, unless it is enabled otherwise.
    return f"""
SELECT format('%I on %s', t.tgname, {_NAME}) AS object, {relation_class()} AS "of",
  CASE WHEN t.tgparentid = 0 THEN pg_get_triggerdef(t.oid) END AS definition,
  CASE t.tgenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'A' THEN 'always' ELSE 'on replicas' END AS enabled
FROM pg_trigger t JOIN {_FROM} ON c.oid = t.tgrelid
LEFT JOIN pg_trigger u ON u.oid = t.tgparentid
WHERE NOT t.tgisinternal AND (t.tgparentid = 0 OR t.tgenabled <> u.tgenabled)
  AND {own("pg_trigger", "t.oid")} AND {_MINE}"""


def _rules(major: int) -> str:
    return f"""
SELECT format('%I on %s', r.rulename, {_NAME}) AS object, {relation_class()} AS "of",
  pg_get_ruledef(r.oid) AS "definition#query",
  CASE r.ev_enabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'A' THEN 'always' ELSE 'on replicas' END AS enabled
FROM pg_rewrite r JOIN {_FROM} ON c.oid = r.ev_class
WHERE r.rulename <> '_RETURN' AND {_MINE} AND {own("pg_rewrite", "r.oid")}"""


def _policies(major: int) -> str:
    return f"""
SELECT format('%I on %s', p.polname, {_NAME}) AS object, {relation_class()} AS "of",
  CASE p.polcmd WHEN '*' THEN 'all' WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update'
    ELSE 'delete' END AS command, p.polpermissive AS permissive,
  (SELECT array_agg(coalesce(x.rolname, 'PUBLIC') ORDER BY x.rolname) FROM unnest(p.polroles) r
    LEFT JOIN pg_roles x ON x.oid = r) AS roles,
  pg_get_expr(p.polqual, p.polrelid) AS "using#query", pg_get_expr(p.polwithcheck, p.polrelid) AS "check#query"
FROM pg_policy p JOIN {_FROM} ON c.oid = p.polrelid WHERE {_MINE}"""


def _statistics(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, s.stxname) AS object, {relation_class()} AS "of",
  pg_get_statisticsobjdef(s.oid) AS definition, nullif(s.stxstattarget, -1) AS target
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace JOIN pg_class c ON c.oid = s.stxrelid
WHERE {user_schema()} AND {own("pg_statistic_ext", "s.oid")}"""


QUERIES: Final = (
    Query("table", _tables),
    Query("foreign table", _foreign_tables),
    Query("column", _columns),
    Query("constraint", _constraints),
    Query("index", _indexes),
    Query("view", _views),
    Query("materialized view", _matviews),
    Query("sequence", _sequences),
    Query("trigger", _triggers),
    Query("rule", _rules),
    Query("policy", _policies),
    Query("statistics", _statistics),
)
