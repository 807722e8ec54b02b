"""What a check found stays found, however the check ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from harness.check import Check, NotRun, check, run_checks
from harness.model import Finding, Severity, Status


@dataclass
class Something:
    restored: bool = True


@pytest.mark.parametrize(
    ("severity", "end", "status"),
    [
        ("critical", NotRun("the rest could not be looked at"), Status.FAIL),
        ("medium", NotRun("the rest could not be looked at"), Status.NOT_RUN),
        ("critical", ValueError("broke"), Status.ERROR),
        ("critical", None, Status.FAIL),
        ("medium", None, Status.PASS),
    ],
)
def test_found_before_the_check_ended(severity: str, end: Exception | None, status: Status) -> None:
    @check("x.half", proves="file", severity=severity, needs_server=False, remedy="mend it")
    def half(self: Check, subject: Something) -> Iterator[Finding]:
        """Half of it."""
        yield self.finding("object", "is bad")
        if end is not None:
            raise end

    (result,), _ = run_checks([half], Something(), fail_on=Severity.HIGH, not_restored="")
    assert result.status is status
    assert [finding.object for finding in result.findings] == ["object"]
