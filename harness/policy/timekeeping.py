"""Checks over time: recovery point, gaps in the schedule, retention per kind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ..catalog import named_component, named_kind
from ..check import Check, NotRun, check
from ..model import Artifact, Finding, Origin, Proves, Severity
from .retention import days, plan, rule_of
from .schedule import missing
from .state import Backup, State, as_backup

DEFAULT_RPO_S: Final = 25 * 3600.0  # the seed's monitor: a daily backup, and an hour for it to finish
_SWEPT: Final = (
    "everything is deleted at the age of daily backups: let `provado prune --apply` do it by kind instead; "
    "if the backups only began then, set policy.since"
)
LISTED: Final = 5
_SCHEDULED: Final = ("daily", "weekly", "monthly")


@check(
    "policy.freshness",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="look at the backup job's log (backup.log, cron mail), then take a backup now: provado backup",
)
def freshness(self: Check, state: State) -> Iterator[Finding]:
    """The newest backup of every series is younger than the recovery point objective."""
    limit = state.settings.objectives.rpo or DEFAULT_RPO_S
    examined = 0
    for name, backups in scheduled(state).items():
        past = [b for b in backups if b.taken_at and b.taken_at <= state.now]
        if not past:
            continue
        examined += 1
        age = _age_s(past[-1], state.now)
        if age > limit:
            yield self.finding(
                title(name),
                f"the newest backup, {past[-1].name}, is {hours(age)} old: whatever was written since "
                "would be lost",
                expected=f"at most {hours(limit)}",
                observed=hours(age),
            )
    if not examined:
        raise NotRun("no backup tells its own time", blocking=bool(state.backups))


@check(
    "policy.schedule",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="look at the scheduler (crontab -l, systemctl list-timers) and backup.log for these times",
)
def schedule(self: Check, state: State) -> Iterator[Finding]:
    """Every period of the schedule has its backup."""
    examined = 0
    for name, kind, backups, gaps in _gaps(state):
        examined += 1
        oldest = min(b.taken_at for b in backups if b.taken_at)
        never = [g for g in gaps if g >= oldest]
        mine = [b for b in backups if b.kind == kind]
        if never and not mine:
            severity = Severity.HIGH if "kinds" in state.policy.model_fields_set else Severity.MEDIUM
            yield self.finding(
                title(name),
                f"there is no {kind} backup at all",
                severity=severity,
                expected=f"{kind} backups kept for {days(_keep(state, kind))}",
                observed="none",
            )
        elif never:
            yield self.finding(
                title(name),
                f"{len(never)} {kind} {'backup was' if len(never) == 1 else 'backups were'} not taken: "
                f"{_dates(never, state)}",
                expected="one in each period",
                observed=f"{len(never)} periods without",
            )
    if not examined:
        raise NotRun("no series of backups with a schedule")


@check(
    "policy.retention",
    proves=Proves.OBJECTIVE,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="stop the cleanup that deletes by one age for all kinds; let `provado prune --apply` do it",
)
def retention(self: Check, state: State) -> Iterator[Finding]:
    """Backups are kept as long as their kind asks for."""
    examined = 0
    for name, kind, backups, gaps in _gaps(state):
        examined += 1
        oldest = min(b.taken_at for b in backups if b.taken_at)
        lost = [g for g in gaps if g < oldest]
        if lost:
            yield self.finding(
                title(name),
                f"{len(lost)} {kind} {'backup' if len(lost) == 1 else 'backups'} that should still be kept "
                f"{'is' if len(lost) == 1 else 'are'} gone: {_dates(lost, state)}; nothing is older than "
                f"{days(round((state.now - oldest).total_seconds() / 8640) * 8640)}",
                expected=f"{kind} backups kept for {days(_keep(state, kind))}",
                observed=f"{len(lost)} gone",
                remedy=_SWEPT if state.swept(name) else None,
            )
    gone = sorted(_logged_but_gone(state))
    if gone:
        yield self.finding(
            "backup.log",
            f"{len(gone)} backups that the log records and that should still be kept are gone: "
            f"{', '.join(gone[:LISTED])}{' ...' if len(gone) > LISTED else ''}",
            expected="kept",
            observed=f"{len(gone)} gone",
        )
    if not examined:
        raise NotRun("no series of backups with a schedule")


def _gaps(state: State) -> Iterator[tuple[str, str, list[Backup], list[datetime]]]:
    """Per series and scheduled kind: all its backups, and the starts of periods without one."""
    grace = timedelta(seconds=state.policy.grace)
    for name, backups in scheduled(state).items():
        named = any(b.artifact.kind for b in backups)
        begin = state.began(name)
        if begin is None:
            continue
        for kind in _SCHEDULED:
            rule = state.policy.kinds.get(kind)
            mine = [b for b in backups if b.kind == kind]
            if rule is None or not (mine or named):
                continue
            times = [b.taken_at for b in mine if b.taken_at]
            holes = missing(times, rule, state.policy.zone, begin=begin, now=state.now, grace=grace)
            yield name, kind, backups, [p.start for p in holes]


def _logged_but_gone(state: State) -> set[str]:
    """Names in backup.log whose kind is still within its retention, but which are not on the disk."""
    gone: set[str] = set()
    for folder, log in state.logs.items():
        here = {b.name for b in state.backups if b.artifact.path.parent == folder}
        ghosts = [_ghost(name, folder, state) for name in log.names - here]
        lost = plan(ghosts, state.policy, state.now)
        for d in lost:
            rule = rule_of(d.backup.kind, state.policy)
            if rule and d.age_s is not None and 0 <= d.age_s <= rule.keep:
                gone.add(d.backup.name)
    return gone


def _ghost(name: str, folder: Path, state: State) -> Backup:
    """A backup known by name only, for asking whether it should still be here."""
    component = named_component(name) or "postgres"
    return as_backup(Artifact(folder / name, component, "unknown", kind=named_kind(name)), state.policy)


def _keep(state: State, kind: str) -> float:
    rule = rule_of(kind, state.policy)
    return rule.keep if rule else 0.0


def _age_s(b: Backup, now: datetime) -> float:
    return (now - b.taken_at).total_seconds() if b.taken_at else float("inf")


def _dates(moments: list[datetime], state: State) -> str:
    shown = [m.astimezone(state.policy.zone).date().isoformat() for m in moments]
    if len(shown) <= 12:
        return ", ".join(shown)
    return f"{', '.join(shown[:6])} ... {', '.join(shown[-3:])}"


def scheduled(state: State) -> dict[str, list[Backup]]:
    """Series that a schedule produces: at least one backup is not of a kind taken by hand."""
    return {
        name: backups
        for name, backups in state.by_series().items()
        if any((rule := rule_of(b.kind, state.policy)) is None or rule.every != "never" for b in backups)
    }


def title(name: str) -> str:
    """`component:folder:name` as people say it."""
    component, rest = name.split(":", 1)
    folder, own = rest.rsplit(":", 1)
    return f"{component} {own or Path(folder).name}"


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds < 3 * 86400 else f"{seconds / 86400:.1f} days"
