"""How far a problem must be carried: levels 1 to 4 of the runbook, each with who is told and what to open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..model import CheckResult, Status
from .state import Drill, State

_TOLD_BY_DRILLS: Final = {"policy.tested"}


@dataclass(frozen=True)
class Escalation:
    """`level` 0 (nobody is told) to 4; `who`, `how` and `section` come from `policy.contacts`."""

    level: int
    reason: str
    who: str | None = None
    how: str | None = None
    section: str | None = None


def escalate(state: State, results: Iterable[CheckResult], declared: str | None = None) -> Escalation:
    """The highest level that applies.

    1 a backup is missing, late or not as it should be · 2 a restore failed, twice in a row could not be
    judged, or the newest backup is unreadable · 3 data are missing against their origin · 4 two or more
    components are at level 2 or above, or `declared` (the reason somebody gave) says so.
    """
    failed = [r for r in results if r.status in (Status.FAIL, Status.ERROR)]
    reached: dict[str, tuple[int, str]] = {}
    for lineage in sorted({b.lineage for b in state.backups}):
        mine = [d for d in state.drills if d.lineage == lineage]
        if mine and (found := _of_drills(mine)):
            component = mine[-1].component
            reached[component] = max(reached.get(component, (0, "")), found)
    for result in failed:
        for finding in result.findings:
            if result.id == "policy.integrity" and finding.severity.rank >= 2:
                component = next(
                    (b.artifact.component for b in state.backups if b.name == finding.object), "backup"
                )
                found = (2, f"{finding.object} {finding.message}")
                reached[component] = max(reached.get(component, (0, "")), found)
    level, reason = 0, "nothing to report"
    others = [r for r in failed if r.id not in _TOLD_BY_DRILLS]
    first = (others or failed)[0] if failed else None
    if first is not None:
        level = 1
        reason = f"{first.findings[0].object}: {first.findings[0].message}" if first.findings else first.title
    if reached:
        level, reason = max(reached.values())
    if sum(at >= 2 for at, _ in reached.values()) > 1:
        level, reason = 4, f"several systems at once: {', '.join(sorted(reached))}"
    if declared:
        level, reason = 4, declared
    contact = state.policy.contacts.get(level)
    return Escalation(
        level,
        reason,
        contact.who if contact else None,
        (contact.how or None) if contact else None,
        contact.section if contact else None,
    )


def _of_drills(drills: list[Drill]) -> tuple[int, str] | None:
    """Level and reason of one series' drills, oldest first; a pass clears what was before it."""
    last = drills[-1]
    if last.verdict == "fail":
        if last.lost_data:
            return 3, f"{last.name}: data are missing against their origin"
        return 2, f"{last.name}: the restore test failed"
    if last.verdict == "inconclusive" and len(drills) > 1:
        before = drills[-2]
        if before.verdict == "fail":
            return _of_drills(drills[:-1])
        if before.verdict == "inconclusive":
            return 2, f"{last.name}: twice in a row the restore test could not be judged"
    return None
