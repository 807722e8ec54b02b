"""Unused databases of a running server, filled with a backup's keys, then put in place by one transaction.

A filled database carries a mark, so that the next recovery finds what an interrupted one left.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..errors import ProvadoError, RestoreError
from .live import keyspace, server_version
from .wire import Address, Refused, ServerGone, Wire, Word

_MARK: Final = b"provado:restore:staging"
_ALIVE: Final = b"provado:restore:alive"
_ALIVE_MS: Final = 60_000
_BATCH: Final = 500
_MOVE: Final = 2000


@dataclass
class Staged:
    """A database of the target that is being filled: its keys, by the database they are for."""

    database: int
    goal: int
    keys: list[bytes] = field(default_factory=list)
    expiring: int = 0
    expired: int = 0
    arrived: int = 0


def _databases(wire: Wire) -> int:
    try:
        return int(wire.call("CONFIG", "GET", "databases")[1])
    except (Refused, IndexError):
        return 16


def copy(
    source: Wire,
    wire: Wire,
    database: int,
    keys: list[bytes],
    staged: Sequence[Staged],
    chosen: dict[int, list[bytes]],
) -> Staged:
    """Copy keys into an unused database of the target. Raises RestoreError when not all of them arrive."""
    stage = Staged(_unused(wire, {s.database for s in staged} | set(chosen)), database)
    wire.call("SELECT", stage.database)
    wire.call("SET", _MARK, secrets.token_hex(8))
    source.call("SELECT", database)
    evicted = wire.info("stats").get("evicted_keys")
    modern = server_version(source.info("server"))[1] >= (7, 0)
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        wire.call("SET", _ALIVE, 1, "PX", _ALIVE_MS)
        dumps = list(source.pipeline(("DUMP", k) for k in batch))
        times = list(source.pipeline((("PEXPIRETIME" if modern else "PTTL"), k) for k in batch))
        commands: list[Sequence[Word]] = []
        for key, payload, when in zip(batch, dumps, times, strict=True):
            if payload is None:
                stage.expired += 1
                continue
            if not isinstance(payload, bytes) or not isinstance(when, int):
                raise RestoreError("the sandbox server does not give a key out", where=f"database {database}")
            stage.expiring += when > 0
            stage.keys.append(key)
            absolute: tuple[Word, ...] = ("ABSTTL",) if modern and when > 0 else ()
            commands.append(("RESTORE", key, max(when, 0), payload, *absolute))
        for reply in wire.pipeline(commands):
            if isinstance(reply, Exception):
                raise RestoreError(
                    f"the target does not take a key ({str(reply).split(' ', 1)[0]}: "
                    f"{'its version is older than the backup' if 'version' in str(reply) else 'refused'})",
                    where=wire.place,
                    remedy="the keys that were there are untouched",
                )
    arrived = int(wire.call("DBSIZE")) - int(wire.call("EXISTS", _MARK, _ALIVE))
    lost = len(stage.keys) - arrived
    if wire.info("stats").get("evicted_keys") != evicted or lost < 0 or lost > stage.expiring:
        raise RestoreError(
            f"{len(stage.keys):,} keys were copied, {arrived:,} are there: the target evicts or expires them",
            where=wire.place,
            remedy="raise maxmemory; the keys that were there are untouched",
        )
    stage.arrived = arrived
    stage.expired += lost
    return stage


def _unused(wire: Wire, taken: set[int]) -> int:
    used = set(keyspace(wire.info("keyspace"))) | taken
    free = [n for n in range(_databases(wire) - 1, -1, -1) if n not in used]
    if not free:
        raise RestoreError(
            "the target has no unused database to load the backup into first",
            where=wire.place,
            remedy="raise `databases` in its redis.conf and restart it; nothing was changed",
        )
    return free[0]


def swap(
    wire: Wire, source: Wire, staged: list[Staged], *, by_key: bool, databases: tuple[int, ...]
) -> list[str]:
    """The one step that changes what clients see, as a transaction; returns what to tell of it."""
    commands: list[Sequence[Word]] = []
    for stage in staged:
        commands += [("SELECT", stage.database), ("DEL", _MARK, _ALIVE)]
        if by_key:
            commands += [("SELECT", stage.goal)]
            for start in range(0, len(stage.keys), _MOVE):
                commands.append(("UNLINK", *stage.keys[start : start + _MOVE]))
            commands += [("SELECT", stage.database), *(("MOVE", k, stage.goal) for k in stage.keys)]
        else:
            commands += [
                ("SWAPDB", stage.database, stage.goal),
                ("SELECT", stage.database),
                ("FLUSHDB", "ASYNC"),
            ]
    if not by_key:
        goals = {s.goal for s in staged} | {s.database for s in staged}
        gone = set(databases) or set(keyspace(wire.info("keyspace")))
        for database in sorted(gone - goals):
            commands += [("SELECT", database), ("FLUSHDB", "ASYNC")]
        if not databases and (library := _functions(source)):
            commands.append(("FUNCTION", "RESTORE", library, "FLUSH"))
    replies = list(wire.pipeline([("MULTI",), *commands, ("EXEC",)]))
    refused = next((r for r in replies if isinstance(r, Exception)), None)
    results = replies[-1]
    if refused is not None or not isinstance(results, list):
        code = str(refused).split(" ", 1)[0] if refused else "no answer"
        raise RestoreError(
            f"the target refuses the transaction ({code})",
            where=wire.place,
            remedy="the user needs SELECT, SWAPDB, FLUSHDB, MOVE and UNLINK; nothing was changed",
        )
    failed = [str(r).split(" ", 1)[0] for r in results if isinstance(r, Exception)]
    return [f"{len(failed)} commands of the last step failed ({failed[0]})"] if failed else []


def _functions(source: Wire) -> bytes | None:
    try:
        if not source.call("FUNCTION", "LIST"):
            return None
        payload = source.call("FUNCTION", "DUMP")
    except Refused:
        return None
    return payload if isinstance(payload, bytes) else None


def sweep(wire: Wire) -> None:
    """Empty the databases that an interrupted recovery filled. Raises RestoreError when one is under way."""
    for database in sorted(keyspace(wire.info("keyspace"))):
        wire.call("SELECT", database)
        if wire.call("EXISTS", _MARK):
            if wire.call("EXISTS", _ALIVE):
                raise RestoreError(
                    "another recovery into this server is running, or ended less than a minute ago",
                    where=wire.place,
                    remedy="wait a minute",
                )
            wire.call("FLUSHDB")
    wire.call("SELECT", wire.address.database)


def give_up(target: Address, stop: BaseException) -> None:
    """Empty what was filled; if that fails, say so in the error."""
    try:
        with Wire(target) as wire:
            for database in sorted(keyspace(wire.info("keyspace"))):
                wire.call("SELECT", database)
                if wire.call("EXISTS", _MARK):
                    wire.call("FLUSHDB")
    except (ProvadoError, ServerGone):
        stop.add_note(
            "a database with a part of the backup is left on the target; the next recovery empties it"
        )


def room(wire: Wire, source: Wire) -> None:
    """Both copies must fit: with a maxmemory that is too small the server evicts what is being restored."""
    memory = wire.info("memory")
    limit = int(memory.get("maxmemory", "0"))
    needed = int(source.info("memory").get("used_memory_dataset", "0"))
    used = int(memory.get("used_memory", "0"))
    if limit and used + needed > limit:
        raise RestoreError(
            f"maxmemory is {limit:,} bytes, but {used + needed:,} are needed while both copies are there: "
            "the server would evict keys",
            where=wire.place,
            remedy="raise maxmemory for the recovery (CONFIG SET maxmemory 0); nothing was changed",
        )
