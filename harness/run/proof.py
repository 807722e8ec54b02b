"""What one test says about one check of one backup, in pytest's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest

from ..evidence.record import Judgement
from ..model import CheckResult, Evidence, Finding, Status, Verdict
from ..redact import shown


@dataclass(frozen=True)
class Proof:
    """The results of one check (two when part of its findings was waived), empty when it never ran."""

    id: str
    results: tuple[CheckResult, ...]

    def demand(self) -> None:
        """Pass when the check holds. Findings fail the test; what was not examined skips it.

        A check that broke is an error, raised while the test is set up (`require_examined`).
        """
        __tracebackhide__ = True
        against = [c for c in self.results if c.status is Status.FAIL]
        if against:
            pytest.fail("\n".join(_lines(f for c in against for f in c.findings)), pytrace=False)
        if not any(c.status is Status.PASS for c in self.results):
            reasons = [c.reason for c in self.results if c.reason]
            pytest.skip(shown(reasons[0]) if reasons else f"{self.id} was not run")

    def require_examined(self) -> None:
        """Error out, as the set-up of a test does, when the check itself broke."""
        __tracebackhide__ = True
        for result in self.results:
            if result.status is Status.ERROR:
                pytest.fail(shown(result.reason or f"{self.id} broke"), pytrace=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything the check found, also what does not fail it."""
        return tuple(f for c in self.results for f in c.findings)


@dataclass(frozen=True)
class VerdictProof:
    """The verdict of a whole drill: what no single check can say (nothing restored, nothing proven)."""

    evidence: Evidence
    judged: Judgement

    def require_judged(self) -> None:
        """Error out when this machine could not judge the backup."""
        __tracebackhide__ = True
        if self.judged.verdict is Verdict.INCONCLUSIVE:
            pytest.fail(shown(f"inconclusive: {self.judged.reason}"), pytrace=False)

    def demand(self) -> None:
        """Pass when the verdict is pass."""
        __tracebackhide__ = True
        if self.judged.verdict is not Verdict.PASS:
            pytest.fail(shown(self.judged.reason), pytrace=False)


def proof_of(id: str, results: Sequence[CheckResult]) -> Proof:
    """The proof of check `id` among a drill's results."""
    return Proof(id, tuple(c for c in results if c.id == id))


def _lines(findings: Iterable[Finding]) -> list[str]:
    lines = []
    for finding in findings:
        lines.append(shown(f"{finding.severity.value}: {finding.object}: {finding.message}"))
        if finding.expected is not None or finding.observed is not None:
            lines.append(
                shown(
                    f"    expected {finding.expected} ({finding.origin.value}), observed {finding.observed}"
                )
            )
        if finding.remedy:
            lines.append(shown(f"    {finding.remedy}"))
    return lines
