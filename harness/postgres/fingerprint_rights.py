"""Fingerprint of who may do what, and of what is written beside objects: owners, privileges, comments, labels."""

from __future__ import annotations

from typing import Final

from .fingerprint import Query, user_schema

OWNER: Final = "(owner)"  # stands for the owner among grantees: another owner is said once, not per privilege

# catalog, oid, name of the owner and ACL columns, acldefault's letter, FROM and WHERE.
_SCHEMA_OBJECTS: Final = (
    ("pg_class", "c.oid", "c.relowner", "c.relacl", "CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\"",
     "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace",
     "c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'"),
    ("pg_proc", "c.oid", "c.proowner", "c.proacl", "'f'", "pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace",
     "NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = c.oid"
     " AND i.deptype = 'i')"),
    ("pg_type", "c.oid", "c.typowner", "c.typacl", "'T'", "pg_type c JOIN pg_namespace n ON n.oid = c.typnamespace",
     "c.typtype IN ('e', 'c', 'r', 'b', 'd') AND (c.typrelid = 0 OR EXISTS (SELECT FROM pg_class r"
     " WHERE r.oid = c.typrelid AND r.relkind = 'c')) AND NOT EXISTS (SELECT FROM pg_type x WHERE x.typarray = c.oid)"),
    ("pg_operator", "c.oid", "c.oprowner", None, None, "pg_operator c JOIN pg_namespace n ON n.oid = c.oprnamespace", "true"),
    ("pg_opclass", "c.oid", "c.opcowner", None, None, "pg_opclass c JOIN pg_namespace n ON n.oid = c.opcnamespace", "true"),
    ("pg_opfamily", "c.oid", "c.opfowner", None, None, "pg_opfamily c JOIN pg_namespace n ON n.oid = c.opfnamespace", "true"),
    ("pg_collation", "c.oid", "c.collowner", None, None, "pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace", "true"),
    ("pg_conversion", "c.oid", "c.conowner", None, None, "pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace", "true"),
    ("pg_ts_config", "c.oid", "c.cfgowner", None, None, "pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace", "true"),
    ("pg_ts_dict", "c.oid", "c.dictowner", None, None, "pg_ts_dict c JOIN pg_namespace n ON n.oid = c.dictnamespace", "true"),
    ("pg_statistic_ext", "c.oid", "c.stxowner", None, None, "pg_statistic_ext c JOIN pg_namespace n ON n.oid = c.stxnamespace", "true"),
)  # fmt: skip
_OTHER_OBJECTS: Final = (
    ("pg_namespace", "n.oid", "n.nspowner", "n.nspacl", "'n'", "pg_namespace n", user_schema()),
    ("pg_language", "c.oid", "c.lanowner", "c.lanacl", "'l'", "pg_language c", "c.lanispl"),
    ("pg_foreign_data_wrapper", "c.oid", "c.fdwowner", "c.fdwacl", "'F'", "pg_foreign_data_wrapper c", "true"),
    ("pg_foreign_server", "c.oid", "c.srvowner", "c.srvacl", "'S'", "pg_foreign_server c", "true"),
    ("pg_event_trigger", "c.oid", "c.evtowner", None, None, "pg_event_trigger c", "true"),
    ("pg_publication", "c.oid", "c.pubowner", None, None, "pg_publication c", "true"),
    ("pg_tablespace", "c.oid", "c.spcowner", "c.spcacl", "'t'", "pg_tablespace c", "c.spcname !~ '^pg_'"),
    ("pg_largeobject", "c.oid", "c.lomowner", "c.lomacl", "'L'", "pg_largeobject_metadata c", "true"),
)  # fmt: skip
_DATABASE = (
    "SELECT 'pg_database'::regclass AS cat, oid, 0 AS sub, 'database'::text AS kind, 'this database'::text AS name,"
    " datdba AS owner, datacl AS acl, 'd'::\"char\" AS letter FROM pg_database WHERE datname = current_database()"
)


def _all(*, acl: bool, extensions: bool) -> str:
    """SQL for every object that has an owner, its ACL, and acldefault's letter; members of extensions or not."""
    parts = [] if extensions else [_DATABASE]
    for catalog, oid, owner, acl_column, letter, source, where in (*_SCHEMA_OBJECTS, *_OTHER_OBJECTS):
        if acl and acl_column is None:
            continue
        schema = f" AND {user_schema()}" if " n " in f"{source} " and catalog != "pg_namespace" else ""
        member = (
            f"{'' if extensions else 'NOT '}EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass"
            f" AND e.objid = {oid} AND e.deptype = 'e')"
        )
        parts.append(
            f"SELECT '{catalog}'::regclass, {oid}, 0, i.type, i.identity, {owner}, {acl_column or 'NULL'},"
            f" {letter or 'NULL'} FROM {source}, pg_identify_object('{catalog}'::regclass, {oid}, 0) i"
            f" WHERE {where}{schema} AND {member}"
        )
    if parts and not parts[0].startswith("SELECT 'pg_database'"):
        parts[0] = parts[0].replace("::regclass, ", "::regclass AS cat, ", 1)
    return "\nUNION ALL ".join(parts)


_LINK = "o.kind || ' ' || o.name"


def _owners(major: int) -> str:
    return f"""
WITH o AS (SELECT * FROM ({_all(acl=False, extensions=False)}) x)
SELECT {_LINK} AS object, {_LINK} AS "of", (SELECT rolname FROM pg_roles WHERE oid = o.owner) AS owner
FROM o WHERE NOT (o.kind = 'sequence' AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
  AND d.objid = o.oid AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0))"""


_GRANTEES = f"""(SELECT jsonb_object_agg(z.grantee, z.rights) FROM
  (SELECT y.grantee, string_agg(y.right || CASE WHEN y.grantable AND y.grantee <> '{OWNER}' THEN '*' ELSE '' END,
      ', ' ORDER BY y.right) AS rights FROM
    (SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' WHEN {{owner}} THEN '{OWNER}'
       ELSE (SELECT rolname FROM pg_roles WHERE oid = g.grantee) END AS grantee, g.privilege_type AS right,
       bool_or(g.is_grantable) AS grantable FROM aclexplode({{acl}}) g GROUP BY 1, 2) y
    GROUP BY y.grantee) z)"""


def _privileges(major: int) -> str:
    grantees = _GRANTEES.format(owner="o.owner", acl="coalesce(o.acl, acldefault(o.letter, o.owner))")
    columns = _GRANTEES.format(owner="c.relowner", acl="a.attacl")
    parameters = ""
    if major >= 15:
        parameters = f"""
UNION ALL SELECT 'parameter ' || p.parname, NULL, {_GRANTEES.format(owner="10", acl="p.paracl")}
FROM pg_parameter_acl p"""
    return f"""
WITH o AS (SELECT * FROM ({_all(acl=True, extensions=False)}) x)
SELECT {_LINK} AS object, {_LINK} AS "of", {grantees} AS "#map" FROM o
UNION ALL SELECT format('column %I.%I.%I', n.nspname, c.relname, a.attname),
  format('column %I.%I.%I', n.nspname, c.relname, a.attname), {columns}
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {user_schema()}{parameters}"""


_IN_CATALOG: Final = "c.{schema} = 'pg_catalog'::regnamespace AND c.oid < 16384"
_SYSTEM: Final = (  # catalog, its columns of ACL and owner, acldefault's letter, what is the server's own
    ("pg_proc", "proacl", "proowner", "'f'", _IN_CATALOG.format(schema="pronamespace")),
    ("pg_class", "relacl", "relowner", "CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\"",
     _IN_CATALOG.format(schema="relnamespace")),
    ("pg_type", "typacl", "typowner", "'T'", _IN_CATALOG.format(schema="typnamespace")),
    ("pg_namespace", "nspacl", "nspowner", "'n'", "c.nspname = 'pg_catalog'"),
    ("pg_language", "lanacl", "lanowner", "'l'", "false"),
    ("pg_foreign_data_wrapper", "fdwacl", "fdwowner", "'F'", "false"),
    ("pg_foreign_server", "srvacl", "srvowner", "'S'", "false"),
)  # fmt: skip


def _system_privileges(major: int) -> str:
    """What was granted or revoked on objects of the server or of extensions, against how they were installed."""

    def sorted_acl(acl: str) -> str:
        return f"(SELECT array_agg(x::text ORDER BY x::text) FROM unnest({acl}) x)"

    parts = []
    for catalog, acl, owner, letter, ours in _SYSTEM:
        member = f"EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass AND e.objid = c.oid AND e.deptype = 'e')"
        parts.append(f"""
SELECT i.type || ' ' || i.identity AS object, NULL AS "of",
  {_GRANTEES.format(owner=f"c.{owner}", acl="c." + acl)} AS "#map"
FROM {catalog} c LEFT JOIN pg_init_privs p ON p.classoid = '{catalog}'::regclass AND p.objoid = c.oid AND p.objsubid = 0,
  pg_identify_object('{catalog}'::regclass, c.oid, 0) i
WHERE c.{acl} IS NOT NULL AND ({ours} OR {member})
  AND {sorted_acl(f"c.{acl}")} IS DISTINCT FROM {sorted_acl(f"coalesce(p.initprivs, acldefault({letter}, c.{owner}))")}""")
        if catalog == "pg_class":
            parts.append(f"""
SELECT i.type || ' ' || i.identity, NULL, {_GRANTEES.format(owner="c.relowner", acl="a.attacl")}
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_init_privs p ON p.classoid = 'pg_class'::regclass AND p.objoid = c.oid AND p.objsubid = a.attnum,
  pg_identify_object('pg_class'::regclass, c.oid, a.attnum) i
WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND {ours}
  AND {sorted_acl("a.attacl")} IS DISTINCT FROM {sorted_acl("p.initprivs")}""")
    return "\nUNION ALL ".join(parts)


def _default_privileges(major: int) -> str:
    return f"""
SELECT format('for %I on %s', r.rolname, CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences'
    WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END)
    || coalesce(' in schema ' || quote_ident(n.nspname), '') AS object,
  coalesce('schema ' || quote_ident(n.nspname), format('role %I', r.rolname)) AS "of",
  {_GRANTEES.format(owner="d.defaclrole", acl="d.defaclacl")} AS "#map"
FROM pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace"""


def _comments(major: int) -> str:
    return """
SELECT i.type || ' ' || i.identity AS object, i.type || ' ' || i.identity AS "of", d.description AS "text#digest"
FROM pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE (d.objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass AND d.objoid = to_regnamespace('public')
    OR d.classoid = 'pg_largeobject'::regclass)
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
UNION ALL SELECT CASE WHEN d.classoid = 'pg_database'::regclass THEN 'database this database'
    ELSE i.type || ' ' || i.identity END, NULL, d.description
FROM pg_shdescription d, pg_identify_object(d.classoid, d.objoid, 0) i
WHERE d.classoid <> 'pg_database'::regclass AND d.objoid >= 16384
  OR d.objoid = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def _labels(major: int) -> str:
    return """
SELECT l.provider || ' on ' || i.type || ' ' || i.identity AS object, i.type || ' ' || i.identity AS "of",
  l.label AS "label#digest"
FROM (SELECT provider, classoid, objoid, objsubid, label FROM pg_seclabel
      UNION ALL SELECT provider, classoid, objoid, 0, label FROM pg_shseclabel
        WHERE classoid <> 'pg_database'::regclass
          OR objoid = (SELECT oid FROM pg_database WHERE datname = current_database())) l,
  pg_identify_object(l.classoid, l.objoid, l.objsubid) i"""


QUERIES: Final = (
    Query("owner", _owners),
    Query("privileges", _privileges),
    Query("system privileges", _system_privileges),
    Query("default privileges", _default_privileges),
    Query("comment", _comments),
    Query("security label", _labels),
)
