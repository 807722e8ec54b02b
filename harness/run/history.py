"""Earlier drills in the output folder: what the newest passing one of a series said (origin `last_good`)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ..catalog import series
from ..evidence.ledger import drill_folders
from ..model import Artifact

_DEPTH: Final = 100  # how many drills back a passing one is looked for


class History:
    """Evidence of earlier drills, read newest first and only as far back as somebody asks."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._older: Iterator[Path] | None = None
        self._newest: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()

    def last_good(self, artifact: Artifact) -> Mapping[str, Any] | None:
        """The evidence entry of the newest passing drill of the same series, None without one.

        A record that cannot be read counts as none: it is `provado evidence verify` that judges records.
        """
        of = lineage(artifact)
        with self._lock:
            if self._older is None:
                folders = sorted(drill_folders(self._output), reverse=True)[:_DEPTH]
                self._older = iter([folder for _, folder in folders])
            while of not in self._newest and (folder := next(self._older, None)):
                for entry in _passing(folder):
                    past = Artifact(Path(entry["path"]), entry["component"], entry["format"])
                    self._newest.setdefault(lineage(past), entry)
            return self._newest.get(of)


def _passing(folder: Path) -> list[Mapping[str, Any]]:
    try:
        entries = json.loads((folder / "evidence.json").read_bytes())["backups"]
        return [e for e in entries if e["verdict"] == "pass" and {"path", "component", "format"} <= set(e)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def lineage(artifact: Artifact) -> str:
    """What backups of the same thing have in common wherever they lie: component and bare name."""
    return f"{artifact.component}:{series(artifact).rsplit(':', 1)[1]}"
