"""Which controls a drill's facts support. The mapping is data (controls.json); nobody is called compliant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any, Final

from .aspects import Aspect, aspects
from .text import parse_time

INTERVAL: Final = timedelta(days=15)  # how often the runbook wants a restore test
SUPPORT: Final = {
    "full": "supports",
    "part": "supports in part",
    "none": "not supported",
}
_OBJECTIVES: Final = {  # fact -> the checks whose passing proves it
    "rpo-met": ("policy.rpo", "policy.freshness"),
    "rto-met": ("policy.rto",),
    "retention-kept": ("policy.retention",),
}
_BY_ASPECT: Final = {
    "restored": "restore",
    "file-whole": "file",
    "schema-compared": "schema",
    "data-compared": "data",
    "usable": "usability",
}


@dataclass(frozen=True)
class Control:
    """One control with the facts that were proven for it and those that were not. `support`: see SUPPORT."""

    framework: str
    id: str
    title: str
    support: str
    proven: tuple[str, ...]
    lacking: tuple[str, ...]
    human: str  # what people must still do or show


@cache
def mapping() -> Mapping[str, Any]:
    """The mapping file: `facts` (id -> sentence) and `controls`."""
    text = (resources.files(__package__) / "controls.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def proven_facts(evidence: Mapping[str, Any]) -> frozenset[str]:
    """The ids of the facts which this run proves, for all of its backups."""
    backups = evidence["backups"]
    if not backups:
        return frozenset()
    found = {a.key: a for a in aspects(backups)}
    facts = {fact for fact, key in _BY_ASPECT.items() if _proven(found[key], backups)}
    if _proven(found["data"], backups) and all(_compared(b) for b in backups):
        facts.add("source-compared")
    for fact, ids in _OBJECTIVES.items():
        if all(_passed(b, ids) for b in backups) or _passed({"checks": evidence.get("wider") or []}, ids):
            facts.add(fact)
    if all(_isolated(b) for b in backups):
        facts.add("isolated")
    if (evidence.get("ledger") or {}).get("signed"):
        facts.add("signed")
    if _regular(evidence):
        facts.add("regular")
    return frozenset(facts)


def controls(facts: frozenset[str]) -> tuple[Control, ...]:
    """Every control of the mapping, judged by the facts at hand."""
    names = mapping()["facts"]
    made = []
    for entry in mapping()["controls"]:
        proven = tuple(names[f] for f in entry["facts"] if f in facts)
        lacking = tuple(names[f] for f in entry["facts"] if f not in facts)
        support = "full" if not lacking else "part" if proven else "none"
        made.append(
            Control(entry["framework"], entry["id"], entry["title"], support, proven, lacking, entry["open"])
        )
    return tuple(made)


def overdue(moments: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Stretches between neighbouring times, in order, that are longer than the interval of tests."""
    ordered = sorted(moments)
    return [(a, b) for a, b in pairwise(ordered) if b - a > INTERVAL]


def _proven(aspect: Aspect, backups: Sequence[Mapping[str, Any]]) -> bool:
    """The aspect holds, and no backup hides behind another: each must have been restored and compared,
    and none may have checks of the aspect of which no one passed."""
    required = aspect.key in ("restore", "data")
    for backup in backups:
        about = [c["status"] for c in backup["checks"] if c["proves"] == aspect.key]
        if "pass" not in about and (about or required):
            return False
    return aspect.holds


def _compared(backup: Mapping[str, Any]) -> bool:
    return any(
        c["status"] == "pass" and c["proves"] == "data" and c["origin"] == "manifest"
        for c in backup["checks"]
    )


def _passed(backup: Mapping[str, Any], ids: tuple[str, ...]) -> bool:
    found = [c["status"] for c in backup["checks"] if c["id"] in ids]
    return bool(found) and all(status == "pass" for status in found)


def _isolated(backup: Mapping[str, Any]) -> bool:
    """A sandbox of its own that is gone; configuration needs no server and touches none."""
    sandbox, teardown = backup["sandbox"], backup.get("teardown")
    if sandbox["kind"] == "none":
        return bool(backup["component"] == "files" and backup["verdict"] != "inconclusive")
    return bool(teardown and teardown["complete"])


def _regular(evidence: Mapping[str, Any]) -> bool:
    now = parse_time(evidence.get("started_at"))
    past = [
        parse_time(d.get("at")) for d in evidence.get("history", ()) if d.get("verdict") in ("pass", "fail")
    ]
    newest = max((p for p in past if p), default=None)
    return bool(now and newest and now - newest <= INTERVAL)
