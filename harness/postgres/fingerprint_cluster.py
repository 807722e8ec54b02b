"""Fingerprint of what stands around the tables: database, settings, roles, foreign servers, replication."""

from __future__ import annotations

from typing import Final

from .fingerprint import Query, own

DATABASE: Final = "this database"
ALL_ROLES: Final = "all roles"  # ALTER ROLE ALL SET: for every role in every database
_ROLE = "coalesce((SELECT rolname FROM pg_roles WHERE oid = {}), 'PUBLIC')"


def _database(major: int) -> str:
    provider = "d.datlocprovider::text" if major >= 15 else "'c'"
    locale = {14: "NULL", 15: "d.daticulocale", 16: "d.daticulocale"}.get(major, "d.datlocale")
    rules = "d.daticurules" if major >= 16 else "NULL"
    # Names of locales are written in many ways: C.UTF-8, c.utf8.
    collate, ctype = (f"lower(replace(d.{name}, '-', ''))" for name in ("datcollate", "datctype"))
    return f"""
SELECT '{DATABASE}' AS object, NULL AS "of", pg_encoding_to_char(d.encoding) AS encoding, {provider} AS "locale provider",
  {collate} AS collate, {ctype} AS ctype, {locale} AS locale, {rules} AS "locale rules#digest",
  nullif(d.datconnlimit, -1) AS "connection limit", d.datallowconn AS "allows connections", d.datistemplate AS template,
  nullif(t.spcname, 'pg_default') AS tablespace
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()"""


def _settings(major: int) -> str:
    return f"""
SELECT CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN '{ALL_ROLES}' WHEN s.setrole = 0 THEN '{DATABASE}' ELSE 'role ' || quote_ident(r.rolname)
    || CASE WHEN s.setdatabase = 0 THEN '' ELSE ' in {DATABASE}' END END AS object,
  'role ' || quote_ident(r.rolname) AS "of", s.setconfig AS "setting#settings"
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND (s.setrole = 0 OR r.rolname !~ '^pg_')"""


def _extension_dependencies(major: int) -> str:
    """ALTER ... DEPENDS ON EXTENSION: what goes when the extension is dropped."""
    return """
SELECT i.type || ' ' || i.identity || ' on ' || quote_ident(e.extname) AS object, i.type || ' ' || i.identity AS "of",
  'yes' AS present
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE d.deptype = 'x' AND d.refclassid = 'pg_extension'::regclass"""


def _roles(major: int) -> str:
    return """
SELECT format('%I', r.rolname) AS object, NULL AS "of", r.rolsuper AS superuser, r.rolinherit AS inherit,
  r.rolcreaterole AS "create roles", r.rolcreatedb AS "create databases", r.rolcanlogin AS login,
  r.rolreplication AS replication, r.rolbypassrls AS "bypass row security",
  nullif(r.rolconnlimit, -1) AS "connection limit", r.rolvaliduntil::text AS "valid until"
FROM pg_roles r WHERE r.rolname !~ '^pg_'"""


def _passwords(major: int) -> str:
    return """
SELECT format('%I', r.rolname) AS object, format('role %I', r.rolname) AS "of",
  CASE WHEN r.rolpassword IS NULL THEN 'none' WHEN r.rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram-sha-256'
    WHEN r.rolpassword LIKE 'md5%' THEN 'md5' ELSE 'other' END AS method,
  r.rolpassword AS "verifier (14)#digest"
FROM pg_authid r WHERE r.rolname !~ '^pg_'"""


def _memberships(major: int) -> str:
    more = (
        ', bool_or(m.inherit_option) AS "inherit (16)", bool_or(m.set_option) AS "set (16)"'
        if major >= 16
        else ""
    )
    return f"""
SELECT format('%I in %I', u.rolname, g.rolname) AS object, format('role %I', u.rolname) AS "of",
  bool_or(m.admin_option) AS admin{more}
FROM pg_auth_members m JOIN pg_roles u ON u.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
WHERE u.rolname !~ '^pg_' GROUP BY u.rolname, g.rolname"""


def _tablespaces(major: int) -> str:
    return """
SELECT format('%I', t.spcname) AS object, NULL AS "of", t.spcoptions AS "option#options"
FROM pg_tablespace t WHERE t.spcname !~ '^pg_'"""


def _wrappers(major: int) -> str:
    return f"""
SELECT format('%I', w.fdwname) AS object, NULL AS "of", nullif(w.fdwhandler, 0)::regprocedure::text AS handler,
  nullif(w.fdwvalidator, 0)::regprocedure::text AS validator, w.fdwoptions AS "option#options"
FROM pg_foreign_data_wrapper w WHERE {own("pg_foreign_data_wrapper", "w.oid")}"""


def _servers(major: int) -> str:
    return f"""
SELECT format('%I', s.srvname) AS object, NULL AS "of", w.fdwname AS wrapper, s.srvtype AS type, s.srvversion AS version,
  s.srvoptions AS "option#options"
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
WHERE {own("pg_foreign_server", "s.oid")}"""


def _user_mappings(major: int) -> str:
    return """
SELECT format('%I on %I', coalesce(r.rolname, 'public'), s.srvname) AS object,
  format('foreign server %I', s.srvname) AS "of", 'yes' AS present, m.umoptions AS "option#secrets"
FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = m.umserver LEFT JOIN pg_roles r ON r.oid = m.umuser"""


def _publications(major: int) -> str:
    if major >= 15:
        tables = """(SELECT jsonb_object_agg(r.prrelid::regclass::text, concat_ws(' ', 'all rows'
      || coalesce(' where ' || pg_get_expr(r.prqual, r.prrelid), ''), 'columns '
      || (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname) FROM pg_attribute a
          WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs))))
    FROM pg_publication_rel r WHERE r.prpubid = p.oid) AS "table#map",
  (SELECT array_agg(n.nspname ORDER BY n.nspname) FROM pg_publication_namespace s
    JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid) AS schemas"""
    else:
        tables = """(SELECT jsonb_object_agg(r.prrelid::regclass::text, 'all rows')
    FROM pg_publication_rel r WHERE r.prpubid = p.oid) AS "table#map" """
    generated = ", nullif(p.pubgencols::text, 'n') AS \"generated columns\"" if major >= 18 else ""
    return f"""
SELECT format('%I', p.pubname) AS object, NULL AS "of", p.puballtables AS "all tables", p.pubinsert AS "insert",
  p.pubupdate AS "update", p.pubdelete AS "delete", p.pubtruncate AS "truncate", p.pubviaroot AS "via root",
  {tables}{generated}
FROM pg_publication p WHERE {own("pg_publication", "p.oid")}"""


def _subscriptions(major: int) -> str:
    # Enabled is left out: a restored subscription is off until somebody switches it on.
    more = "".join(
        f', {column} AS "{name} ({since})"'
        for since, name, column in (
            (15, "disable on error", "s.subdisableonerr"),
            (15, "two phase", "s.subtwophasestate <> 'd'"),
            (16, "origin", "s.suborigin"),
            (16, "password required", "s.subpasswordrequired"),
            (16, "run as owner", "s.subrunasowner"),
            (17, "failover", "s.subfailover"),
        )
        if major >= since
    )
    stream = "CASE s.substream::text WHEN 'f' THEN 'false' WHEN 't' THEN 'true' ELSE s.substream::text END"
    return f"""
SELECT format('%I', s.subname) AS object, NULL AS "of",
  (SELECT array_agg(x ORDER BY x) FROM unnest(s.subpublications) x) AS publications,
  s.subslotname::text AS slot, s.subsynccommit AS "synchronous commit", s.subbinary AS "binary", {stream} AS streaming{more}
FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def _subscription_connections(major: int) -> str:
    return """
SELECT format('%I', s.subname) AS object, format('subscription %I', s.subname) AS "of", s.subconninfo AS "parameter#conninfo"
FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""


QUERIES: Final = (
    Query("database", _database),
    Query("setting", _settings),
    Query("extension dependency", _extension_dependencies),
    Query("role", _roles),
    Query("role password", _passwords),
    Query("membership", _memberships),
    Query("tablespace", _tablespaces),
    Query("foreign-data wrapper", _wrappers),
    Query("foreign server", _servers),
    Query("user mapping", _user_mappings),
    Query("publication", _publications),
    Query("subscription", _subscriptions),
    Query("subscription connection", _subscription_connections),
)
# Classes whose catalogs not everybody may read (pg_read_all_data may), and the column that must be readable.
RESTRICTED: Final = {
    "role password": ("pg_catalog.pg_authid", "rolpassword"),
    "user mapping": ("pg_catalog.pg_user_mapping", "umoptions"),
    "subscription connection": ("pg_catalog.pg_subscription", "subconninfo"),
}
