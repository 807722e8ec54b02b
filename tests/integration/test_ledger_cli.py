"""Evidence of real drills through the command line: signed, verified, tampered with, killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).parents[2] / "fixtures" / "config-backups"
PROVADO = str(Path(sys.executable).with_name("provado"))


def provado(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`, with the signing key in the environment as CI would give it."""
    environment = {**os.environ, "PROVADO_SIGNING_KEY": "file:ops.key"}
    return subprocess.run(
        [PROVADO, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def verify_evidence(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = provado(folder, "evidence", "verify", "out", "--trusted-key", "ops.pub", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def test_signed_drills_of_the_samples_are_verified_and_tampering_is_told(tmp_path: Path) -> None:
    assert provado(tmp_path, "evidence", "keygen", "--output", "ops").returncode == 0
    done = provado(tmp_path, "verify", str(SAMPLES), "--output", "out", "--json")
    assert done.returncode == 0, done.stderr
    head = json.loads(done.stdout)["ledger_head"]
    evidence = json.loads((tmp_path / "out/evidence.json").read_text())
    assert evidence["ledger"]["signed"] is True

    killed = subprocess.Popen(
        [PROVADO, "verify", str(SAMPLES), "--output", "out"],
        cwd=tmp_path,
        env={**os.environ, "PROVADO_SIGNING_KEY": "file:ops.key"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/drills/000002").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.wait(10)
    assert not (tmp_path / "out/evidence.json").exists()  # the first drill's answer is not the second's

    code, told = verify_evidence(tmp_path, "--expect-head", head)
    assert (code, told["problems"]) == (0, [])
    assert [d["verdict"] for d in told["drills"]] == ["pass", "aborted"]

    report = tmp_path / "out/drills/000001/report.html"
    report.write_text(report.read_text().replace("Pass", "Fail"))
    code, told = verify_evidence(tmp_path)
    assert code == 1
    assert [p["code"] for p in told["problems"]] == ["file-changed"]


def test_a_signed_ledger_refuses_an_unsigned_drill_before_anything_is_restored(tmp_path: Path) -> None:
    assert provado(tmp_path, "evidence", "keygen", "--output", "ops").returncode == 0
    assert provado(tmp_path, "verify", str(SAMPLES), "--output", "out", "--quiet").returncode == 0
    bare = {k: v for k, v in os.environ.items() if k != "PROVADO_SIGNING_KEY"}
    done = subprocess.run(
        [PROVADO, "verify", str(SAMPLES), "--output", "out"],
        cwd=tmp_path,
        env=bare,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "no signing key was given" in done.stderr
    assert (tmp_path / "out/evidence.json").exists()  # the last answer still stands
    assert verify_evidence(tmp_path)[0] == 0
