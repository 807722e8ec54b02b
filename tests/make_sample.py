"""Makes reports/sample/: renders its evidence.json again, or with `--drill` runs real drills first.

`python tests/make_sample.py [--drill]`, from anywhere. Drills need what `provado verify fixtures/` needs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.report.html import render

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "reports" / "sample"
PAGES = {"report.html": "en", "report.pt-BR.html": "pt-BR"}
FIXTURES = ("fixtures/backups", "fixtures/redis-backups", "fixtures/config-backups")


def drill() -> None:
    """Three signed drills of the newest samples; the last one's evidence becomes the sample's."""
    provado = str(Path(sys.executable).with_name("provado"))
    output = Path("reports/sample")  # as named in the evidence; relative, so that no machine is
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([provado, "evidence", "keygen", "--output", f"{folder}/ops"], check=True)
        arguments = ["--rpo", "24h", "--rto", "4h", "--signing-key", "env:SAMPLE_KEY", "--quiet"]
        environment = {**os.environ, "SAMPLE_KEY": Path(f"{folder}/ops.key").read_text()}
        shutil.rmtree(ROOT / output, ignore_errors=True)  # git has it, should a drill fail
        for _ in range(3):
            run = [provado, "verify", *FIXTURES, "--output", output, *arguments]
            subprocess.run(run, cwd=ROOT, env=environment, check=True)
        kept = (ROOT / output / "evidence.json").read_bytes()
        shutil.rmtree(ROOT / output)
    SAMPLE.mkdir(parents=True)
    (SAMPLE / "evidence.json").write_bytes(kept)


def main() -> None:
    if "--drill" in sys.argv:
        drill()
    evidence = json.loads((SAMPLE / "evidence.json").read_bytes())
    for name, lang in PAGES.items():
        (SAMPLE / name).write_text(render(evidence, lang), encoding="utf-8")


if __name__ == "__main__":
    os.environ.pop("PROVADO_SIGNING_KEY", None)
    main()
