from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import report_samples as samples

SCHEMA: dict[str, Any] = json.loads(
    (resources.files("harness.evidence") / "evidence.schema.json").read_text(encoding="utf-8")
)
SAMPLE = Path(__file__).parents[3] / "reports" / "sample" / "evidence.json"


def errors(evidence: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(evidence)
    return [f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in found]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == "provado/evidence/1"


def test_drills_of_every_verdict_fit_the_schema() -> None:
    for drill in (
        samples.postgres(),
        samples.redis(),
        samples.failing(),
        samples.blocked(),
        samples.hostile(),
    ):
        assert errors(samples.evidence(drill)) == []


def test_the_committed_sample_of_real_drills_fits_the_schema() -> None:
    assert errors(json.loads(SAMPLE.read_bytes())) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("verdict",), "maybe"),
        (("started_at",), "2026-11-24 05:00:07"),
        (("backups", 0, "checks", 0, "status"), "skipped"),
        (("backups", 0, "sha256"), "abc"),
        (("backups", 0, "measured"), {}),
    ],
)
def test_what_is_no_evidence_is_refused(place: tuple[Any, ...], value: object) -> None:
    evidence = samples.evidence(samples.postgres())
    at: Any = evidence
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    assert errors(evidence)
