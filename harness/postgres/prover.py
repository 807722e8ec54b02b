"""Tables read back from the server: large ones while others load, the rest at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg

from ..sandbox import Server
from .facts import DumpFacts
from .loaded import Loaded
from .pool import Pool
from .proof import Rows, read_rows, table_rows
from .rows import unordered

READ: Final = "read"  # kind of work in the pool


@dataclass
class Prover:
    """Fills `rows` (block of `facts.tables` -> what the server holds for it) over the pool's connections.

    `plan()` gives the facts of the whole text, None as long as nobody has read it to its end. `home` is
    the sandbox's database for text that names none. A table that cannot be read is left out; the checks of
    rows read it again and say why.
    """

    server: Server
    pool: Pool
    facts: DumpFacts
    plan: Callable[[], DumpFacts | None]
    loaded: Loaded
    home: str
    rows: dict[int, Rows]

    def early(self, index: int) -> None:
        """Read block `index` back now, unless something later in the file may change its rows."""
        plan = self.plan()
        if plan and not _may_change(plan) and self.facts.tables[index].text:
            self.pool.submit(READ, lambda: self._read(index))

    def forget(self, index: int) -> None:
        """More rows follow for the table of block `index`: read it back at the end."""
        self.pool.wait(READ)
        self.rows.pop(index, None)

    def rest(self) -> None:
        """Read back everything that is not proven yet; returns when all is."""
        tables = self.facts.tables
        self.pool.wait(READ)
        if _may_change(self.facts):
            self.rows.clear()
        todo = [i for i in self.loaded.copied if i not in self.rows and tables[i].text]
        for index in sorted(todo, key=lambda i: -tables[i].bytes):
            self.pool.submit(READ, lambda i=index: self._read(i))  # type: ignore[misc]
        self.pool.wait(READ)

    def _read(self, index: int) -> None:
        table = self.facts.tables[index]
        schema, name = self.loaded.into.get(index, (table.schema, table.table))
        try:
            with self.pool.connection(table.database or self.home) as conn:
                place = (conn, self.server, schema, name, table.columns, table.encoding, table.bytes)
                if sent := self.loaded.shared.get(index):
                    held = unordered(read_rows(*place))
                    self.rows[index] = Rows(held.rows, sent.digest if held == sent.rows else "")
                else:
                    self.rows[index] = table_rows(*place)
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            return  # no entry in `rows`: pg.row-content reads the table again, where the error counts


def _may_change(facts: DumpFacts) -> bool:
    """Whether rows may be others at the end than behind their COPY; INSERT may reach them through a view."""
    return facts.late_writes or facts.unsettled or bool(facts.inserts)
