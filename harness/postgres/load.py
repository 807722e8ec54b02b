"""Bring SQL text into a sandbox over the protocol: one statement at a time, never through psql.

Every statement goes out alone in the extended protocol, which refuses more than one per message, so what
was looked at is what runs. Errors do not stop the load: each is recorded, so one lost object does not hide
the rest. Indexes and keys of a large table are built by other connections as soon as its rows are in.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
from psycopg import errors, sql

from . import admission, apart, copying, patterns, placeholders, together
from .apart import Apart
from .dump import Copy, Item, Meta, Statement
from .early import EarlyBuilds, Filled
from .facts import TEXT_COPY, DumpFacts
from .failures import Failure, failure, label, lacked
from .hostile import classify, classify_insert
from .loaded import Loaded
from .pool import Connection, Pool, idle
from .proof import resolve
from .prover import READ

EARLY_BYTES: Final = 1 << 20  # smaller tables are not worth the hand-over to another connection
# SQLSTATE classes 53 (disk full, out of memory) and 57 (shutdown, the drill's own cancel), 58030 (I/O error)
_NOT_THE_STATEMENT: Final = ("53", "57", "58030")

_WAITS_FOR_NOTHING: Final = (b"SET ", b"SELECT pg_catalog.setval", b"SELECT pg_catalog.lo")


@dataclass
class Loader:
    """One load into one sandbox: the open connection, and what was done so far.

    `connect(database)` opens a superuser connection in autocommit; `home` is the database that a dump
    without `\\connect` goes to. `facts` is what is known of the text before, `so_far` what `run` has met of
    it, `plan()` the same once all of it is known. `on_rows(block)` is called for a table whose rows are in,
    as one piece of the pool's work; `forget(block)` when more rows for it follow. Close with `close()`.
    """

    connect: Callable[[str], Connection]
    home: str
    facts: DumpFacts = field(default_factory=DumpFacts)
    so_far: DumpFacts = field(default_factory=DumpFacts)
    plan: Callable[[], DumpFacts | None] = lambda: None
    pool: Pool | None = None
    on_rows: Callable[[int], None] | None = None
    forget: Callable[[int], None] | None = None
    loaded: Loaded = field(default_factory=Loaded)
    database: str = ""

    def __post_init__(self) -> None:
        self._conn: Connection | None = None
        self._batch = together.Batch()
        self._places = Apart().others(0)  # numbers of COPY blocks to come
        self._early = EarlyBuilds(self.pool, self.plan, self.so_far, self.on_rows) if self.pool else None
        self._lock = threading.Lock()
        self._named = ""  # the database as the text names it
        self._filled: dict[tuple[str, str | None, str], list[int]] = {}  # (database, table) -> its COPYs
        self._written: set[tuple[str, str]] = set()

    def run(self, items: Iterable[Item | Apart]) -> None:
        """Send everything in the SQL text. Raises ArtifactError where the text cannot be read on."""
        for item in items:
            self._begin()
            match item:
                case Statement():
                    self._statement(item)
                case Copy():
                    self._flush()
                    self._copy(item)
                case Apart():
                    self._flush()
                    self._apart(item)
                case Meta():
                    self._flush()
                    if target := patterns.connect_target(item.text):
                        self.settle()
                        self._switch(target, item.line)
                        self._named = target
        self._begin()
        if self._early and idle(self.conn):
            self._early.read()
        self._flush()
        self.settle()

    def _begin(self) -> None:
        if self._early and self._early.waiting and idle(self.conn):
            self._early.begin()

    def settle(self) -> None:
        """Wait for what other connections do; what they could not do is tried in its order."""
        if self._early:
            for item in self._early.settle():
                self._execute(item)
            for drop, item in self._early.validate():
                try:
                    self._send(drop)
                except psycopg.Error as error:
                    self._alive(error)
                self._execute(item)

    def close(self) -> None:
        """Close the connection; what the last statement left open is rolled back."""
        if self._conn is not None:
            self._conn.close()

    @property
    def conn(self) -> Connection:
        """The open connection; the first use opens the home database."""
        if self._conn is None or self._conn.broken:
            self._open(self.database or self.home)
        assert self._conn is not None  # noqa: S101 - for the type checker
        return self._conn

    def _open(self, database: str) -> None:
        self.close()
        self._conn = self.connect(database)
        self.database = database
        if database not in self.loaded.databases:
            self.loaded.databases.append(database)

    def _switch(self, database: str, line: int) -> None:
        try:
            self._open(database)
        except psycopg.OperationalError:
            why = "the dump connects to a database that it did not create"
            self._record(Failure(line, f"database {database}", why, "3D000", "error"))
            self._admin(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))
            self._open(database)

    def _statement(self, item: Statement) -> None:
        insert = patterns.is_insert(item.sql)
        danger = classify_insert(item.sql) if insert else classify(item.sql)
        if danger and danger.refuse:
            self._flush()
            self._refuse(item, danger.message)
            return
        if built := patterns.built(item.sql):
            if self._early and self._early.large(self._named, built[0].encode()):
                self._flush()
                if self._early.takes(self._named, built[0], item):
                    return
                self.settle()
        elif self._early and self._added(self._early, item):
            return
        elif self._early and self._early.busy and not item.sql.startswith(_WAITS_FOR_NOTHING):
            self._flush()
            self.settle()
        if together.joins(item.sql):
            if self._batch.add(item):
                self._flush()
            return
        self._flush()
        if self.pool and patterns.opens_transaction(item.sql):
            self.pool.wait(READ)  # what reads tables by other connections waits for its locks
        if patterns.created_database(item.utf8):
            self._create_database(item)
        elif (name := patterns.dropped_database(item.utf8)) and name not in self.facts.created:
            self._refuse(item, "drops a database that the backup does not create")
        elif name := patterns.created_tablespace(item.utf8):
            self._create_tablespace(name, item)
        elif admission.locks_out(self.conn, item):
            self._refuse(item, "the drill's own superuser keeps its password and rights", "harmless")
        else:
            self._execute(item)

    def _execute(self, item: Statement) -> None:
        for _ in range(20):  # each round may add one placeholder that the statement was missing
            try:
                rows = self._send(item.sql)
            except psycopg.Error as error:
                self._alive(error)
                if self._placeholder(error):
                    continue
                self._record(failure(item.line, item.entry, item.sql, error))
                return
            self._inserted(item, rows)
            admission.keep(self.conn, item.sql)
            return

    def _added(self, early: EarlyBuilds, item: Statement) -> bool:
        """Add the foreign key of a large table without a look at its rows: these take the time."""
        named = patterns.foreign_key(item.sql)
        if not named or not early.large(self._named, named[0]):
            return False
        self._flush()
        for key in early.settle():
            self._execute(key)
        if not idle(self.conn):
            return False
        try:
            self._send(item.sql + b" NOT VALID")
        except psycopg.Error as error:  # a partitioned table, before PostgreSQL 18
            self._alive(error)
            return False
        early.added(self.database, *named, item)
        return True

    def _send(self, statement: bytes) -> int:
        with self.conn.cursor() as cursor:
            cursor.execute(statement, binary=True)  # binary results make psycopg use the extended protocol
            return cursor.rowcount

    def _flush(self) -> None:
        """Send the statements held back together; one by one if any of them fails."""
        batch = self._batch.take()
        try:
            counts = together.send(self.conn, batch) if batch else None
        except psycopg.Error as error:
            self._alive(error)
            counts = None
        if counts is not None:
            for item, rows in zip(batch, counts, strict=True):
                self._inserted(item, rows)
            return
        for item in batch:
            self._execute(item)

    def _inserted(self, item: Statement, rows: int) -> None:
        if target := patterns.insert_target(item.utf8, item.schema):
            if not rows and patterns.VALUES.match(item.sql):
                why = "the server took the INSERT and stored no row"
                self._record(Failure(item.line, f"INSERT INTO {target}", why, "", "error"))
            key = (self.database, target)
            if key not in self.loaded.inserted and not self._place(key, target):
                self._place(key, patterns.insert_target(item.utf8) or "")  # further on in the search_path
            self.loaded.inserted[key] = self.loaded.inserted.get(key, 0) + rows
            self._written.add(key)
        elif (moved := patterns.set_sequence(item.utf8)) and "." not in moved[0]:
            self._place((self.database, patterns.within(moved[0], item.schema)), moved[0])

    def _place(self, key: tuple[str, str], written: str) -> bool:
        """Remember which table a name means here: without a schema only this session's search_path tells."""
        if place := resolve(self.conn, written):
            self.loaded.places[key] = place
        return place is not None

    def _copy(self, item: Copy) -> None:
        index = next(self._places)
        danger = classify(item.sql)
        if danger and danger.refuse:
            self._refuse(Statement(item.sql, item.line, item.entry), danger.message)
            return
        again = self._filled.setdefault((self._named, item.schema, item.table), [])
        if again:  # what was built upon the first rows, and read of them, waits for all
            self.settle()
            for earlier in again if self.forget else ():
                self.forget(earlier)  # type: ignore[misc]
        first = copying.first_rows(item.data, max(EARLY_BYTES, copying.SHARE_BYTES))
        size = sum(map(len, first))
        large = not again and size >= EARLY_BYTES and bool(TEXT_COPY.search(item.sql))
        again.append(index)
        later = 0

        def rows() -> Iterator[bytes]:
            nonlocal later
            yield from first
            for block in item.data:
                later += 1
                yield block

        for _ in range(3):
            try:
                self.loaded.copied[index] = self._send_rows(index, item, rows(), size if large else -1)
            except psycopg.Error as error:
                self._alive(error)
                if self._placeholder(error) and not later:
                    continue
                self._record(failure(item.line, item.entry, item.sql, error))
                return
            break
        if item.schema is None and (place := resolve(self.conn, sql.Identifier(item.table).as_string())):
            self.loaded.into[index] = place
        if self._early and idle(self.conn) and (named := copying.QUALIFIED.match(item.sql)):
            self._early.filled(Filled(index, self._named, self.database, named[1], large))

    def _apart(self, item: Apart) -> None:
        first = next(self._places)
        self._places = item.others(first)
        failed: dict[int, Failure] = {}

        def lacks(error: psycopg.Error) -> bool:
            self._alive(error)
            with self._lock:  # another part may have made it just now
                return self._placeholder(error) or lacked(error) is not None

        def done(number: int, copy: Copy, outcome: int | psycopg.Error) -> None:
            index, table = first + item.places[number], copying.QUALIFIED.match(copy.sql)
            if isinstance(outcome, psycopg.Error):
                failed[number] = failure(copy.line, copy.entry, copy.sql, outcome)
                return
            with self._lock:
                self.loaded.copied[index] = outcome
                self._filled[self._named, copy.schema, copy.table] = [index]
                if self._early and table:
                    self._early.filled(Filled(index, self._named, self.database, table[1], large=True))
                    self._early.begin()

        assert self.pool  # noqa: S101 - archives are read in parts only where there is one
        again = functools.partial(self.connect, self.database)
        apart.load(item, self.pool, self.conn, again, lacks, done, empty=self._untouched())
        for number in sorted(failed):  # as they lie in the archive, whichever ended first
            self._record(failed[number])

    def _send_rows(self, index: int, item: Copy, rows: Iterable[bytes], size: int) -> int:
        """Rows the server took. A large table (`size` of them is known) gets as many connections as there
        are idle cores."""
        named = copying.QUALIFIED.match(item.sql)
        if not (named and size >= 0 and self._untouched()):
            return copying.send(self.conn, item.sql, rows)
        server = self.pool.server if self.pool else None
        with contextlib.ExitStack() as opened:
            if size >= copying.SHARE_BYTES and (shared := self._others(opened, named[1], item.columns)):
                oid, others = shared
                taken, self.loaded.shared[index] = copying.share(
                    self.conn, others, named[1], item.sql, rows, oid, server
                )
                return taken
        return copying.filled(self.conn, named[1], item.sql, rows, server)

    def _others(
        self, opened: contextlib.ExitStack, table: bytes, columns: tuple[str, ...]
    ) -> tuple[int, list[Connection]] | None:
        try:
            if self.pool:
                return copying.partners(self.conn, self.pool, self.database, table, columns, opened)
        except psycopg.Error as error:
            self._alive(error)
        return None

    def _untouched(self) -> bool:
        """Whether no table of this database can hold rows but such as COPY named."""
        if not idle(self.conn):
            return False
        if any(database == self.database for database, _ in self._written):
            return False  # the file mixes INSERT and COPY: a table may hold rows already
        # and so it may where only a search_path tells which table rows went to
        return not any(schema is None for database, schema, _ in self._filled if database == self._named)

    def _create_database(self, item: Statement) -> None:
        """As written; where the sandbox lacks the locale, with the sandbox's own and a note of it."""
        try:
            self._send(item.sql)
            return
        except psycopg.Error as error:
            self._alive(error)
            if self._placeholder(error):
                self._create_database(item)
                return
            first = error
        if isinstance(first, errors.DuplicateDatabase):  # `postgres` itself, or one database twice
            self._record(replace(failure(item.line, item.entry, item.sql, first), kind="harmless"))
            return
        try:
            self._send(patterns.without_locale(item.sql))
            self.loaded.mapped_locales.append(label(item.entry, item.sql))
        except psycopg.Error:
            self._record(failure(item.line, item.entry, item.sql, first))

    def _create_tablespace(self, name: str, item: Statement) -> None:
        """In the sandbox's own folder: the place that the backup names is on the source's machine."""
        statement = sql.SQL("CREATE TABLESPACE {} LOCATION ''").format(sql.Identifier(name))
        if name in self.loaded.placeholder_tablespaces:
            self._refuse(item, "the tablespace is there already", "harmless")
        elif self._admin(statement):
            self.loaded.placeholder_tablespaces.append(name)
        else:
            self._refuse(item, "a tablespace of this name cannot be made")

    def _placeholder(self, error: psycopg.Error) -> bool:
        return placeholders.make(error, self.loaded, lambda: self.connect(self.home))

    def _admin(self, statement: sql.Composed) -> bool:
        return placeholders.execute(lambda: self.connect(self.home), statement)

    def _alive(self, error: psycopg.Error) -> None:
        """Let through what says nothing about the statement: the server is gone, full, or told to stop."""
        gone = self._conn is not None and self._conn.broken
        if gone or (error.sqlstate or "").startswith(_NOT_THE_STATEMENT):
            raise error

    def _refuse(self, item: Statement, message: str, kind: str = "refused") -> None:
        entry_type = item.entry.type if item.entry else ""
        self._record(Failure(item.line, label(item.entry, item.sql), message, "", kind, entry_type))

    def _record(self, what: Failure) -> None:
        with self._lock:
            self.loaded.record(what)
