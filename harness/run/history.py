"""Earlier drills in the output folder: what the newest passing one of a series said (origin `last_good`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..catalog import series
from ..evidence.ledger import drill_folders
from ..model import Artifact

_DEPTH: Final = 100  # how many drills back a passing one is looked for


class History:
    """Evidence of earlier drills, read on first use and at most once."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._newest: dict[str, Mapping[str, Any]] | None = None

    def last_good(self, artifact: Artifact) -> Mapping[str, Any] | None:
        """The evidence entry of the newest passing drill of the same series, None without one.

        A record that cannot be read counts as none: it is `provado evidence verify` that judges records.
        """
        if self._newest is None:
            self._newest = dict(self._read())
        return self._newest.get(lineage(artifact))

    def _read(self) -> dict[str, Mapping[str, Any]]:
        newest: dict[str, Mapping[str, Any]] = {}
        for _, folder in sorted(drill_folders(self._output), reverse=True)[:_DEPTH]:
            try:
                entries = json.loads((folder / "evidence.json").read_bytes())["backups"]
                for entry in entries:
                    if entry["verdict"] == "pass":
                        past = Artifact(Path(entry["path"]), entry["component"], entry["format"])
                        newest.setdefault(lineage(past), entry)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return newest


def lineage(artifact: Artifact) -> str:
    """What backups of the same thing have in common wherever they lie: component and bare name."""
    return f"{artifact.component}:{series(artifact).rsplit(':', 1)[1]}"
