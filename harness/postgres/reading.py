"""A large backup whose rows only its restore reads: to unpack them twice costs more than it tells.

Known before are the text up to the first rows and, of an archive, all of its other sections. What the whole
says is the same as after an inspection of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from ..component import Inspection
from ..errors import ArtifactError, ProvadoError
from .apart import Apart
from .dump import Copy, Item
from .facts import DumpFacts, noted, read_facts

_SWITCH_S: Final = 1e-4
# Rows that are in, with another table to come, before anyone waits for the plan: where one table holds all of
# them, the load meets its indexes as soon as anyone could, and a second reading would only slow it down.
AHEAD_BYTES: Final = 16 << 20


class Ahead:
    """A thread that reads text to its end while its first rows are loaded, for what is built upon rows:
    tables that are in have their indexes built, and are proven, while the next ones load."""

    def __init__(self, blocks: Callable[[], AbstractContextManager[Iterator[bytes]]]) -> None:
        self._blocks, self._stopped = blocks, threading.Event()
        self._found: DumpFacts | None = None
        # The load must get at the interpreter at once, or the server waits for rows: 5 ms are 400 KB of them.
        sys.setswitchinterval(min(_SWITCH_S, sys.getswitchinterval()))
        self._thread = threading.Thread(target=self._run, name="provado-ahead", daemon=True)
        self._thread.start()

    def plan(self) -> DumpFacts | None:
        """What the text says, once it was read to its end; None for damaged text, of which the load tells."""
        return self._found

    def stop(self) -> None:
        """Have the thread end at the next block."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(ProvadoError, OSError):  # the load meets the same
            with self._blocks() as blocks:
                found = read_facts(itertools.takewhile(lambda _: not self._stopped.is_set(), blocks))
            if not (self._stopped.is_set() or found.problem or found.truncated):
                self._found = found


@dataclass
class Reading:
    """A reading that the load does. `head` is what is known before; `planned` tells that it holds all that
    is built upon rows. `read()` gives the backup's items, `whole(facts)` makes the inspection of what was
    read, `inspect()` reads the backup where nothing was loaded; `ahead()` opens its text for what may
    know the plan sooner. `facts` fill up."""

    head: DumpFacts
    planned: bool
    read: Callable[[], Generator[Item | Apart, None, None]]
    whole: Callable[[DumpFacts], Inspection]
    inspect: Callable[[], Inspection]
    ahead: Callable[[], AbstractContextManager[Iterator[bytes]]] | None = None
    facts: DumpFacts = field(default_factory=DumpFacts)
    _ahead: Ahead | None = None
    _complete: bool = False
    _result: Inspection | None = None

    def plan(self) -> DumpFacts | None:
        """The facts whose indexes and writes are complete, None before."""
        if self._complete:
            return self.facts
        if self.planned:
            return self.head
        return self._ahead.plan() if self._ahead else None

    def items(self) -> Generator[Item | Apart, None, None]:
        """The backup's items, with what they say kept in `facts`."""
        rows = 0  # bytes that are in
        try:
            with contextlib.closing(self.read()) as items:
                for item in noted(items, self.facts):
                    if self.ahead and not self._ahead and isinstance(item, Copy):
                        rows += self.facts.tables[-1].bytes if self.facts.tables else 0
                        if rows >= AHEAD_BYTES:
                            self._ahead = Ahead(self.ahead)
                    yield item
        except ArtifactError:
            self._complete = True
            raise
        self._complete = True

    def finish(self) -> Inspection:
        """The whole inspection. Raises ToolError past the drill's deadline, or without a pg_restore."""
        if self._result is None:
            self.stop()
            self._result = self.whole(self.facts) if self._complete else self.inspect()
        return self._result

    def stop(self) -> None:
        """End what reads ahead."""
        if self._ahead:
            self._ahead.stop()
