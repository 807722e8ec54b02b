"""What a server's refusal of a statement means, in words that quote no values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors

from .dump import Entry

_DROPS: Final = re.compile(
    rb"\s*(DROP\s|ALTER TABLE .*?\sDROP (CONSTRAINT|COLUMN)\s|ALTER TABLE .*?\sALTER COLUMN .*?\sDROP\s"
    rb"|ALTER \w+ .*?\sDROP\s|SELECT pg_catalog\.lo_unlink\()",
    re.I | re.S,
)
_ABSENT: Final = (
    errors.UndefinedObject,
    errors.UndefinedTable,
    errors.UndefinedFunction,
    errors.InvalidSchemaName,
    errors.InvalidCatalogName,
    errors.UndefinedColumn,
)
# Messages of these hold catalog names only; those of others may quote values.
_QUOTABLE: Final = (
    *_ABSENT,
    errors.DuplicateObject,
    errors.DuplicateTable,
    errors.DuplicateSchema,
    errors.DuplicateFunction,
    errors.DuplicateDatabase,
    errors.FeatureNotSupported,
    errors.InsufficientPrivilege,
    errors.UndefinedFile,
    errors.WrongObjectType,
    errors.DependentObjectsStillExist,
)
_ROLE: Final = re.compile(r'role "(.+)" does not exist')
_TABLESPACE: Final = re.compile(
    r'(?:tablespace|invalid value for parameter "default_tablespace":) "(.+?)"(?: does not exist)?$'
)
# What Debian's 15.20 puts on every column by itself; its own pg_dump leaves it out, a newer one does not.
_STAMP: Final = re.compile(rb"ALTER \w[\w ]* .+ ALTER COLUMN .+ SET \(pg_attver=\d+\)\Z", re.S)
_VERBS: Final = {
    b"CREATE",
    b"ALTER",
    b"DROP",
    b"SET",
    b"COPY",
    b"COMMENT",
    b"GRANT",
    b"REVOKE",
    b"INSERT",
    b"SELECT",
}
_LABEL_WORDS: Final = 4
_LITERAL: Final = re.compile(rb"['$(]")  # values may begin here


@dataclass(frozen=True)
class Failure:
    """A statement that the server did not take. `what` names the object, `why` has no values in it.

    `kind`: "error" (something is missing now), "harmless" (nothing is), "refused" (never sent, see
    hostile.py), "lacking" (this server lacks a file or feature that the source's server had). `type` is the
    TOC entry's type, "" without one.
    """

    line: int
    what: str
    why: str
    sqlstate: str
    kind: str
    type: str = ""


def failure(line: int, entry: Entry | None, statement: bytes, error: psycopg.Error) -> Failure:
    """The record of a statement that the server refused."""
    if statement[:4].upper() == b"SET ":
        entry = None  # it stands between two
    kind = "error"
    if harmless(statement, error):
        kind = "harmless"
    elif isinstance(error, errors.UndefinedFile) or (
        isinstance(error, errors.FeatureNotSupported) and _LACKS.search(error.diag.message_primary or "")
    ):
        kind = "lacking"
    return Failure(
        line, label(entry, statement), explain(error), error.sqlstate or "", kind, entry.type if entry else ""
    )


_COUNTS: Final = (  # settings that the meaning of what follows hangs on
    b"SET ROLE", b"SET SESSION AUTH", b"SET CLIENT_ENCODING", b"SET STANDARD_CONFORMING",
    b"SET DEFAULT_TABLE_ACCESS_METHOD",
)  # fmt: skip
_LACKS: Final = re.compile(
    r"extension .* is not available|not supported by this build|ICU is not supported"
    r"|not supported on this platform|unsupported XML feature"
    r"|compression method .* not supported|locale provider"
)


def harmless(statement: bytes, error: psycopg.Error) -> bool:
    """True for errors that every good dump may cause in a fresh server, so nothing is missing afterwards.

    A parameter of another version (pg_dump 17's `SET transaction_timeout` on 15), dropping what is not
    there (`--clean` without `--if-exists`), creating the role, schema or language every server has.
    """
    head = statement[:200].lstrip().upper()
    if head.startswith(b"SET ") and isinstance(
        error, errors.UndefinedObject | errors.CantChangeRuntimeParam | errors.InvalidParameterValue
    ):
        return not head.startswith(_COUNTS)
    if isinstance(error, errors.InvalidParameterValue) and _STAMP.match(statement):
        return True
    if isinstance(error, _ABSENT) and _DROPS.match(statement):
        return True
    # DROP DATABASE of the sandbox's own, or of a database the cluster dump is about to fill
    if isinstance(error, errors.ObjectInUse | errors.WrongObjectType) and head.startswith(b"DROP DATABASE"):
        return True
    # the role that runs the restore cannot be dropped, and need not be
    if head.startswith((b"DROP ROLE", b"DROP USER")):
        return True
    if isinstance(error, errors.DuplicateObject) and head.startswith(
        (b"CREATE ROLE", b"CREATE USER", b"CREATE PROCEDURAL LANGUAGE", b"CREATE EXTENSION")
    ):
        return True
    return isinstance(error, errors.DuplicateSchema) and head.startswith(b"CREATE SCHEMA PUBLIC")


def lacked(error: psycopg.Error) -> tuple[str, str] | None:
    """The role or tablespace ("role" or "tablespace", name) whose absence a statement failed for."""
    if not isinstance(error, errors.UndefinedObject | errors.InvalidParameterValue):
        return None
    message = error.diag.message_primary or ""
    if found := _ROLE.search(message):
        return "role", found[1]
    found = _TABLESPACE.search(message)
    return ("tablespace", found[1]) if found else None


def explain(error: psycopg.Error) -> str:
    """What the server complained about, without any value it may have quoted."""
    if isinstance(error, _QUOTABLE) and error.diag.message_primary:
        return error.diag.message_primary.splitlines()[0][:200]
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    places = (
        ("table", error.diag.table_name),
        ("column", error.diag.column_name),
        ("constraint", error.diag.constraint_name),
        ("type", error.diag.datatype_name),
    )
    place = ", ".join(f"{word} {value}" for word, value in places if value)
    return f"{name}{' in ' + place if place else ''} (SQLSTATE {error.sqlstate or 'none'})"


def label(entry: Entry | None, statement: bytes) -> str:
    """What a statement is about: its TOC entry, else its first words when those are catalog names."""
    if entry:
        return f"{entry.type} {entry.schema + '.' if entry.schema else ''}{entry.name}"
    words = _LITERAL.split(statement[:160])[0].split()
    if not words or words[0].upper() not in _VERBS:
        return "a statement"
    return b" ".join(words[:_LABEL_WORDS]).decode("utf-8", "replace")
