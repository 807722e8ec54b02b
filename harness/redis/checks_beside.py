"""Checks against what stands beside the data: the backup's name, its manifest, the source's INFO output."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from ..catalog import named_time
from ..check import Check, NotRun, check
from ..model import Finding, Severity
from .checks_file import problems
from .facts import RedisSubject
from .layout import moment

_DAY_S: Final = 86_400
_MANY_LOST: Final = 50
_MANY: Final = 20  # keys of a database that do not come and go within a backup


@check(
    "redis.age",
    proves="identity",
    severity="critical",
    needs_server=False,
    remedy="look why the source no longer saves (rdb_last_bgsave_status in INFO), and take a new backup",
)
def age(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The data is as old as the backup's name says, by the clock inside the file."""
    head, aof = subject.facts.head, subject.facts.aof
    inside = moment(aof.last_time if aof else head.ctime if head else None)
    if inside is None:
        raise NotRun("the file holds no clock of its own")
    if (inside - datetime.now(UTC)).total_seconds() > _DAY_S:
        yield self.finding(
            subject.artifact.path.name,
            "the clock inside the file is ahead of this machine's: how old the data is cannot be told",
            severity=Severity.MEDIUM,
            observed=f"written {inside:%Y-%m-%d %H:%M}Z",
            remedy="set the clocks of the source and of this machine",
        )
    limit, manifest = subject.settings.redis.max_clock_gap, subject.facts.manifest
    artifact = subject.artifact  # its time, if its name tells one, counts from the declared time zone
    named = artifact.taken_at if artifact.taken_at_basis == "name" else named_time(artifact.path.name)
    stamps = [("its name says", named)] if named else []
    notes = subject.facts.layout.notes
    saved = notes.get("rdb_last_save_time", "")
    last_save = moment(int(saved)) if saved.isdecimal() else None
    # A server that wrote nothing since it loaded the file tells when it was started.
    started = notes.get("rdb_saves") == notes.get("rdb_changes_since_last_save") == "0"
    if last_save and not aof and not started:
        stamps.append(("the INFO output beside it says", last_save))
    if manifest and manifest.artifact:
        stamps.append(("its manifest says", manifest.captured_at))
    if not stamps:
        raise NotRun("neither the name nor a manifest of its own says when the backup was taken")
    for who, stamp in stamps:
        if (stamp - inside).total_seconds() > limit:
            yield self.finding(
                subject.artifact.path.name,
                f"the data is older than {who}: an old file was packed again",
                expected=f"written about {stamp:%Y-%m-%d %H:%M}Z",
                observed=f"written {inside:%Y-%m-%d %H:%M}Z",
            )
            return
    if named and (inside - named).total_seconds() > limit + _DAY_S:  # a name may tell nothing but the day
        yield self.finding(
            subject.artifact.path.name,
            "the data is younger than its name says: it is not the backup of that time",
            severity=Severity.MEDIUM,
            expected=f"written about {named:%Y-%m-%d %H:%M}Z",
            observed=f"written {inside:%Y-%m-%d %H:%M}Z",
            remedy="find out what overwrote that backup, or name files after the time when they were taken",
        )


_TROUBLE: Final = {
    "rdb_last_bgsave_status": (
        "ok",
        "saving had failed on the source: the RDB is of the last time it worked",
    ),
    "aof_last_write_status": ("ok", "writing the AOF had failed on the source: what came after is not in it"),
    "loading": ("0", "the source was still loading its own data when the backup was made"),
    "master_sync_in_progress": ("0", "the source was a replica that had not got all data from its master"),
    "master_link_status": ("up", "the source was a replica cut off from its master: it may lag behind"),
}


@check(
    "redis.source-sound",
    proves="identity",
    severity="high",
    needs_server=False,
    remedy="repair the source (disk, memory for the fork, link to the master) and take a new backup",
)
def source_sound(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The source was able to save when the backup was made, by the INFO output packed beside it."""
    told = {name: subject.facts.layout.notes[name] for name in _TROUBLE if name in subject.facts.layout.notes}
    if not told:
        raise NotRun("no INFO output of the source lies beside the data")
    for name, value in told.items():
        right, what = _TROUBLE[name]
        if value != right:
            yield self.finding(name, what, expected=right, observed=value)


@check(
    "redis.source-told",
    proves="data",
    severity="medium",
    needs_server=False,
    remedy="compare with the source; a manifest (`provado capture redis`) would settle it",
)
def source_told(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The backup holds about as many keys as the INFO output packed beside it told of the source."""
    told = {}
    for name, text in subject.facts.layout.notes.items():
        if name[2:].isdigit():  # db0, db1 ...
            told[int(name[2:])] = {k: int(n) for k, n in re.findall(r"(keys|expires)=(\d{1,18})\b", text)}
    if not told:
        raise NotRun("no INFO output of the source lies beside the data to compare it with")
    held, replayed = _held(subject)
    # What a server replayed lacks the keys whose time came since then.
    stated = {db: n.get("keys", 0) - (n.get("expires", 0) if replayed else 0) for db, n in told.items()}
    total, there = sum(stated.values()), sum(held.values())
    lost = total - there
    if lost > max(total // 100, 1):
        much = lost >= _MANY_LOST and lost * 4 > total  # more than a busy server changes within a backup
        yield self.finding(
            subject.artifact.path.name,
            "the backup holds fewer keys than the source had when it was made",
            severity=Severity.HIGH if much else None,
            expected=f"about {total:,}",
            observed=f"{there:,}",
        )
    for db, figures in sorted(told.items()):
        lasting = figures.get("keys", 0) - figures.get("expires", 0)
        if there and lasting >= _MANY and not held.get(db):
            yield self.finding(
                f"db{db}",
                "a whole database that the source had when the backup was made is not in the backup",
                severity=Severity.HIGH,
                expected=f"about {lasting:,} keys",
                observed="0",
            )


@check(
    "redis.aof-current",
    proves="identity",
    severity="medium",
    needs_server=False,
    remedy="ask the source (CONFIG GET appendonly): an AOF that it no longer writes must not be packed, "
    "since a server with appendonly loads it and ignores the RDB",
)
def aof_current(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The AOF is in use: it holds about as many keys as an RDB beside it that is younger than its base."""
    yield from problems(self, subject.facts.problems)
    aof, beside, live = subject.facts.aof, subject.facts.beside, subject.live
    if aof is None or beside is None:
        raise NotRun("there are not both an AOF and an RDB in this backup")
    if beside.damage or beside.unknown:
        raise NotRun("the RDB beside the AOF cannot be read to its end")
    if live is None:
        raise NotRun("what the AOF holds shows only once a server replayed it, which did not happen")
    base = subject.facts.head.ctime if subject.facts.head else None
    if (base or 0) > (beside.ctime or 0):
        raise NotRun("the RDB is older than the AOF's base: how far they differ tells nothing")
    lasting, there = beside.total - beside.expires.total(), sum(live.keys.values())
    if (lost := lasting - there) >= _MANY_LOST and lost * 4 > lasting:
        yield self.finding(
            subject.artifact.path.name,
            "the AOF holds far fewer keys than the RDB beside it, which is younger than the AOF's base: "
            "an AOF that nobody writes to any more",
            severity=Severity.HIGH if there * 4 < lasting else None,
            expected=f"about {lasting:,} keys, as the RDB has that do not expire",
            observed=f"{there:,} keys",
        )


def _held(subject: RedisSubject) -> tuple[Mapping[int, int], bool]:
    """Keys per database in the backup, and whether a server that replayed an AOF tells so."""
    rdb = subject.facts.rdb()
    if subject.facts.layout.aof:
        if subject.live is None:
            raise NotRun("what the AOF holds shows only once a server replayed it, which did not happen")
        return subject.live.keys, True
    if rdb is None or rdb.damage or rdb.unknown:
        raise NotRun("the backup's keys cannot be read to the end")
    return rdb.held, False


CHECKS: Final = (
    age,
    source_sound,
    source_told,
    aof_current,
)
