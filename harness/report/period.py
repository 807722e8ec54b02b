"""The audit report of a period, and the index over all drills: pages made from what the ledger tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .charts import icon
from .controls import INTERVAL, Control, controls, mapping, overdue
from .html import environment, shared
from .text import harmless, parse_time, words

NOTES: Final = {
    "review": "Review",
    "ticket": "Ticket",
    "retest": "Retest",
    "comment": "Comment",
    "tombstone": "Files removed at the end of their retention",
}


@dataclass(frozen=True)
class Gap:
    """A stretch without a drill that is longer than the interval of tests."""

    start: str
    end: str
    days: float


def render_period(period: Mapping[str, Any], lang: str = "en", zone: str | None = None) -> str:
    """The audit report of `period`: `since`, `until`, `made_at`, `ledger` (the judgement of the whole ledger)
    and `drills` (every number in the period, each with `facts`, the ids it proves, None without a result).
    """
    p = harmless(period)
    w = words(lang, zone)
    finished = [d for d in p["drills"] if d["facts"] is not None]
    gaps = _gaps(p)
    judged, times = _over(finished, bool(gaps) or not finished)
    return (
        environment()
        .get_template("period.html")
        .render(
            **shared(w),
            p=p,
            notes=NOTES,
            icon=icon("fail" if p["ledger"]["exit_code"] == 1 else "pass"),
            rows=_rows(p["drills"], gaps),
            gaps=gaps,
            interval_days=INTERVAL.days,
            counts={v: sum(d["verdict"] == v for d in p["drills"]) for v in _COUNTED},
            controls=judged,
            times=times,
            finished=len(finished),
        )
    )


def render_index(drills: Sequence[Mapping[str, Any]], lang: str = "en", compiled: Path | None = None) -> str:
    """The list of all drills, newest first, with links to their reports."""
    w = words(lang)
    newest = [harmless(d) for d in reversed(drills)]
    return environment(compiled).get_template("index.html").render(**shared(w), drills=newest)


_COUNTED: Final = ("pass", "fail", "inconclusive", "aborted")


def _gaps(p: Mapping[str, Any]) -> list[Gap]:
    """Stretches of the period without any judged drill; its edges count as if a drill had been there, unless
    the period begins before the ledger or has not ended yet."""
    moments = [t for d in p["drills"] if d["facts"] is not None and (t := parse_time(d["started_at"]))]
    until, made = parse_time(p["until"]), parse_time(p["made_at"])
    edges = [parse_time(p["since"]), min(t for t in (until, made) if t) if until or made else None]
    return [
        Gap(_iso(a), _iso(b), (b - a).total_seconds() / 86400)
        for a, b in overdue([*moments, *(e for e in edges if e)])
    ]


def _rows(drills: Sequence[Mapping[str, Any]], gaps: Sequence[Gap]) -> list[Mapping[str, Any]]:
    """Drills and gaps in order of time."""
    rows = [*drills, *({"gap": g, "started_at": g.start, "number": 10**9} for g in gaps)]
    return sorted(rows, key=lambda r: (r["started_at"], r["number"]))


def _over(finished: Sequence[Mapping[str, Any]], irregular: bool) -> tuple[list[Control], Mapping[str, int]]:
    """Controls over a period: a fact is proven when every judged drill proves it. Of those that only some
    prove, the second value tells how many, by the fact's sentence."""
    names = mapping()["facts"]
    times = {f: sum(f in d["facts"] for d in finished) for f in names if f != "regular"}
    always = {f for f, n in times.items() if finished and n == len(finished)}
    some = {names[f]: n for f, n in times.items() if f not in always and n}
    if not irregular:
        always.add("regular")
    made = []
    for control in controls(frozenset(always)):
        partly = control.support == "none" and any(name in some for name in control.lacking)
        made.append(replace(control, support="part" if partly else control.support))
    return made, some


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
