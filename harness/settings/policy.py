"""provado.yaml, sections `policy`, `runbook`, `consistency` and `after_restore`."""

from __future__ import annotations

import os
import re
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, model_validator

from .types import Duration, Section, Size

_DAY_S: Final = 86400.0


def _zone(value: Any) -> Any:
    if isinstance(value, str) and value not in ("local", "UTC") and value not in available_timezones():
        raise ValueError("not a time zone: write a name like America/Sao_Paulo, UTC or local")
    return value


def _local_zone() -> ZoneInfo:
    """This machine's zone by TZ or /etc/localtime; UTC where neither names one."""
    linked = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").lstrip(":"), linked):
        if name in available_timezones():
            return ZoneInfo(name)
    return ZoneInfo("UTC")


def _clock(value: Any) -> Any:
    if isinstance(value, int) and 0 <= value < 1440:  # YAML 1.1 reads 02:30 as the number 150
        return f"{value // 60:02}:{value % 60:02}"
    if isinstance(value, str) and re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", value):
        return value
    raise ValueError("not a time of day: write 02:00")


Zone = Annotated[str, BeforeValidator(_zone)]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: Final[tuple[str, ...]] = get_args(Weekday)
Clock = Annotated[str, BeforeValidator(_clock)]


class KindRule(Section):
    """How often backups of one kind are due, and how long they are kept.

    `at` and `day` (weekday name, or day of the month) say when a period begins; without `at` a period is the
    calendar day, week or month of `policy.timezone`, and the one under way is not judged. `keep` counts
    from the backup's own clock. `every: never` is for kinds taken by hand.
    """

    keep: Duration
    every: Literal["day", "week", "month", "never"] = "day"
    at: Clock | None = None
    day: Weekday | int | None = None  # not `on`: YAML 1.1 reads that key as true

    @model_validator(mode="after")
    def _fits(self) -> KindRule:
        if self.day is not None and self.every not in ("week", "month"):
            raise ValueError("`day` needs `every: week` or `every: month`")
        if self.every == "week" and isinstance(self.day, int):
            raise ValueError("`day` of a weekly kind is a weekday's name")
        if (
            self.every == "month"
            and self.day is not None
            and not (isinstance(self.day, int) and 1 <= self.day <= 28)
        ):
            raise ValueError("`day` of a monthly kind is a day from 1 to 28")
        return self

    @property
    def time_of_day(self) -> time:
        """When a period begins; midnight when nothing is declared."""
        hour, minute = (self.at or "0:00").split(":")
        return time(int(hour), int(minute))


DEFAULT_KINDS: Final = {  # CONTRACT: 7 daily / 30 weekly / 90 monthly days
    "daily": KindRule(keep=7 * _DAY_S, every="day"),
    "weekly": KindRule(keep=30 * _DAY_S, every="week"),
    "monthly": KindRule(keep=90 * _DAY_S, every="month"),
    "recovery": KindRule(keep=30 * _DAY_S, every="never"),
    "emergency": KindRule(keep=30 * _DAY_S, every="never"),
}


class Contact(Section):
    """Who is told at an escalation level, and the runbook's section to open (its slug)."""

    who: Annotated[str, Field(min_length=1)]
    how: str = ""
    section: str | None = None


class Production(Section):
    """What a drill's time is extrapolated to: the size of production's backup, packed as those drilled, and
    how many times as fast as the drills' machine the recovery machine restores."""

    backup_size: Size
    speed: Annotated[float, Field(gt=0, le=100)] = 1.0


class PolicySettings(Section):
    """Schedule, retention, monitoring, escalation.

    `timezone` is the clock that backup names are written by (`local`: this machine's). `unnamed` says which
    kind a backup without one in its name is, per component. `since` is when this schedule began: without it
    (or a backup.log, or drill records) a backup that was deleted cannot be told from one never due.
    `size_drop` is the share by which the newest backup may be smaller than its history. `production` lets
    monitoring say how long a recovery would take there.
    """

    timezone: Zone = "local"
    kinds: dict[Literal["daily", "weekly", "monthly", "recovery", "emergency"], KindRule] = Field(
        default_factory=lambda: dict(DEFAULT_KINDS)  # type: ignore[arg-type]
    )
    unnamed: dict[Literal["postgres", "redis", "files"], Literal["daily", "weekly", "monthly"]] = Field(
        default_factory=lambda: {"redis": "daily", "files": "daily"}  # type: ignore[arg-type]
    )
    since: datetime | None = None
    grace: Duration = 2 * 3600.0
    size_drop: Annotated[float, Field(gt=0, lt=1)] = 0.3
    space_days: Annotated[int, Field(ge=1, le=366)] = 30
    test_interval: Duration = 15 * _DAY_S
    production: dict[Literal["postgres", "redis", "files"], Production] = Field(default_factory=dict)
    contacts: dict[Annotated[int, Field(ge=1, le=4)], Contact] = Field(default_factory=dict)
    webhook: str | None = None

    @property
    def zone(self) -> ZoneInfo:
        """`timezone` as an object."""
        return _local_zone() if self.timezone == "local" else ZoneInfo(self.timezone)


class Runbook(Section):
    """A runbook in Markdown, and which rehearsal stands for each of its sections.

    `sections` maps a section's slug to the name of a rehearsal (`provado.runbook.rehearsals()` lists them),
    to the node id of a test of one's own, or to `text: why` for a section with nothing to rehearse.
    """

    path: Path
    sections: dict[str, str] = Field(default_factory=dict)


class ConsistencyRule(Section):
    """Keys of Redis that must name rows of PostgreSQL.

    `keys` is a glob; `field` names the hash field whose JSON (or plain) value holds the reference, with
    `path` walking into the JSON; without `field` what `*` stood for is the reference. `table`.`column` must
    hold it. At most `allow` references may be without a row.
    """

    name: Annotated[str, Field(min_length=1)]
    keys: Annotated[str, Field(min_length=1)]
    db: Annotated[int, Field(ge=0)] = 0
    field: str | None = None
    path: str | None = None
    table: Annotated[str, Field(min_length=1)]
    column: Annotated[str, Field(min_length=1)]
    allow: Annotated[int, Field(ge=0)] = 0


class ConsistencySettings(Section):
    """What must agree between the backups of one recovery point; `window` bounds their times' distance."""

    window: Duration | None = None
    rules: tuple[ConsistencyRule, ...] = ()


class Step(Section):
    """One step after a restore: `sql` (a file), `run` (argv of a program) or `query` with `expect`.

    A program gets DATABASE_URL and REDIS_URL of the sandbox in its environment and nothing else of ours.
    """

    name: Annotated[str, Field(min_length=1)]
    sql: Path | None = None
    run: tuple[str, ...] | None = None
    query: str | None = None
    expect: str | int | None = None
    cwd: Path | None = None
    timeout: Duration = 600.0

    @model_validator(mode="after")
    def _one_thing(self) -> Step:
        if sum(x is not None for x in (self.sql, self.run, self.query)) != 1:
            raise ValueError("a step has exactly one of `sql`, `run`, `query`")
        if self.expect is not None and self.query is None:
            raise ValueError("`expect` belongs to `query`")
        return self
