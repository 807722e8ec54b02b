"""Whole drills of Redis backups, and archives to run them on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from harness.catalog import identify
from harness.drill import drill
from harness.evidence.record import judge
from harness.model import Evidence, Verdict
from harness.redis.inspect import recognise
from harness.settings import Settings


def verify(path: Path, manifest: Path | None = None, **redis: object) -> Evidence:
    artifact = identify(path, {"redis": recognise}, manifest=manifest)
    assert artifact is not None and artifact.component == "redis"
    evidence = drill(artifact, Settings.model_validate({"redis": redis}))
    assert not [c for c in evidence.checks if c.status == "error"]
    assert evidence.teardown is None or evidence.teardown.complete
    return evidence


def verdict(evidence: Evidence) -> Verdict:
    return judge(evidence).verdict


def bad(evidence: Evidence) -> dict[str, str]:
    return {f.check: f.message for f in evidence.findings if f.severity.rank >= 2}


def archive(target: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(target, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"redis-backup/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target
