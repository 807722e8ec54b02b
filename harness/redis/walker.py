"""Walking an RDB beside everything else: large files are read by a second process while a server loads them.

`main` is that process: it reads its orders and leaves facts and records in the drill's scratch folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from .. import process
from ..errors import ToolError
from .digest import Digester, KeyClasses
from .rdb import RdbFacts, walk
from .spool import Spool

LARGE: Final = 16 << 20
_PROGRAM: Final = (
    "import sys, pathlib; from harness.redis.walker import main; main(pathlib.Path(sys.argv[1]))"
)


@dataclass
class Walk:
    """A walk under way or done. `result` waits for it."""

    path: Path
    scratch: Path
    deadline: float
    _child: process.Popen[bytes] | None = None
    _done: tuple[RdbFacts, Spool] | None = field(default=None, repr=False)

    def result(self) -> tuple[RdbFacts, Spool]:
        """What the file says, and the records of its keys. Raises ToolError when the walk broke."""
        if self._done is None:
            child = self._child
            if child is None:
                raise ToolError("the RDB file was not walked", where=self.path.name)
            try:
                code = child.wait(max(1.0, self.deadline - time.monotonic()))
            except process.TimeoutExpired:
                process.end(child)
                raise TimeoutError("reading the RDB file did not finish in time") from None
            if code != 0:
                raise ToolError(f"the process that walks the RDB ended with {code}", where=self.path.name)
            facts = _from_json(json.loads((self.scratch / "walk.json").read_bytes()))
            names = json.loads((self.scratch / "walk.names").read_bytes())
            self._done = facts, Spool.load(self.scratch / "walk.spool", KeyClasses(names))
        return self._done

    def known(self) -> RdbFacts | None:
        """What the file says, if that is known by now."""
        return self._done[0] if self._done else None

    def close(self) -> None:
        """End the second process if it still runs, and give the disk space back."""
        if self._child is not None:
            process.end(self._child, grace_s=1)
        if self._done is not None:
            self._done[1].close()


def start(
    path: Path,
    salt: bytes,
    scratch: Path,
    deadline: float,
    progress: Callable[[int, int], None],
    *,
    large: int = LARGE,
) -> Walk:
    """Begin to walk `path`; files below `large` bytes are done when this returns."""
    size = path.stat().st_size
    walking = Walk(path, scratch, deadline)
    if size < large:
        spool = Spool(scratch)
        walking._done = _walk(path, size, salt, spool, deadline, lambda done: progress(done, size)), spool
        return walking
    orders = scratch / "walk.orders"
    left = deadline - time.monotonic()
    orders.write_text(
        json.dumps({"path": str(path.absolute()), "salt": salt.hex(), "seconds": left, "parent": os.getpid()})
    )
    walking._child = process.start([sys.executable, "-c", _PROGRAM, orders], cwd=Path(__file__).parents[2])
    weakref.finalize(walking, process.end, walking._child, grace_s=1)
    return walking


def _walk(
    path: Path, size: int, salt: bytes, spool: Spool, deadline: float, progress: Callable[[int], None]
) -> RdbFacts:
    digester, canaries = Digester(salt), dict[str, str]()
    with path.open("rb", buffering=0) as file:
        take = spool.sink(digester, canaries)
        facts = walk(file, size, digester, take, deadline=deadline, progress=progress)
    facts.canaries = canaries
    return facts


def _to_json(facts: RdbFacts) -> dict[str, Any]:
    counts = {name: dict(getattr(facts, name)) for name in ("keys", "expires")}
    return {**asdict(facts), **counts, "module_aux": sorted(facts.module_aux)}


def _from_json(data: dict[str, Any]) -> RdbFacts:
    for name in ("keys", "expires"):
        data[name] = Counter({int(db): count for db, count in data[name].items()})
    data["hints"] = {int(db): (hint[0], hint[1]) for db, hint in data["hints"].items()}
    data["module_aux"] = set(data["module_aux"])
    return RdbFacts(**data)


def main(orders_file: Path) -> None:
    """The second process."""
    orders = json.loads(orders_file.read_bytes())
    scratch = orders_file.parent

    def watch(done: int) -> None:
        if os.getppid() != orders["parent"]:
            raise SystemExit(3)

    path = Path(orders["path"])
    with (scratch / "walk.spool").open("xb+") as file:
        spool = Spool(file)
        deadline = time.monotonic() + orders["seconds"]
        facts = _walk(path, path.stat().st_size, bytes.fromhex(orders["salt"]), spool, deadline, watch)
        spool.save(scratch / "walk.spool.index")
    (scratch / "walk.names").write_text(json.dumps(spool.classes.names))
    (scratch / "walk.json").write_text(json.dumps(_to_json(facts)))
