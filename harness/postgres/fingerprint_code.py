"""Fingerprint of what a database is programmed with: schemas, extensions, types, functions, operators, search."""

from __future__ import annotations

from typing import Final

from .fingerprint import Query, identity, own, user_schema

_IN_SCHEMA = "format('schema %I', n.nspname)"
_FUNCTION = "nullif({}::oid, 0)::regprocedure::text"


def _schemas(major: int) -> str:
    return f"""
SELECT format('%I', n.nspname) AS object, NULL AS "of", 'yes' AS present
FROM pg_namespace n WHERE {user_schema()} AND {own("pg_namespace", "n.oid")}"""


def _extensions(major: int) -> str:
    return """
SELECT format('%I', e.extname) AS object, NULL AS "of", format('%I', n.nspname) AS schema, e.extversion AS version,
  (SELECT array_agg(t::regclass::text ORDER BY t::regclass::text) FROM unnest(e.extconfig) t) AS "configuration tables"
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"""


def _types(major: int) -> str:
    """Enums, composites, ranges and base types; arrays, row types and multiranges come with their own."""
    return f"""
SELECT format('%I.%I', n.nspname, t.typname) AS object, {_IN_SCHEMA} AS "of",
  CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range' WHEN 'b' THEN 'base'
    ELSE 'shell' END AS kind,
  (SELECT array_agg(quote_literal(l.enumlabel) ORDER BY l.enumsortorder) FROM pg_enum l
    WHERE l.enumtypid = t.oid) AS labels,
  CASE WHEN t.typtype = 'c' THEN (SELECT array_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
      || CASE WHEN a.attcollation <> y.typcollation THEN ' collate ' ||
        {identity("pg_collation", "a.attcollation")} ELSE '' END ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END AS attributes,
  CASE WHEN t.typtype = 'r' THEN (SELECT concat_ws(', ', 'subtype ' || format_type(r.rngsubtype, NULL),
      'opclass ' || {identity("pg_opclass", "r.rngsubopc")},
      'collation ' || nullif(r.rngcollation::oid, 0)::regcollation::text,
      'canonical ' || {_FUNCTION.format("r.rngcanonical")}, 'subdiff ' || {_FUNCTION.format("r.rngsubdiff")},
      'multirange ' || format_type(r.rngmultitypid, NULL))
    FROM pg_range r WHERE r.rngtypid = t.oid) END AS range,
  CASE WHEN t.typtype = 'b' THEN concat_ws(', ', t.typinput::oid::regprocedure, t.typoutput::oid::regprocedure,
      {_FUNCTION.format("t.typreceive")}, {_FUNCTION.format("t.typsend")}, {_FUNCTION.format("t.typmodin")},
      {_FUNCTION.format("t.typmodout")}, {_FUNCTION.format("t.typanalyze")}, {_FUNCTION.format("t.typsubscript")},
      t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory, t.typispreferred, t.typdelim,
      t.typdefault, t.typcollation <> 0, nullif(t.typelem, 0)::regtype) END AS base
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typtype IN ('e', 'c', 'r', 'b', 'p') AND (t.typtype <> 'c' OR c.relkind = 'c')
  AND NOT EXISTS (SELECT FROM pg_type x WHERE x.typarray = t.oid)
  AND {user_schema()} AND {own("pg_type", "t.oid")}"""


def _domains(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, t.typname) AS object, {_IN_SCHEMA} AS "of",
  format_type(t.typbasetype, t.typtypmod) AS type, t.typnotnull AS "not null",
  pg_get_expr(t.typdefaultbin, 0) AS "default",
  CASE WHEN t.typcollation <> b.typcollation THEN {identity("pg_collation", "t.typcollation")} END AS collation
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_type b ON b.oid = t.typbasetype
WHERE t.typtype = 'd' AND {user_schema()} AND {own("pg_type", "t.oid")}"""


def _domain_constraints(major: int) -> str:
    return f"""
SELECT format('%I on %I.%I', k.conname, n.nspname, t.typname) AS object,
  format('domain %I.%I', n.nspname, t.typname) AS "of",
  regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') AS definition, k.convalidated AS validated
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE k.contype = 'c' AND {user_schema()} AND {own("pg_type", "t.oid")}"""


def _functions(major: int) -> str:
    return f"""
SELECT {identity("pg_proc", "p.oid")} AS object, {_IN_SCHEMA} AS "of",
  CASE p.prokind WHEN 'f' THEN 'function' WHEN 'p' THEN 'procedure' WHEN 'w' THEN 'window function'
    ELSE 'aggregate' END AS kind,
  pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result, l.lanname AS language,
  CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
  CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel,
  p.proisstrict AS strict, p.prosecdef AS "security definer", p.proleakproof AS leakproof,
  p.procost AS cost, p.prorows AS rows, {_FUNCTION.format("p.prosupport")} AS support,
  p.proconfig AS "setting#settings",
  CASE WHEN p.prokind <> 'a' AND p.prosqlbody IS NULL THEN p.prosrc END AS "body#digest", p.probin AS library,
  pg_get_function_sqlbody(p.oid) AS "sql body#query",
  (SELECT array_agg(format_type(t, NULL)) FROM unnest(p.protrftypes) t) AS transforms,
  CASE WHEN p.prokind = 'a' THEN (SELECT concat_ws('; ', a.aggkind, a.aggnumdirectargs,
      'sfunc ' || a.aggtransfn::oid::regprocedure, 'final ' || {_FUNCTION.format("a.aggfinalfn")},
      'combine ' || {_FUNCTION.format("a.aggcombinefn")}, 'serial ' || {_FUNCTION.format("a.aggserialfn")},
      'deserial ' || {_FUNCTION.format("a.aggdeserialfn")}, 'msfunc ' || {_FUNCTION.format("a.aggmtransfn")},
      'minv ' || {_FUNCTION.format("a.aggminvtransfn")}, 'mfinal ' || {_FUNCTION.format("a.aggmfinalfn")},
      a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify, a.aggmfinalmodify,
      'sort ' || nullif(a.aggsortop, 0)::regoperator, 'state ' || format_type(a.aggtranstype, NULL),
      a.aggtransspace, 'mstate ' || nullif(a.aggmtranstype, 0)::regtype, a.aggmtransspace,
      'init ' || quote_literal(a.agginitval), 'minit ' || quote_literal(a.aggminitval))
    FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END AS aggregate
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE {user_schema()} AND {own("pg_proc", "p.oid")}
  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid
    AND i.deptype = 'i')"""


def _event_triggers(major: int) -> str:
    return f"""
SELECT format('%I', t.evtname) AS object, NULL AS "of", t.evtevent AS event,
  (SELECT array_agg(x ORDER BY x) FROM unnest(t.evttags) x) AS tags, t.evtfoid::regprocedure::text AS function,
  CASE t.evtenabled WHEN 'O' THEN 'yes' WHEN 'D' THEN 'no' WHEN 'A' THEN 'always' ELSE 'on replicas' END AS enabled
FROM pg_event_trigger t WHERE {own("pg_event_trigger", "t.oid")}"""


def _operators(major: int) -> str:
    return f"""
SELECT {identity("pg_operator", "o.oid")} AS object, {_IN_SCHEMA} AS "of", nullif(o.oprcode::oid, 0)::regprocedure::text
    AS function, format_type(nullif(o.oprresult, 0), NULL) AS result, nullif(o.oprcom, 0)::regoperator::text AS commutator,
  nullif(o.oprnegate, 0)::regoperator::text AS negator, nullif(o.oprrest::oid, 0)::regprocedure::text AS restrict,
  nullif(o.oprjoin::oid, 0)::regprocedure::text AS "join", o.oprcanmerge AS merges, o.oprcanhash AS hashes
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE {user_schema()} AND {own("pg_operator", "o.oid")}"""


def _operator_classes(major: int) -> str:
    return f"""
SELECT {identity("pg_opclass", "o.oid")} AS object, {_IN_SCHEMA} AS "of", {identity("pg_opfamily", "o.opcfamily")} AS family,
  format_type(o.opcintype, NULL) AS type, o.opcdefault AS "default", format_type(nullif(o.opckeytype, 0), NULL) AS storage
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace
WHERE {user_schema()} AND {own("pg_opclass", "o.oid")}"""


def _operator_families(major: int) -> str:
    return f"""
SELECT {identity("pg_opfamily", "f.oid")} AS object, {_IN_SCHEMA} AS "of",
  (SELECT array_agg(x ORDER BY x) FROM (SELECT concat_ws(' ', o.amopstrategy, o.amopopr::regoperator, o.amoppurpose,
     'order by ' || {identity("pg_opfamily", "nullif(o.amopsortfamily, 0)")}) x
     FROM pg_amop o WHERE o.amopfamily = f.oid) z) AS operators,
  (SELECT array_agg(x ORDER BY x) FROM (SELECT concat_ws(' ', o.amprocnum, o.amproc::oid::regprocedure,
     format_type(o.amproclefttype, NULL), format_type(o.amprocrighttype, NULL)) x
     FROM pg_amproc o WHERE o.amprocfamily = f.oid) z) AS functions
FROM pg_opfamily f JOIN pg_namespace n ON n.oid = f.opfnamespace
WHERE {user_schema()} AND {own("pg_opfamily", "f.oid")}"""


def _casts(major: int) -> str:
    return f"""
SELECT format('(%s AS %s)', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)) AS object, NULL AS "of",
  nullif(c.castfunc, 0)::regprocedure::text AS function, c.castcontext::text AS context, c.castmethod::text AS method
FROM pg_cast c WHERE c.oid >= 16384 AND {own("pg_cast", "c.oid")}
  AND NOT EXISTS (SELECT FROM pg_range r WHERE r.rngtypid = c.castsource AND r.rngmultitypid = c.casttarget)"""


def _collations(major: int) -> str:
    locale = {14: "NULL", 15: "c.colliculocale", 16: "c.colliculocale"}.get(major, "c.colllocale")
    rules = "c.collicurules" if major >= 16 else "NULL"
    return f"""
SELECT format('%I.%I', n.nspname, c.collname) AS object, {_IN_SCHEMA} AS "of", c.collprovider::text AS provider,
  c.collisdeterministic AS deterministic, coalesce({locale}, c.collcollate) AS locale,
  CASE WHEN c.collprovider = 'c' THEN c.collctype END AS ctype, {rules} AS "rules#digest",
  pg_encoding_to_char(nullif(c.collencoding, -1)) AS encoding
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE {user_schema()} AND {own("pg_collation", "c.oid")}"""


def _conversions(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, c.conname) AS object, {_IN_SCHEMA} AS "of",
  pg_encoding_to_char(c.conforencoding) AS "from", pg_encoding_to_char(c.contoencoding) AS "to",
  c.conproc::oid::regprocedure::text AS function, c.condefault AS "default"
FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
WHERE {user_schema()} AND {own("pg_conversion", "c.oid")}"""


def _languages(major: int) -> str:
    return f"""
SELECT format('%I', l.lanname) AS object, NULL AS "of", l.lanpltrusted AS trusted,
  nullif(l.lanplcallfoid, 0)::regprocedure::text AS handler, nullif(l.laninline, 0)::regprocedure::text AS inline,
  nullif(l.lanvalidator, 0)::regprocedure::text AS validator
FROM pg_language l WHERE l.lanispl AND {own("pg_language", "l.oid")}"""


def _access_methods(major: int) -> str:
    return f"""
SELECT format('%I', a.amname) AS object, NULL AS "of", a.amhandler::oid::regprocedure::text AS handler, a.amtype::text AS type
FROM pg_am a WHERE a.oid >= 16384 AND {own("pg_am", "a.oid")}"""


def _transforms(major: int) -> str:
    return f"""
SELECT {identity("pg_transform", "t.oid")} AS object, NULL AS "of",
  nullif(t.trffromsql::oid, 0)::regprocedure::text AS "from sql", nullif(t.trftosql::oid, 0)::regprocedure::text AS "to sql"
FROM pg_transform t WHERE {own("pg_transform", "t.oid")}"""


def _search_configurations(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, c.cfgname) AS object, {_IN_SCHEMA} AS "of",
  format('%I.%I', pn.nspname, p.prsname) AS parser,
  (SELECT array_agg(x ORDER BY x) FROM (SELECT t.alias || ': ' ||
      string_agg(m.mapdict::regdictionary::text, ', ' ORDER BY m.mapseqno) x
    FROM pg_ts_config_map m JOIN LATERAL ts_token_type(c.cfgparser) t ON t.tokid = m.maptokentype
    WHERE m.mapcfg = c.oid GROUP BY t.alias) z) AS mapping
FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace JOIN pg_ts_parser p ON p.oid = c.cfgparser
JOIN pg_namespace pn ON pn.oid = p.prsnamespace
WHERE {user_schema()} AND {own("pg_ts_config", "c.oid")}"""


def _search_dictionaries(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, d.dictname) AS object, {_IN_SCHEMA} AS "of", t.tmplname AS template,
  d.dictinitoption AS options
FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace JOIN pg_ts_template t ON t.oid = d.dicttemplate
WHERE {user_schema()} AND {own("pg_ts_dict", "d.oid")}"""


def _search_parsers(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, p.prsname) AS object, {_IN_SCHEMA} AS "of",
  ARRAY[p.prsstart, p.prstoken, p.prsend, p.prsheadline, p.prslextype]::text[] AS functions
FROM pg_ts_parser p JOIN pg_namespace n ON n.oid = p.prsnamespace
WHERE {user_schema()} AND {own("pg_ts_parser", "p.oid")}"""


def _search_templates(major: int) -> str:
    return f"""
SELECT format('%I.%I', n.nspname, t.tmplname) AS object, {_IN_SCHEMA} AS "of",
  ARRAY[t.tmplinit, t.tmpllexize]::text[] AS functions
FROM pg_ts_template t JOIN pg_namespace n ON n.oid = t.tmplnamespace
WHERE {user_schema()} AND {own("pg_ts_template", "t.oid")}"""


QUERIES: Final = (
    Query("schema", _schemas),
    Query("extension", _extensions),
    Query("type", _types),
    Query("domain", _domains),
    Query("domain constraint", _domain_constraints),
    Query("function", _functions),
    Query("event trigger", _event_triggers),
    Query("operator", _operators),
    Query("operator class", _operator_classes),
    Query("operator family", _operator_families),
    Query("cast", _casts),
    Query("collation", _collations),
    Query("conversion", _conversions),
    Query("language", _languages),
    Query("access method", _access_methods),
    Query("transform", _transforms),
    Query("text search configuration", _search_configurations),
    Query("text search dictionary", _search_dictionaries),
    Query("text search parser", _search_parsers),
    Query("text search template", _search_templates),
)
