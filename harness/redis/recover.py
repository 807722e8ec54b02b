"""Bring a Redis backup into a running server, whatever its persistence, in one step or not at all.

The backup is loaded by a sandbox server first, then copied key by key into an unused database of the target.
Only when all of it is there one transaction puts it in place (SWAPDB, or MOVE for chosen keys). No file of
the target is touched, so neither an AOF nor a save at shutdown can undo it.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..backups import order
from ..component import DrillContext
from ..errors import ArtifactError, ConfigError, ProvadoError, RestoreError, ToolError
from ..model import Artifact, Severity
from ..recovery import Plan, Recovered
from ..settings import Settings
from . import backup as taking
from .digest import is_canary
from .facts import RedisSubject
from .inspect import inspect
from .live import keyspace
from .restore import restore
from .staging import Staged, copy, give_up, room, swap, sweep
from .wire import Address, ServerGone, Wire, Word

_BATCH: Final = 500


@dataclass(frozen=True)
class Wish:
    """How to recover. `replace` allows a target that holds what would be replaced; `safety` is the folder
    for a backup of its current state (None: none). `keys`, `prefixes`, `databases` choose; none: all."""

    replace: bool = False
    safety: Path | None = Path("recovery-backups")
    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    databases: tuple[int, ...] = ()
    timeout_s: float = 4 * 3600.0

    @property
    def by_key(self) -> bool:
        """True when single keys are chosen; what else a database holds stays then."""
        return bool(self.keys or self.prefixes)

    def takes(self, database: int, key: bytes) -> bool:
        """Whether a key of the backup is wanted."""
        if self.databases and database not in self.databases:
            return False
        if not self.by_key:
            return True
        return key in {k.encode() for k in self.keys} or any(
            key.startswith(p.encode()) for p in self.prefixes
        )


def plan(artifact: Artifact, target: Address, wish: Wish, settings: Settings, scratch: Path) -> Plan:
    """What `recover` would do, in words, and why it would refuse; the backup is loaded to tell."""
    with _loaded(artifact, settings, scratch, wish.timeout_s) as subject, _open(target) as wire:
        source = _wire(subject)
        chosen = _chosen(source, wish)
        total = sum(len(keys) for keys in chosen.values())
        steps = [f"load {artifact.path.name} in a sandbox: {total:,} keys are wanted"]
        held = _held(wire, chosen, wish)
        if held and wish.safety:
            steps.append(f"back up the current state of {wire.place} into {wish.safety}")
        steps.append("copy the keys into an unused database of the target and count them")
        how = "put them in place of the keys of the same names" if wish.by_key else "swap the databases"
        steps.append(f"{how}, in one transaction ({held:,} keys are replaced)")
        refusal = None
        if held and not wish.replace:
            refusal = f"{wire.place} holds {held:,} keys that would be replaced"
        return Plan(tuple(steps), refusal)


def recover(
    artifact: Artifact,
    target: Address,
    wish: Wish,
    settings: Settings,
    scratch: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> Recovered:
    """Restore the backup into the running server `target`.

    Raises RestoreError (ArtifactError for a bad backup, ToolError for an unreachable server); the target is
    then as it was, and the message says what else is left.
    """
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(_open(target))
        done = Recovered(wire.place)
        _fit(wire)
        sweep(wire)
        with done.stage("load"):
            subject = stack.enter_context(_loaded(artifact, settings, scratch, wish.timeout_s))
        source = _wire(subject)
        chosen = _chosen(source, wish)
        if not any(chosen.values()):
            raise ConfigError("the backup holds no such key", where=artifact.path.name)
        held = _held(wire, chosen, wish)
        if held and not wish.replace:
            raise RestoreError(
                f"{wire.place} holds {held:,} keys that would be replaced",
                remedy="nothing was changed; say --replace to replace them",
            )
        room(wire, source)
        if held and wish.safety:
            progress("safety backup")
            asked = order(wish.safety, "recovery", settings.policy.zone)
            done.save("the state before", lambda: taking.backup(target, asked, settings))
        staged: list[Staged] = []
        try:
            with done.stage("copy"):
                for database, keys in chosen.items():
                    if keys:
                        progress(f"database {database}: {len(keys):,} keys")
                        staged.append(copy(source, wire, database, keys, staged, chosen))
            done.arrived["keys"] = sum(s.arrived for s in staged)
            if expired := sum(s.expired for s in staged):
                done.notes.append(f"{expired:,} keys expired since the backup was taken")
            with done.stage("swap"):
                done.notes += swap(wire, source, staged, by_key=wish.by_key, databases=wish.databases)
        except (ProvadoError, ServerGone, KeyboardInterrupt) as stop:
            give_up(target, stop)
            if isinstance(stop, ServerGone):
                raise RestoreError(
                    str(stop), where=wire.place, remedy="the keys that were there are untouched; run again"
                ) from None
            raise
    return done


@contextlib.contextmanager
def _loaded(
    artifact: Artifact, settings: Settings, scratch: Path, timeout_s: float
) -> Iterator[RedisSubject]:
    """The backup in a sandbox. Raises ArtifactError when it is damaged or no server would load it."""
    folder = scratch / f"redis-{secrets.token_hex(4)}"
    folder.mkdir()
    ctx = DrillContext(settings, folder, time.monotonic() + timeout_s)
    inspection = inspect(artifact, ctx)
    bad = [p for p in inspection.facts.problems if p.severity is Severity.CRITICAL]
    if not inspection.restorable or bad:
        why = bad[0].message if bad else "it holds no data"
        raise ArtifactError(
            f"cannot be restored: {why}", where=artifact.path.name, remedy="use another backup"
        )
    read = inspection.facts.rdb()
    if read is not None and (read.damage or (read.stated_crc and read.stated_crc != read.computed_crc)):
        raise ArtifactError(
            f"the RDB {read.damage or 'has a checksum that does not hold'}", where=artifact.path.name
        )
    with restore(inspection, ctx) as subject:
        if subject.refused or subject.died:
            raise ArtifactError(
                f"no server loads it: {subject.refused or subject.died}", where=artifact.path.name
            )
        yield subject


def _wire(subject: RedisSubject) -> Wire:
    if subject.wire is None:
        raise ToolError("the sandbox server is gone")
    return subject.wire


@contextlib.contextmanager
def _open(target: Address) -> Iterator[Wire]:
    """A connection to the target. What ends it outside the copying raises ToolError."""
    try:
        with Wire(target) as wire:
            yield wire
    except ServerGone as gone:
        raise ToolError(f"the connection ended: {gone}", remedy="nothing was changed") from None


def _fit(wire: Wire) -> None:
    """Raises RestoreError for a target this way does not work on: a replica, a cluster, a single database."""
    if wire.info("replication").get("role") not in (None, "master"):
        raise RestoreError(f"{wire.place} is a replica", remedy="restore into its primary")
    if wire.info("cluster").get("cluster_enabled") == "1":
        raise RestoreError(f"{wire.place} is part of a cluster", remedy="load the RDB of each shard instead")


def _chosen(source: Wire, wish: Wish) -> dict[int, list[bytes]]:
    """Keys of the backup that are wanted, by database."""
    chosen: dict[int, list[bytes]] = {}
    for database in sorted(keyspace(source.info("keyspace"))):
        source.call("SELECT", database)
        found = list(_scan(source))
        chosen[database] = [k for k in found if wish.takes(database, k)]
    return chosen


def _scan(wire: Wire, match: str | None = None) -> Iterator[bytes]:
    cursor: Word = 0
    while True:
        cursor, keys = wire.call("SCAN", cursor, *(("MATCH", match) if match else ()), "COUNT", 2000)
        yield from (k for k in keys if not is_canary(k))
        if cursor == b"0":
            return


def _held(wire: Wire, chosen: dict[int, list[bytes]], wish: Wish) -> int:
    """How many keys of the target the recovery would replace or remove."""
    there = {db: figures["keys"] for db, figures in keyspace(wire.info("keyspace")).items()}
    if not wish.by_key:
        goals = set(wish.databases) or set(there)
        return sum(count for db, count in there.items() if db in goals)
    held = 0
    for database, keys in chosen.items():
        wire.call("SELECT", database)
        for start in range(0, len(keys), _BATCH):
            held += int(wire.call("EXISTS", *keys[start : start + _BATCH]))
    return held
