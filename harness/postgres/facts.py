"""What a logical backup says of itself, read in one pass without any server: the independent witness."""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import xxhash

from ..errors import ArtifactError
from ..model import Severity
from . import patterns
from .apart import Apart
from .dump import Copy, Entry, Header, Item, Known, Meta, Statement, read_dump
from .hostile import (
    BEFORE_CONNECT,
    POWER,
    Danger,
    bare,
    changes_reading,
    changes_rows_late,
    classify,
    classify_insert,
    classify_meta,
    fires,
)
from .side_effects import calls, may_write

if TYPE_CHECKING:
    from .physical import BaseBackup

_CREATE_TABLE: Final = re.compile(rb"CREATE (?:UNLOGGED |FOREIGN )?TABLE ", re.I)
_ICU: Final = re.compile(rb"PROVIDER = '?icu|provider *= *'?icu", re.I)
_XML: Final = re.compile(  # a column or a domain of type xml, as pg_dump writes them
    rb'CREATE (?:UNLOGGED |FOREIGN )?(?:TABLE|TYPE) [^\n]*(?:\n[^\n]*)*?\n    (?:"[^"\n]+"|[\w$]+) xml\b'
    rb"|CREATE DOMAIN \S+ AS xml\b"
)
_LO_CREATE: Final = re.compile(rb"SELECT (?:pg_catalog\.)?lo_create\('?(\d+)", re.I)
_LO_OPEN: Final = re.compile(rb"SELECT (?:pg_catalog\.)?lo_open\('?(\d+)", re.I)
_LO_WRITE: Final = re.compile(rb"SELECT (?:pg_catalog\.)?lowrite\(0, '\\\\?x((?:[0-9a-f]{2})*)'\)", re.I)
_VERSION: Final = re.compile(r"(\d+)(?:\.(\d+))?")
_UNGUARDED: Final = re.compile(
    rb"SET\s+(?:SESSION\s+)?session_replication_role\b(?!.*\b(?:origin|default)\b)"
    rb"|ALTER TABLE [^;]* DISABLE TRIGGER ALL\b",
    re.I | re.S,
)
TEXT_COPY: Final = re.compile(rb"FROM\s+STDIN\s*$", re.I)
_FILTERED: Final = re.compile(rb"\bFROM\s+STDIN\b.*\bWHERE\b", re.I | re.S)
_LEFT_OUT: Final = Danger(
    "condition", "leaves out rows of the file by a condition; pg_dump writes none", Severity.HIGH, False
)


_UNREAD: Final = Entry("", "", None, None, 0, data=True)


@dataclass(frozen=True)
class TableData:
    """The rows of one COPY block.

    `rows` counts them; `digest` is over the COPY text in file order (xxh3-128, hex). `text` is False for
    COPY in CSV or with options, whose lines are not rows. `whole` is False when the file ends inside.
    """

    database: str
    schema: str | None
    table: str
    columns: tuple[str, ...]
    rows: int
    bytes: int
    digest: str
    line: int
    whole: bool
    text: bool
    encoding: str = "UTF8"

    @property
    def name(self) -> str:
        """Qualified name for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table


@dataclass
class DumpFacts:
    """Everything the first pass learned. `problem` is the first reason why the file cannot be read on."""

    databases: list[str] = field(default_factory=list)
    created: dict[str, bytes] = field(default_factory=dict)  # database -> its CREATE DATABASE statement
    entries: list[tuple[str, Entry]] = field(default_factory=list)
    tables: list[TableData] = field(default_factory=list)
    inserts: dict[tuple[str, str], int] = field(default_factory=dict)  # by (database, table): statements
    create_tables: int = 0
    extensions: set[str] = field(default_factory=set)
    features: set[str] = field(default_factory=set)
    dangers: list[tuple[int, Danger]] = field(default_factory=list)
    headers: dict[str, list[str]] = field(default_factory=dict)
    truncated: str | None = None
    statements: int = 0  # COPYs included
    sequences: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    large_objects: dict[tuple[str, int], str] = field(default_factory=dict)  # (database, oid) -> xxh3-128
    unfilled: set[tuple[str, int]] = field(default_factory=set)  # large objects made, their content to come
    # What is built upon a table once its rows are in: by (database, table as written)
    indexes: dict[tuple[str, str], list[Statement]] = field(default_factory=dict)
    encoding: str | None = None  # the last client_encoding that the text sets
    hollow: list[Entry] = field(default_factory=list)  # announced by the TOC, but nothing follows
    trailing: int = 0  # bytes behind the compressed data
    unguarded: bool = False  # rows come in past triggers, so past foreign keys
    unsettled: bool = False  # rows that are in may read otherwise later: an early proof of them is void
    late_writes: bool = False  # something besides COPY and INSERT may change rows
    writers: bool = False  # functions that may, wherever the text has them called
    calls: bool = False  # what may call them while rows are loaded, or afterwards
    problem: ArtifactError | None = None
    base: BaseBackup | None = None  # what a physical backup says instead

    @property
    def server_version(self) -> str | None:
        """Version of the source server as the dump's header tells it, e.g. "15.18"."""
        return self._first_word("server-version")

    @property
    def dump_version(self) -> str | None:
        """Version of the pg_dump that wrote the file."""
        return self._first_word("dump-version")

    @property
    def major(self) -> int | None:
        """Major version of the source; 9.6 counts as 9."""
        return _major(self.server_version)

    @property
    def dump_major(self) -> int | None:
        """Major version of the pg_dump that wrote the file."""
        return _major(self.dump_version)

    @property
    def taken_at(self) -> datetime | None:
        """The dump's own start time (pg_dump --verbose writes it) in UTC; None in an unknown zone."""
        started = self.headers.get("started")
        return patterns.parse_time(started[0]) if started else None

    @property
    def rows(self) -> int:
        """Rows in COPY blocks; INSERT statements count as one row each."""
        return sum(t.rows for t in self.tables) + sum(self.inserts.values())

    def _first_word(self, kind: str) -> str | None:
        values = self.headers.get(kind)
        words = values[-1].split() if values else []
        return words[0] if words else None


@dataclass
class _State:
    """Where the text stands: its database, the large object being written, what may be built early."""

    database: str = ""
    ordered: set[bytes] = field(default_factory=set)  # settings that keep to the order of the text
    fires: bool = False  # triggers or rules stand, which rows to come may set off
    built: dict[tuple[str, str], Statement] = field(default_factory=dict)  # by database and index: the first
    own: bool = False  # in a transaction of the text's own, which may come to nothing
    announced: Entry | None = None  # the last TOC entry, while nothing has followed it
    foreign: list[tuple[int, str, str]] = field(default_factory=list)  # line, verb, other database
    powers: list[int] = field(default_factory=list)  # lines that make roles mighty
    places: Iterator[int] = field(default_factory=itertools.count)  # numbers of COPYs to come
    large: tuple[str, int] | None = None
    digest: xxhash.xxh3_128 = field(default_factory=xxhash.xxh3_128)


def read_facts(blocks: Iterable[bytes]) -> DumpFacts:
    """One pass over SQL text. Damage ends the pass and is kept in `problem`; it is never raised."""
    facts = DumpFacts()
    with contextlib.suppress(ArtifactError):
        for _ in noted(read_dump(blocks), facts):
            pass
    return facts


def ahead(facts: DumpFacts) -> Iterator[Known | None]:
    """What an earlier pass has found of each COPY."""
    yield from (Known(table.bytes, table.rows) for table in facts.tables)
    yield from itertools.repeat(None)


def noted(items: Iterable[Item | Apart], facts: DumpFacts) -> Iterator[Item | Apart]:
    """The items as they come, with what they say kept in `facts`: rows of a COPY once they were read on.

    Raises ArtifactError where `items` does, with the reason kept in `problem`.
    """
    state = _State()
    try:
        for item in items:
            if isinstance(item, Copy):
                _danger(facts, item.line, classify(item.sql))
                if not TEXT_COPY.search(item.sql) and _FILTERED.search(bare(item.sql)):
                    _danger(facts, item.line, _LEFT_OUT)
                digest = xxhash.xxh3_128()
                item.data.watch(digest.update)
                facts.unsettled = facts.unsettled or state.fires or item.schema is None
                yield item
                for _ in item.data:  # what the reader left
                    pass
                place = next(state.places)  # where one text of the whole backup has it
                facts.tables[place : place + 1] = [_copied(item, state.database, digest.hexdigest())]
                facts.statements += 1
                _followed(facts, state, item.entry)
            elif isinstance(item, Apart):
                _followed(facts, state, None)
                _parts(facts, item, state)
                facts.unsettled = facts.unsettled or state.fires
                yield item
            else:
                _note(facts, item, state)
                yield item
    except ArtifactError as problem:
        facts.problem = problem
        raise
    finally:
        _conclude(facts, state)


def _parts(facts: DumpFacts, item: Apart, state: _State) -> None:
    """Keep the places of tables that are read at once, each to be filled when its rows were."""
    database, first = state.database, next(state.places)

    def note(table: int, entry: int, copy: Copy, digest: str) -> None:
        facts.tables[table] = _copied(copy, database, digest)
        facts.entries[entry] = (database, copy.entry or _UNREAD)

    for place, part in zip(item.places, item.parts, strict=True):
        part.told = functools.partial(note, first + place, len(facts.entries))
        facts.entries.append((database, _UNREAD))
    facts.tables += [TableData(database, None, "", (), 0, 0, "", 0, whole=False, text=False)] * item.tables
    facts.statements += len(item.parts)
    state.places = item.others(first)


def _note(facts: DumpFacts, item: Entry | Header | Meta | Statement, state: _State) -> None:
    match item:
        case Entry():
            facts.entries.append((state.database, item))
            _followed(facts, state, None)
            state.announced = item
        case Header(kind="truncated"):
            facts.truncated = f"{item.value} (line {item.line})"
        case Header():
            facts.headers.setdefault(item.kind, []).append(item.value)
        case Meta():
            state.database = _connect(facts, item, state) or state.database
        case Statement():
            _followed(facts, state, item.entry)
            _statement(facts, item, state)
            facts.statements += 1


def _conclude(facts: DumpFacts, state: _State) -> None:
    _close_large(facts, state)
    if not facts.problem and not facts.truncated:
        _followed(facts, state, None)
    facts.late_writes = facts.late_writes or (facts.writers and facts.calls)
    if "cluster" not in facts.headers:
        facts.dangers += [(line, POWER) for line in state.powers]
    for line, verb, name in state.foreign:
        if name not in facts.created and ("cluster" not in facts.headers or verb == "drops"):
            what = f"{verb} the database {name}, which this backup does not create"
            facts.dangers.append((line, Danger("other-database", what, Severity.HIGH, verb == "drops")))


def _followed(facts: DumpFacts, state: _State, entry: Entry | None) -> None:
    """Something came after the last TOC entry: what it announced (`entry`), or the next one (None).

    pg_dump writes no statement for the schema that every new database has (PostgreSQL 15 and later).
    """
    announced, state.announced = state.announced, None
    if announced and announced is not entry and announced.type != "SCHEMA":
        facts.hollow.append(announced)


def _major(version: str | None) -> int | None:
    found = _VERSION.match(version or "")
    return int(found[1]) if found else None


def table_entries(facts: DumpFacts, *kinds: str) -> Iterator[tuple[str, Entry]]:
    """TOC entries of these types, with the database they belong to; headers of rows are left out."""
    return ((d, e) for d, e in facts.entries if e.type in kinds and not e.data)


def _danger(facts: DumpFacts, line: int, danger: Danger | None) -> None:
    if danger:
        facts.dangers.append((line, danger))


def _connect(facts: DumpFacts, meta: Meta, state: _State) -> str | None:
    _danger(facts, meta.line, classify_meta(meta.text))
    name = patterns.connect_target(meta.text)
    if name and facts.dangers[-1:] == [(meta.line - 1, BEFORE_CONNECT)]:
        facts.dangers.pop()
    if name:
        state.own = state.fires = False
        state.ordered.clear()
        state.foreign.append((meta.line, "connects to", name))
    if name and name not in facts.databases:
        facts.databases.append(name)
    return name


def _copied(item: Copy, database: str, digest: str) -> TableData:
    data = item.data
    return TableData(
        database,
        item.schema,
        item.table,
        item.columns,
        data.rows,
        data.bytes,
        digest,
        item.line,
        data.ended and not data.partial_row,
        bool(TEXT_COPY.search(item.sql)),
        item.encoding,
    )


def _statement(facts: DumpFacts, item: Statement, state: _State) -> None:
    sql, start = item.utf8, item.sql[:12].upper()
    if start == b"INSERT INTO ":
        if target := patterns.insert_target(sql, item.schema):
            key = (state.database, target)
            facts.inserts[key] = facts.inserts.get(key, 0) + 1
        facts.unsettled = facts.unsettled or state.fires
        _danger(facts, item.line, classify_insert(sql))
        return
    danger = classify(sql)
    if danger is POWER:
        state.powers.append(item.line)
    else:
        _danger(facts, item.line, danger)
    facts.late_writes = facts.late_writes or changes_rows_late(sql)
    facts.unsettled = facts.unsettled or changes_reading(sql, bool(facts.tables))
    state.fires = state.fires or fires(sql)
    facts.writers = facts.writers or may_write(sql)
    facts.calls = facts.calls or calls(sql)
    facts.unguarded = facts.unguarded or bool(_UNGUARDED.match(sql))
    if start.startswith(b"SELECT"):
        _called(facts, sql, state, item.schema)
    elif start.startswith(b"SET "):
        facts.encoding = patterns.client_encoding(sql) or facts.encoding
        if keeps := patterns.keeps_order(sql):
            (state.ordered.add if keeps[1] else state.ordered.discard)(keeps[0])
    elif (opens := patterns.opens_transaction(sql)) is not None:
        state.own = opens
    elif dropped := patterns.dropped_database(sql):
        state.foreign.append((item.line, "drops", dropped))
    elif start.startswith((b"CREATE", b"ALTER TABLE")):
        _created(facts, sql)
        named = patterns.built(sql)
        sole = named and state.built.setdefault((state.database, named[1]), item) is item
        if named and sole and not (state.ordered or state.own):
            facts.indexes.setdefault((state.database, named[0]), []).append(item)


def _called(facts: DumpFacts, sql: bytes, state: _State, schema: str | None) -> None:
    if found := patterns.set_sequence(sql):
        facts.sequences[state.database, patterns.within(found[0], schema)] = found[1:]
    elif made := _LO_CREATE.match(sql):
        facts.large_objects.setdefault((state.database, int(made[1])), xxhash.xxh3_128(b"").hexdigest())
        facts.unfilled.add((state.database, int(made[1])))
    elif opened := _LO_OPEN.match(sql):
        _close_large(facts, state)
        state.large = (state.database, int(opened[1]))
        facts.unfilled.discard(state.large)
    elif state.large and (written := _LO_WRITE.match(sql)):
        state.digest.update(bytes.fromhex(written[1].decode()))


def _close_large(facts: DumpFacts, state: _State) -> None:
    if state.large:
        facts.large_objects[state.large] = state.digest.hexdigest()
        state.large = None
        state.digest.reset()


def _created(facts: DumpFacts, sql: bytes) -> None:
    if database := patterns.created_database(sql):
        facts.created[database] = sql
    elif extension := patterns.created_extension(sql):
        facts.extensions.add(extension)
    elif _CREATE_TABLE.match(sql):
        facts.create_tables += 1
    head = sql[:40].upper()
    if b"COLLATION" in head or b"DATABASE" in head:
        facts.features |= {"ICU collations"} if _ICU.search(sql) else set()
    elif _XML.match(sql):
        facts.features.add("XML")
