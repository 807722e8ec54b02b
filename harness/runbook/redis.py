"""Rehearsals about Redis, on a stand-in server that writes an AOF as production does."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ..backups import order
from ..catalog import identify
from ..check import Check, NotRun, check
from ..components import component, recognisers
from ..model import Artifact, Finding
from ..redis import recover
from ..redis.backup import backup
from ..redis.digest import Digester
from ..redis.live import keyspace, read_all
from ..redis.spool import Spool, compare
from ..redis.wire import Address, Wire
from .ground import Ground

_SALT: Final = b"rehearsal-------"  # digests are compared within one rehearsal only
_CANARY: Final = "provado:canary"
_REMEDY: Final = "follow docs/operations.md for this section, and correct the runbook's text"


@check("runbook.redis-backup", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def whole(self: Check, ground: Ground) -> Iterator[Finding]:
    """A backup taken now holds every key that the server holds."""
    address: Address = ground.redis()
    taken = _take(ground, address)
    inspection = component("redis").inspect(_artifact(taken.path), ground.context())
    read = inspection.facts.rdb()
    with Wire(address) as wire:
        held = {db: f["keys"] for db, f in keyspace(wire.info("keyspace")).items()}
    found = read.held if read else {}
    if found != held:
        yield self.finding(
            taken.path.name, "keys are missing", expected=sum(held.values()), observed=sum(found.values())
        )


@check("runbook.redis-integrity", proves="file", severity="high", origin="declared", remedy=_REMEDY)
def integrity(self: Check, ground: Ground) -> Iterator[Finding]:
    """The newest backup holds data and can be read to its end, and a cut copy of it is noticed."""
    artifact = ground.newest("redis")
    inspection = component("redis").inspect(artifact, ground.context())
    if not inspection.restorable or inspection.facts.problems:
        for problem in inspection.facts.problems:
            yield self.finding(problem.object, problem.message, severity=problem.severity)
        if not inspection.restorable:
            yield self.finding(artifact.path.name, "holds nothing that could be restored")
    if not artifact.path.is_file():
        raise NotRun("the backup is a folder")
    cut = ground.folder("cut") / artifact.path.name
    cut.write_bytes(artifact.path.read_bytes()[: max(1, artifact.bytes * 2 // 3)])
    broken = component("redis").inspect(replace(artifact, path=cut, manifest=None), ground.context())
    read = broken.facts.rdb()
    if broken.restorable and not broken.facts.problems and (read is None or not read.damage):
        yield self.finding(artifact.path.name, "a copy cut at two thirds was taken for a whole backup")


@check("runbook.redis-recover", proves="usability", severity="critical", origin="declared", remedy=_REMEDY)
def whole_recovery(self: Check, ground: Ground) -> Iterator[Finding]:
    """A damaged server that writes an AOF is recovered whole, and still is after its AOF was loaded again."""
    address: Address = ground.redis()
    with Wire(address) as wire:
        before = _content(ground, wire)
        wire.call("FLUSHALL")
        wire.call("SET", "provado:damage", "1")
        wish = recover.Wish(replace=True, safety=ground.folder("safety"))
        recover.recover(ground.newest("redis"), address, wish, ground.settings, ground.folder("recover"))
        yield from _differences(self, before, _content(ground, wire))


@check("runbook.redis-recover-keys", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def key_recovery(self: Check, ground: Ground) -> Iterator[Finding]:
    """Chosen keys are recovered; all others stay as they are."""
    address: Address = ground.redis()
    with Wire(address) as wire:
        before = _content(ground, wire)
        database = min(keyspace(wire.info("keyspace")), default=None)
        if database is None:
            raise NotRun("the backup holds no key", blocking=True)
        wire.call("SELECT", database)
        key = wire.call("RANDOMKEY")
        wire.call("DEL", key)
        wish = recover.Wish(
            replace=True, safety=None, keys=(key.decode("utf-8", "surrogateescape"),), databases=(database,)
        )
        recover.recover(ground.newest("redis"), address, wish, ground.settings, ground.folder("recover"))
        yield from _differences(self, before, _content(ground, wire))


@check("runbook.redis-restore-test", proves="restore", severity="critical", origin="declared", remedy=_REMEDY)
def restore_test(self: Check, ground: Ground) -> Iterator[Finding]:
    """A canary set before a backup is there after the server was emptied and recovered."""
    address: Address = ground.redis()
    value = secrets.token_hex(8)
    with Wire(address) as wire:
        before = _content(ground, wire)
        wire.call("SET", _CANARY, value)
        try:
            taken = _take(ground, address)
            wire.call("FLUSHALL")
            wish = recover.Wish(replace=True, safety=None)
            recover.recover(_artifact(taken.path), address, wish, ground.settings, ground.folder("recover"))
            if wire.call("GET", _CANARY) != value.encode():
                yield self.finding(_CANARY, "the canary did not come back")
        finally:
            wire.call("DEL", _CANARY)
        yield from _differences(self, before, _content(ground, wire))


@check("runbook.redis-look", proves="usability", severity="medium", origin="declared", remedy=_REMEDY)
def look(self: Check, ground: Ground) -> Iterator[Finding]:
    """Keys and memory of the server can be asked for without KEYS, which stops it for all others."""
    with Wire(ground.redis()) as wire:
        if not wire.info("memory").get("used_memory"):
            yield self.finding("INFO memory", "is not to be had")
        wire.call("SCAN", 0, "MATCH", "*", "COUNT", 100)


CHECKS: Final = (whole, integrity, whole_recovery, key_recovery, restore_test, look)


def _take(ground: Ground, address: Address) -> Any:
    return backup(
        address, order(ground.folder("redis"), "daily", ground.settings.policy.zone), ground.settings
    )


def _artifact(path: Path) -> Artifact:
    found = identify(path, recognisers(), component="redis")
    assert found is not None  # noqa: S101 - the component was claimed
    return found


@dataclass(frozen=True)
class _Content:
    """Digests of every key, and the server's clock when they were read."""

    spool: Spool
    ended_ms: int


def _content(ground: Ground, wire: Wire) -> _Content:
    spool = Spool(ground.folder("keys"))
    live = read_all(wire, Digester(_SALT), spool, deadline=ground.deadline)
    wire.call("SELECT", 0)
    return _Content(spool, live.ended_ms)


def _differences(self: Check, before: _Content, after: _Content) -> Iterator[Finding]:
    found = compare(before.spool, after.spool, past_ms=after.ended_ms)
    for counter, what in (
        (found.missing, "did not come back"),
        (found.moved, "came back in another database"),
        (found.extra, "are there that were not there before"),
        (found.type + found.value + found.side, "have another value"),
        (found.expiry, "expire at another time"),
    ):
        if total := sum(counter.values()):
            yield self.finding("keys", f"{total:,} keys {what}", expected=0, observed=total)
