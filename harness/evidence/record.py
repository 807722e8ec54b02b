"""The verdict and the records of drills, as pure functions of what the drills found.

`judge` is the only place where a verdict is made; exit code, JSON, JUnit, HTML and metrics all repeat it.
`result_json` is what `--json` prints (CONTRACT); `evidence_json` is the same and more, and what reports
and the ledger are made from. All times in UTC (`...Z`), all text in English, nothing names the host.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..model import (
    Artifact,
    CheckResult,
    Evidence,
    Finding,
    Measured,
    Origin,
    Proves,
    SandboxInfo,
    Severity,
    Status,
    Verdict,
)
from ..redact import storable

RESULT_SCHEMA: Final = "provado/result/1"
EVIDENCE_SCHEMA: Final = "provado/evidence/1"
_PROOF: Final = frozenset({Proves.RESTORE, Proves.SCHEMA, Proves.DATA, Proves.USABILITY})


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason in one sentence; `code` is the reason as a word that never changes.

    Codes: `proven`, `finding`, `missing` (no backup at all), `blocked`, `error` (a check broke), `teardown`
    (the sandbox is not gone), `nothing-proven`; of a run also `backups` (the worst of several) and `beyond`
    (policy or runbook).
    """

    verdict: Verdict
    code: str
    reason: str


@dataclass(frozen=True)
class Run:
    """All drills of one command. `output` is the folder as the user named it; `plan` the settings judged by.

    `objectives` are `rpo_s` and `rto_s`, None where nothing was declared; `tools` names versions. `wider` are
    results beyond single backups (policy, runbook); `runbook` its sections with what stands for them.
    """

    run_id: str
    started_at: datetime
    finished_at: datetime
    output: str
    drills: tuple[Evidence, ...]
    fail_on: Severity = Severity.HIGH
    plan: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, float | None] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    wider: tuple[CheckResult, ...] = ()
    runbook: tuple[Mapping[str, Any], ...] = ()


def judge(evidence: Evidence, fail_on: Severity = Severity.HIGH) -> Judgement:
    """The verdict of one drill. Pass needs a proof: at least one check of the restored thing that passed.

    Findings decide first (a bad file is bad whatever this machine lacks), then everything that kept the
    drill from judging. Findings of waived checks are listed but do not count.
    """
    against = [
        f
        for c in evidence.checks
        if c.status is not Status.WAIVED
        for f in c.findings
        if f.severity.rank >= fail_on.rank
    ]
    if against:
        worst = max(against, key=lambda f: f.severity.rank)
        more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
        code = "missing" if worst.check == "policy.missing" else "finding"
        return Judgement(Verdict.FAIL, code, f"{worst.object}: {_sentence(worst.message)}{more}")
    if evidence.blocked:
        return Judgement(Verdict.INCONCLUSIVE, "blocked", _sentence(evidence.blocked))
    broken = [c for c in evidence.checks if c.status is Status.ERROR]
    if broken:
        why = _sentence(broken[0].reason or "no reason was recorded")
        return Judgement(Verdict.INCONCLUSIVE, "error", f"check {broken[0].id} could not finish: {why}")
    failed = [c for c in evidence.checks if c.status is Status.FAIL]
    if failed:  # a check may call itself failed without a finding this severe; it is no proof then
        return Judgement(Verdict.FAIL, "finding", f"check {failed[0].id} failed: {failed[0].title}")
    if evidence.sandbox.kind != "none" and not (evidence.teardown and evidence.teardown.complete):
        return Judgement(
            Verdict.INCONCLUSIVE, "teardown", "the sandbox could not be removed completely after the drill"
        )
    proven = [c for c in evidence.checks if c.status is Status.PASS and c.proves in _PROOF]
    if not proven:
        return Judgement(
            Verdict.INCONCLUSIVE,
            "nothing-proven",
            "no check of the restored content passed: nothing was proven",
        )
    waived = sum(c.status is Status.WAIVED for c in evidence.checks)
    passed = sum(c.status is Status.PASS for c in evidence.checks)
    note = f", {waived} waived" if waived else ""
    return Judgement(Verdict.PASS, "proven", f"restored, and {passed} checks hold{note}")


def judge_run(
    drills: Sequence[Evidence], fail_on: Severity = Severity.HIGH, wider: Sequence[CheckResult] = ()
) -> Judgement:
    """The worst verdict of all drills, fail over inconclusive; no backup at all is a failure (`missing`).

    Results beyond single backups can make it worse (`beyond`), never better.
    """
    judged, beyond = _judge_drills(drills, fail_on), _judge_wider(wider, fail_on)
    order = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
    if beyond and order.index(beyond.verdict) > order.index(judged.verdict):
        return beyond
    return judged


def _judge_wider(wider: Sequence[CheckResult], fail_on: Severity) -> Judgement | None:
    counted = [c for c in wider if c.status is not Status.WAIVED]
    against = [f for c in counted for f in c.findings if f.severity.rank >= fail_on.rank]
    if against:
        worst = max(against, key=lambda f: f.severity.rank)
        return Judgement(Verdict.FAIL, "beyond", f"{worst.object}: {_sentence(worst.message)}")
    for status, verdict in ((Status.FAIL, Verdict.FAIL), (Status.ERROR, Verdict.INCONCLUSIVE)):
        for check in counted:
            if check.status is status:
                why = check.reason or check.title
                return Judgement(verdict, "beyond", f"check {check.id}: {_sentence(why)}")
    return None


def _judge_drills(drills: Sequence[Evidence], fail_on: Severity) -> Judgement:
    if not drills:
        return Judgement(Verdict.FAIL, "missing", "no backup was found: nothing could be restored")
    judged = [judge(e, fail_on) for e in drills]
    if len(judged) == 1:
        return judged[0]
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        hit = [(e, j) for e, j in zip(drills, judged, strict=True) if j.verdict is verdict]
        if hit:
            evidence, first = hit[0]
            reason = (
                f"{len(hit)} of {len(drills)} backups {_PLURAL[verdict]}; {evidence.artifact.path.name}: "
            )
            return Judgement(verdict, "backups", reason + first.reason)
    return Judgement(Verdict.PASS, "backups", f"all {len(drills)} backups were restored and proven")


def backup_json(evidence: Evidence, fail_on: Severity = Severity.HIGH) -> dict[str, Any]:
    """One entry of `backups` in the shape of CONTRACT."""
    artifact, judged = evidence.artifact, judge(evidence, fail_on)
    measured = evidence.measured
    return {
        "path": str(artifact.path),
        "component": artifact.component,
        "format": artifact.format,
        "sha256": evidence.sha256,
        "bytes": artifact.bytes,
        "taken_at": utc(artifact.taken_at),
        "taken_at_basis": artifact.taken_at_basis,
        "source_version": evidence.source_version,
        "sandbox": {
            "kind": evidence.sandbox.kind,
            "version": evidence.sandbox.version,
            "provider": evidence.sandbox.provider,
        },
        "verdict": judged.verdict.value,
        "reason": judged.reason,
        "checks": [_check_short(c) for c in evidence.checks],
        "findings": [_finding(f) for f in evidence.findings],
        "unproven": list(evidence.unproven),
        "measured": {
            "backup_age_s": measured.backup_age_s,
            "rto_s": measured.rto_s,
            "stages": [{"name": s.name, "seconds": s.seconds} for s in evidence.stages],
            "rows": measured.rows,
            "keys": measured.keys,
            "files": measured.files,
        },
    }


def result_json(run: Run) -> dict[str, Any]:
    """What `provado verify --json` prints: CONTRACT, schema `provado/result/1`."""
    judged = judge_run(run.drills, run.fail_on, run.wider)
    data = {
        "schema": RESULT_SCHEMA,
        "verdict": judged.verdict.value,
        "exit_code": judged.verdict.exit_code,
        "reason": judged.reason,
        "run_id": run.run_id,
        "output": run.output,
        "backups": [backup_json(e, run.fail_on) for e in run.drills],
    }
    return _masked(data)  # type: ignore[no-any-return]


def evidence_json(run: Run) -> dict[str, Any]:
    """Everything known about a run: `result_json`, and per backup the full checks, sandbox and facts."""
    judged = judge_run(run.drills, run.fail_on, run.wider)
    data = {
        "schema": EVIDENCE_SCHEMA,
        "verdict": judged.verdict.value,
        "exit_code": judged.verdict.exit_code,
        "reason": judged.reason,
        "reason_code": judged.code,
        "run_id": run.run_id,
        "output": run.output,
        "started_at": utc(run.started_at),
        "finished_at": utc(run.finished_at),
        "interrupted": run.interrupted,
        "fail_on": run.fail_on.value,
        "objectives": dict(run.objectives),
        "tools": dict(run.tools),
        "plan": dict(run.plan),
        "plan_sha256": digest(run.plan),
        "backups": [_backup_full(e, run.fail_on) for e in run.drills],
        "wider": [_check_full(c) for c in run.wider],
        "runbook": [dict(row) for row in run.runbook],
    }
    return _masked(data)  # type: ignore[no-any-return]


def missing(path: Path, component: str | None, why: str, now: datetime) -> Evidence:
    """The evidence of a backup that should be there and is not: a failure of its own kind."""
    finding = Finding(
        "policy.missing",
        Severity.CRITICAL,
        str(path),
        why,
        Origin.DECLARED,
        remedy="find out why no backup was taken, and take one now: provado backup",
    )
    result = CheckResult(
        "policy.missing",
        "A backup is where one is expected",
        Status.FAIL,
        Proves.OBJECTIVE,
        finding.origin,
        Severity.CRITICAL,
        findings=(finding,),
        controls=("ISO27001:A.8.13",),
    )
    return Evidence(
        Artifact(path, component or "unknown", "missing"),
        "",
        None,
        SandboxInfo("none"),
        now,
        now,
        (result,),
        (),
        Measured(),
    )


def utc(moment: datetime | None) -> str | None:
    """A time as `2026-11-23T02:00:00Z`, with milliseconds only where it has any; None stays None."""
    if moment is None:
        return None
    moment = moment.astimezone(UTC)
    timespec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


_PLURAL: Final = {Verdict.FAIL: "fail", Verdict.INCONCLUSIVE: "could not be judged"}


def _backup_full(evidence: Evidence, fail_on: Severity) -> dict[str, Any]:
    artifact, sandbox, teardown = evidence.artifact, evidence.sandbox, evidence.teardown
    return {
        **backup_json(evidence, fail_on),
        "name": artifact.path.name,
        "kind": artifact.kind,
        "packing": list(artifact.packing),
        "manifest": str(artifact.manifest) if artifact.manifest else None,
        "globals": str(artifact.globals) if artifact.globals else None,
        "started_at": utc(evidence.started_at),
        "finished_at": utc(evidence.finished_at),
        "reason_code": judge(evidence, fail_on).code,
        "blocked": evidence.blocked,
        "sandbox": {
            "kind": sandbox.kind,
            "version": sandbox.version,
            "provider": sandbox.provider,
            "image": sandbox.image,
            "image_digest": sandbox.image_digest,
            "containment": list(sandbox.containment),
            "settings": dict(sandbox.settings),
        },
        "checks": [_check_full(c) for c in evidence.checks],
        "teardown": None
        if teardown is None
        else {
            "complete": teardown.complete,
            "process_gone": teardown.process_gone,
            "socket_gone": teardown.socket_gone,
            "directory_gone": teardown.directory_gone,
        },
        "facts": dict(evidence.facts),
    }


def _check_short(result: CheckResult) -> dict[str, Any]:
    data = {
        "id": result.id,
        "status": result.status.value,
        "origin": result.origin.value,
        "proves": result.proves.value,
        "seconds": result.seconds,
    }
    return {**data, "reason": result.reason} if result.reason else data


def _check_full(result: CheckResult) -> dict[str, Any]:
    return {
        **_check_short(result),
        "title": result.title,
        "severity": result.severity.value,
        "reason": result.reason,
        "controls": list(result.controls),
        "findings": [_finding(f) for f in result.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "object": finding.object,
        "expected": finding.expected,
        "observed": finding.observed,
        "origin": finding.origin.value,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def _sentence(text: str) -> str:
    return text.strip().rstrip(".")


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(k)): _masked(v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [_masked(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else storable(str(value))
