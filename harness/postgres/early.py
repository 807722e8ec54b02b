"""Indexes and keys of a large table, built by other connections while the next table loads; foreign keys,
looked at by several connections at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import psycopg

from .dump import Statement
from .facts import DumpFacts
from .pool import Connection, Pool, idle

_Key = tuple[str, bytes]  # database in the text, statement
_BUILD: Final = "build"  # kind of work in the pool


@dataclass(frozen=True)
class Filled:
    """A table whose rows are in. `block` counts the COPYs of the text, `source` is the database's name in the
    text, `database` its name in the sandbox, `table` is as written."""

    block: int
    source: str
    database: str
    table: bytes
    large: bool


@dataclass
class _Work:
    """What is to be built upon a large table. `running`: its keys are under way, and what comes waits."""

    filled: Filled
    waiting: list[Statement] = field(default_factory=list)
    running: bool = False
    told: bool = False  # `on_rows` was called


class EarlyBuilds:
    """What was taken out of the order of the text, and how it went.

    `plan()` gives the facts whose `indexes` are complete, None as long as nobody knows the text to its end;
    `so_far` those of the text that was read. `on_rows(block)` is called for a table whose rows are in: once
    its keys stand, where it is large.
    """

    def __init__(
        self,
        pool: Pool,
        plan: Callable[[], DumpFacts | None],
        so_far: DumpFacts,
        on_rows: Callable[[int], None] | None,
    ) -> None:
        self._pool, self._plan, self._so_far, self._on_rows = pool, plan, so_far, on_rows
        self._waiting: list[Filled] = []
        self._begun = False
        self._lock = threading.Lock()
        self._handed: set[_Key] = set()  # given to other connections before they were met in the text
        self._taken: set[_Key] = set()
        self._built: set[_Key] = set()
        self._met: list[tuple[_Key, Statement]] = []
        self._large: dict[tuple[str, bytes], _Work] = {}  # database in the text, table
        self._added: dict[tuple[str, bytes], list[tuple[bytes, Statement]]] = {}  # foreign keys by table

    def filled(self, table: Filled) -> None:
        """Note a table; `begin` goes on with it."""
        self._waiting.append(table)
        if table.large:
            self._large[table.source, table.table] = _Work(table)

    def begin(self) -> None:
        """Build what the text has for the large tables filled so far, where that is known already.

        Not to be called while the text's own transaction holds locks, for which the work would wait.
        """
        if self._waiting and (plan := self._plan()):
            ready, self._waiting = self._waiting, []
            for table in ready:
                if table.large:
                    planned = plan.indexes.get((table.source, table.table.decode("utf-8", "replace")), [])
                    self._handed.update((table.source, s.sql) for s in planned)
                    self._hand(self._large[table.source, table.table], planned)
                elif self._on_rows:
                    self._on_rows(table.block)

    def read(self) -> None:
        """Tell of the large tables whose keys stand: the text was read to its end."""
        for work in self._large.values():
            if not work.running:
                self._tell(work)

    def _hand(self, work: _Work, statements: list[Statement]) -> None:
        self._begun = True
        with self._lock:
            work.waiting += statements
            begin, work.running = not work.running, True
        if begin:
            self._pool.submit(_BUILD, lambda: self._build_all(work))

    def _build_all(self, work: _Work) -> None:
        """Keys first, one after the other: each locks its table against everything else."""
        while True:
            with self._lock:
                key = next((s for s in work.waiting if not s.sql[:7].upper().startswith(b"CREATE ")), None)
                if key is None:
                    others, work.waiting, work.running = work.waiting, [], False
                    break
                work.waiting.remove(key)
            self._build(work.filled, key)
        self._tell(work)  # takes longer than any of its indexes
        for other in others:
            self._pool.submit(_BUILD, lambda o=other: self._build(work.filled, o))  # type: ignore[misc]

    def _tell(self, work: _Work) -> None:
        if self._on_rows is None or self._plan() is None:
            return
        with self._lock:
            told, work.told = work.told, True
        if not told:
            self._on_rows(work.filled.block)

    def _build(self, table: Filled, statement: Statement) -> None:
        with self._connection(table.database) as conn:
            try:
                conn.execute(statement.sql, binary=True)
            except psycopg.Error:
                return  # tried again by the caller of `settle`, where the outcome counts
        self._built.add((table.source, statement.sql))

    @contextlib.contextmanager
    def _connection(self, database: str) -> Iterator[Connection]:
        """A connection that finds no more than pg_dump's session does: functions that need a search_path
        fail here, and the caller decides."""
        with self._pool.connection(database) as conn:
            conn.execute("SET search_path = ''")
            try:
                yield conn
            finally:
                if idle(conn):
                    conn.execute("RESET search_path")

    def takes(self, database: str, table: str, item: Statement) -> bool:
        """True when this statement of the text, built upon `table`, is among those handed over, or is now.

        Called for everything that builds upon tables: what is not handed over by then stays with the caller.
        """
        self._waiting.clear()
        key = (database, item.sql)
        if key in self._taken:
            return False  # written twice, the second fails as it would for anyone
        if key not in self._handed:
            work = self._large.get((database, table.encode()))
            if work is None or item not in self._so_far.indexes.get((database, table), []):
                return False
            self._hand(work, [item])
        self._taken.add(key)
        self._met.append((key, item))
        return True

    @property
    def waiting(self) -> bool:
        """Whether there is something to begin."""
        return bool(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there may be anything to settle or to validate."""
        return bool(self._begun or self._met or self._added)

    def settle(self) -> list[Statement]:
        """Wait for all that runs; returns the statements met since, which could not be built, in order."""
        self._pool.wait(_BUILD)
        self._begun = False
        met, self._met = self._met, []
        return [item for key, item in met if key not in self._built]

    def large(self, database: str, table: bytes) -> bool:
        """Whether a table, as written, was filled with many rows."""
        return (database, table) in self._large

    def added(self, database: str, table: bytes, name: bytes, item: Statement) -> None:
        """Note a foreign key that stands, NOT VALID, in `database` of the sandbox."""
        self._added.setdefault((database, table), []).append((name, item))

    def validate(self) -> list[tuple[bytes, Statement]]:
        """Look at the rows of the foreign keys added; what drops each that may not hold, and it, in order.

        VALIDATE locks the referencing table against another of its kind, and no table against reading.
        """
        added, self._added = self._added, {}
        doubtful: list[tuple[bytes, Statement]] = []

        def look(database: str, table: bytes, keys: list[tuple[bytes, Statement]]) -> None:
            with self._connection(database) as conn:
                for name, item in keys:
                    alter = b"ALTER TABLE " + table
                    try:
                        conn.execute(alter + b" VALIDATE CONSTRAINT " + name, binary=True)
                    except psycopg.Error:
                        doubtful.append((alter + b" DROP CONSTRAINT " + name, item))

        for (database, table), keys in added.items():
            self._pool.submit(_BUILD, lambda d=database, t=table, k=keys: look(d, t, k))  # type: ignore[misc]
        self._pool.wait(_BUILD)
        return sorted(doubtful, key=lambda one: one[1].line)
