"""Sizes against their own history, and when the disk will be full. Pure arithmetic over what was gathered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Final

from ..settings.policy import PolicySettings
from .retention import rule_of
from .schedule import periods
from .state import Backup

HISTORY: Final = 10  # how many earlier backups a size is held against
HORIZON: Final = 366  # days that the forecast looks ahead


@dataclass(frozen=True)
class SizeChange:
    """The newest backup of a series and kind against the median of those before it, in bytes."""

    newest: Backup
    usual: int

    @property
    def share(self) -> float:
        """Newest size as a share of the usual one."""
        return self.newest.artifact.bytes / self.usual if self.usual else 1.0


def size_changes(backups: Sequence[Backup]) -> list[SizeChange]:
    """One entry per kind with at least three earlier backups; `backups` are one series, oldest first."""
    kinds: dict[str | None, list[Backup]] = {}
    for b in backups:
        kinds.setdefault(b.kind, []).append(b)
    return [
        SizeChange(mine[-1], int(median(b.artifact.bytes for b in mine[-HISTORY - 1 : -1])))
        for mine in kinds.values()
        if len(mine) > 3
    ]


def growth_bytes_per_day(backups: Sequence[Backup]) -> float:
    """Slope of size over time by least squares; 0 with fewer than three backups, never negative."""
    points = [
        (b.taken_at.timestamp() / 86400, float(b.artifact.bytes)) for b in backups if b.taken_at is not None
    ]
    if len(points) < 3:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return max(0.0, sum((x - mean_x) * (y - mean_y) for x, y in points) / spread) if spread else 0.0


def days_until_full(
    series: Sequence[Sequence[Backup]], policy: PolicySettings, *, free: int, now: datetime
) -> int | None:
    """Whole days until one file system is full if schedule, growth and retention go on; None within a year.

    `series` are those that lie on it. Each due period adds a backup of the kind's newest size plus its
    growth; what retention lets go gives its room back on the day it is due.
    """
    change: dict[int, float] = {}
    end = now + timedelta(days=HORIZON)
    for backups in series:
        for kind in {b.kind for b in backups}:
            mine = [b for b in backups if b.kind == kind]
            rule = rule_of(kind, policy)
            if rule is None or rule.every == "never":
                continue
            keep, slope = timedelta(seconds=rule.keep), growth_bytes_per_day(mine)
            for b in mine[:-1]:
                if b.taken_at is not None:
                    gone = max(0, (b.taken_at + keep - now).days + 1)
                    change[gone] = change.get(gone, 0.0) - b.artifact.bytes
            if rule.keep < HORIZON * 86400:
                gone = max(1, (now + keep - now).days + 1)
                change[gone] = change.get(gone, 0.0) - mine[-1].artifact.bytes
            for period in periods(rule, policy.zone, now, end):
                day = (period.start - now).days
                size = mine[-1].artifact.bytes + slope * day
                change[day] = change.get(day, 0.0) + size
                gone = day + int(rule.keep // 86400) + 1
                change[gone] = change.get(gone, 0.0) - size
    used = 0.0
    for day in range(HORIZON):
        used += change.get(day, 0.0)
        if used > free:
            return day
    return None
