"""What `provado monitor` says of sizes, room, tests, escalation; how it says it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cron import DUMP, run

from harness.commands import list as list_command
from harness.commands import monitor, prune
from harness.errors import ConfigError, ToolError
from harness.lock import folder_lock
from harness.model import Artifact, Status, Verdict
from harness.policy import monitor as report
from harness.policy import recovery_time
from harness.policy.space import days_until_full
from harness.policy.state import Disk, Drill, State, as_backup
from harness.policy.webhook import message, send
from harness.redact import Secret
from harness.settings import Objectives, Settings

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)


def made(sizes: dict[int, int], component: str = "postgres", **policy: Any) -> State:
    """A state with daily backups of these sizes, by age in days."""
    settings = Settings.model_validate({"policy": {"timezone": "UTC", **policy}})
    backups = []
    for age, size in sorted(sizes.items(), reverse=True):
        name = f"{component}-daily-{NOW - timedelta(days=age, hours=4):%Y%m%d-%H%M%S}.sql.gz"
        backups.append(
            as_backup(
                Artifact(Path("/b") / name, component, "plain", bytes=size, kind="daily"), settings.policy
            )
        )
    return State(settings, NOW, tuple(backups), deep=False)


def with_drills(state: State, *drills: tuple[str, str, bool]) -> State:
    """(component, verdict, lost data) of drills, one a day, the last one today."""
    made_drills = [
        Drill(f"{c}:{c}", c, f"{c}-x", "", v, NOW - timedelta(days=len(drills) - i - 1), 1.0, lost)
        for i, (c, v, lost) in enumerate(drills)
    ]
    return State(state.settings, NOW, state.backups, tuple(made_drills), deep=False)


def found(state: State, check: str) -> list[tuple[str, str]]:
    looked = report.look(state)
    return [(f.severity.value, f.message) for f in looked.findings if f.check == check]


def test_size_against_history() -> None:
    assert not found(made({0: 900, 1: 1000, 2: 1010, 3: 990, 4: 1000}), "policy.size")
    assert found(made({0: 500, 1: 1000, 2: 1010, 3: 990, 4: 1000}), "policy.size") == [
        ("medium", "is 50% smaller than the backups before it usually were")
    ]
    assert found(made({0: 100, 1: 1000, 2: 1010, 3: 990, 4: 1000}), "policy.size")[0][0] == "high"


def test_room_is_told_in_days() -> None:
    state = made(dict.fromkeys(range(8), 100))
    steady = list(state.by_series().values())
    assert days_until_full(steady, state.policy, free=1000, now=NOW) is None
    young = list(made({0: 100}).by_series().values())
    assert days_until_full(young, state.policy, free=350, now=NOW) == 3
    growing = list(made({age: 1000 - 100 * age for age in range(8)}).by_series().values())
    until = days_until_full(growing, state.policy, free=3000, now=NOW)
    assert until is not None and until < 30
    short = State(state.settings, NOW, tuple(young[0]), disks=(Disk(Path("/b"), 10_000, 350),), deep=False)
    assert found(short, "policy.space")[0][1].startswith("the disk will be full in 3 days")


def test_restore_tests_are_due_every_fifteen_days() -> None:
    state = made({0: 100})
    assert found(state, "policy.tested")[0][0] == "medium"
    assert found(made({0: 100}, test_interval="15d"), "policy.tested")[0][0] == "high"
    assert not found(with_drills(state, ("postgres", "pass", False)), "policy.tested")
    old = with_drills(state, ("postgres", "pass", False), *[("postgres", "inconclusive", False)] * 16)
    assert found(old, "policy.tested") == [("high", "the last restore test is 16 days old")]
    assert found(with_drills(state, ("postgres", "fail", False)), "policy.tested")


@pytest.mark.parametrize(
    ("drills", "level"),
    [
        ([("postgres", "pass", False)], 0),
        ([("postgres", "fail", False), ("postgres", "pass", False)], 0),
        ([("postgres", "inconclusive", False)], 0),
        ([("postgres", "inconclusive", False), ("postgres", "inconclusive", False)], 2),
        ([("postgres", "fail", False)], 2),
        ([("postgres", "fail", False), ("postgres", "inconclusive", False)], 2),
        ([("postgres", "fail", True)], 3),
        ([("postgres", "fail", True), ("redis", "fail", False)], 4),
    ],
)
def test_escalation_levels(drills: list[tuple[str, str, bool]], level: int) -> None:
    both = State(
        made({}).settings,
        NOW,
        made({0: 9}).backups + made({0: 9}, "redis").backups,
        deep=False,
    )
    assert report.look(with_drills(both, *drills)).escalation.level == level


def test_stale_is_level_one_and_declared_is_four_with_the_one_to_call() -> None:
    contacts = {1: {"who": "Ops", "how": "ops@example.org", "section": "monitoring"}, 4: {"who": "CTO"}}
    state = made({3: 100}, contacts=contacts)
    looked = report.look(state)
    assert (looked.escalation.level, looked.escalation.who, looked.escalation.section) == (
        1,
        "Ops",
        "monitoring",
    )
    assert "Escalation level 1: tell Ops (ops@example.org)" in "\n".join(report.screen(looked))
    declared = report.look(state, declared="site on fire")
    assert (declared.escalation.level, declared.escalation.who) == (4, "CTO")
    assert declared.verdict.exit_code == 1


def test_nothing_at_all_fails() -> None:
    settings = Settings()
    looked = report.look(State(settings, NOW, (), empty=((Path("/b"), "postgres"),)))
    assert looked.verdict.exit_code == 1


def test_what_somebody_accepted_alarms_nobody_until_its_day() -> None:
    state = made({0: 100, 1: 1000, 2: 1010, 3: 990, 4: 1000})
    alone = with_drills(state, ("postgres", "pass", False))

    def looked(check: str, expires: str) -> report.Report:
        waiver = {
            "check": check,
            "reason": "old data moved to the archive",
            "owner": "ops",
            "expires": expires,
        }
        settings = Settings.model_validate(
            {"policy": {"timezone": "UTC"}, "waivers": [waiver]} if check else {"policy": {"timezone": "UTC"}}
        )
        return report.look(State(settings, NOW, alone.backups, alone.drills, deep=False))

    assert [r.id for r in looked("", "").results if r.status is Status.FAIL] == ["policy.size"]
    accepted = looked("policy.size", "2026-12-24")
    assert accepted.verdict is Verdict.PASS and accepted.escalation.level == 0 and not accepted.findings
    assert 'policy_check_ok{check="policy.size"} 1' in report.prometheus(accepted)
    assert any(line.startswith("  waived The newest backup") for line in report.screen(accepted))
    assert message(accepted)["text"].count("size") == 0
    expired = looked("policy.size", "2026-11-01")
    assert {f.check for f in expired.findings} == {"policy.size", "policy.waiver-expired"}
    unneeded = looked("policy.clock", "2026-12-24")
    assert {f.check for f in unneeded.findings} == {"policy.size", "policy.waiver-unused"}


def test_metrics_are_in_the_text_format() -> None:
    text = report.prometheus(report.look(made({0: 100, 1: 90})))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert 'provado_backup_age_seconds{component="postgres",series="postgres",folder="/b"} 14400' in lines
    assert "provado_escalation_level 0" in lines
    assert f"provado_monitor_timestamp_seconds {int(NOW.timestamp())}" in lines


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that takes messages at /ok and refuses all others."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/ok" else 500)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


def test_webhook(hook: tuple[str, list[dict[str, Any]]]) -> None:
    url, got = hook
    payload = message(report.look(made({3: 100})))
    send(Secret(f"{url}/ok"), payload)
    assert got == [payload] and "escalation level 1" in payload["text"]
    with pytest.raises(ToolError, match="answered 500"):
        send(Secret(f"{url}/token-in-path"), payload)
    with pytest.raises(ToolError) as refused:
        send(Secret("http://127.0.0.1:1/token-in-path"), payload)
    assert "token" not in str(refused.value)
    with pytest.raises(ConfigError):
        send(Secret("gopher://x/"), payload)


def test_commands(
    tmp_path: Path, hook: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = hook
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK", f"{url}/ok")
    today = datetime.now(UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    run(tmp_path / "backups", today - timedelta(days=20), 20, cleanup=False)
    fresh = tmp_path / "backups" / f"email-gateway-daily-{datetime.now(UTC):%Y%m%d-%H%M%S}.sql.gz"
    fresh.write_bytes(DUMP)
    runner = CliRunner()
    monkeypatch.setenv("TZ", "UTC")

    listed = json.loads(runner.invoke(list_command.command, ["--json"]).stdout)["backups"]
    assert len(listed) == len(list((tmp_path / "backups").glob("*.gz")))

    asked = ["backups", "25", "--json", "--prom", "p.prom", "--webhook", "env:HOOK", "--output", "none"]
    fine = runner.invoke(monitor.command, asked)
    assert fine.exit_code == 0, fine.output
    assert json.loads(fine.stdout)["verdict"] == "pass"
    assert "provado_backups{" in (tmp_path / "p.prom").read_text()
    assert not got
    fresh.write_bytes(DUMP[:-20])
    broken = runner.invoke(monitor.command, asked)
    assert (broken.exit_code, len(got)) == (1, 1)
    assert json.loads(broken.stdout)["escalation"]["level"] == 2

    before = {p.name for p in (tmp_path / "backups").iterdir()}
    dry = runner.invoke(prune.command, [])
    assert dry.exit_code == 0 and "would remove" in dry.output
    assert {p.name for p in (tmp_path / "backups").iterdir()} == before
    with folder_lock(tmp_path / "backups"):
        assert isinstance(runner.invoke(prune.command, ["--apply"]).exception, ToolError)
    assert runner.invoke(prune.command, ["--apply"]).exit_code == 0
    gone = before - {p.name for p in (tmp_path / "backups").iterdir()}
    assert gone and all("-daily-" in name for name in gone)
    assert "0 of" in runner.invoke(prune.command, ["--apply"]).output


def test_recovery_time_is_extrapolated_with_its_error() -> None:
    state = made({0: 100}, production={"postgres": {"backup_size": "1G", "speed": 2}})
    timed = [
        Drill(
            "postgres:postgres",
            "postgres",
            "x",
            "",
            "pass",
            NOW,
            s,
            False,
            1 << 20,
            (("sandbox", 2.0), ("restore", s)),
        )
        for s in (9.0, 10.0, 11.0)
    ]
    full = State(state.settings, NOW, state.backups, tuple(timed), deep=False)
    (one,) = recovery_time.estimates(full)
    assert one.seconds == pytest.approx((2 + 10 * 1024) / 2)
    assert one.high_s == pytest.approx(one.seconds * 1.2) and one.drills == 3
    (alone,) = recovery_time.estimates(
        State(state.settings, NOW, state.backups, tuple(timed[:1]), deep=False)
    )
    assert alone.high_s == pytest.approx(alone.seconds * 1.5)
    for limit, severity in ((4000.0, "high"), (6000.0, "medium"), (7000.0, None)):
        judged = full.settings.model_copy(update={"objectives": Objectives(rto=limit)})
        told = found(State(judged, NOW, state.backups, tuple(timed), deep=False), "policy.recovery-time")
        assert [s for s, _ in told] == ([severity] if severity else [])
    assert report.report_json(report.look(full))["recovery"][0]["drills"] == 3


def test_a_recovery_point_is_named_together() -> None:
    database, cache = made({0: 9, 1: 9}), made({1: 9, 2: 9}, "redis")
    both = State(database.settings, NOW, database.backups + cache.backups, deep=False)
    point = report.report_json(report.look(both))["recovery_point"]
    assert point["apart_s"] == 86400 and point["backups"]["redis"].endswith(
        "redis-daily-20261123-020000.sql.gz"
    )
    assert "recovery point: postgres" in "\n".join(report.screen(report.look(both)))
    for window, told in (("2h", 1), ("2d", 0)):
        declared = {"policy": {"timezone": "UTC"}, "consistency": {"window": window}}
        judged = State(Settings.model_validate(declared), NOW, both.backups, deep=False)
        assert len(found(judged, "policy.recovery-point")) == told
    assert report.report_json(report.look(database))["recovery_point"] is None
