"""One look at the backups: results of the policy's checks, the verdict, and how far to carry it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ..check import run_checks
from ..model import CheckResult, Finding, Status, Verdict
from ..redact import mask
from ..waivers import apply_waivers, unused
from .checks import CHECKS
from .escalation import Escalation, escalate
from .points import newest_point
from .recovery_time import estimates
from .state import State
from .timekeeping import title

_MARKS: Final = {s: s.name for s in (Status.FAIL, Status.ERROR)} | {
    Status.NOT_RUN: "-",
    Status.WAIVED: "waived",
}


@dataclass(frozen=True)
class Report:
    """What `provado monitor` shows, in whatever form."""

    state: State
    results: tuple[CheckResult, ...]
    blocking: tuple[str, ...]
    escalation: Escalation

    @property
    def verdict(self) -> Verdict:
        """Fail over inconclusive over pass; a check that broke or was kept from running is no pass."""
        states = {r.status for r in self.results}
        if Status.FAIL in states or self.escalation.level == 4:
            return Verdict.FAIL
        if Status.ERROR in states or self.blocking:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS

    @property
    def findings(self) -> list[Finding]:
        """All findings that nobody accepted (`waivers`), worst first."""
        standing = (f for r in self.results if r.status is not Status.WAIVED for f in r.findings)
        return sorted(standing, key=lambda f: -f.severity.rank)


def look(state: State, *, declared: str | None = None) -> Report:
    """Run every policy check over the state, and set apart what is waived."""
    waivers, fail_on = state.settings.waivers, state.settings.fail_on
    results, blocking = run_checks(CHECKS, state, fail_on=fail_on, not_restored="the policy needs no server")
    late = unused(waivers, results)
    results = apply_waivers((*results, *([late] if late else [])), waivers, state.now.date(), fail_on)
    return Report(state, results, blocking, escalate(state, results, declared))


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON, schema `provado/monitor/1`."""
    state = report.state
    return {
        "schema": "provado/monitor/1",
        "verdict": report.verdict.value,
        "exit_code": report.verdict.exit_code,
        "at": utc(state.now),
        "escalation": {
            "level": report.escalation.level,
            "reason": mask(report.escalation.reason),
            "who": report.escalation.who,
            "how": report.escalation.how,
            "section": report.escalation.section,
        },
        "series": [
            {
                "name": title(name),
                "component": backups[-1].artifact.component,
                "folder": str(backups[-1].artifact.path.parent),
                "backups": len(backups),
                "newest": backups[-1].name,
                "taken_at": utc(backups[-1].taken_at),
                "backup_age_s": _age_s(report, name),
                "bytes": sum(b.artifact.bytes for b in backups),
                "kinds": {
                    kind or "unknown": sum(b.kind == kind for b in backups)
                    for kind in sorted({b.kind for b in backups}, key=str)
                },
            }
            for name, backups in state.by_series().items()
        ],
        "recovery_point": _point_json(state),
        "recovery": [
            {
                "lineage": e.lineage,
                "seconds": round(e.seconds, 1),
                "low_s": round(e.low_s, 1),
                "high_s": round(e.high_s, 1),
                "drills": e.drills,
                "stages": {name: round(s, 1) for name, s in e.stages},
            }
            for e in estimates(state)
        ],
        "disks": [
            {"folder": str(d.folder), "total_bytes": d.total, "free_bytes": d.free} for d in state.disks
        ],
        "checks": [
            {"id": r.id, "title": r.title, "status": r.status.value, "reason": r.reason}
            for r in report.results
        ],
        "findings": [
            {
                "check": f.check,
                "severity": f.severity.value,
                "object": f.object,
                "message": mask(f.message),
                "expected": f.expected,
                "observed": f.observed,
                "remedy": f.remedy,
            }
            for f in report.findings
        ],
    }


def prometheus(report: Report) -> str:
    """Metrics for node_exporter's textfile collector; every name begins with `provado_`."""
    state = report.state
    lines: list[str] = []

    def metric(name: str, help_text: str, samples: list[tuple[dict[str, str], float]]) -> None:
        if samples:
            lines.append(f"# HELP provado_{name} {help_text}")
            lines.append(f"# TYPE provado_{name} gauge")
        for labels, value in samples:
            text = ",".join(f'{k}="{_label(v)}"' for k, v in labels.items())
            lines.append(f"provado_{name}{{{text}}} {value:g}" if text else f"provado_{name} {value:.15g}")

    groups = state.by_series()
    ids = {
        name: {
            "component": backups[-1].artifact.component,
            "series": name.rsplit(":", 1)[1],
            "folder": str(backups[-1].artifact.path.parent),
        }
        for name, backups in groups.items()
    }
    holds: dict[str, bool] = {}  # a check whose findings are waived in part has two results
    for r in report.results:
        if r.status is not Status.NOT_RUN:
            holds[r.id] = holds.get(r.id, True) and r.status in (Status.PASS, Status.WAIVED)
    metric("monitor_verdict", "0 pass, 1 fail, 3 inconclusive", [({}, report.verdict.exit_code)])
    metric("escalation_level", "0 to 4, as the runbook's levels", [({}, report.escalation.level)])
    metric("monitor_timestamp_seconds", "When this was measured", [({}, int(state.now.timestamp()))])
    metric(
        "backup_age_seconds",
        "Age of the newest backup by its own clock",
        [(ids[n], age) for n in groups if (age := _age_s(report, n)) is not None],
    )
    metric(
        "backup_bytes",
        "Size of the newest backup",
        [(ids[n], g[-1].artifact.bytes) for n, g in groups.items()],
    )
    metric("backups", "Backups there are", [(ids[n], len(g)) for n, g in groups.items()])
    metric(
        "disk_free_bytes", "Room left for backups", [({"folder": str(d.folder)}, d.free) for d in state.disks]
    )
    metric(
        "policy_check_ok",
        "1 when the check holds or is waived, 0 when it does not; a check that could not run is absent",
        [({"check": id}, float(ok)) for id, ok in holds.items()],
    )
    return "\n".join(lines) + "\n"


def screen(report: Report) -> list[str]:
    """One screen of plain text, worst first."""
    state = report.state
    lines = [f"{report.verdict.value.upper()}  backups as of {utc(state.now)}", ""]
    for name, backups in state.by_series().items():
        age = _age_s(report, name)
        kinds = ", ".join(
            f"{sum(b.kind == k for b in backups)} {k or 'of unknown kind'}"
            for k in sorted({b.kind for b in backups}, key=str)
        )
        old = "?" if age is None else f"{age / 3600:.1f} h old"
        lines.append(f"  {title(name)}: newest {backups[-1].name}, {old}; {kinds}")
    if point := newest_point(state):
        lines.append(f"  recovery point: {point.sentence()}")
    lines.append("")
    for r in report.results:
        passed = "warn" if any(f.severity.rank for f in r.findings) else "ok"
        mark = _MARKS.get(r.status, passed)
        lines.append(f"  {mark:6} {r.title}{f' ({r.reason})' if r.reason else ''}")
        for f in r.findings:
            lines.append(f"          {f.severity.value}: {f.object} {f.message}")
            if f.remedy:
                lines.append(f"            -> {f.remedy}")
    e = report.escalation
    if e.level:
        told = (
            f": tell {e.who}{f' ({e.how})' if e.how else ''}"
            if e.who
            else ": nobody is named in policy.contacts"
        )
        lines += ["", f"  Escalation level {e.level}{told}"]
        lines.append(f"    because {e.reason}")
        if e.section:
            lines.append(f"    runbook section: {e.section}")
    return [mask(line) for line in lines]


def _point_json(state: State) -> dict[str, Any] | None:
    point = newest_point(state)
    if point is None:
        return None
    return {
        "backups": {b.artifact.component: str(b.artifact.path) for b in point.backups},
        "apart_s": point.apart_s,
    }


def _age_s(report: Report, name: str) -> float | None:
    past = [
        b.taken_at for b in report.state.by_series()[name] if b.taken_at and b.taken_at <= report.state.now
    ]
    return (report.state.now - max(past)).total_seconds() if past else None


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def utc(moment: datetime | None) -> str | None:
    """A time as `2026-11-23T02:00:00Z`; None stays None."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
