"""Rows that the file has as INSERT statements, compared value by value with what the server holds.

What a trigger, a rule or a later statement does to a row on its way shows here. Values are read from the
text as literals (`literals`) and compared as COPY text. Where that differs the server's own way of writing
them decides: they are put into a temporary table of the same columns, without triggers, rules and defaults.
What cannot be read so stands under "unproven", with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql

from . import literals, patterns, source
from .blocks import Group
from .dump import Meta, Statement, read_dump
from .pool import Connection
from .proof import connect, read_rows
from .restore import HOME, RestoredPostgres
from .rows import Multiset, normaliser
from .truth import known, once

_STRINGS: Final = re.compile(rb"SET\s+standard_conforming_strings\s*(?:=|TO)\s*'?(off|on)", re.I)
_FITTING: Final = {  # kinds of literals that mean the same as COPY text in columns of these types only
    "boolean": ("boolean",),
    "bits": ("bit", "bit varying"),
    "number": ("real", "double precision", "numeric"),
}
# Why the values of a table's INSERTs were not compared, as sentences for "unproven".
_COMPUTED: Final = (
    "{}: rows written as INSERT with values that the server computes (functions, casts, queries) were"
    " counted, not compared"
)
_OF_ANOTHER_TYPE: Final = (
    "{}: rows written as INSERT with values of another type than their columns were counted, not compared"
)
_MIXED: Final = (
    "{}: rows written as INSERT that name other columns from one to the next were counted, not compared"
)
_BESIDE_COPY: Final = "{}: rows written as INSERT beside COPY data were counted, not compared"
_BY_PARTS: Final = (
    "{}: rows written as INSERT into a partitioned table and into its parts were counted, not compared"
)
_NOT_TAKEN: Final = (
    "{}: rows written as INSERT in a form that the server does not take as text were counted, not compared"
)
_SHOWN: Final = 5
_STAGE: Final = "provado_rows"


@dataclass
class Written:
    """The rows of one table as the file's INSERTs have them; `why` says what keeps them from being read.

    `table` are all of the table's columns: name, whether generated, type.
    """

    group: Group
    table: list[tuple[str, bool, str]]
    columns: tuple[str, ...] = ()  # those that the INSERTs fill
    rows: Multiset = field(default_factory=Multiset)
    why: str | None = None
    negative_zeros: int = 0
    plans: dict[object, tuple[int, ...]] = field(default_factory=dict)


def differing(subject: RestoredPostgres, every: Iterable[Group]) -> Iterator[tuple[Group, str]]:
    """Tables whose rows in the server are not those of the file's INSERTs, with what differs."""
    for one in _written(subject, every):
        if one.why is None and one.columns and (why := _difference(subject, one)):
            yield one.group, why


def negative_zeros(subject: RestoredPostgres, every: Iterable[Group]) -> Iterator[tuple[Group, int]]:
    """Tables with values that stand in the file as -0 and were stored as 0, with how many."""
    for one in _written(subject, every):
        if one.negative_zeros:
            yield one.group, one.negative_zeros


def compared(subject: RestoredPostgres, every: Iterable[Group]) -> bool:
    """Whether the values of at least one table's INSERTs were compared (`differing` did it)."""
    return any(one.why is None and one.columns for one in _written(subject, every))


def unproven(subject: RestoredPostgres) -> Iterator[str]:
    """What of the INSERTs was not compared, by the reason; all of it as long as `differing` did not run."""
    names: dict[str, list[str]] = {}
    for one in known(subject, "inserts", list[Written]()):
        if one.why:
            names.setdefault(one.why, []).append(one.group.name)
    for why, tables in names.items():
        more = f" (+ {len(tables) - _SHOWN})" if len(tables) > _SHOWN else ""
        yield why.format(", ".join(tables[:_SHOWN]) + more)


def _difference(subject: RestoredPostgres, one: Written) -> str | None:
    assert subject.server is not None  # noqa: S101 - rows were loaded into it
    with connect(subject.server, one.group.database) as conn:
        held = _stored(subject, conn, one, one.group.schema, one.group.table)
        if one.rows.same(held):
            return None
        try:
            _stage(subject, conn, one)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError):
            one.why = _NOT_TAKEN
            return None
        wanted = _stored(subject, conn, one, "pg_temp", _STAGE)
    if wanted.same(held):
        return None
    lost, extra = wanted.missing(held), held.missing(wanted)
    if lost is None or extra is None:
        return f"{wanted.rows:,} rows in the file, {held.rows:,} in the server"
    return f"{lost:,} of {wanted.rows:,} rows differ or are missing, {extra:,} are not the file's"


def _written(subject: RestoredPostgres, every: Iterable[Group]) -> list[Written]:
    return once(subject, "inserts", lambda: _read(subject, every))


def _read(subject: RestoredPostgres, every: Iterable[Group]) -> list[Written]:
    """One pass over the file for the rows of all tables that have INSERTs."""
    groups = {
        (g.database, *place): g for g in every if g.inserts for place in ((g.schema, g.table), *g.parts)
    }
    found: dict[tuple[str, str | None, str], Written] = {}
    names: dict[tuple[str, str], Written] = {}
    for database, target in subject.loaded.inserted:
        key = (database, *subject.loaded.places.get((database, target), (None, "")))
        if key in groups:
            if key not in found:
                with subject.connect(database) as conn:
                    found[key] = Written(groups[key], _columns(conn, groups[key].written))
                found[key].why = _BESIDE_COPY if found[key].group.indexes else None
                if found[key].group.parts:
                    found[key].why = _BY_PARTS
            if found[key].table:  # else its rows hold nothing that could differ
                names[database, target] = found[key]
    ways = {}
    for one, lines in _lines(subject, names) if names else ():
        if id(one) not in ways:
            with subject.connect(one.group.database) as conn:
                ways[id(one)] = normaliser(conn, one.group.written, one.columns)
        one.rows.add([lines], ways[id(one)])
    return list(found.values())


def _columns(conn: Connection, table: str) -> list[tuple[str, bool, str]]:
    return conn.execute(
        "SELECT attname, attgenerated <> '', format_type(atttypid, NULL) FROM pg_catalog.pg_attribute"
        " WHERE attrelid = pg_catalog.to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (table,),
    ).fetchall()


def _lines(
    subject: RestoredPostgres, names: dict[tuple[str, str], Written]
) -> Iterator[tuple[Written, bytes]]:
    """The rows of every INSERT into these tables as COPY text, until a table's cannot be read (`why`)."""
    database, backslashes = HOME, False
    with source.sql_text(subject.artifact, subject.ctx, "compare rows") as text:
        for item in read_dump(text):
            if isinstance(item, Meta):
                database = patterns.connect_target(item.text) or database
            elif isinstance(item, Statement) and patterns.is_insert(item.sql):
                one = names.get((database, patterns.insert_target(item.utf8, item.schema) or ""))
                if one and one.why is None and (lines := _copy_text(one, item, backslashes)):
                    yield one, lines
            elif isinstance(item, Statement) and (switch := _STRINGS.match(item.sql)):
                backslashes = switch[1].lower() == b"off"


def _copy_text(one: Written, item: Statement, backslashes: bool) -> bytes:
    named = literals.columns(item.utf8)
    found = literals.rows(item.sql, item.codec, backslashes=backslashes)
    if named is None or found is None:
        one.why = _COMPUTED
        return b""
    lines = []
    for row in found:
        key = named, len(row.fields), row.kinds
        plan = one.plans.get(key)
        if plan is None:
            plan = one.plans[key] = _plan(one, named, row)
        if one.why:
            return b""
        one.negative_zeros += sum(kind == literals.NEGATIVE_ZERO for _, kind in row.kinds)
        lines.append(b"\t".join([row.fields[i] or b"" for i in plan]) + b"\n")
    return b"".join(lines)


def _plan(one: Written, named: tuple[str, ...], row: literals.Values) -> tuple[int, ...]:
    """Which of a row's values are compared: all but DEFAULT for generated columns."""
    names = named or tuple(name for name, _, _ in one.table[: len(row.fields)])
    about = {name: (generated, kind) for name, generated, kind in one.table}
    odd = dict(row.kinds)
    if len(names) != len(row.fields) or not set(names) <= about.keys():
        one.why = _MIXED
        return ()
    kept = []
    for i, name in enumerate(names):
        generated, kind = about[name]
        if odd.get(i) == "default":
            one.why = one.why or (None if generated else _COMPUTED)
            continue
        if kind not in _FITTING.get(odd.get(i, ""), (kind,)):
            one.why = _OF_ANOTHER_TYPE
        kept.append(i)
    columns = tuple(names[i] for i in kept)
    one.columns = one.columns or columns
    if sorted(one.columns) != sorted(columns):
        one.why = _MIXED
        return ()
    return tuple(kept[columns.index(name)] for name in one.columns)


def _stored(
    subject: RestoredPostgres, conn: Connection, one: Written, schema: str | None, table: str
) -> Multiset:
    assert subject.server is not None  # noqa: S101 - see the caller
    found = Multiset()
    encoding = subject.facts_of_file.encoding or "UTF8"
    read = read_rows(conn, subject.server, schema, table, one.columns, encoding)
    found.add(read, normaliser(conn, one.group.written, one.columns))
    return found


def _stage(subject: RestoredPostgres, conn: Connection, one: Written) -> None:
    """Put the file's rows into a temporary table of the same columns. Raises psycopg.Error."""
    stage = sql.Identifier("pg_temp", _STAGE)
    names = sql.SQL(", ").join(map(sql.Identifier, one.columns))
    conn.execute(
        sql.SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} LIMIT 0").format(
            sql.Identifier(_STAGE), names, sql.SQL(one.group.written)
        )
    )
    one.negative_zeros = 0  # they are counted again
    encoding = subject.facts_of_file.encoding or "UTF8"
    form = sql.SQL("COPY {} ({}) FROM STDIN (ENCODING {})").format(stage, names, encoding)
    mine = {
        (database, target): one
        for (database, target), place in subject.loaded.places.items()
        if (database, *place) == (one.group.database, one.group.schema, one.group.table)
    }
    with conn.cursor() as cursor, cursor.copy(form) as copy:
        for _, lines in _lines(subject, mine):
            copy.write(lines)
