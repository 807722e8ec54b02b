"""Every catalog object of a database by class, as short canonical properties: the source's definition.

`fingerprint` returns {class: {object: {property: text}}}. It is free of OIDs and of anything that depends on
session settings, and equal on PostgreSQL 14 to 18 for equal definitions. Long texts, bodies, comments and
whatever may hold a secret appear only as keyed digests (`key` is random per manifest), so a manifest tells
that something differs without telling what it was.

Each class is one query in a sibling module. Its columns: `object` (the identity), `of` (the object it belongs
to, as "class identity", or NULL), every other one a property. NULL means "does not apply" and leaves the
property out. A suffix of the column's name says how its value is written (`_WRITERS`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from .canonical import canonical, unqualified

Connection = psycopg.Connection[tuple[Any, ...]]
Properties = dict[str, str]
Objects = dict[str, dict[str, Properties]]

# Properties that begin with @ say where an object stands; they are not compared one by one.
OF: Final = "@of"  # the object this one belongs to, as "class identity"
POSITION: Final = "@position"  # of a column among the others of its table
SHORT: Final = 160  # longer texts become digests
BARE: Final = " (unqualified)"

# Everything that changes how the server prints a value or a definition (FACTS.md, PostgreSQL), or what it spends.
PINS: Final[Mapping[str, str]] = {
    "search_path": "",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "row_security": "off",
    "synchronize_seqscans": "off",
    "client_encoding": "UTF8",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",  # a live source gives no more cores than connections
}

_SECRET: Final = re.compile(r"passw|secret|key|token|credential|passfile|auth|private", re.I)


@dataclass(frozen=True)
class Query:
    """One class of objects: its SQL for a server's major version."""

    name: str
    sql: Callable[[int], str]


def pin(conn: Connection) -> int:
    """Pin every setting that changes how things print, for this session; returns the server's major."""
    pins = {**PINS, "transaction_timeout": "0"} if conn.info.server_version >= 170000 else PINS
    names = ", ".join(f"pg_catalog.set_config('{name}', '{value}', false)" for name, value in pins.items())
    run(conn, f"SELECT {names}")
    return conn.info.server_version // 10000


def limit(conn: Connection, timeout_s: float) -> None:
    """No statement of this session may take longer (0: no limit)."""
    run(conn, f"SELECT pg_catalog.set_config('statement_timeout', '{int(timeout_s * 1000)}', false)")


def run(conn: Connection, query: str, *params: object) -> list[tuple[Any, ...]]:
    """All rows of a query that is written in this package (never built from a dump's text)."""
    with conn.cursor() as cursor:
        return cursor.execute(query.encode(), params or None).fetchall()


def keyed(key: bytes, text: str) -> str:
    """Digest of a text that must not be readable from the manifest."""
    return "hmac:" + hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def fingerprint(conn: Connection, key: bytes, *, skip: Collection[str] = ()) -> Objects:
    """The definition of everything in the connected database, plus the cluster's roles and tablespaces.

    Reads only catalogs. `skip` names classes that this role may not read (`fingerprint_cluster.RESTRICTED`).
    """
    from .fingerprint_cluster import QUERIES as CLUSTER
    from .fingerprint_code import QUERIES as CODE
    from .fingerprint_relations import QUERIES as RELATIONS
    from .fingerprint_rights import QUERIES as RIGHTS

    major = pin(conn)
    found: Objects = {}
    for query in (*RELATIONS, *CODE, *CLUSTER, *RIGHTS):
        if query.name in skip:
            continue
        text = query.sql(major)
        with conn.cursor() as cursor:
            cursor.execute(text.encode())
            names = [column.name for column in cursor.description or ()]
            objects = found.setdefault(query.name, {})
            for row in cursor:
                objects[str(row[0])] = _properties(names, row, key)
    return found


def object_digest(properties: Mapping[str, str]) -> str:
    """SHA-256 over an object's canonical text."""
    compared = {name: value for name, value in properties.items() if name != OF}
    return hashlib.sha256(json.dumps(compared, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _properties(names: list[str], row: tuple[Any, ...], key: bytes) -> Properties:
    made: Properties = {}
    for column, value in zip(names[1:], row[1:], strict=True):
        if value is None:
            continue
        if column == "of":
            made[OF] = str(value)
            continue
        name, _, style = column.partition("#")
        _WRITERS[style](made, name, value, key)
    return made


def _plain(made: Properties, name: str, value: Any, key: bytes) -> None:
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list):
        text = ", ".join(map(str, value))
    else:
        text = canonical(str(value))
    made[name] = text if len(text) <= SHORT else keyed(key, text)


def _digest(made: Properties, name: str, value: Any, key: bytes) -> None:
    made[name] = keyed(key, str(value).replace("\r\n", "\n"))  # a dump may have passed through Windows


def _query(made: Properties, name: str, value: Any, key: bytes) -> None:
    """A query's text: from 16 on the server leaves out qualifiers that 15 prints, so both are kept."""
    text = canonical(" ".join(str(value).split()).removesuffix(";"))
    made[name] = keyed(key, text)
    made[name + BARE] = keyed(key, unqualified(text))


def _options(made: Properties, name: str, value: Any, key: bytes) -> None:
    """`name=value` texts in any order, one property each; what looks like a secret only as a digest."""
    for item in value:
        option, _, text = str(item).partition("=")
        made[f"{name} {option}"] = keyed(key, text) if _SECRET.search(option) or len(text) > SHORT else text


def _settings(made: Properties, name: str, value: Any, key: bytes) -> None:
    """Like options; settings of a program's own (`app.jwt`) are digests too."""
    for item in value:
        setting, _, text = str(item).partition("=")
        secret = "." in setting or _SECRET.search(setting) or len(text) > SHORT
        made[f"{name} {setting}"] = keyed(key, text) if secret else text


def _secrets(made: Properties, name: str, value: Any, key: bytes) -> None:
    for item in value:
        option, _, text = str(item).partition("=")
        made[f"{name} {option}"] = keyed(key, text)


def _conninfo(made: Properties, name: str, value: Any, key: bytes) -> None:
    try:
        parts = conninfo_to_dict(str(value))
    except psycopg.Error:
        made[name] = keyed(key, str(value))
        return
    _options(made, name, [f"{part}={text}" for part, text in parts.items()], key)


def _map(made: Properties, name: str, value: Any, key: bytes) -> None:
    for item, text in value.items():
        _plain(made, f"{name} {item}".strip(), text, key)


_WRITERS: Final[dict[str, Callable[[Properties, str, Any, bytes], None]]] = {
    "": _plain,
    "digest": _digest,
    "query": _query,
    "options": _options,
    "settings": _settings,
    "secrets": _secrets,
    "conninfo": _conninfo,
    "map": _map,
}


# Pieces of SQL that several classes share.


def user_schema(alias: str = "n") -> str:
    """Condition: not a schema of the server itself."""
    return (
        f"{alias}.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        f" AND {alias}.nspname !~ '^pg_(toast_)?temp_'"
    )


def own(catalog: str, oid: str) -> str:
    """Condition: not a member of an extension (those come with it)."""
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass"
        f" AND e.objid = {oid} AND e.deptype = 'e')"
    )


def relation_class(alias: str = "c") -> str:
    """SQL for a relation's class and name, as the `of` of what belongs to it."""
    return (
        f"CASE {alias}.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'"
        f" WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'c' THEN 'type'"
        f" ELSE 'table' END || ' '"
        f" || format('%I.%I', (SELECT nspname FROM pg_namespace WHERE oid = {alias}.relnamespace), {alias}.relname)"
    )


def identity(catalog: str, oid: str, sub: str = "0") -> str:
    """SQL for an object's identity as the server writes it: free of OIDs, every name qualified."""
    return f"(pg_identify_object('{catalog}'::regclass, {oid}, {sub})).identity"
