"""The moment of a save: writes paused for the milliseconds around the fork, so that counts are the file's.

LASTSAVE is never asked: it does not move when saving fails, and waiting for it can wait for ever.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from ..errors import ArtifactError, ToolError
from .live import keyspace, server_version
from .rdb import RdbFacts
from .wire import Refused, Wire

_PAUSE_MS: Final = 5000  # the server ends a pause by itself after this, should we die meanwhile
_FORK_S: Final = 3.0
_IDLE_S: Final = 600.0
_LOOK_S: Final = 0.05


def wait_idle(wire: Wire, deadline: float) -> None:
    """Wait for a save under way to end: writes must not be paused for as long as it takes."""
    deadline = min(deadline, time.monotonic() + _IDLE_S)
    while wire.info("persistence").get("rdb_bgsave_in_progress") == "1":
        if time.monotonic() > deadline:
            raise ToolError("another save is under way and does not end", where=wire.place)
        time.sleep(0.1)


@contextlib.contextmanager
def paused(wire: Wire) -> Iterator[bool]:
    """Writes wait while the block runs; False where the server or our rights do not allow it."""
    if server_version(wire.info("server"))[1] < (6, 2):
        yield False
        return
    held = True  # until it is refused: stopped between the command and its answer, writes may wait
    try:
        held = _pause(wire)
        yield held
    finally:
        if held:
            wire.call("CLIENT", "UNPAUSE")


def _pause(wire: Wire) -> bool:
    try:
        wire.call("CLIENT", "PAUSE", _PAUSE_MS, "WRITE")
    except Refused:
        return False
    return True


def counts(wire: Wire) -> dict[int, int]:
    """Keys per database, as the server counts them now."""
    return {db: figures["keys"] for db, figures in keyspace(wire.info("keyspace")).items()}


def forked(wire: Wire, refused: Callable[[], bool]) -> bool:
    """True once the child that saves exists; the pause lasts until then, or until the save is `refused`."""
    until = time.monotonic() + _FORK_S
    while time.monotonic() < until and not refused():
        now = wire.info("persistence")
        if now.get("rdb_bgsave_in_progress") == "1":
            return True
        if now.get("rdb_last_bgsave_status") not in (None, "ok"):
            return False
        if int(wire.info("replication").get("connected_slaves", "0")) and _sent(wire):
            return True
        time.sleep(0.002)
    return False


def _sent(wire: Wire) -> bool:
    """A small data set may be saved before we look: the replica, which is us, is past waiting then."""
    lines = [v for k, v in wire.info("replication").items() if k.startswith("slave") and "state=" in v]
    return any("state=send_bulk" in v or "state=online" in v for v in lines)


def save(wire: Wire, deadline: float) -> dict[int, int] | None:
    """BGSAVE, watched through INFO to its end; keys per database at its fork (None: not known).

    Raises ToolError when the server refuses, fails, or is not done at `deadline` (`time.monotonic()`).
    """
    wait_idle(wire, deadline)
    try:
        with paused(wire) as held:
            counted = counts(wire) if held else None
            wire.call("BGSAVE")  # answers once the fork is there, or not at all
    except Refused as refused:
        raise ToolError(
            f"the server does not save: {refused.what}",
            where=wire.place,
            remedy="the user needs the permission +bgsave; wait for an AOF rewrite to end",
        ) from None
    while (now := wire.info("persistence")).get("rdb_bgsave_in_progress") == "1":
        if time.monotonic() > deadline:
            raise ToolError("the server did not save in time", where=wire.place)
        time.sleep(_LOOK_S)
    if now.get("rdb_last_bgsave_status") != "ok":
        raise ToolError(
            "saving failed on the server",
            where=wire.place,
            remedy="its log says why: no room on the disk, or no memory for the fork",
        )
    return counted


def same_counts(read: RdbFacts, counted: dict[int, int] | None) -> None:
    """The file holds as many keys in each database as the server had when writes were paused.

    Raises ArtifactError when it does not.
    """
    if counted is None:
        return
    held = {db: n for db, n in read.keys.items() if n}
    if held != counted:
        raise ArtifactError(
            f"the server had {sum(counted.values()):,} keys at the fork, "
            f"the RDB holds {sum(held.values()):,}",
            remedy="take the backup again",
        )
