"""A large backup whose rows only its restore reads: to unpack them twice costs more than it tells.

Known before are the text up to the first rows and, of an archive, all of its other sections. What the whole
says is the same as after an inspection of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ..component import Inspection
from ..errors import ArtifactError
from .apart import Apart
from .dump import Item
from .facts import DumpFacts, noted


@dataclass
class Reading:
    """A reading that the load does. `head` is what is known before; `planned` tells that it holds all that
    is built upon rows. `read()` gives the backup's items, `whole(facts)` makes the inspection of what was
    read, `inspect()` reads the backup where nothing was loaded. `facts` fill up."""

    head: DumpFacts
    planned: bool
    read: Callable[[], Generator[Item | Apart, None, None]]
    whole: Callable[[DumpFacts], Inspection]
    inspect: Callable[[], Inspection]
    facts: DumpFacts = field(default_factory=DumpFacts)
    _complete: bool = False
    _result: Inspection | None = None

    def plan(self) -> DumpFacts | None:
        """The facts whose indexes and writes are complete, None before."""
        if self._complete:
            return self.facts
        return self.head if self.planned else None

    def items(self) -> Generator[Item | Apart, None, None]:
        """The backup's items, with what they say kept in `facts`."""
        try:
            with contextlib.closing(self.read()) as items:
                yield from noted(items, self.facts)
        except ArtifactError:
            self._complete = True
            raise
        self._complete = True

    def finish(self) -> Inspection:
        """The whole inspection. Raises ToolError past the drill's deadline, or without a pg_restore."""
        if self._result is None:
            self._result = self.whole(self.facts) if self._complete else self.inspect()
        return self._result

    def stop(self) -> None:
        """Nothing goes on by itself."""
