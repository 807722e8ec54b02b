"""What single statements of a dump say: which database, table, extension or sequence they are about."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_QUOTED: Final = rb'"(?:[^"]|"")+"'
NAME: Final = rb"(?:" + _QUOTED + rb'|[^\s."(]+)'
_TABLE: Final = rb"(?P<table>(?P<schema>" + NAME + rb")\." + NAME + rb")"
_NAMED: Final = rb"(?P<name>" + NAME + rb")"
_CREATE_DATABASE: Final = re.compile(rb"\s*CREATE DATABASE (" + _QUOTED + rb"|\S+)", re.I)
_DROP_DATABASE: Final = re.compile(rb"\s*DROP DATABASE (?:IF EXISTS )?(" + _QUOTED + rb"|[^\s;]+)", re.I)
_TABLESPACE: Final = re.compile(
    rb"CREATE TABLESPACE (" + _QUOTED + rb"|\S+) (?:OWNER (?:" + _QUOTED + rb"|\S+) )?LOCATION ", re.I
)
_ROLE: Final = re.compile(
    rb"ALTER (?:ROLE|USER) (" + _QUOTED + rb"|\S+)\s+(?!SET\s|RESET\s|IN\s+DATABASE\s)", re.I
)
_LOCALE: Final = re.compile(
    rb" (LOCALE|LC_COLLATE|LC_CTYPE|ICU_LOCALE|BUILTIN_LOCALE|COLLATION_VERSION|ICU_RULES) = '(?:[^']|'')*'",
    re.I,
)
_PROVIDER: Final = re.compile(rb" LOCALE_PROVIDER = \w+", re.I)
_ENCODING: Final = re.compile(rb"\bENCODING = '?(\w+)'?", re.I)
_CREATE_EXTENSION: Final = re.compile(
    rb"CREATE EXTENSION (?:IF NOT EXISTS )?(" + _QUOTED + rb"|[\w-]+)", re.I
)
_INSERT: Final = re.compile(rb"INSERT INTO (?:ONLY )?(" + NAME + rb"(?:\." + NAME + rb")?)", re.I)
VALUES: Final = re.compile(rb"INSERT INTO [^']*?\bVALUES\b", re.I)  # an INSERT of at least one row
_ALONE: Final = re.compile(NAME.decode())
_INDEX: Final = re.compile(rb"CREATE (?:UNIQUE )?INDEX " + _NAMED + rb" ON " + _TABLE + rb" USING ", re.I)
_CONSTRAINT: Final = rb"ALTER TABLE (?:ONLY )?" + _TABLE + rb"\s+ADD CONSTRAINT " + _NAMED
_KEY: Final = re.compile(_CONSTRAINT + rb" (?:PRIMARY KEY|UNIQUE|EXCLUDE)\b", re.I)
_FOREIGN_KEY: Final = re.compile(
    _CONSTRAINT + rb" FOREIGN KEY\b(?!.*\bNOT (?:VALID|ENFORCED)\b)", re.I | re.S
)
_TRANSACTION: Final = re.compile(
    rb"(?:(BEGIN|START\s+TRANSACTION)|COMMIT|END|ABORT|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b))\b",
    re.I,
)
_SETVAL: Final = re.compile(
    rb"SELECT (?:pg_catalog\.)?setval\('((?:[^']|'')+)', (-?\d+)(?:, (true|false))?", re.I
)
_SETTING: Final = re.compile(
    rb"SET (?:SESSION (?!AUTH))?(?:(default_tablespace|client_encoding|standard_conforming_strings)"
    rb"\s*(?:=|\sTO\s)\s*'?([^';]*)'?|(ROLE|SESSION AUTHORIZATION) (\S+))",
    re.I,
)
_CONNECT: Final = re.compile(
    r'\\c(?:onnect)?\s+(?:-reuse-previous=\w+\s+)?("(?:[^"]|"")+"|\'(?:[^\']|\'\')+\'|\S+)'
)
_DBNAME: Final = re.compile(r"dbname=(?:'((?:[^'\\]|\\.)*)'|(\S+))")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ?(\S*)")
_OFFSET: Final = re.compile(r"([+-]\d\d):?(\d\d)?")
# Abbreviations whose offset is the same wherever they are used; others (CST, IST ...) are ambiguous.
_ZONES: Final = {"UTC": 0, "GMT": 0, "Z": 0, "BRT": -3, "BRST": -2, "EST": -5, "EDT": -4, "PST": -8,
                 "PDT": -7, "MDT": -6, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2,
                 "EEST": 3}  # fmt: skip


def unquoted(name: bytes) -> str:
    """A name as the catalog stores it."""
    text = name.decode("utf-8", "replace")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def created_database(sql: bytes) -> str | None:
    """Name of the database that a CREATE DATABASE makes."""
    found = _CREATE_DATABASE.match(sql)
    return unquoted(found[1]) if found else None


def dropped_database(sql: bytes) -> str | None:
    """Name of the database that a DROP DATABASE removes."""
    found = _DROP_DATABASE.match(sql)
    return unquoted(found[1]) if found else None


def created_tablespace(sql: bytes) -> str | None:
    """Name of the tablespace that a CREATE TABLESPACE makes in a folder of the source's machine."""
    found = _TABLESPACE.match(sql)
    return unquoted(found[1]) if found else None


def altered_role(sql: bytes) -> str | None:
    """Name of the role whose attributes (password, login ...) an ALTER ROLE changes; not of its settings."""
    found = _ROLE.match(sql)
    return unquoted(found[1]) if found else None


def without_locale(sql: bytes) -> bytes:
    """A CREATE DATABASE without its locale, for a server that lacks it."""
    bare = _LOCALE.sub(b"", _PROVIDER.sub(b"", sql))
    encoding = _ENCODING.search(bare)
    if encoding and encoding[1].upper() != b"UTF8":
        return bare + b" LOCALE = 'C'"  # the only one that goes with every encoding
    return bare


def created_extension(sql: bytes) -> str | None:
    """Name of the extension that a CREATE EXTENSION wants."""
    found = _CREATE_EXTENSION.match(sql)
    return unquoted(found[1]) if found else None


def is_insert(sql: bytes) -> bool:
    """Whether a statement is an INSERT: asked for apart, since a dump may hold millions of them."""
    return sql[:12].upper() == b"INSERT INTO "


def insert_target(sql: bytes, schema: str | None = None) -> str | None:
    """Table of an INSERT as it is written there; in `schema`, where it names none."""
    found = _INSERT.match(sql)
    return within(found[1].decode("utf-8", "replace"), schema) if found else None


def within(name: str, schema: str | None) -> str:
    """A name as written, with a schema where it has none of its own."""
    return f"{schema}.{name}" if schema and _ALONE.fullmatch(name) else name


def built(sql: bytes) -> tuple[str, str] | None:
    """Table that a CREATE INDEX or ADD PRIMARY KEY / UNIQUE / EXCLUDE is for, and the index it makes, both as
    written, with their schema.

    Names without a schema give None: what they mean depends on the search_path.
    """
    if (found := _INDEX.match(sql) or _KEY.match(sql)) is None:
        return None
    table, schema, name = (found[part].decode("utf-8", "replace") for part in ("table", "schema", "name"))
    return table, f"{schema}.{name}"


def foreign_key(sql: bytes) -> tuple[bytes, bytes] | None:
    """Table (with its schema) and name, as written, of a foreign key whose rows are to be looked at."""
    found = _FOREIGN_KEY.match(sql)
    return (found["table"], found["name"]) if found else None


def opens_transaction(sql: bytes) -> bool | None:
    """True for what begins a transaction of the text's own, False for what ends it; None for all else."""
    found = _TRANSACTION.match(sql)
    return bool(found[1]) if found else None


def set_sequence(sql: bytes) -> tuple[str, int, bool] | None:
    """Sequence (as written), value and is_called of a setval() call."""
    found = _SETVAL.match(sql)
    if not found:
        return None
    called = (found[3] or b"true").lower() == b"true"
    return found[1].decode("utf-8", "replace").replace("''", "'"), int(found[2]), called


def keeps_order(sql: bytes) -> tuple[bytes, bool] | None:
    """For a SET of tablespace, encoding, quotes or role: which, and whether what follows depends on it."""
    found = _SETTING.match(sql)
    if not found:
        return None
    name, value = (found[1], found[2]) if found[1] else (found[3], found[4])
    usual = ("", "UTF8", "UTF-8", "ON", "NONE", "DEFAULT")
    return name.lower(), value.decode("utf-8", "replace").strip("'\"").upper() not in usual


def client_encoding(sql: bytes) -> str | None:
    """Encoding that a SET client_encoding names, in capitals."""
    found = _SETTING.match(sql)
    if not found or (found[1] or b"").lower() != b"client_encoding":
        return None
    return found[2].decode("ascii", "replace").strip("'\"").upper()


def connect_target(text: str) -> str | None:
    r"""Database named by a `\connect` line, None for any other meta-command."""
    found = _CONNECT.match(text)
    if not found:
        return None
    name = found[1]
    if name[0] in "\"'":
        name = name[1:-1].replace(name[0] * 2, name[0])
    inner = _DBNAME.search(name)
    if inner:
        name = re.sub(r"\\(.)", r"\1", inner[1]) if inner[1] is not None else inner[2]
    return None if name == "-" else name  # "-": the same database again


def parse_time(text: str | None) -> datetime | None:
    """`2026-11-24 00:28:38 UTC` as pg_dump writes it; None when the zone's offset is not known for sure."""
    found = _TIME.fullmatch((text or "").strip())
    if not found:
        return None
    zone = found[2]
    offset = _OFFSET.fullmatch(zone)
    if zone in _ZONES:
        shift = timedelta(hours=_ZONES[zone])
    elif offset:
        minutes = int(offset[2] or 0) * (-1 if zone.startswith("-") else 1)
        shift = timedelta(hours=int(offset[1]), minutes=minutes)
    else:
        return None
    try:
        return (datetime.fromisoformat(found[1]) - shift).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
