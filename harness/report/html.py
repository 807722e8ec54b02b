"""report.html as a pure function of evidence.json: no clock, no file, no network.

Every string of the evidence is masked and made visible before it reaches a template, and escaped in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from . import view
from .aspects import ORIGINS, SHORT, STATES, Aspect, aspects
from .charts import bar, icon
from .controls import SUPPORT, controls, proven_facts
from .text import Words, harmless, words

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

VERDICTS: Final = {
    "pass": "Pass",
    "fail": "Fail",
    "inconclusive": "Inconclusive",
    "aborted": "Aborted",
    "missed": "Missed",
}
HEADLINES: Final = {
    "pass": "Pass: what was backed up can be restored",
    "fail": "Fail: do not rely on this backup",
    "inconclusive": "Inconclusive: nobody knows yet whether it restores",
}
SEVERITIES: Final = {"critical": "critical", "high": "high", "medium": "medium", "info": "info"}
STATUSES: Final = {
    "pass": "passed",
    "fail": "failed",
    "error": "broke",
    "not_run": "not run",
    "waived": "waived",
}
COMPONENTS: Final = {"postgres": "PostgreSQL", "redis": "Redis", "files": "Configuration"}
NEXT_STEP: Final = "remove what kept this machine from judging, and run the drill again"
STAGES: Final = {
    "inspect": "Read the file",
    "sandbox": "Start the sandbox",
    "globals": "Make the roles",
    "restore": "Restore",
    "load": "Load",
    "proof": "Read back what was restored",
    "read back": "Read back what was restored",
    "start redis": "Start Redis",
    "checks": "Compare and check",
    "after_restore": "Steps after the restore",
    "teardown": "Tear the sandbox down",
}
CLOCKS: Final = {
    "dump-header": "the dump's header",
    "rdb-aux": "the RDB's header",
    "manifest": "the manifest",
    "name": "the file's name",
    "mtime": "the file's modification time, which a copy renews",
}
GONE: Final = (
    ("process_gone", "process"),
    ("socket_gone", "socket or port"),
    ("directory_gone", "files"),
)
_UNPROVEN_SHOWN: Final = 8
_NOTHING_OF: Final = ("provado.yaml ", "the backup holds no ", "the backup sets no ", "the source has no ")


@dataclass(frozen=True)
class Part:
    """A piece of the verdict's reason: a `name` found in the backup, a sentence `said` in evidence (still
    English), or the report's `own` words, in the reader's language already."""

    text: str
    kind: str = "own"


@dataclass(frozen=True)
class BackupView:
    """One backup's section. `e` is its entry in the evidence."""

    e: Mapping[str, Any]
    name: str
    because: Sequence[Part]
    aspects: tuple[Aspect, ...]
    stages: Sequence[view.StageRow]
    rto_bar: Markup | None
    trends: Sequence[view.Trend]
    drift: Sequence[view.Drift]
    checks: Sequence[view.CheckRow]
    columns: Sequence[Aspect]
    rows: Sequence[tuple[str, str, list[str]]]


def render(evidence: Mapping[str, Any], lang: str = "en", compiled: Path | None = None) -> str:
    """The report of one run; `compiled` as for `environment`. Raises ValueError for a language without a
    catalogue."""
    e = _complete(harmless(evidence))
    w = words(lang, (e.get("plan") or {}).get("policy", {}).get("timezone"))
    failures = view.worst_findings(e)
    every = sum(len(b["findings"]) for b in (*e["backups"], view.beyond(e)))
    gaps = _unproven(e)
    return (
        environment(compiled)
        .get_template("report.html")
        .render(
            **shared(w),
            e=e,
            headline=_headline(e, w),
            because=_because(e, w, failures),
            next_step=_next_step(e, failures),
            icon=icon(e["verdict"]),
            tiles=view.tiles(e, w),
            failures=failures,
            more_failures=every - len(failures),
            overall=view.overall(e),
            unproven=gaps[:_UNPROVEN_SHOWN],
            more_unproven=max(len(gaps) - _UNPROVEN_SHOWN, 0),
            backups=[_backup(e, b, w) for b in e["backups"]],
            rto=(e.get("objectives") or {}).get("rto_s"),
            wider=view.check_rows({"checks": e["wider"]}),
            calendar=view.calendar(e),
            retention=_retention(e),
            controls=controls(proven_facts(e)),
            times={},
        )
    )


def _complete(e: dict[str, Any]) -> dict[str, Any]:
    """Evidence with every optional field there, so that templates may name them."""
    run: dict[str, Any] = {"ledger": None, "plan": {}, "tools": {}, "objectives": {}, "history": []}
    backup: dict[str, Any] = {"packing": [], "manifest": None, "teardown": None, "facts": {}, "sha256": ""}
    server: dict[str, Any] = {"image": None, "image_digest": None, "containment": [], "settings": {}}
    check: dict[str, Any] = {"reason": None, "findings": []}
    e = {"plan_sha256": "", "runbook": [], "wider": [], **run, **e}

    def checks(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{**check, **c, "title": c.get("title") or c["id"]} for c in found]

    e["wider"] = checks(e["wider"])
    e["backups"] = [
        {
            "unproven": [],
            **backup,
            **b,
            "sandbox": {**server, **b["sandbox"]},
            "checks": checks(b["checks"]),
        }
        for b in e["backups"]
    ]
    return e


def shared(w: Words) -> dict[str, Any]:
    """What every page's templates use."""
    return {
        "w": w,
        "verdicts": VERDICTS,
        "severities": SEVERITIES,
        "statuses": STATUSES,
        "components": COMPONENTS,
        "stages": STAGES,
        "clocks": CLOCKS,
        "gone": GONE,
        "origins": ORIGINS,
        "states": STATES,
        "short": SHORT,
        "support": SUPPORT,
        "origin_list": lambda keys: ", ".join(w(ORIGINS[k]) for k in keys),
        **_style(),
    }


@cache
def environment(compiled: Path | None = None) -> Environment:
    """Jinja with escaping always on and undefined names as errors; loaded when a report is made.

    `compiled` is a folder that only its owner can write: templates are compiled once for all runs there.
    """
    from jinja2 import Environment, FileSystemBytecodeCache, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")

    made = Environment(
        autoescape=True,
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        bytecode_cache=FileSystemBytecodeCache(str(compiled)) if compiled else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["ticked"] = _ticked
    return made


def _ticked(text: str) -> Markup:
    """`commands` between backticks set as code; everything else escaped as ever."""
    from markupsafe import Markup, escape

    pieces = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(p) if n % 2 else escape(p) for n, p in enumerate(pieces)
    )


@cache
def _style() -> dict[str, Any]:
    from markupsafe import Markup

    text = (resources.files(__package__) / "templates" / "style.css").read_text(encoding="utf-8")
    hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"style": Markup(text), "style_sha256": hashed}  # noqa: S704 - our own file


def _backup(e: Mapping[str, Any], backup: Mapping[str, Any], w: Words) -> BackupView:
    columns, rows = view.coverage(backup)
    alone = {"backups": [backup], "verdict": backup["verdict"], "reason": backup["reason"]}
    rto, took = (e.get("objectives") or {}).get("rto_s"), backup["measured"].get("rto_s")
    used = took / rto if rto and took is not None else None
    return BackupView(
        e=backup,
        name=view.backup_name(backup),
        because=_because(alone, w, view.worst_findings(alone, 1)),
        aspects=aspects([backup]),
        stages=view.stages(backup),
        rto_bar=None if used is None else bar(0, used, "ok" if used <= 1 else "bad"),
        trends=view.trends(e, backup, w),
        drift=view.drift(backup),
        checks=view.check_rows(backup),
        columns=columns,
        rows=rows,
    )


def _headline(e: Mapping[str, Any], w: Words) -> str:
    if e.get("interrupted"):
        return w("Inconclusive: the run was interrupted")
    if e.get("reason_code") == "missing":
        return w("Fail: there is no backup")
    if len(e["backups"]) > 1 and e["verdict"] == "fail":
        bad = sum(b["verdict"] == "fail" for b in e["backups"])
        return w("Fail: {0} of {1} backups cannot be relied on", w.number(bad), w.number(len(e["backups"])))
    return w(HEADLINES[e["verdict"]])


def _because(e: Mapping[str, Any], w: Words, failures: Sequence[tuple[Mapping[str, Any], str]]) -> list[Part]:
    """The reason in the reader's language where it can be said again from facts, else as it was recorded."""
    if e["verdict"] == "fail" and failures:
        finding, name = failures[0]
        parts = [Part(finding["object"], "name"), Part(": "), Part(finding["message"], "said")]
        if len(e["backups"]) > 1 and name != finding["object"]:
            parts += [Part(" ("), Part(name, "name"), Part(")")]
        return parts
    if e["verdict"] == "pass" and len(e["backups"]) > 1:
        return [Part(w("All {0} backups were restored and proven.", w.number(len(e["backups"]))))]
    if e["verdict"] == "pass":
        passed = w.number(sum(c["status"] == "pass" for b in e["backups"] for c in b["checks"]))
        if e["backups"][0]["sandbox"]["kind"] == "none":
            return [Part(w("It was restored, and {0} checks hold.", passed))]
        return [Part(w("It was restored into a throwaway server, and {0} checks hold.", passed))]
    blocked = [b for b in e["backups"] if b["verdict"] == "inconclusive"]
    if blocked and len(e["backups"]) > 1:
        name = view.backup_name(blocked[0])
        return [Part(name, "name"), Part(": "), Part(blocked[0]["reason"], "said")]
    return [Part(e["reason"], "said")]


def _next_step(e: Mapping[str, Any], failures: Sequence[tuple[Mapping[str, Any], str]]) -> str:
    if e["verdict"] == "fail":
        return next((f["remedy"] for f, _ in failures if f.get("remedy")), "")
    if e["verdict"] == "inconclusive":
        return NEXT_STEP
    return ""


def _unproven(e: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What stays unproven, each sentence once with the backups it is true of: what kept a drill from judging
    first, what there was nothing of last."""
    found: dict[str, list[str]] = {}
    for backup in e["backups"]:
        if backup.get("blocked"):
            found.setdefault(backup["blocked"], []).append(view.backup_name(backup))
        for text in backup["unproven"]:
            found.setdefault(text, []).append(view.backup_name(backup))
    blocked = {b.get("blocked") for b in e["backups"]}

    def rank(item: tuple[str, list[str]]) -> tuple[bool, bool, int]:
        return item[0] not in blocked, item[0].startswith(_NOTHING_OF), -len(item[1])

    return sorted(found.items(), key=rank)


def _retention(e: Mapping[str, Any]) -> dict[str, float]:
    """Seconds each kind of backup is to be kept, where the settings of the run say so."""
    kinds = ((e.get("plan") or {}).get("policy") or {}).get("kinds") or {}
    return {
        k: rule["keep"]
        for k, rule in kinds.items()
        if isinstance(rule, Mapping) and isinstance(rule.get("keep"), int | float)
    }
