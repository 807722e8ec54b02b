"""provado.prom: the newest drill of each series for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ..model import Artifact
from .history import lineage

_HELP: Final = {
    "provado_exit_code": "Verdict of the drill: 0 pass, 1 fail, 3 inconclusive.",
    "provado_drill_timestamp_seconds": "When the drill ended, in seconds since 1970.",
    "provado_backup_age_seconds": "Age of the backup by its own clock.",
    "provado_backup_bytes": "Size of the backup.",
    "provado_restore_seconds": "Measured time to restore.",
    "provado_restored_rows": "Rows restored and counted.",
    "provado_restored_keys": "Redis keys restored and counted.",
    "provado_findings": "Findings by severity.",
}
_CODES: Final = {"pass": 0, "fail": 1, "inconclusive": 3}
_BADNESS: Final = ("pass", "inconclusive", "fail")


def metrics(evidence: Mapping[str, Any]) -> str:
    """The text of provado.prom: per series of backups the worst verdict and the newest one's figures."""
    by_series: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in evidence["backups"]:
        of = lineage(Artifact(Path(entry["path"]), entry["component"], entry["format"]))
        by_series.setdefault((entry["component"], of.split(":", 1)[1]), []).append(entry)
    samples: dict[str, list[str]] = {name: [] for name in _HELP}
    samples["provado_exit_code"].append(
        f'provado_exit_code{{component="all",series=""}} {evidence["exit_code"]}'
    )
    for (component, series), entries in sorted(by_series.items()):
        labels = f'component="{_escape(component)}",series="{_escape(series)}"'
        newest = max(entries, key=lambda e: e["taken_at"] or "")
        worst = max((e["verdict"] for e in entries), key=_BADNESS.index)
        measured = newest["measured"]
        figures = {
            "provado_exit_code": _CODES[worst],
            "provado_drill_timestamp_seconds": round(
                datetime.fromisoformat(newest["finished_at"]).timestamp()
            ),
            "provado_backup_age_seconds": measured["backup_age_s"],
            "provado_backup_bytes": newest["bytes"],
            "provado_restore_seconds": measured["rto_s"],
            "provado_restored_rows": measured["rows"],
            "provado_restored_keys": measured["keys"],
        }
        for name, value in figures.items():
            if value is not None:
                samples[name].append(f"{name}{{{labels}}} {value}")
        for severity in ("critical", "high", "medium", "info"):
            count = sum(f["severity"] == severity for e in entries for f in e["findings"])
            samples["provado_findings"].append(f'provado_findings{{{labels},severity="{severity}"}} {count}')
    blocks = [
        f"# HELP {name} {_HELP[name]}\n# TYPE {name} gauge\n" + "\n".join(lines) + "\n"
        for name, lines in samples.items()
        if lines
    ]
    return "".join(blocks)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
