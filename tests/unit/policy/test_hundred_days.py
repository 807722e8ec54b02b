"""The customer's folder after 100 days: with the seed's cleanup, without it, and with days left out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cron import run

from harness.catalog import find
from harness.model import Finding, Status
from harness.policy.monitor import Report, look
from harness.policy.retention import plan
from harness.policy.state import State, gather
from harness.postgres.source import recognise
from harness.settings import Settings

FIRST = datetime(2026, 8, 17)  # a Monday; the hundredth day is Tuesday 2026-11-24
NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
SCHEDULE = {
    "timezone": "UTC",
    "kinds": {
        "daily": {"keep": "7d", "every": "day", "at": "02:00"},
        "weekly": {"keep": "30d", "every": "week", "day": "sunday", "at": "03:00"},
        "monthly": {"keep": "90d", "every": "month", "day": 1, "at": "04:00"},
    },
}


def state(folder: Path, now: datetime = NOW) -> State:
    settings = Settings.model_validate({"policy": SCHEDULE, "output": str(folder / "none")})
    recognisers = {"postgres": recognise}
    return gather(find(folder, recognisers), settings, now=now, folders=[folder])


def findings(report: Report, check: str) -> list[Finding]:
    result = next(r for r in report.results if r.id == check)
    assert (result.status is Status.FAIL) == any(f.severity.rank >= 2 for f in result.findings)
    return list(result.findings)


def test_the_seeds_cleanup_breaks_retention_and_every_lost_backup_is_named(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 100, cleanup=True)
    report = look(state(tmp_path))
    lost = findings(report, "policy.retention")
    assert [(f.expected, f.observed) for f in lost] == [
        ("weekly backups kept for 30 days", "3 gone"),
        ("monthly backups kept for 90 days", "3 gone"),
    ]
    assert "2026-11-01, 2026-11-08, 2026-11-15;" in lost[0].message
    assert "2026-09-01, 2026-10-01, 2026-11-01;" in lost[1].message
    assert not findings(report, "policy.schedule")
    assert report.escalation.level == 1


def test_the_same_folder_without_its_log(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 100, cleanup=True)
    (tmp_path / "backup.log").unlink()
    lost = findings(look(state(tmp_path)), "policy.retention")
    assert [f.observed for f in lost] == ["3 gone", "3 gone"]
    assert "policy.since" in str(lost[0].remedy)
    known = state(tmp_path)
    began = {"policy": {**SCHEDULE, "since": "2026-11-17"}}
    young = replace(known, settings=Settings.model_validate(began))
    assert not findings(look(young), "policy.retention")


def test_an_untouched_folder_is_fine_and_prune_keeps_what_the_runbook_asks_for(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 100, cleanup=False)
    before = state(tmp_path)
    report = look(before)
    assert not findings(report, "policy.retention")
    assert not findings(report, "policy.schedule")
    decisions = plan(before.backups, before.policy, NOW)
    left: dict[str, list[str]] = {}
    for d in sorted(decisions, key=lambda d: d.backup.name):
        if d.keep and d.backup.kind:
            left.setdefault(d.backup.kind, []).append(d.backup.name[-22:-14])
    assert left["daily"] == [f"202611{day}" for day in range(18, 25)]
    assert left["weekly"] == ["20261101", "20261108", "20261115", "20261122"]
    assert left["monthly"] == ["20260901", "20261001", "20261101"]
    for d in decisions:
        if not d.keep:
            d.backup.artifact.path.unlink()
    assert not findings(look(state(tmp_path)), "policy.retention")
    assert not findings(look(state(tmp_path)), "policy.schedule")


def test_backups_never_taken_are_gaps_not_retention(tmp_path: Path) -> None:
    skipped = {"daily-20261120-020000", "daily-20261121-020000", "weekly-20261108-030000"}
    run(tmp_path, FIRST, 100, cleanup=False, skip=frozenset(f"email-gateway-{n}.sql.gz" for n in skipped))
    report = look(state(tmp_path))
    gaps = findings(report, "policy.schedule")
    assert [f.message for f in gaps] == [
        "2 daily backups were not taken: 2026-11-20, 2026-11-21",
        "1 weekly backup was not taken: 2026-11-08",
    ]
    assert not findings(report, "policy.retention")


def test_a_cron_job_that_stopped(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 98, cleanup=False)  # nothing on the 23rd and 24th
    report = look(state(tmp_path))
    assert "2.2 days" not in findings(report, "policy.freshness")[0].message  # 51 hours are told in hours
    assert findings(report, "policy.freshness")[0].observed == "51.0 h"
    assert findings(report, "policy.schedule")[0].message.endswith("2026-11-23, 2026-11-24")


def test_the_run_of_today_is_not_missed_before_its_grace_is_over(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 99, cleanup=False)
    assert not findings(look(state(tmp_path, NOW.replace(hour=3, minute=59))), "policy.schedule")
    assert findings(look(state(tmp_path, NOW.replace(hour=4, minute=1))), "policy.schedule")


def test_a_young_folder_is_not_accused(tmp_path: Path) -> None:
    run(tmp_path, datetime(2026, 11, 21), 4, cleanup=True)
    report = look(state(tmp_path))
    assert not findings(report, "policy.retention")
    assert not findings(report, "policy.schedule")


def test_copies_do_not_make_backups_young(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 50, cleanup=False)
    for path in tmp_path.glob("*.gz"):
        path.touch()  # as `cp` leaves them: GATEWAY 20
    assert findings(look(state(tmp_path)), "policy.freshness")


def test_a_backup_that_the_log_records_but_somebody_removed(tmp_path: Path) -> None:
    run(tmp_path, FIRST, 100, cleanup=False)
    gone = tmp_path / "email-gateway-weekly-20261115-030000.sql.gz"
    gone.unlink()
    log = tmp_path / "backup.log"
    log.write_text(log.read_text() + f"[2026-11-15 03:00:09] Backup concluído: {gone}\n")
    found = [f for f in findings(look(state(tmp_path)), "policy.retention") if f.object == "backup.log"]
    assert len(found) == 1 and gone.name in found[0].message
