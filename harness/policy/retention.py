"""Which backups may go, and why each of the others stays. Deciding is pure; only `apply` touches files.

Every kind has its own time to live (the runbook: 7 days daily, 30 weekly, 90 monthly), counted on the
backup's own clock. When in doubt a backup stays.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ..atomic import sync_folder
from ..errors import ProvadoError
from ..settings.policy import DEFAULT_KINDS, KindRule, PolicySettings
from .state import Backup, Drill

COMPANIONS = (".manifest.json", ".globals.sql", ".sha256", ".sig")


@dataclass(frozen=True)
class Decision:
    """What happens to one backup, and why. `age_s` is None where no clock of its own tells it."""

    backup: Backup
    keep: bool
    reason: str
    age_s: float | None


def rule_of(kind: str | None, policy: PolicySettings) -> KindRule | None:
    """The rule for a kind: declared, else the default, else None."""
    if kind is None:
        return None
    return policy.kinds.get(kind) or DEFAULT_KINDS.get(kind)  # type: ignore[call-overload]


def plan(
    backups: Iterable[Backup],
    policy: PolicySettings,
    now: datetime,
    *,
    drills: Iterable[Drill] = (),
) -> list[Decision]:
    """Decide about every backup, oldest first within its series.

    Kept whatever their age: the newest of every series and kind, the newest that passed a drill, those
    without a clock of their own, without a known kind, and those dated in the future (a wrong clock must
    neither be deleted by, nor let anything else be deleted).
    """
    everything = list(backups)
    newest: dict[tuple[str, str | None], Backup] = {}
    for b in everything:
        if b.taken_at is not None and b.taken_at <= now:
            key = (b.series, b.kind)
            if key not in newest or (newest[key].taken_at, newest[key].name) < (b.taken_at, b.name):
                newest[key] = b
    passed = {(d.lineage, d.name) for d in drills if d.verdict == "pass"}
    proven: dict[str, Backup] = {}
    for b in everything:
        if b.taken_at is not None and (b.lineage, b.name) in passed:
            best = proven.get(b.series)
            if best is None or best.taken_at is None or best.taken_at < b.taken_at:
                proven[b.series] = b
    decided = [
        _decide(b, policy, now, b is newest.get((b.series, b.kind)), b is proven.get(b.series))
        for b in everything
    ]
    return sorted(decided, key=lambda d: (d.backup.series, -(d.age_s or 0.0), d.backup.name))


def _decide(b: Backup, policy: PolicySettings, now: datetime, newest: bool, proven: bool) -> Decision:
    if b.taken_at is None:
        return Decision(b, True, "its name tells no time, so its age is unknown", None)
    age = (now - b.taken_at).total_seconds()
    rule = rule_of(b.kind, policy)
    if rule is None:
        return Decision(b, True, "its kind is unknown, so no retention applies", age)
    if age < 0:
        return Decision(b, True, "it is dated in the future", age)
    if now - b.taken_at <= timedelta(seconds=rule.keep):
        return Decision(b, True, f"{b.kind} backups are kept for {days(rule.keep)}", age)
    if newest:
        return Decision(b, True, f"it is the newest {b.kind} backup there is", age)
    if proven:
        return Decision(b, True, "it is the newest backup that passed a drill", age)
    return Decision(b, False, f"{b.kind} backups are kept for {days(rule.keep)}", age)


def apply(decisions: Iterable[Decision]) -> list[Path]:
    """Remove what the plan lets go, with the files that belong to it; returns the removed backups.

    A folder is first renamed to a hidden name, so that a half-removed one is never taken for a backup.
    Raises ProvadoError naming what could not be removed, after trying all.
    """
    removed: list[Path] = []
    refused: list[str] = []
    for decision in decisions:
        if decision.keep:
            continue
        path = decision.backup.artifact.path
        try:
            if path.is_dir() and not path.is_symlink():
                doomed = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
                path.rename(doomed)
                shutil.rmtree(doomed)
            else:
                path.unlink()
            for ending in COMPANIONS:
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + ending).unlink()
            sync_folder(path.parent)
            removed.append(path)
        except OSError as error:
            refused.append(f"{path} ({error.strerror})")
    if refused:
        raise ProvadoError(
            f"{len(refused)} backups could not be removed: {', '.join(refused[:5])}",
            remedy="check owner and permissions of the folder",
        )
    return removed


def days(seconds: float) -> str:
    """`7 days`, or hours where it is less than two days."""
    if seconds < 2 * 86400:
        return f"{seconds / 3600:g} hours"
    return f"{seconds / 86400:g} days"
