"""Which periods a schedule has, which backup falls in which, and which periods have none.

A period begins at the declared time of day (or at midnight) on the clock of `policy.timezone`; days of 23
and 25 hours are as long as that clock makes them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from ..settings.policy import WEEKDAYS, KindRule

# A job that starts at 02:00 may stamp 01:59:59 (clock slewed): it still is the backup of that period.
EARLY: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Period:
    """From `start` up to, but not including, `end`; both in UTC."""

    start: datetime
    end: datetime


def periods(rule: KindRule, zone: ZoneInfo, first: datetime, last: datetime) -> list[Period]:
    """All periods of `rule` that begin in [first, last], in order. A rule with `every: never` has none."""
    if rule.every == "never" or last < first:
        return []
    starts: list[datetime] = []
    for day in _days(rule, first.astimezone(zone).date(), last.astimezone(zone).date()):
        start = datetime.combine(day, rule.time_of_day, zone).astimezone(UTC)
        if starts and start >= first and starts[-1] >= first and start <= starts[-1]:
            continue  # a wall-clock time that does not exist may fall onto its neighbour
        starts.append(start)
    return [Period(a, b) for a, b in itertools.pairwise(starts) if first <= a <= last]


def missing(
    times: Iterable[datetime],
    rule: KindRule,
    zone: ZoneInfo,
    *,
    begin: datetime,
    now: datetime,
    grace: timedelta,
) -> list[Period]:
    """Periods with no backup among those that begin after `begin` and whose backup must still be kept.

    The period under way is judged only when `at` is declared and `grace` has passed since it began.
    """
    early = EARLY if rule.at else timedelta(0)
    shifted = sorted(t + early for t in times)
    oldest = max(begin, now - timedelta(seconds=rule.keep))
    found = []
    for period in periods(rule, zone, oldest, now):
        under_way = period.end > now
        if under_way and not (rule.at and now > period.start + grace):
            continue
        if not any(period.start <= t < period.end for t in shifted):
            found.append(period)
    return found


def _days(rule: KindRule, first: date, last: date) -> Iterator[date]:
    """Days on which a period may begin, from one before `first` to one after `last`."""
    if rule.every == "day":
        day, step = first - timedelta(days=1), timedelta(days=1)
        while day <= last + timedelta(days=2):
            yield day
            day += step
    elif rule.every == "week":
        target = WEEKDAYS.index(str(rule.day or "monday"))
        day = first - timedelta(days=(first.weekday() - target) % 7 + 7)
        while day <= last + timedelta(days=14):
            yield day
            day += timedelta(days=7)
    else:
        year, month = first.year, first.month
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        while (year, month) <= (last.year + (last.month > 10), (last.month + 1) % 12 + 1):
            yield date(year, month, int(rule.day or 1))
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
