"""Rows of large tables in an archive, each read by a pg_restore of its own: one stream for all of them would
keep a machine of many cores waiting, and each table waiting for those before it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

import psycopg
import xxhash

from ..errors import ArtifactError
from . import copying
from .contents import Listed
from .dump import Copy, Entry, Header, Item, Meta, Statement, read_dump
from .pool import Connection, Pool

APART_BYTES: Final = 1 << 20  # in the archive; less is read sooner than another pg_restore begins
_OPENING: Final = re.compile(rb"SET |SELECT pg_catalog\.set_config\(")  # what every text begins with
_TRIES: Final = 20
_LOAD: Final = "load"  # kind of work in the pool
_ROWS: Final = "TABLE DATA"
_WITH_ROWS: Final = {_ROWS, "SEQUENCE SET", "BLOBS", "BLOB", "BLOB METADATA", "STATISTICS DATA", "COMMENT"}
# pg_restore writes these behind everything else, wherever they stand (_tocEntryRestorePass)
_LAST: Final = {"ACL", "ACL LANGUAGE", "DEFAULT ACL", "EVENT TRIGGER", "MATERIALIZED VIEW DATA"}
# With these in place it matters which rows come first; pg_dump makes them when all rows are in.
_BUILT_ON_ROWS: Final = {"CONSTRAINT", "FK CONSTRAINT", "INDEX", "RULE", "TRIGGER"}
_NAME: Final = r'(?:"(?:[^"]|"")+"|[^\s".,()]+)'
_PLAIN_COPY: Final = re.compile(rf"COPY ({_NAME}\.{_NAME}) (?:\({_NAME}(?:, {_NAME})*\))? ?FROM stdin;\n")

Text = Callable[[tuple[int, ...], bool], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class Split:
    """The entries of an archive by number: up to the first rows, those of large tables, all others."""

    before: tuple[int, ...]
    apart: tuple[Listed, ...]
    after: tuple[int, ...]


@dataclass
class Part:
    """The rows of one table. `text()` opens them; `told` is called with what they were."""

    text: Callable[[], AbstractContextManager[Iterator[bytes]]]
    size: int
    told: Callable[[Copy, str], None] = lambda copy, digest: None


@dataclass(frozen=True)
class Apart:
    """Stands in the order of a text for COPY blocks that may be loaded at once, in any order."""

    parts: tuple[Part, ...] = field(default_factory=tuple)


def split(entries: tuple[Listed, ...]) -> Split | None:
    """How an archive is to be read in parts; None without two large tables, or in an order of its own."""
    rows = [at for at, e in enumerate(entries) if e.kind == _ROWS]
    if not rows:
        return None
    targets = [found[1] if (found := _PLAIN_COPY.fullmatch(entries[at].copy)) else "" for at in rows]
    named = Counter(targets)
    apart = [
        entries[at]
        for at, target in zip(rows, targets, strict=True)
        if target and named[target] == 1 and (entries[at].size or 0) >= APART_BYTES
    ]
    middle = {e.kind for e in entries[rows[0] : rows[-1]]}
    # pg_restore gives rights on the database itself only where it makes that one
    head = [e for e in entries[: rows[0]] if e.kind not in _LAST or e.name.startswith("DATABASE ")]
    numbers = [e.number for e in entries]
    if (
        len(apart) < 2
        or middle - _WITH_ROWS
        or {e.kind for e in head} & _BUILT_ON_ROWS
        or len(set(numbers)) < len(numbers)
    ):
        return None
    taken = {e.number for e in [*head, *apart]}
    return Split(tuple(e.number for e in head), tuple(apart), tuple(n for n in numbers if n not in taken))


def in_parts(split: Split, text: Text) -> Generator[Item | Apart, None, None]:
    """The items of an archive as of one text. `text(numbers, create)` opens the text of some entries."""
    with text(split.before, True) as blocks:
        for item in read_dump(blocks):
            ends = isinstance(item, Header) and item.kind in ("complete", "completed")
            if not ends and not (isinstance(item, Meta) and item.text.startswith("\\unrestrict")):
                yield item
    yield Apart(tuple(Part(lambda n=e.number: text((n,), False), e.size or 0) for e in split.apart))  # type: ignore[misc]
    begun = False  # what stands before the first entry is the same in every text
    with text(split.after, False) as blocks:
        for item in read_dump(blocks):
            begun = begun or isinstance(item, Entry)
            if begun or (isinstance(item, Header) and item.kind in ("complete", "completed", "truncated")):
                yield item


def load(
    item: Apart,
    pool: Pool,
    conn: Connection,
    connect: Callable[[], Connection],
    lacks: Callable[[psycopg.Error], bool],
    done: Callable[[int, Copy, int | psycopg.Error], None],
    *,
    empty: bool,
) -> None:
    """Load all parts, the largest first; `done(number, copy, rows or why not)` is called for each.

    `conn` is in the session whose settings count; `empty` tells that the tables may be emptied first;
    `lacks(error)` whether the server lacked what it has now. Raises ArtifactError where a part cannot be
    read, psycopg.Error where a connection broke.
    """

    def one(number: int) -> None:
        part = item.parts[number]
        for _ in range(_TRIES):
            copy, digest, outcome = _loaded(part, conn, connect, empty)
            if not (isinstance(outcome, psycopg.Error) and lacks(outcome)):
                break
        part.told(copy, digest)
        done(number, copy, outcome)

    for number in sorted(range(len(item.parts)), key=lambda n: -item.parts[n].size):
        pool.submit(_LOAD, lambda n=number: one(n))  # type: ignore[misc]
    pool.wait(_LOAD)


def _loaded(
    part: Part, conn: Connection, connect: Callable[[], Connection], empty: bool
) -> tuple[Copy, str, int | psycopg.Error]:
    digest, copy = xxhash.xxh3_128(), None
    outcome: int | psycopg.Error = 0
    with connect() as own, part.text() as blocks:
        copying.like(conn, [own])
        for found in read_dump(blocks):
            if isinstance(found, Copy) and copy is None:
                copy = found
                copy.data.watch(digest.update)
                outcome = _filled(own, copy, empty)
            elif isinstance(found, Copy) or (isinstance(found, Statement) and not _OPENING.match(found.sql)):
                raise _other()
    if copy is None or not copy.data.ended or copy.data.partial_row:
        raise _other()
    return copy, digest.hexdigest(), outcome


def _filled(conn: Connection, copy: Copy, empty: bool) -> int | psycopg.Error:
    table = copying.QUALIFIED.match(copy.sql)
    try:
        emptied = bool(empty and table and copying.empty_first(conn, table[1]))
        return copying.send(conn, copy.sql, copy.data, emptied=emptied)
    except psycopg.Error as error:
        if conn.broken:
            raise
        return error


def _other() -> ArtifactError:
    return ArtifactError(
        "the rows of a table are not as the archive's contents tell",
        remedy="the archive is damaged, or was written to meanwhile; take a new backup",
    )
