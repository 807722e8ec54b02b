"""What must hold for a folder of backups over time, as checks over a `State` (harness/policy/state.py)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ..check import Check, NotRun, check
from ..errors import ArtifactError, ConfigError
from ..manifest import read_manifest
from ..model import Finding, Origin, Proves, Severity
from ..stream import Stream, open_file, sniff
from .points import newest_point
from .recovery_time import estimates
from .retention import days
from .space import days_until_full, size_changes
from .state import Backup, State
from .timekeeping import LISTED, freshness, hours, retention, schedule, scheduled, title

_UNKNOWN_ZONE: Final = timedelta(hours=27)  # a name of UTC+14 read on a clock of UTC-12, and a little more
_LEFTOVERS: Final = (".partial", ".tmp")


@check(
    "policy.missing",
    proves=Proves.OBJECTIVE,
    severity=Severity.CRITICAL,
    origin=Origin.DECLARED,
    remedy="find out why no backup was taken, and take one now: provado backup",
)
def present(self: Check, state: State) -> Iterator[Finding]:
    """A backup is where one is expected."""
    for path, component in state.empty:
        yield self.finding(str(path), f"holds no {component} backup: nothing could be restored")
    if not state.backups and not state.empty:
        yield self.finding("backups", "no backup was found: nothing could be restored")


@check(
    "policy.clock",
    proves=Proves.IDENTITY,
    severity=Severity.MEDIUM,
    remedy="name backups with their time (…-YYYYMMDD-HHMMSS…), set the clock right, or set policy.timezone",
)
def clock(self: Check, state: State) -> Iterator[Finding]:
    """Every backup tells when it was taken, and none lies in the future."""
    if not state.backups:
        raise NotRun("there is no backup")
    ahead = timedelta(minutes=5) if "timezone" in state.policy.model_fields_set else _UNKNOWN_ZONE
    for b in state.backups:
        if b.taken_at is None:
            yield self.finding(b.name, "tells no time of its own, only the file's, which copying changes")
        elif b.taken_at > state.now + ahead:
            yield self.finding(
                b.name,
                f"is dated {hours((b.taken_at - state.now).total_seconds())} in the future",
                severity=Severity.HIGH,
            )


@check(
    "policy.integrity",
    proves=Proves.FILE,
    severity=Severity.CRITICAL,
    remedy="use the backup before it, and take a new one",
)
def integrity(self: Check, state: State) -> Iterator[Finding]:
    """The newest backup of every series can be read to its end and is the file that was written."""
    if not state.deep:
        raise NotRun("asked not to read the backups")
    newest = {b.series: b for b in state.backups}
    for backups in state.by_series().values():
        newest[backups[-1].series] = backups[-1]
    if not newest:
        raise NotRun("there is no backup")
    for b in newest.values():
        if b.artifact.bytes == 0:
            yield self.finding(b.name, "is empty", expected="a backup", observed="0 bytes")
        elif b.artifact.path.is_file():
            yield from _file_integrity(self, b)


@check(
    "policy.size",
    proves=Proves.OBJECTIVE,
    severity=Severity.MEDIUM,
    origin=Origin.LAST_GOOD,
    remedy="compare the row counts of the two backups' drills: did somebody delete data, or was it cut?",
)
def size(self: Check, state: State) -> Iterator[Finding]:
    """The newest backup is about as large as those before it."""
    examined = 0
    for backups in state.by_series().values():
        for change in size_changes(backups):
            examined += 1
            if change.share <= 1 - state.policy.size_drop:
                yield self.finding(
                    change.newest.name,
                    f"is {1 - change.share:.0%} smaller than the backups before it usually were",
                    severity=Severity.HIGH if change.share <= 0.2 else Severity.MEDIUM,
                    expected=f"about {change.usual:,} bytes",
                    observed=f"{change.newest.artifact.bytes:,} bytes",
                )
    if not examined:
        raise NotRun("no series has enough backups to compare sizes")


@check(
    "policy.space",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="make room or add disk; `provado prune` shows what retention would let go",
)
def space(self: Check, state: State) -> Iterator[Finding]:
    """The disk has room for the coming backups."""
    if not state.disks:
        raise NotRun("no folder was looked at")
    limit = state.policy.space_days
    for disk in state.disks:
        there = [s for s in state.by_series().values() if s[0].artifact.path.parent == disk.folder]
        left = days_until_full(there, state.policy, free=disk.free, now=state.now)
        if left is not None and left <= limit:
            yield self.finding(
                str(disk.folder),
                f"the disk will be full in {left} days: {disk.free:,} of {disk.total:,} bytes are free",
                severity=Severity.CRITICAL if left <= 1 else None,
                expected=f"room for {limit} days",
                observed=f"{left} days",
            )


@check(
    "policy.tested",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="run `provado verify` with the same --output, and put it into CI or a timer",
)
def tested(self: Check, state: State) -> Iterator[Finding]:
    """Every series was restored as a test within the interval, and the last test passed."""
    if state.unread_evidence:
        yield self.finding(
            str(state.settings.output),
            f"{state.unread_evidence} drill records cannot be read",
            severity=Severity.MEDIUM,
            remedy="check them with `provado evidence verify`",
        )
    limit, declared = state.policy.test_interval, "test_interval" in state.policy.model_fields_set
    names = scheduled(state)
    if not names:
        raise NotRun("there is no backup")
    for name, backups in names.items():
        mine = [d for d in state.drills if d.lineage == backups[0].lineage]
        judged = [d for d in mine if d.verdict != "inconclusive"]
        if not judged:
            yield self.finding(
                title(name),
                "was never restored as a test: nobody knows whether it can be",
                severity=Severity.HIGH if declared else Severity.MEDIUM,
                expected=f"a drill every {days(limit)}",
                observed=f"{len(mine)} inconclusive drills" if mine else "no drill on record",
            )
            continue
        age = (state.now - judged[-1].finished_at).total_seconds()
        if age > limit:
            yield self.finding(
                title(name),
                f"the last restore test is {days(round(age / 8640) * 8640)} old",
                expected=f"a drill every {days(limit)}",
                observed=days(round(age / 8640) * 8640),
            )
        if judged[-1].verdict == "fail":
            yield self.finding(
                title(name),
                f"the last restore test, of {judged[-1].name}, failed",
                expected="pass",
                observed="fail",
                remedy="open that drill's report; until one passes, use the newest backup that did",
            )


@check(
    "policy.recovery-time",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="restore in parallel (a custom or directory dump), on a faster machine, or declare another one",
)
def rto(self: Check, state: State) -> Iterator[Finding]:
    """A recovery at production's size stays within the recovery time objective."""
    limit = state.settings.objectives.rto
    if limit is None:
        raise NotRun("no recovery time objective is declared")
    made = estimates(state)
    if not made:
        raise NotRun("no drill was timed, or policy.production does not say how large production is")
    for one in made:
        if one.high_s > limit:
            sure = one.seconds > limit
            yield self.finding(
                one.lineage.replace(":", " "),
                f"{'would' if sure else 'might'} take {one.sentence()}",
                severity=Severity.HIGH if sure else Severity.MEDIUM,
                expected=f"at most {hours(limit)}",
                observed=hours(one.seconds),
            )


@check(
    "policy.recovery-point",
    proves=Proves.IDENTITY,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="take the backups of all components at the same time, or declare another consistency.window",
)
def recovery_point(self: Check, state: State) -> Iterator[Finding]:
    """The newest backups of all components lie within the declared window of one another."""
    window = state.settings.consistency.window
    if window is None:
        raise NotRun("no consistency.window is declared")
    point = newest_point(state)
    if point is None:
        raise NotRun("fewer than two components have backups that tell their time")
    if point.apart_s > window:
        yield self.finding(
            "recovery point",
            f"restored together, these would not agree: {point.sentence()}",
            expected=f"at most {hours(window)} apart",
            observed=f"{hours(point.apart_s)} apart",
        )


@check(
    "policy.leftovers",
    proves=Proves.OBJECTIVE,
    severity=Severity.MEDIUM,
    remedy="look why the backup was interrupted (backup.log); the next run removes what is left",
)
def leftovers(self: Check, state: State) -> Iterator[Finding]:
    """No half-written backup lies about."""
    if not state.folders:
        raise NotRun("no folder was looked at")
    for folder in state.folders:
        names = (
            sorted(p.name for p in folder.iterdir() if p.name.endswith(_LEFTOVERS)) if folder.is_dir() else []
        )
        if names:
            yield self.finding(
                str(folder),
                f"{len(names)} half-written files of interrupted runs: {', '.join(names[:LISTED])}",
            )


CHECKS: Final = (
    present,
    freshness,
    schedule,
    retention,
    clock,
    integrity,
    size,
    space,
    tested,
    rto,
    recovery_point,
    leftovers,
)


def _file_integrity(self: Check, b: Backup) -> Iterator[Finding]:
    path = b.artifact.path
    try:
        packing, head = sniff(path)
        with open_file(path) as file:
            stream = Stream(file, path, packing)
            tail = b""
            for block in stream:
                tail = (tail + block)[-4096:]
    except ArtifactError as error:
        yield self.finding(b.name, f"cannot be read to its end: {error.what}")
        return
    if b"-- PostgreSQL database dump\n" in head and b"-- PostgreSQL database dump complete" not in tail:
        yield self.finding(
            b.name,
            "does not end as pg_dump ends a dump: it may have been cut",
            severity=Severity.MEDIUM,
            remedy="restore it as a test: provado verify",
        )
    if b.artifact.manifest is None:
        return
    try:
        recorded = (read_manifest(b.artifact.manifest, b.artifact.component).artifact or {}).get("sha256")
    except ConfigError as error:
        yield self.finding(
            b.name,
            f"its manifest cannot be used: {error.what}",
            severity=Severity.MEDIUM,
            remedy=error.remedy,
        )
        return
    if recorded and recorded != stream.sha256:
        yield self.finding(
            b.name,
            "is not the file that was written: it changed after the backup",
            origin=Origin.MANIFEST,
            expected=f"sha256 {str(recorded)[:16]}…",
            observed=f"sha256 {stream.sha256[:16]}…",
        )
