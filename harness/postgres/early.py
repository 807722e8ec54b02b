"""Indexes and keys of a large table, built by other connections while the next table loads."""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from .dump import Statement
from .facts import DumpFacts, Planned
from .pool import Pool


class EarlyBuilds:
    """What was taken out of the order of the text, and how it went.

    `on_rows(block)` is called once a table's keys stand, on a thread of the pool.
    """

    def __init__(self, pool: Pool, facts: DumpFacts, on_rows: Callable[[int], None] | None) -> None:
        self._pool, self._facts, self._on_rows = pool, facts, on_rows
        self._built: dict[int, bool] = {}  # ordinal of every statement handed over -> whether it is done
        self._met: list[tuple[int, Statement]] = []

    def begin(self, block: int, source: str, database: str, table: bytes) -> None:
        """The rows of a table are in: build what the text has for it later.

        `source` is the database's name in the text, `database` its name in the sandbox, `table` as written.
        """
        planned = self._facts.indexes.get((source, table.decode("utf-8", "replace")), [])
        keys = [p for p in planned if not p.statement.sql[:7].upper().startswith(b"CREATE ")]
        self._built.update((p.ordinal, False) for p in planned)

        def build(item: Planned) -> None:
            with self._pool.connection(database) as conn:
                try:
                    conn.execute(item.statement.sql, binary=True)
                except psycopg.Error:
                    return  # tried again by the caller of `settle`, where the outcome counts
            self._built[item.ordinal] = True

        def start() -> None:
            for key in keys:  # each locks its table against everything else, so one after the other
                build(key)
            for other in planned:
                if other not in keys:
                    self._pool.submit(lambda o=other: build(o))  # type: ignore[misc]
            if self._on_rows:
                self._on_rows(block)

        self._pool.submit(start)

    def takes(self, ordinal: int, item: Statement) -> bool:
        """True when this statement of the text is among those handed over."""
        if ordinal not in self._built:
            return False
        self._met.append((ordinal, item))
        return True

    def settle(self) -> list[Statement]:
        """Wait for all that runs; returns the statements met since, which could not be built, in order."""
        self._pool.wait()
        met, self._met = self._met, []
        return [item for ordinal, item in met if not self._built[ordinal]]
