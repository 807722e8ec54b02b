"""Rows of large tables in an archive, each read by a pg_restore of its own: one stream for all of them would
keep a machine of many cores waiting, and each table waiting for those before it."""

from __future__ import annotations

import itertools
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

import psycopg
import xxhash

from ..errors import ArtifactError
from . import copying
from .contents import Listed
from .dump import Copy, Entry, Header, Item, Meta, Statement, read_dump
from .hostile import classify
from .pool import Connection, Pool

APART_BYTES: Final = 1 << 20  # in the archive; less is read sooner than another pg_restore begins
_OPENING: Final = re.compile(rb"SET |SELECT pg_catalog\.set_config\(")  # what every text begins with
_FOR_ENTRY: Final = re.compile(
    rb"SET (?:default_table|search_path)"
)  # but this is for the entry that follows
_TRIES: Final = 20
_LOAD: Final = "load"  # kind of work in the pool
_ROWS: Final = "TABLE DATA"
_WITH_ROWS: Final = {_ROWS, "SEQUENCE SET", "BLOBS", "BLOB", "BLOB METADATA", "STATISTICS DATA", "COMMENT"}
# pg_restore writes these behind everything else, wherever they stand (_tocEntryRestorePass)
_LAST: Final = {"ACL", "ACL LANGUAGE", "DEFAULT ACL", "EVENT TRIGGER", "MATERIALIZED VIEW DATA"}
# With these in place it matters which rows come first; pg_dump makes them when all rows are in.
_BUILT_ON_ROWS: Final = {"CONSTRAINT", "FK CONSTRAINT", "INDEX", "RULE", "TRIGGER"}
_OF_DATABASE: Final = {"DATABASE", "DATABASE PROPERTIES"}
_NAME: Final = r'(?:"(?:[^"]|"")+"|[^\s".,()]+)'
_PLAIN_COPY: Final = re.compile(rf"COPY ({_NAME}\.{_NAME}) (?:\({_NAME}(?:, {_NAME})*\))? ?FROM stdin;\n")

Text = Callable[[tuple[int, ...], bool], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class Split:
    """The entries of an archive by number: up to the first rows, those of large tables, all others. `places`
    are those of the large tables among all the `tables` that have rows."""

    before: tuple[int, ...]
    apart: tuple[Listed, ...]
    after: tuple[int, ...]
    places: tuple[int, ...]
    tables: int


@dataclass
class Part:
    """The rows of one table. `text()` opens them; `told` is called with what they were."""

    text: Callable[[], AbstractContextManager[Iterator[bytes]]]
    size: int
    told: Callable[[Copy, str], None] = lambda copy, digest: None


@dataclass(frozen=True)
class Apart:
    """Stands in the order of a text for COPY blocks that may be loaded at once, in any order.

    COPY blocks are counted as in one text of the whole archive: `places` are those of the parts among the
    `tables` that begin here; what follows in the text takes the places left.
    """

    parts: tuple[Part, ...] = field(default_factory=tuple)
    places: tuple[int, ...] = ()
    tables: int = 0

    def others(self, first: int) -> Iterator[int]:
        """Numbers for the COPY blocks that follow, where the first that begins here is number `first`."""
        left = sorted(set(range(self.tables)) - set(self.places))
        return itertools.chain((first + n for n in left), itertools.count(first + self.tables))


class _Stopped(Exception):
    """Is a part given up, because another one failed."""


def split(entries: tuple[Listed, ...]) -> Split | None:
    """How an archive is to be read in parts; None without two large tables, or in an order of its own."""
    rows = [at for at, e in enumerate(entries) if e.kind == _ROWS]
    plain = [_PLAIN_COPY.fullmatch(entries[at].copy) for at in rows]
    if not all(plain) or any(entries[at].size is None or classify(entries[at].copy.encode()) for at in rows):
        return None
    targets = [found[1] for found in plain if found]
    times, bound = Counter(targets), _bound_to_others(entries)
    places = [
        place
        for place, (at, target) in enumerate(zip(rows, targets, strict=True))
        if (entries[at].size or 0) >= APART_BYTES and times[target] == 1 and entries[at].number not in bound
    ]
    if len(places) < 2:
        return None
    # pg_restore gives rights on the database itself only where it makes that one
    head = [e for e in entries[: rows[0]] if not _comes_last(e)]
    numbers = [e.number for e in entries]
    if (
        {e.kind for e in entries[rows[0] : rows[-1]]} - _WITH_ROWS
        or any(e.kind in _OF_DATABASE or e.name.startswith("DATABASE ") for e in entries[rows[0] :])
        or {e.kind for e in head} & _BUILT_ON_ROWS
        or len(set(numbers)) < len(numbers)
    ):
        return None
    apart = tuple(entries[rows[place]] for place in places)
    taken = {e.number for e in (*head, *apart)}
    after = tuple(n for n in numbers if n not in taken)
    return Split(tuple(e.number for e in head), apart, after, tuple(places), len(rows))


def _comes_last(entry: Listed) -> bool:
    about_last = entry.kind in ("COMMENT", "SECURITY LABEL") and entry.name.startswith("EVENT TRIGGER ")
    return about_last or (entry.kind in _LAST and not entry.name.startswith("DATABASE "))


def _bound_to_others(entries: Iterable[Listed]) -> set[int]:
    """Numbers of what needs a function: called for a row (by a CHECK, a generated column, a partition key) it
    may look into other tables, and it matters which come first. So it is with the tables of an extension."""
    entries, users, bound = tuple(entries), defaultdict[int, list[int]](list), set[int]()
    for entry in entries:
        for need in entry.needs:
            users[need].append(entry.number)
    filled = {need for e in entries if e.kind == _ROWS for need in e.needs}
    todo = [
        e.number for e in entries if e.kind == "FUNCTION" or (e.kind == "EXTENSION" and e.number in filled)
    ]
    while todo:
        new = set(users[todo.pop()]) - bound
        bound |= new
        todo += new
    return bound


def in_parts(split: Split, text: Text) -> Generator[Item | Apart, None, None]:
    """The items of an archive as of one text. `text(numbers, create)` opens the text of some entries."""
    with text(split.before, True) as blocks:
        for item in read_dump(blocks):
            ends = isinstance(item, Header) and item.kind in ("complete", "completed")
            if not ends and not (isinstance(item, Meta) and item.text.startswith("\\unrestrict")):
                yield item
    parts = tuple(Part(lambda n=e.number: text((n,), False), e.size or 0) for e in split.apart)  # type: ignore[misc]
    yield Apart(parts, split.places, split.tables)
    begun = False  # what stands before the first entry is the same in every text
    with text(split.after, False) as blocks:
        for item in read_dump(blocks):
            begun = begun or isinstance(item, Entry)
            own = isinstance(item, Statement) and _FOR_ENTRY.match(item.sql)
            if (
                begun
                or own
                or (isinstance(item, Header) and item.kind in ("complete", "completed", "truncated"))
            ):
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
    read, psycopg.Error where a connection broke; the other parts are given up then.
    """
    stop = threading.Event()
    trouble: dict[int, Exception] = {}

    def fill(own: Connection, copy: Copy) -> int | psycopg.Error:
        try:
            if empty and (table := copying.QUALIFIED.match(copy.sql)):
                return copying.filled(own, table[1], copy.sql, copy.data, pool.server)
            return copying.send(own, copy.sql, copy.data)
        except psycopg.Error as error:
            if own.broken:
                raise
            return error

    def one(number: int) -> None:
        part, missed = item.parts[number], set[str | None]()
        for _ in range(_TRIES):
            copy, digest, outcome = _loaded(part, conn, connect, fill, stop)
            why = outcome.diag.message_primary if isinstance(outcome, psycopg.Error) else None
            if not isinstance(outcome, psycopg.Error) or why in missed or not lacks(outcome):
                break
            missed.add(why)  # what is still lacking then cannot be had
        part.told(copy, digest)
        done(number, copy, outcome)

    def guarded(number: int) -> None:
        try:
            if not stop.is_set():
                one(number)
        except _Stopped:
            pass
        except Exception as error:
            trouble[number] = error
            stop.set()

    for number in sorted(range(len(item.parts)), key=lambda n: -item.parts[n].size):
        pool.submit(_LOAD, lambda n=number: guarded(n))  # type: ignore[misc]
    try:
        pool.wait(_LOAD)
    finally:
        stop.set()  # an interrupt need not wait for all rows
    if trouble:  # damage says more than what became of this machine
        raise trouble[min(trouble, key=lambda n: (not isinstance(trouble[n], ArtifactError), n))]


def _loaded(
    part: Part,
    conn: Connection,
    connect: Callable[[], Connection],
    fill: Callable[[Connection, Copy], int | psycopg.Error],
    stop: threading.Event,
) -> tuple[Copy, str, int | psycopg.Error]:
    digest, copy, begun = xxhash.xxh3_128(), None, False
    outcome: int | psycopg.Error = 0
    with connect() as own, part.text() as blocks:
        copying.like(conn, [own])
        for found in read_dump(_until(blocks, stop)):
            match found:
                case Copy() if begun and copy is None:
                    copy = found
                    copy.data.watch(digest.update)
                    outcome = fill(own, copy)
                case Entry(data=True) if not begun:
                    begun = True
                case Statement() if not begun and _OPENING.match(found.sql):
                    pass  # `conn` has it
                case Meta() if found.text.startswith(("\\restrict ", "\\unrestrict ")):
                    pass
                case Header() if found.kind != "truncated":
                    pass
                case _:  # what a reader of the whole text would act upon
                    raise _other()
    if copy is None or not copy.data.ended or copy.data.partial_row:
        raise _other()
    return copy, digest.hexdigest(), outcome


def _until(blocks: Iterable[bytes], stop: threading.Event) -> Iterator[bytes]:
    for block in blocks:
        if stop.is_set():
            raise _Stopped
        yield block


def _other() -> ArtifactError:
    return ArtifactError(
        "the rows of a table are not as the archive's contents tell",
        remedy="the archive is damaged, or was written to meanwhile; take a new backup",
    )
