"""The shared corpus without a manifest: what the file or the restored server alone betrays, and controls."""

import json
from pathlib import Path

import pytest

from harness import catalog, components
from harness.drill import drill
from harness.evidence.record import judge
from harness.model import Verdict
from harness.settings import Settings

pytestmark = pytest.mark.slow
CORPUS = Path(__file__).parents[3] / "shared/corpus/postgres"
SETTINGS = Settings.model_validate({"sandbox": {"kind": "local", "timeout": "2m"}})
FAMILIES = ("file-damage", "archive-damage", "orchestration", "control")
# A changed letter in stored data that no checksum covers: only a manifest of the source can tell.
NEEDS_MANIFEST = {
    "r_fc_lz4_bitflip",
    "r_fc_z0_bitflip",
    "r_ft_bitflip",
    "r_fd_files_swapped",
    "o_older_pg_dump",
}

# Controls whose file is of the same make as another's: what is odd about them is their source or manifest.
ALIKE = {"c_concurrent_writes_late_manifest", "c_full", "c_gaps", "c_physical_order", "c_replica",
         "c_rows_per_insert", "c_serializable", "c_fc_z9"}  # fmt: skip


def _cases():
    found = [json.loads(path.read_text()) for path in sorted(CORPUS.glob("cases/*/case.json"))]
    return [c for c in found if c["family"] in FAMILIES and c.get("file") and c["id"] not in ALIKE]


CASES = _cases()


def test_the_corpus_is_here():
    if not CORPUS.is_dir():
        pytest.skip("../shared/corpus is not here: its cases go untested")
    assert len(CASES) > 35


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_case(case):
    path = CORPUS / "cases" / case["id"] / case["file"]
    found = catalog.identify(
        path, components.recognisers(), component="postgres", globals_file=CORPUS / "good/globals.sql"
    )
    assert found is not None
    evidence = drill(found, SETTINGS)
    verdict = judge(evidence).verdict
    if case["good"]:
        assert verdict is Verdict.PASS, evidence.findings
    elif case["id"] in NEEDS_MANIFEST:
        assert any("manifest" in reason for reason in evidence.unproven)
    elif case["verdict"] == "warn":
        assert evidence.findings
    else:
        assert verdict is Verdict.FAIL, evidence.findings
