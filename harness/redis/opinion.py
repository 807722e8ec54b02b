"""A second opinion: the official check tool on every part of the backup, beside our own walk and the server.

It passes files that do not load, and refuses some that do (another vendor's, a newer version's): what it
does not understand is no complaint.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..component import DrillContext
from ..errors import ProvadoError
from ..sandbox import RedisRequest
from ..sandbox.tool import Finished, redis_program, run_check
from .layout import place, regular

if TYPE_CHECKING:
    from .facts import RedisFacts

_NOT_UNDERSTOOD: Final = re.compile(
    r"Can't handle RDB format version|Unknown object type|[Ww]rong signature|unknown magic|[Mm]odule|"
    r"Unexpected file format|unsupported"
)
_MOST_PARTS: Final = 8
_LONGEST_S: Final = 600.0


@dataclass
class Opinion:
    """What the tool says, known once `wait` returns. `complaints` are names of parts; `why` tells why not."""

    version: str = ""
    parts: int = 0
    complaints: list[str] = field(default_factory=list)
    why: str | None = None
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> Opinion:
        """Until it is there."""
        if self._thread is not None:
            self._thread.join()
        return self

    def stop(self) -> None:
        """End the tool if it still runs."""
        self._stop.set()
        self.wait()


def ask(facts: RedisFacts, request: RedisRequest, ctx: DrillContext) -> Opinion:
    """Have the tool look at the parts while the server loads them."""
    opinion = Opinion()
    opinion._thread = threading.Thread(target=_ask, args=(opinion, facts, request, ctx), daemon=True)
    opinion._thread.start()
    return opinion


def _ask(opinion: Opinion, facts: RedisFacts, request: RedisRequest, ctx: DrillContext) -> None:
    try:
        program = redis_program(request, ctx.settings.sandbox)
        if program is None:
            opinion.why = "no server program of a fitting version lies on this machine itself"
            return
        opinion.version = program.version
        parts = list(_parts(facts))
        if len(parts) > _MOST_PARTS:
            opinion.why = f"the AOF has {len(parts)} parts"
            return
        for number, (kind, path) in enumerate(parts):
            folder = ctx.scratch / f"check-{number}"
            folder.mkdir()
            place(path, folder / "part")
            called = f"{program.engine}-check-{kind}"
            limits, until = ctx.settings.sandbox, min(ctx.deadline, time.monotonic() + _LONGEST_S)
            done = run_check(program, called, folder, "part", limits, deadline=until, stop=opinion._stop)
            shutil.rmtree(folder)
            _judge(opinion, path.name, done)
    except (ProvadoError, OSError) as error:
        opinion.why = f"the tool did not run ({type(error).__name__})"


def _parts(facts: RedisFacts) -> Iterator[tuple[str, Path]]:
    """Files with the tool that understands them. An AOF of one piece with an RDB in it is for neither."""
    found = facts.layout
    if found.aof is None:
        if found.rdb and regular(found.rdb):
            yield "rdb", found.rdb
        return
    if found.aof.base and regular(found.aof.base):
        yield ("rdb" if facts.head and facts.head.version else "aof"), found.aof.base
    if found.aof.single and facts.head and facts.head.version:
        return
    for part in found.aof.parts:
        if regular(part) and part.stat().st_size:
            yield "aof", part


def _judge(opinion: Opinion, name: str, done: Finished) -> None:
    if done.exit_code == 0:
        opinion.parts += 1
    elif done.exit_code != 1 or _NOT_UNDERSTOOD.search(done.output):
        opinion.why = f"the tool of version {opinion.version} does not understand {name}"
    else:
        opinion.complaints.append(name)
