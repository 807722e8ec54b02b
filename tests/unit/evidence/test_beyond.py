"""Policy and runbook beside the drills: they can make a run's verdict worse, and stand in its evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import report_samples as samples

from harness.evidence.record import judge_run
from harness.model import CheckResult, Finding, Origin, Severity, Status, Verdict
from harness.report.controls import proven_facts
from harness.report.html import render

KEPT = samples.KEPT
GONE = Finding(
    "policy.retention",
    Severity.HIGH,
    "weekly backups",
    "3 that should still be kept are gone",
    Origin.DECLARED,
)
FAILED = replace(KEPT, status=Status.FAIL, findings=(GONE,))
BROKEN = replace(KEPT, status=Status.ERROR, reason="the log cannot be read")


@pytest.mark.parametrize(
    ("drill", "wider", "verdict"),
    [
        (samples.postgres(), (), Verdict.PASS),
        (samples.postgres(), (KEPT,), Verdict.PASS),
        (samples.postgres(), (FAILED,), Verdict.FAIL),
        (samples.postgres(), (BROKEN,), Verdict.INCONCLUSIVE),
        (samples.postgres(), (BROKEN, FAILED), Verdict.FAIL),
        (samples.postgres(), (replace(FAILED, status=Status.WAIVED),), Verdict.PASS),
        (samples.blocked(), (KEPT,), Verdict.INCONCLUSIVE),
        (samples.blocked(), (FAILED,), Verdict.FAIL),
        (samples.failing(), (KEPT,), Verdict.FAIL),
    ],
)
def test_it_can_only_make_the_verdict_worse(
    drill: object, wider: tuple[CheckResult, ...], verdict: Verdict
) -> None:
    assert judge_run([drill], Severity.HIGH, wider).verdict is verdict  # type: ignore[list-item]


def test_the_report_shows_it() -> None:
    evidence = samples.evidence(samples.postgres(), wider=(FAILED,), runbook=(samples.SECTION,))
    assert evidence["verdict"] == "fail"
    page = render(evidence)
    for said in ("weekly backups", "3 that should still be kept are gone", "Backup do PostgreSQL", "passed"):
        assert said in page
    assert "First failures" in page
    assert "retention-kept" not in proven_facts(evidence)
    assert "retention-kept" in proven_facts(samples.evidence(samples.postgres(), wider=(KEPT,)))
    assert "O runbook, seção por seção" in render(evidence, "pt-BR")
