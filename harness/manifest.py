"""Our manifest: facts about a source, captured at backup time, that a restored copy must match (CONTRACT)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .atomic import write_atomic
from .errors import ConfigError

SCHEMA: Final = "provado/manifest/1"


@dataclass(frozen=True)
class Manifest:
    """What a source held. `facts` is the component's own; it never holds row or key values.

    `source` names the server (version, system identifier, database ...); `artifact` the file that was
    made in the same snapshot (`sha256`, `bytes`), None when another tool took the backup.
    """

    component: str
    source: Mapping[str, Any]
    captured_at: datetime
    facts: Mapping[str, Any]
    snapshot: str | None = None
    artifact: Mapping[str, Any] | None = None


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest, whole or not at all, readable by its owner and group only."""
    data = {
        "schema": SCHEMA,
        "component": manifest.component,
        "source": dict(manifest.source),
        "captured_at": manifest.captured_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "snapshot": manifest.snapshot,
        "artifact": dict(manifest.artifact) if manifest.artifact else None,
        "facts": dict(manifest.facts),
    }
    write_atomic(path, json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n", mode=0o640)


def read_manifest(path: Path, component: str) -> Manifest:
    """Read a manifest of `component`. Raises ConfigError when it is none, of another kind, or damaged."""
    try:
        data = json.loads(path.read_bytes())
        if data["schema"] != SCHEMA:
            raise ConfigError(f"has schema {data['schema']!r}, not {SCHEMA!r}", where=str(path))
        if data["component"] != component:
            raise ConfigError(
                f"is the manifest of a {data['component']} backup, not {component}", where=str(path)
            )
        return Manifest(
            component,
            dict(data["source"]),
            datetime.fromisoformat(data["captured_at"]),
            dict(data["facts"]),
            data.get("snapshot"),
            data.get("artifact"),
        )
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(
            "is no Provado manifest",
            where=str(path),
            remedy="make one with `provado capture` or `provado backup`",
        ) from None
