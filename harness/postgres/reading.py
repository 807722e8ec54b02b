"""The reading of a large backup that goes on beside its restore, so that nobody waits for it.

A plain dump is read by a thread while another pass loads it. Of an archive the load itself is the only
reading of the rows, since unpacking them twice would cost more than it saves; what is built upon the rows
is known from a pass over the archive's other sections. Either way the whole text is read, and what it says is
the same as after an inspection of its own.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Final, Protocol

from ..component import DrillContext, Inspection, Rest
from ..errors import ArtifactError
from ..model import Artifact
from ..stream import Stream, open_file
from . import source
from .dump import Copy, Item, read_dump
from .facts import DumpFacts, noted

_SWITCH_S: Final = 1e-4


class Reading(Rest, Protocol):
    """A reading under way. `facts` fill up; `head` is what was known before the first row.

    `plan()` gives the facts whose indexes and writes are complete, None before. `noted(items)` wraps the
    items that the load reads. `going()` raises ArtifactError once loading on is no use.
    """

    facts: DumpFacts
    head: DumpFacts

    def plan(self) -> DumpFacts | None: ...
    def noted(self, items: Iterator[Item]) -> Iterator[Item]: ...
    def going(self) -> None: ...


Whole = Callable[[DumpFacts, str], Inspection]


class Stopped(ArtifactError):
    """Unwinds the thread of a reading that nobody waits for."""


class Beside:
    """A plain dump read by a thread of its own. `whole(facts, sha256)` makes the inspection."""

    def __init__(self, artifact: Artifact, ctx: DrillContext, whole: Whole) -> None:
        self.facts = DumpFacts()
        self._artifact, self._ctx, self._whole = artifact, ctx, whole
        self._rows_reached, self._stopped = threading.Event(), threading.Event()
        self._done: Future[Inspection] = Future()
        # The load must get at the interpreter at once, or the server waits for rows: 5 ms are 400 KB of them.
        sys.setswitchinterval(min(_SWITCH_S, sys.getswitchinterval()))
        self._thread = threading.Thread(target=self._run, name="provado-read", daemon=True)
        self._thread.start()
        self._rows_reached.wait()

    @property
    def head(self) -> DumpFacts:
        """All that was read by now; at least everything before the first rows."""
        return self.facts

    def plan(self) -> DumpFacts | None:
        """The facts, once the text was read to its end."""
        return self.facts if self._done.done() else None

    def noted(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items as they are: the thread keeps what they say."""
        return items

    def going(self) -> None:
        """Raise ArtifactError when the text turned out damaged."""
        if self._done.done() and not self._done.result().restorable:
            raise ArtifactError("the backup is damaged", where=self._artifact.path.name)

    def finish(self) -> Inspection:
        """The whole inspection. Raises ToolError past the drill's deadline."""
        return self._done.result()

    def stop(self) -> None:
        """Have the thread end at the next block."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with open_file(self._artifact.path) as file:
                stream = Stream(file, self._artifact.path, self._artifact.packing)
                with contextlib.suppress(ArtifactError):  # kept in the facts
                    for item in noted(read_dump(self._blocks(stream)), self.facts):
                        if isinstance(item, Copy):
                            self._rows_reached.set()
            self.facts.trailing = stream.trailing_bytes
            self._done.set_result(self._whole(self.facts, stream.sha256))
        except BaseException as error:
            self._done.set_exception(error)
        finally:
            self._rows_reached.set()

    def _blocks(self, stream: Stream) -> Iterator[bytes]:
        silent = self._rows_reached.is_set
        for block in source.counted(stream, self._artifact, self._ctx, "inspect", silent):
            if self._stopped.is_set():
                raise Stopped("the drill ended")
            yield block


class ByTheLoad:
    """An archive whose rows only the load reads. `inspect()` reads it whole where nothing was loaded."""

    def __init__(
        self, schema: DumpFacts, whole: Callable[[DumpFacts], Inspection], inspect: Callable[[], Inspection]
    ) -> None:
        self.facts, self.head = DumpFacts(), schema
        self._whole, self._inspect = whole, inspect
        self._complete = False
        self._result: Inspection | None = None

    def plan(self) -> DumpFacts | None:
        """What the sections without rows say; nothing among rows builds indexes or writes late."""
        return self.head

    def noted(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items, with what they say kept in `facts`."""
        try:
            yield from noted(items, self.facts)
        except ArtifactError:
            self._complete = True
            raise
        self._complete = True

    def going(self) -> None:
        """Nothing is known of rows to come."""

    def finish(self) -> Inspection:
        """The whole inspection. Raises ToolError past the drill's deadline, or without a pg_restore."""
        if self._result is None:
            self._result = self._whole(self.facts) if self._complete else self._inspect()
        return self._result

    def stop(self) -> None:
        """Nothing goes on by itself."""
