"""Retention: each kind its own time, the newest always stays, doubt keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import ProvadoError
from harness.model import Artifact
from harness.policy import retention
from harness.policy.state import Backup, Drill, as_backup
from harness.settings.policy import PolicySettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = PolicySettings()


def backup(kind: str | None, age_days: float, folder: Path = Path("/b"), name: str | None = None) -> Backup:
    taken = NOW - timedelta(days=age_days)
    file = name or f"gate-{kind or 'x'}-{taken:%Y%m%d-%H%M%S}.sql.gz"
    return as_backup(Artifact(folder / file, "postgres", "plain", kind=kind), POLICY)


def kept(*backups: Backup, drills: tuple[Drill, ...] = ()) -> dict[str, bool]:
    return {d.backup.name: d.keep for d in retention.plan(backups, POLICY, NOW, drills=drills)}


def test_each_kind_has_its_own_time() -> None:
    backups = [
        backup(k, a) for k in ("daily", "weekly", "monthly") for a in (1, 6.9, 7.1, 29.9, 30.1, 89.9, 90.1)
    ]
    left = [d.backup for d in retention.plan(backups, POLICY, NOW) if d.keep]
    assert {k: sum(b.kind == k for b in left) for k in ("daily", "weekly", "monthly")} == {
        "daily": 2,
        "weekly": 4,
        "monthly": 6,
    }


def test_the_newest_of_a_kind_stays_however_old() -> None:
    old, older = backup("monthly", 300), backup("monthly", 330)
    assert kept(backup("daily", 1), old, older) == {
        backup("daily", 1).name: True,
        old.name: True,
        older.name: False,
    }


def test_the_newest_proven_backup_stays() -> None:
    proven, newer = backup("daily", 20), backup("daily", 1)
    drill = Drill(proven.lineage, "postgres", proven.name, "", "pass", NOW, None, False)
    assert kept(proven, newer) == {proven.name: False, newer.name: True}
    assert kept(proven, newer, drills=(drill,))[proven.name]


def test_doubt_keeps() -> None:
    no_clock = backup("daily", 0, name="gate-daily.sql.gz")
    no_kind = backup(None, 400)
    future = backup("daily", -30)
    old = backup("daily", 100)
    assert kept(no_clock, no_kind, future, old, backup("daily", 101)) == {
        no_clock.name: True,
        no_kind.name: True,
        future.name: True,
        old.name: True,  # the one from the future is not the newest
        backup("daily", 101).name: False,
    }


def test_apply_removes_the_backup_and_what_belongs_to_it(tmp_path: Path) -> None:
    doomed, stays = backup("daily", 30, tmp_path), backup("daily", 1, tmp_path)
    folder = tmp_path / "20260101"
    folder.mkdir()
    (folder / "nginx.conf").write_text("events {}")
    old_config = as_backup(Artifact(folder, "files", "folder"), POLICY)
    new_config = as_backup(Artifact(tmp_path / "20261124", "files", "folder"), POLICY)
    for b in (doomed, stays):
        b.artifact.path.write_bytes(b"x")
        b.artifact.path.with_name(b.name + ".manifest.json").write_text("{}")
    plan = retention.plan([doomed, stays, old_config, new_config], POLICY, NOW)
    assert set(retention.apply(plan)) == {doomed.artifact.path, folder}
    assert sorted(p.name for p in tmp_path.iterdir()) == [stays.name, stays.name + ".manifest.json"]


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    plan = retention.plan([backup("daily", 30, tmp_path), backup("daily", 1, tmp_path)], POLICY, NOW)
    with pytest.raises(ProvadoError, match="could not be removed"):
        retention.apply(plan)
