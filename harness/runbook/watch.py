"""Rehearsals about what people watch and decide: objectives, schedule, space, alerts, tests, escalation."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from ..backups import Log
from ..check import Check, check
from ..model import Finding, Severity
from ..policy import checks as policy
from ..policy.escalation import escalate
from ..policy.monitor import look, prometheus, screen
from ..policy.retention import plan, rule_of
from ..policy.state import LOG_NAME, State, read_log
from ..policy.webhook import message, send
from ..redact import Secret
from .ground import Ground

_REMEDY: Final = "declare it in provado.yaml (docs/operations.md), and correct the runbook's text"
_LEVELS: Final = (1, 2, 3, 4)


@check("runbook.objectives", proves="objective", severity="high", origin="declared", remedy=_REMEDY)
def objectives(self: Check, ground: Ground) -> Iterator[Finding]:
    """RPO, RTO and retention are declared, and pruning keeps what retention asks for."""
    declared = ground.settings.objectives
    for name, value in (("rpo", declared.rpo), ("rto", declared.rto)):
        if value is None:
            yield self.finding(f"objectives.{name}", "is not declared, so nothing holds it")
    state = ground.state()
    for decision in plan(state.backups, state.policy, state.now):
        rule = rule_of(decision.backup.kind, state.policy)
        if not decision.keep and rule and (decision.age_s or 0) <= rule.keep:
            yield self.finding(decision.backup.name, "would be let go within its retention")


@check("runbook.components", proves="objective", severity="high", origin="declared", remedy=_REMEDY)
def components(self: Check, ground: Ground) -> Iterator[Finding]:
    """Every component that the configuration lists has a backup."""
    held = {b.artifact.component for b in ground.state().backups}
    for source in ground.settings.backups:
        if source.component and source.component not in held:
            yield self.finding(str(source.path), f"holds no {source.component} backup")


@check("runbook.monitor", proves="objective", severity="high", origin="declared", remedy=_REMEDY)
def monitor(self: Check, ground: Ground) -> Iterator[Finding]:
    """Monitoring reports these backups, and notices when the newest of a series are gone."""
    state = ground.state()
    report = look(_quick(state))
    if not screen(report) or not report.state.by_series():
        yield self.finding("monitor", "reports no series of backups")
    later = _quick(state, now=state.now + timedelta(days=40))
    if look(later).verdict.exit_code != 1:
        yield self.finding("monitor", "does not notice that no backup was taken for 40 days")


@check("runbook.space", proves="objective", severity="medium", origin="declared", remedy=_REMEDY)
def space(self: Check, ground: Ground) -> Iterator[Finding]:
    """The room that backups take is measured, and a full disk would be noticed."""
    state = ground.state()
    if not state.disks:
        yield self.finding("disks", "no disk was looked at")
    yield from policy.space.run(_quick(state))


@check("runbook.alerts", proves="objective", severity="high", origin="declared", remedy=_REMEDY)
def alerts(self: Check, ground: Ground) -> Iterator[Finding]:
    """An alert about missing backups reaches a webhook, and metrics can be scraped."""
    state = ground.state()
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    report = look(_quick(state, now=state.now + timedelta(days=40)))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            send(Secret(f"http://127.0.0.1:{server.server_port}/"), message(report))
        finally:
            server.shutdown()
            thread.join()
    if not got or "text" not in got[0]:
        yield self.finding("webhook", "the alert did not arrive")
    if "provado_backup_age_seconds" not in prometheus(report):
        yield self.finding("metrics", "the age of backups is not among them")


@check("runbook.restore-interval", proves="objective", severity="high", origin="declared", remedy=_REMEDY)
def interval(self: Check, ground: Ground) -> Iterator[Finding]:
    """A restore test that is overdue is noticed, whatever the day of the month."""
    state = ground.state()
    limit = timedelta(seconds=state.policy.test_interval)
    late = _quick(state, now=state.now + limit + timedelta(days=1))
    if not list(policy.tested.run(late)):
        yield self.finding("policy.test_interval", "an overdue restore test is not noticed")


@check("runbook.contacts", proves="objective", severity="medium", origin="declared", remedy=_REMEDY)
def contacts(self: Check, ground: Ground) -> Iterator[Finding]:
    """Somebody is named for each level of escalation, and can be reached."""
    for level in _LEVELS:
        contact = ground.settings.policy.contacts.get(level)
        if contact is None or not contact.how:
            yield self.finding(
                f"policy.contacts.{level}", "names nobody who could be reached", severity=Severity.HIGH
            )


@check("runbook.escalation", proves="objective", severity="high", origin="declared", remedy=_REMEDY)
def escalation(self: Check, ground: Ground) -> Iterator[Finding]:
    """A missing backup is carried to level 1, a declared incident to level 4, each to its contact."""
    state = ground.state()
    report = look(_quick(state, now=state.now + timedelta(days=40)))
    if report.escalation.level < 1:
        yield self.finding("level 1", "missing backups are not escalated")
    declared = escalate(state, report.results, "rehearsal")
    if declared.level != 4:
        yield self.finding("level 4", "a declared incident is not escalated")


@check("runbook.log", proves="objective", severity="medium", origin="declared", remedy=_REMEDY)
def log(self: Check, ground: Ground) -> Iterator[Finding]:
    """A log line is written where people look for it, and the logs there are tell their times."""
    state = ground.state()
    folder = ground.folder("log")
    Log(folder, state.policy.zone).write("Backup concluído: rehearsal-daily-20260101-020000.sql.gz")
    found = {folder: read_log(folder / LOG_NAME, state.policy), **state.logs}
    if not found[folder].names:
        yield self.finding(LOG_NAME, "does not tell which backup was taken")
    for place, told in found.items():
        if told.begins is None:
            yield self.finding(str(place / LOG_NAME), "tells no time")


CHECKS: Final = (
    objectives,
    components,
    monitor,
    space,
    alerts,
    interval,
    contacts,
    escalation,
    log,
)


def _quick(state: State, **changes: Any) -> State:
    """The state at another time, without reading the backups to their end again."""
    from dataclasses import replace

    return replace(state, deep=False, **changes)
