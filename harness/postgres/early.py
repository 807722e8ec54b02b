"""Indexes and keys of a large table, built by other connections while the next table loads; foreign keys,
looked at by several connections at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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


class EarlyBuilds:
    """What was taken out of the order of the text, and how it went.

    `plan()` gives the facts whose `indexes` are complete, None as long as nobody has read the text to its
    end. `on_rows(block)` is called for a table whose rows are in: once its keys stand, where it is large.
    """

    def __init__(
        self, pool: Pool, plan: Callable[[], DumpFacts | None], on_rows: Callable[[int], None] | None
    ) -> None:
        self._pool, self._plan, self._on_rows = pool, plan, on_rows
        self._waiting: list[Filled] = []
        self._begun = False
        self._handed: set[_Key] = set()  # given to other connections, and not yet met in the text
        self._built: set[_Key] = set()
        self._met: list[tuple[_Key, Statement]] = []
        self._large: set[tuple[str, bytes]] = set()  # database in the text, table
        self._added: dict[tuple[str, bytes], list[tuple[bytes, Statement]]] = {}  # foreign keys by table

    def filled(self, table: Filled) -> None:
        """Note a table; `begin` goes on with it."""
        self._waiting.append(table)
        if table.large:
            self._large.add((table.source, table.table))

    def begin(self) -> None:
        """Build what the text has for the large tables filled so far, as soon as that is known.

        Not to be called while the text's own transaction holds locks, for which the work would wait.
        """
        if self._waiting and (plan := self._plan()):
            ready, self._waiting = self._waiting, []
            for table in ready:
                if table.large:
                    self._begin(table, plan)
                elif self._on_rows:
                    self._on_rows(table.block)

    def _begin(self, table: Filled, plan: DumpFacts) -> None:
        planned = plan.indexes.get((table.source, table.table.decode("utf-8", "replace")), [])
        keys = [s for s in planned if not s.sql[:7].upper().startswith(b"CREATE ")]
        self._handed.update((table.source, s.sql) for s in planned)

        def build(statement: Statement) -> None:
            with self._connection(table.database) as conn:
                try:
                    conn.execute(statement.sql, binary=True)
                except psycopg.Error:
                    return  # tried again by the caller of `settle`, where the outcome counts
            self._built.add((table.source, statement.sql))

        def start() -> None:
            for key in keys:  # each locks its table against everything else, so one after the other
                build(key)
            if self._on_rows:  # takes longer than any of its indexes
                self._on_rows(table.block)
            for other in planned:
                if other not in keys:
                    self._pool.submit(_BUILD, lambda o=other: build(o))  # type: ignore[misc]

        self._begun = True
        self._pool.submit(_BUILD, start)

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

    def takes(self, database: str, item: Statement) -> bool:
        """True when this statement of the text is among those handed over.

        Called for everything that builds upon tables: what is not handed over by then stays with the caller.
        """
        self._waiting.clear()
        key = (database, item.sql)
        if key not in self._handed:
            return False
        self._handed.remove(key)  # written twice, the second fails as it would for anyone
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
