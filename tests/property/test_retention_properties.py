"""Retention and schedule over arbitrary schedules, ages and time zones."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model import Artifact
from harness.policy import retention
from harness.policy.schedule import missing, periods
from harness.policy.state import Backup, as_backup
from harness.settings.policy import WEEKDAYS, KindRule, PolicySettings

ZONES = [
    "UTC",
    "America/Sao_Paulo",
    "America/New_York",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
]
KINDS = ["daily", "weekly", "monthly", "recovery", "emergency", None]
moments = st.datetimes(datetime(2010, 1, 1), datetime(2030, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))
rules = (
    st.builds(
        KindRule,
        keep=st.floats(3600, 400 * 86400),
        every=st.just("day"),
        at=st.none() | st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59)),
    )
    | st.builds(
        KindRule,
        keep=st.floats(86400, 400 * 86400),
        every=st.just("week"),
        at=st.none() | st.just("03:00"),
        day=st.none() | st.sampled_from(WEEKDAYS),
    )
    | st.builds(
        KindRule,
        keep=st.floats(86400, 400 * 86400),
        every=st.just("month"),
        at=st.none() | st.just("04:00"),
        day=st.none() | st.integers(1, 28),
    )
)


@st.composite
def folders(draw: st.DrawFn) -> tuple[list[Backup], PolicySettings, datetime]:
    zone = draw(st.sampled_from(ZONES))
    keeps = {k: KindRule(keep=draw(st.floats(1, 400 * 86400))) for k in ("daily", "weekly", "monthly")}
    policy = PolicySettings(timezone=zone, kinds=keeps)  # type: ignore[arg-type]
    now = draw(moments)
    backups = []
    for kind, age in draw(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(-100, 500)), max_size=40)):
        local = (now - timedelta(days=age)).astimezone(ZoneInfo(zone))
        name = f"shop-{kind or 'x'}-{local:%Y%m%d-%H%M%S}.sql.gz"
        backups.append(as_backup(Artifact(Path("/b") / name, "postgres", "plain", kind=kind), policy))
    return backups, policy, now


@given(folders())
def test_prune_keeps_what_retention_asks_for_and_lets_go_nothing_else(
    case: tuple[list[Backup], PolicySettings, datetime],
) -> None:
    backups, policy, now = case
    decided = retention.plan(backups, policy, now)
    assert sorted(d.backup.name for d in decided) == sorted(b.name for b in backups)
    for d in decided:
        b, rule = d.backup, retention.rule_of(d.backup.kind, policy)
        if b.kind is None or rule is None or b.taken_at is None:
            assert d.keep
            continue
        due = (now - b.taken_at).total_seconds() > rule.keep
        newer = [o for o in backups if o.kind == b.kind and o.taken_at and b.taken_at < o.taken_at <= now]
        twins = [o for o in backups if o.kind == b.kind and o.taken_at == b.taken_at]
        if d.keep and due and b.taken_at <= now:
            assert not newer  # only the newest of a kind outlives its time
        if not d.keep:
            assert due and (newer or len(twins) > 1)
    for kind in {b.kind for b in backups}:
        assert any(d.keep for d in decided if d.backup.kind == kind)


@given(folders())
def test_pruning_again_lets_nothing_more_go(case: tuple[list[Backup], PolicySettings, datetime]) -> None:
    backups, policy, now = case
    left = [d.backup for d in retention.plan(backups, policy, now) if d.keep]
    assert all(d.keep for d in retention.plan(left, policy, now))


@settings(max_examples=60)
@given(rules, st.sampled_from(ZONES), moments, st.integers(0, 60))
def test_periods_cover_time_without_gap_or_overlap(
    rule: KindRule, zone: str, first: datetime, span: int
) -> None:
    found = periods(rule, ZoneInfo(zone), first, first + timedelta(days=span))
    assert all(p.start < p.end for p in found)
    assert all(a.end == b.start for a, b in itertools.pairwise(found))
    if found:
        longest = {"day": 2, "week": 8, "month": 32}[rule.every]
        assert found[0].start - first <= timedelta(days=longest)
        assert first <= found[0].start and found[-1].start <= first + timedelta(days=span)


@settings(max_examples=60)
@given(rules, st.sampled_from(ZONES), moments, st.data())
def test_exactly_the_skipped_periods_are_missing(
    rule: KindRule, zone: str, now: datetime, data: st.DataObject
) -> None:
    begin = now - timedelta(days=120)
    grace = timedelta(hours=1)
    oldest = max(begin, now - timedelta(seconds=rule.keep))
    due = [
        p
        for p in periods(rule, ZoneInfo(zone), oldest, now)
        if p.end <= now or (rule.at and now > p.start + grace)
    ]
    taken, skipped = [], []
    for p in due:
        latest = min((p.end - p.start).total_seconds() - 601, 7200)
        if data.draw(st.booleans()):
            taken.append(p.start + timedelta(seconds=data.draw(st.floats(0, latest))))
        else:
            skipped.append(p)
    assert missing(taken, rule, ZoneInfo(zone), begin=begin, now=now, grace=grace) == skipped
