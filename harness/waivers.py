"""Waivers: findings that somebody accepted for a while, with a reason, an owner and an end.

A waived finding stays in the record and does not fail the drill. A waiver that has expired waives nothing
and is a finding itself; one that names an unknown check, or that nothing needs, is an error: it would
hide the next real finding of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase
from typing import Final

from .errors import ConfigError
from .model import CheckResult, Finding, Origin, Proves, Severity, Status
from .settings import Waiver

EXPIRED: Final = "policy.waiver-expired"
UNUSED: Final = "policy.waiver-unused"
_NEEDED: Final = "Every waiver is still needed"


def matches(waiver: Waiver, finding: Finding) -> bool:
    """True when the waiver names this finding's check and object."""
    return waiver.check == finding.check and fnmatchcase(finding.object, waiver.object)


def reject_unknown(waivers: Iterable[Waiver], known: Iterable[str]) -> None:
    """Raises ConfigError for a waiver of a check that does not exist, naming near ones."""
    ids = set(known)
    for waiver in waivers:
        if waiver.check not in ids:
            from difflib import get_close_matches

            near = ", ".join(get_close_matches(waiver.check, ids, 3))
            raise ConfigError(
                f"there is no check called {waiver.check!r}",
                where="waivers",
                remedy=f"Did you mean {near}?" if near else "docs/checks.md lists them all",
            )


def apply_waivers(
    results: Iterable[CheckResult], waivers: Sequence[Waiver], today: date, fail_on: Severity
) -> tuple[CheckResult, ...]:
    """The results with accepted failures set apart.

    A failed check whose severe findings are all accepted becomes `waived`; when some are not, it becomes
    two results, one waived and one that stands. Other states keep their status: nothing is hidden.
    """
    out: list[CheckResult] = []
    expired: list[Finding] = []
    for result in results:
        standing: list[Finding] = []
        accepted: list[Finding] = []
        by: Waiver | None = None
        for finding in result.findings:
            waiver = next((w for w in waivers if matches(w, finding)), None)
            if waiver is None or waiver.expires < today:
                standing.append(finding)
            else:
                accepted.append(finding)
                by = by or waiver
            if waiver is not None and waiver.expires < today:
                expired.append(_expired(waiver, finding))
        if by is None or result.status is not Status.FAIL:
            out.append(result)
            continue
        reason = f"accepted by {by.owner} until {by.expires.isoformat()}: {by.reason}"
        if any(f.severity.rank >= fail_on.rank for f in standing):
            out.append(replace(result, findings=tuple(standing)))
            standing = []
        out.append(replace(result, status=Status.WAIVED, findings=(*accepted, *standing), reason=reason))
    if expired:
        out.append(_result(EXPIRED, "No waiver has expired", tuple(dict.fromkeys(expired))))
    return tuple(out)


def unused(waivers: Iterable[Waiver], results: Sequence[CheckResult]) -> CheckResult | None:
    """A failed result naming the waivers whose check ran and found nothing they match; None without any."""
    ran = {c.id for c in results}
    findings = tuple(
        Finding(
            UNUSED,
            Severity.HIGH,
            f"{waiver.check} on {waiver.object}",
            "the waiver matches no finding any more; it would silently hide the next one",
            Origin.DECLARED,
            remedy="remove it from provado.yaml",
        )
        for waiver in waivers
        if waiver.check in ran and not any(matches(waiver, f) for c in results for f in c.findings)
    )
    return _result(UNUSED, _NEEDED, findings) if findings else None


def needed() -> CheckResult:
    """The passing result when `unused` has nothing to say."""
    return replace(_result(UNUSED, _NEEDED, ()), status=Status.PASS)


def _expired(waiver: Waiver, finding: Finding) -> Finding:
    return Finding(
        EXPIRED,
        Severity.HIGH,
        f"{finding.check} on {finding.object}",
        f"the waiver by {waiver.owner} ended on {waiver.expires.isoformat()} and the finding is still there",
        Origin.DECLARED,
        remedy="repair what was waived, or let its owner decide again",
    )


def _result(id: str, title: str, findings: tuple[Finding, ...]) -> CheckResult:
    return CheckResult(
        id, title, Status.FAIL, Proves.OBJECTIVE, Origin.DECLARED, Severity.HIGH, findings=findings
    )
