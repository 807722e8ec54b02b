"""RPO and RTO of one drill against what was declared.

The age of a backup counts from the clock inside it, or the time in its name. A file's mtime is no clock:
copying renews it. It can only convict, since nothing in a file is newer than its last change.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from .model import Artifact, CheckResult, Finding, Measured, Origin, Proves, Severity, Status
from .settings import Objectives

RPO: Final = "policy.rpo"
RTO: Final = "policy.rto"
_TITLES: Final = {
    RPO: "The backup is no older than the recovery point objective",
    RTO: "The restore took no longer than the recovery time objective",
}
_CONTROLS: Final = ("ISO27001:A.5.30", "SOC2:A1.2")
_AHEAD_S: Final = 15 * 3600.0  # names carry local time: up to 14 hours ahead of UTC


def age_s(artifact: Artifact, now: datetime) -> float | None:
    """Seconds since the backup was taken, by the clock that `taken_at_basis` names; None without one."""
    if artifact.taken_at is None:
        return None
    return round((now - artifact.taken_at).total_seconds(), 3)


def judge_objectives(
    artifact: Artifact, measured: Measured, objectives: Objectives, now: datetime, fail_on: Severity
) -> Iterator[CheckResult]:
    """Results of `policy.rpo` and `policy.rto`, each only when its objective is declared."""
    if objectives.rpo is not None:
        yield _result(RPO, *_rpo(artifact, now, objectives.rpo), fail_on)
    if objectives.rto is not None:
        yield _result(RTO, *_rto(artifact, measured, objectives.rto), fail_on)


def readable(seconds: float) -> str:
    """Seconds in the unit people would use: `45 s`, `12 min`, `30 h`, `15 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _rpo(artifact: Artifact, now: datetime, limit_s: float) -> tuple[list[Finding], str | None]:
    name, basis, age = artifact.path.name, artifact.taken_at_basis, age_s(artifact, now)
    if age is None:
        return [], "nothing says when the backup was taken"
    if age > limit_s:
        finding = Finding(
            RPO,
            Severity.HIGH,
            name,
            f"the backup is {readable(age)} old by its {_CLOCKS.get(basis or '', 'own clock')}; "
            f"a disaster now would lose more than the {readable(limit_s)} that were declared",
            Origin.DECLARED,
            f"<= {limit_s:.0f} s",
            f"{age:.0f} s",
            "find out why no newer backup was taken, and take one now",
        )
        return [finding], None
    if basis == "mtime":
        finding = Finding(
            RPO,
            Severity.MEDIUM,
            name,
            "only the file's modification time says how old the backup is, and copying renews that",
            Origin.DECLARED,
            f"<= {limit_s:.0f} s",
            None,
            "name backups with their time (…-YYYYMMDD-HHMMSS…), or keep the manifest beside them",
        )
        return [finding], "neither the backup nor its name says when it was taken: its age is unproven"
    if age < -(_AHEAD_S if basis == "name" else 600):
        finding = Finding(
            RPO,
            Severity.MEDIUM,
            name,
            f"the backup claims to be taken {readable(-age)} in the future: one of the clocks is wrong",
            Origin.DECLARED,
            f"<= {limit_s:.0f} s",
            f"{age:.0f} s",
            "set the clocks of the backup host and of this machine",
        )
        return [finding], "the backup claims to come from the future: its age is unproven"
    return [], None


def _rto(artifact: Artifact, measured: Measured, limit_s: float) -> tuple[list[Finding], str | None]:
    took = measured.rto_s
    if took is None:
        return [], "nothing was restored, so no time to restore could be measured"
    if took <= limit_s:
        return [], None
    finding = Finding(
        RTO,
        Severity.HIGH,
        artifact.path.name,
        f"restoring took {readable(took)}, more than the {readable(limit_s)} that were declared",
        Origin.DECLARED,
        f"<= {limit_s:.0f} s",
        f"{took:.1f} s",
        "restore in parallel (a custom or directory dump), on faster disks, or declare another objective",
    )
    return [finding], None


_CLOCKS: Final = {
    "dump-header": "dump header",
    "rdb-aux": "RDB header",
    "manifest": "manifest",
    "name": "name",
    "mtime": "modification time",
}


def _result(id: str, findings: list[Finding], unproven: str | None, fail_on: Severity) -> CheckResult:
    status = Status.NOT_RUN if unproven else Status.PASS
    if any(f.severity.rank >= fail_on.rank for f in findings):
        status = Status.FAIL
    return CheckResult(
        id,
        _TITLES[id],
        status,
        Proves.OBJECTIVE,
        Origin.DECLARED,
        Severity.HIGH,
        findings=tuple(findings),
        reason=unproven,
        controls=_CONTROLS,
    )
