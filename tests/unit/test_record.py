"""The verdict is a pure function of the evidence, and the JSON has the shape that CONTRACT promises."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.evidence.record import Run, evidence_json, judge, judge_run, missing, result_json
from harness.model import (
    Artifact,
    CheckResult,
    Evidence,
    Finding,
    Measured,
    Origin,
    Proves,
    SandboxInfo,
    Severity,
    Stage,
    Status,
    Teardown,
    Verdict,
)
from harness.redact import MASK, Secret

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def result(status=Status.PASS, severity=None, proves=Proves.DATA, **more):
    findings = ()
    if severity:
        findings = (Finding("pg.rows", severity, "public.t", "2 rows are lost", expected="5", observed="3"),)
    return CheckResult(
        "pg.rows", "Rows", status, proves, Origin.ARTIFACT, Severity.CRITICAL, findings=findings, **more
    )


def evidence(*checks, **more):
    base = Evidence(
        artifact=Artifact(
            Path("b/x-20261123-020000.sql.gz"), "postgres", "plain", ("gzip",), 7, "daily", NOW, "name"
        ),
        sha256="ab" * 32,
        source_version="15.18",
        sandbox=SandboxInfo("local", "15.20", "system", settings={"fsync": "off"}),
        started_at=NOW,
        finished_at=NOW,
        checks=checks,
        stages=(Stage("restore", 1.5),),
        measured=Measured(60.0, 1.5, 5),
        teardown=Teardown(True, True, True),
    )
    return dataclasses.replace(base, **more)


PASSED = result()
FILE_ONLY = result(proves=Proves.FILE)


@pytest.mark.parametrize(
    ("record", "verdict", "code"),
    [
        (evidence(PASSED), Verdict.PASS, "proven"),
        (evidence(PASSED, result(Status.PASS, Severity.MEDIUM)), Verdict.PASS, "proven"),
        (evidence(PASSED, result(Status.FAIL, Severity.HIGH)), Verdict.FAIL, "finding"),
        (evidence(PASSED, result(Status.FAIL)), Verdict.FAIL, "finding"),
        # a bad file is bad whatever this machine lacks
        (evidence(result(Status.FAIL, Severity.CRITICAL), blocked="no server"), Verdict.FAIL, "finding"),
        (evidence(PASSED, blocked="no server"), Verdict.INCONCLUSIVE, "blocked"),
        (evidence(PASSED, result(Status.ERROR, reason="broke")), Verdict.INCONCLUSIVE, "error"),
        (evidence(PASSED, teardown=Teardown(True, False, True)), Verdict.INCONCLUSIVE, "teardown"),
        (evidence(PASSED, teardown=None), Verdict.INCONCLUSIVE, "teardown"),
        (evidence(PASSED, teardown=None, sandbox=SandboxInfo("none")), Verdict.PASS, "proven"),
        # nothing proven is never a pass: no check, none that ran, only the file, only waived ones
        (evidence(), Verdict.INCONCLUSIVE, "nothing-proven"),
        (evidence(result(Status.NOT_RUN)), Verdict.INCONCLUSIVE, "nothing-proven"),
        (evidence(FILE_ONLY), Verdict.INCONCLUSIVE, "nothing-proven"),
        (evidence(result(Status.WAIVED, Severity.CRITICAL)), Verdict.INCONCLUSIVE, "nothing-proven"),
        (evidence(PASSED, result(Status.WAIVED, Severity.CRITICAL)), Verdict.PASS, "proven"),
        (missing(Path("b"), None, "nothing there", NOW), Verdict.FAIL, "missing"),
    ],
)
def test_verdict(record, verdict, code):
    judged = judge(record)
    assert (judged.verdict, judged.code) == (verdict, code)
    assert judged.reason


def test_fail_on_moves_the_threshold():
    medium = evidence(PASSED, result(Status.PASS, Severity.MEDIUM))
    assert judge(medium, Severity.MEDIUM).verdict is Verdict.FAIL
    high = evidence(PASSED, result(Status.PASS, Severity.HIGH))
    assert judge(high, Severity.CRITICAL).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("drills", "verdict"),
    [
        ([], Verdict.FAIL),
        ([evidence(PASSED), evidence(PASSED)], Verdict.PASS),
        ([evidence(PASSED), evidence()], Verdict.INCONCLUSIVE),
        ([evidence(), evidence(result(Status.FAIL, Severity.HIGH)), evidence(PASSED)], Verdict.FAIL),
    ],
)
def test_run_takes_the_worst_and_no_backup_is_a_failure(drills, verdict):
    assert judge_run(drills).verdict is verdict


def test_result_has_the_contracts_shape():
    check = result(Status.FAIL, Severity.CRITICAL)
    out = result_json(Run("r1", NOW, NOW, "reports", (evidence(PASSED, check),)))
    assert out["schema"] == "provado/result/1"
    assert (out["verdict"], out["exit_code"], out["run_id"], out["output"]) == ("fail", 1, "r1", "reports")
    backup = out["backups"][0]
    assert backup["taken_at"] == "2026-11-24T12:00:00Z"
    assert backup["sandbox"] == {"kind": "local", "version": "15.20", "provider": "system"}
    assert set(backup) >= {
        "path", "component", "format", "sha256", "bytes", "taken_at_basis", "source_version", "verdict",
        "checks", "findings", "unproven", "measured",
    }  # fmt: skip
    assert set(backup["checks"][0]) >= {"id", "status", "origin", "proves", "seconds"}
    assert backup["findings"][0]["object"] == "public.t"
    assert backup["measured"]["stages"] == [{"name": "restore", "seconds": 1.5}]
    assert (backup["measured"]["backup_age_s"], backup["measured"]["rows"]) == (60.0, 5)


def test_evidence_is_a_superset_of_the_result():
    run = Run("r1", NOW, NOW, "reports", (evidence(PASSED),), plan={"fail_on": "high"})
    short, full = result_json(run), evidence_json(run)
    assert set(short) <= set(full)
    for key, value in short["backups"][0].items():
        if key not in ("sandbox", "checks"):
            assert full["backups"][0][key] == value
    assert full["backups"][0]["teardown"]["complete"] is True
    assert full["backups"][0]["sandbox"]["settings"] == {"fsync": "off"}
    assert len(full["plan_sha256"]) == 64
    json.dumps(full)


def test_known_secrets_never_reach_the_records():
    secret = Secret("tr0ub4dor-canary")
    bad = result(Status.ERROR, reason=f"connect with {secret.reveal()} failed")
    run = Run("r1", NOW, NOW, "reports", (evidence(bad, facts={secret.reveal(): [secret.reveal()]}),))
    for text in (json.dumps(result_json(run)), json.dumps(evidence_json(run))):
        assert secret.reveal() not in text
        assert MASK in text
