"""What a drill proved, aspect by aspect: the checks of evidence.json grouped by what they are a proof of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

ASPECTS: Final = {
    "file": "The file is whole and of the right kind",
    "restore": "A server takes the backup without error",
    "schema": "All objects came back",
    "data": "All rows, keys or file contents came back",
    "usability": "The restored system can be worked with",
    "identity": "It is the backup it claims to be",
    "security": "Nothing hostile in it, nothing leaked",
    "objective": "Age, time to restore and retention keep the objectives",
}
SHORT: Final = {
    "file": "File",
    "restore": "Restore",
    "schema": "Objects",
    "data": "Data",
    "usability": "Use",
    "identity": "Identity",
    "security": "Security",
    "objective": "Objectives",
}
ORIGINS: Final = {
    "artifact": "the backup file itself",
    "manifest": "the manifest of the source",
    "declared": "what provado.yaml declares",
    "last_good": "the last good drill",
}
STATES: Final = {
    "proven": "proven",
    "partly": "partly proven",
    "failed": "failed",
    "unproven": "not proven",
}


@dataclass(frozen=True)
class Aspect:
    """One aspect of a drill. `state` is a key of STATES; `passed` of `total` checks say so.

    `doubts` counts checks that broke or were waived; `origins` are the sources of truth that passing
    checks compared with.
    """

    key: str
    state: str
    passed: int
    total: int
    doubts: int
    origins: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True when it may be said of the drill: some check proved it, and none speaks against it."""
        return self.state in ("proven", "partly") and not self.doubts

    @property
    def title(self) -> str:
        """The aspect as a sentence (English, for the catalogue)."""
        return ASPECTS[self.key]


def aspects(backups: Iterable[Mapping[str, Any]]) -> tuple[Aspect, ...]:
    """All aspects over the given backups: proven only when each backup that has checks of it proves it."""
    per_backup = [_of_one(b) for b in backups]
    return tuple(_merged(key, [one[key] for one in per_backup]) for key in ASPECTS)


def _of_one(backup: Mapping[str, Any]) -> dict[str, Aspect]:
    by_key: dict[str, list[Mapping[str, Any]]] = {key: [] for key in ASPECTS}
    for check in backup["checks"]:
        by_key.setdefault(check["proves"], []).append(check)
    judged = backup["verdict"] != "inconclusive"
    return {key: _judged(key, found, judged) for key, found in by_key.items()}


def _judged(key: str, checks: list[Mapping[str, Any]], judged: bool) -> Aspect:
    """Checks that had nothing to look at (no large objects, no manifest) take nothing from what others
    prove: `origins` says what it was proven against. Where the drill could not judge they do."""
    passed = [c for c in checks if c["status"] == "pass"]
    if any(c["status"] == "fail" for c in checks):
        state = "failed"
    elif not passed:
        state = "unproven"
    else:
        idle = sum(c["status"] == "not_run" for c in checks) if judged else 0
        state = "proven" if len(passed) + idle == len(checks) else "partly"
    origins = tuple(o for o in ORIGINS if any(c["origin"] == o for c in passed))
    doubts = sum(c["status"] in ("error", "waived") for c in checks)
    return Aspect(key, state, len(passed), len(checks), doubts, origins)


def _merged(key: str, parts: list[Aspect]) -> Aspect:
    states = {p.state for p in parts if p.total}
    if "failed" in states:
        state = "failed"
    elif not states or states == {"unproven"}:
        state = "unproven"
    else:
        state = "proven" if states == {"proven"} else "partly"
    origins = tuple(o for o in ORIGINS if any(o in p.origins for p in parts))
    sums = (sum(p.passed for p in parts), sum(p.total for p in parts), sum(p.doubts for p in parts))
    return Aspect(key, state, *sums, origins)
