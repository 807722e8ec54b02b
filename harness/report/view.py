"""What the report shows, computed from evidence.json: figures, tables and charts, still without markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from .aspects import ASPECTS, Aspect, aspects
from .charts import Point, bar, top_of, trend
from .controls import INTERVAL
from .text import Words, parse_time

SEVERITIES: Final = ("critical", "high", "medium", "info")
STATUS_ORDER: Final = ("fail", "error", "not_run", "waived", "pass")
_FULL: Final = 40  # findings of one check shown in full; of the others only the object is named
_ROWS: Final = 400  # rows of checks per backup; of further ones only the id is named
_TREND: Final = 30


@dataclass(frozen=True)
class Tile:
    """One figure of page one. `state` colours it: ok, bad, warn or plain; `share` of the objective used."""

    label: str
    value: str
    note: str
    state: str
    share: Markup | None = None


@dataclass(frozen=True)
class StageRow:
    """One stage of the waterfall."""

    name: str
    seconds: float
    share: float
    bar: Markup


@dataclass(frozen=True)
class CheckRow:
    """Checks of one id and status, with their findings; `others` names objects beyond the first findings.

    With an empty id: further checks of one status, their ids in `others`.
    """

    check: Mapping[str, Any]
    times: int
    seconds: float
    findings: tuple[Mapping[str, Any], ...]
    others: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """A figure over past drills of one series: the chart and the rows behind it, oldest first."""

    title: str
    chart: Markup
    rows: tuple[tuple[str, str, str], ...]  # when, verdict, value


@dataclass(frozen=True)
class Drift:
    """Rows or keys of one object against the last good drill."""

    name: str
    before: int
    now: int

    @property
    def change(self) -> int:
        """Now minus before."""
        return self.now - self.before


def worst_findings(evidence: Mapping[str, Any], limit: int = 5) -> list[tuple[Mapping[str, Any], str]]:
    """The worst findings of all backups with the backup's name; one per check first, so that a thousand
    alike do not hide another."""
    found: list[tuple[int, int, Mapping[str, Any], str]] = []
    for backup in (*evidence["backups"], beyond(evidence)):
        times: dict[str, int] = {}
        waived = {c["id"] for c in backup["checks"] if c["status"] == "waived"}
        for finding in backup["findings"]:
            if finding["severity"] == "info" or finding["check"] in waived:
                continue
            nth = times[finding["check"]] = times.get(finding["check"], -1) + 1
            found.append((SEVERITIES.index(finding["severity"]), nth, finding, backup_name(backup)))
    found.sort(key=lambda f: (f[0], f[1]))
    return [(finding, name) for _, _, finding, name in found[:limit]]


def beyond(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    """The results about no single backup (policy, runbook), in a backup's shape; without a name."""
    checks = evidence.get("wider") or []
    return {"path": "", "checks": checks, "findings": [f for c in checks for f in c["findings"]]}


def backup_name(backup: Mapping[str, Any]) -> str:
    """A backup's file name."""
    return str(backup.get("name") or backup["path"].rsplit("/", 1)[-1])


def tiles(evidence: Mapping[str, Any], w: Words) -> list[Tile]:
    """Age against RPO, time against RTO, amount restored, checks: over all backups, the worst of each."""
    backups, goals = evidence["backups"], evidence.get("objectives") or {}
    measured = [b["measured"] for b in backups]
    ages = [m["backup_age_s"] for m in measured if m.get("backup_age_s") is not None]
    times = [m["rto_s"] for m in measured if m.get("rto_s") is not None]
    checks = [c for b in backups for c in b["checks"]]
    failed = sum(c["status"] == "fail" for c in checks)
    passed = sum(c["status"] == "pass" for c in checks)
    broke = sum(c["status"] == "error" for c in checks)
    rest = len(checks) - failed - passed - broke
    told = w("{0} failed, {1} not run", w.number(failed), w.number(rest))
    told += " · " + w("{0} broke", w.number(broke)) if broke else ""
    return [
        _objective(w, w("Backup age"), max(ages, default=None), goals.get("rpo_s"), "RPO", len(ages) > 1),
        _objective(
            w, w("Time to restore"), max(times, default=None), goals.get("rto_s"), "RTO", len(times) > 1
        ),
        _amount(w, measured),
        Tile(
            w("Checks passed"),
            w("{0} of {1}", w.number(passed), w.number(len(checks))),
            told,
            "bad" if failed else "warn" if broke else "ok" if passed and not rest else "plain",
        ),
    ]


def _objective(w: Words, label: str, value: float | None, goal: float | None, name: str, many: bool) -> Tile:
    if value is None:
        return Tile(label, "—", w("not measured"), "warn" if goal else "plain")
    most = " · " + w("the largest of all backups") if many else ""
    if goal is None:
        return Tile(label, w.duration(value), w("no {0} declared", name) + most, "plain")
    used = value / goal
    note = w("{0} is {1}: {2} used", name, w.duration(goal), w.percent(used)) + most
    state = "ok" if used <= 1 else "bad"
    return Tile(label, w.duration(value), note, state, bar(0, used, state))


def _amount(w: Words, measured: Iterable[Mapping[str, Any]]) -> Tile:
    found = {k: [m[k] for m in measured if m.get(k) is not None] for k in ("rows", "keys", "files")}
    parts = []
    if found["rows"]:
        parts.append(w("{0} rows", w.number(sum(found["rows"]))))
    if found["keys"]:
        parts.append(w("{0} keys", w.number(sum(found["keys"]))))
    if found["files"]:
        parts.append(w("{0} files", w.number(sum(found["files"]))))
    if not parts:
        return Tile(w("Restored"), "—", w("nothing was restored"), "warn")
    return Tile(w("Restored"), parts[0], " · ".join(parts[1:]) or w("counted in the sandbox"), "plain")


def stages(backup: Mapping[str, Any]) -> list[StageRow]:
    """The stages one after the other, each bar beginning where the one before ended."""
    found = backup["measured"]["stages"]
    total = sum(s["seconds"] for s in found) or 1.0
    rows, at = [], 0.0
    for stage in found:
        share = stage["seconds"] / total
        rows.append(StageRow(stage["name"], stage["seconds"], share, bar(at, share)))
        at += share
    return rows


def check_rows(backup: Mapping[str, Any]) -> list[CheckRow]:
    """The checks, worst first; those of one id and status are one row."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for check in backup["checks"]:
        key = (check["id"], check["status"], check["origin"], check.get("reason"))
        groups.setdefault(key, []).append(check)
    rows = []
    for same in groups.values():
        findings = [f for c in same for f in c.get("findings", ())]
        seconds = sum(c.get("seconds") or 0 for c in same)
        others = tuple(f["object"] for f in findings[_FULL:])
        rows.append(CheckRow(same[0], len(same), seconds, tuple(findings[:_FULL]), others))
    rows.sort(key=lambda r: STATUS_ORDER.index(r.check["status"]))
    return [*rows[:_ROWS], *_overflow(rows[_ROWS:])]


def _overflow(rows: list[CheckRow]) -> Iterator[CheckRow]:
    """Of very many checks the later ones, one row per status, each check by its id alone."""
    for status in STATUS_ORDER:
        rest = [r for r in rows if r.check["status"] == status]
        if rest:
            check = {**rest[0].check, "id": "", "reason": None}
            ids = tuple(r.check["id"] for r in rest)
            yield CheckRow(check, sum(r.times for r in rest), sum(r.seconds for r in rest), (), ids)


def series_of(backup: Mapping[str, Any]) -> str:
    """What backups of the same thing have in common: component, kind, and the name without its digits."""
    bare = re.sub(r"\d+", "#", backup_name(backup))
    return f"{backup['component']}:{backup.get('kind') or ''}:{bare}"


def trends(evidence: Mapping[str, Any], backup: Mapping[str, Any], w: Words) -> list[Trend]:
    """Time to restore and age of this backup's series over past drills and this one; drills that were
    aborted, and stretches longer than the test interval (missed), are on the line too."""
    points = _past(evidence, backup)
    if sum(bool(figures) for _, _, figures in points) < 2:
        return []
    goals = evidence.get("objectives") or {}
    made = []
    for key, title, goal in (
        ("rto_s", w("Time to restore"), goals.get("rto_s")),
        ("backup_age_s", w("Backup age"), goals.get("rpo_s")),
    ):
        values = [Point(w.date(at), verdict, figures.get(key)) for at, verdict, figures in points]
        if any(p.value is not None for p in values):
            goal_label = w("objective {0}", w.duration(goal)) if goal else ""
            chart = trend(title, values, w.duration(top_of(values, goal)), goal, goal_label)
            rows = tuple(
                (w.time(at) if at else "—", verdict, w.duration(f.get(key))) for at, verdict, f in points
            )
            made.append(Trend(title, chart, rows))
    return made


def _past(evidence: Mapping[str, Any], backup: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    series = series_of(backup)
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    for drill in evidence.get("history") or ():
        same = [b for b in drill.get("backups", ()) if b.get("name") and series_of(b) == series]
        if same:
            found.append((drill["at"], same[-1]["verdict"] or "inconclusive", same[-1]))
        elif drill.get("verdict") == "aborted":
            found.append((drill["at"], "aborted", {}))
    found = [*found[-_TREND:], (evidence["started_at"], backup["verdict"], backup["measured"])]
    with_gaps: list[tuple[str, str, Mapping[str, Any]]] = []
    for entry in found:
        before, now = parse_time(with_gaps[-1][0]) if with_gaps else None, parse_time(entry[0])
        if before and now and now - before > INTERVAL:
            with_gaps.append((with_gaps[-1][0], "missed", {}))
        with_gaps.append(entry)
    return with_gaps


def coverage(backup: Mapping[str, Any]) -> tuple[list[Aspect], list[tuple[str, str, list[str]]]]:
    """Objects against what was proven of each: columns, and rows of (name, amount, cell per column).

    A cell is `failed` (a finding names the object or a part of it), `proven` (checks that could tell passed
    or failed for others), `partly` (a failure or a broken check names no object that we know, so it may be
    any of them) or `unproven` (nothing told). Failed rows come first, then by name.
    """
    tables = _amounts(backup.get("facts") or {})
    columns = [a for a in aspects([backup]) if a.key in ("schema", "data", "usability") and a.total]
    if not tables or not columns:
        return [], []
    hit: dict[str, set[str]] = {}
    rest: dict[str, str] = {}  # column -> what is said of objects that no finding names
    for column in columns:
        checks = [c for c in backup["checks"] if c["proves"] == column.key]
        against = [
            f["object"]
            for c in checks
            if c["status"] in ("pass", "fail", "waived")
            for f in c.get("findings", ())
            if f["severity"] in ("critical", "high")
        ]
        owners = [_owner(name, tables) for name in against]
        hit[column.key] = {o for o in owners if o}
        doubt = None in owners or any(c["status"] == "error" for c in checks)
        rest[column.key] = "unproven" if not column.passed else "partly" if doubt else "proven"
    rows = [
        (
            name,
            "" if amount is None else str(amount),
            ["failed" if name in hit[a.key] else rest[a.key] for a in columns],
        )
        for name, amount in tables.items()
    ]
    rows.sort(key=lambda row: ("failed" not in row[2], row[0]))
    return columns, rows


def _owner(name: str, tables: Mapping[str, Any]) -> str | None:
    """The table that an object is, or is part of (`public.t.column`, `public.t (index)`, `COPY public.t`,
    `index i on public.t`); None when it is of none."""
    for start in (name, name.rpartition(" on ")[2], name.partition(" ")[2]):
        candidate = start
        while candidate:
            if candidate in tables:
                return candidate
            cut = max(candidate.rfind("."), candidate.rfind(" "), candidate.rfind("/"))
            candidate = candidate[:cut] if cut > 0 else ""
    return None


def _amounts(facts: Mapping[str, Any]) -> dict[str, int | None]:
    """Objects of a component's facts with their rows or keys, whichever of the known shapes they have."""
    databases = facts.get("keys_per_database")
    if isinstance(databases, Mapping):
        return {f"db{n}": _count(v) for n, v in databases.items()}
    for key in ("tables", "files"):
        value = facts.get(key)
        if isinstance(value, Mapping):
            return {str(n): _count(v) for n, v in value.items()}
        if isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
            return {str(v["name"]): _count(v) for v in value}
    return {}


def _count(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return next((value[k] for k in ("rows", "keys", "count") if isinstance(value.get(k), int)), None)
    return None


def drift(backup: Mapping[str, Any], limit: int = 25) -> list[Drift]:
    """Objects whose amount changed most against the last good drill (evidence's `last_good`)."""
    before = _amounts((backup.get("last_good") or {}).get("facts") or {})
    now = _amounts(backup.get("facts") or {}) if before else {}
    changed = [
        Drift(name, old, new)
        for name in sorted(before.keys() | now.keys())
        if (old := before.get(name) or 0) != (new := now.get(name) or 0)
    ]
    changed.sort(key=lambda d: -abs(d.change) / max(d.before, 1))
    return changed[:limit]


def calendar(evidence: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Backups that drills saw, by the UTC day they were taken: rows of (kind, [(day, verdict, name)])."""
    seen: dict[str, dict[str, tuple[str, str]]] = {}
    runs = [*(evidence.get("history") or ()), {"backups": evidence["backups"]}]
    for backup in (b for run in runs for b in run.get("backups", ())):
        if backup.get("taken_at") and backup.get("name"):
            kind = f"{backup['component']} {backup.get('kind') or ''}".strip()
            seen.setdefault(kind, {})[backup["taken_at"][:10]] = (backup["verdict"], backup_name(backup))
    return [(kind, [(d, *days[d]) for d in sorted(days)[-90:]]) for kind, days in sorted(seen.items())]


def overall(evidence: Mapping[str, Any]) -> tuple[Aspect, ...]:
    """The aspects over all backups of a run."""
    if not evidence["backups"]:
        return tuple(Aspect(key, "unproven", 0, 0, 0, ()) for key in ASPECTS)
    return aspects(evidence["backups"])
