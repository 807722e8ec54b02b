"""Real processes on one ledger: two at once, and one that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.evidence import ledger, verify

RUN = """
import sys, time
from pathlib import Path
from harness.evidence import ledger
output, name, drills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(drills):
    entry = ledger.begin(output, f"{name}-{n}")
    (entry.folder / "evidence.json").write_text(f"{name} {n}")
    print("open", flush=True)
    if len(sys.argv) > 4:
        time.sleep(60)
    ledger.finish(entry, {"verdict": "pass"})
"""


def start(output: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(output), *args], stdout=subprocess.PIPE, text=True
    )


def test_two_runs_at_once_are_both_recorded_without_a_gap(tmp_path: Path) -> None:
    runs = [start(tmp_path, name, "12") for name in ("a", "b")]
    for run in runs:
        run.communicate(timeout=60)
        assert run.returncode == 0
    head = ledger.numbers(tmp_path / "ledger")[-1]
    digest = ledger.file_sha256(ledger.record_file(tmp_path, head))
    judged = verify.verify(tmp_path, expect_head=f"{head}:{digest}")
    assert (judged.exit_code, judged.remarks) == (0, ())
    assert [d.number for d in judged.drills] == list(range(1, 25))
    assert {d.run_id for d in judged.drills} == {f"{r}-{n}" for r in "ab" for n in range(12)}
    assert {d.verdict for d in judged.drills} == {"pass"}


def test_a_killed_run_is_aborted_and_not_broken(tmp_path: Path) -> None:
    run = start(tmp_path, "victim", "1", "sleep")
    assert run.stdout and run.stdout.readline() == "open\n"
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=10)
    assert [d.verdict for d in verify.verify(tmp_path).drills] == ["aborted"]
    entry = ledger.begin(tmp_path, "next")
    ledger.finish(entry, {"verdict": "fail"})
    judged = verify.verify(tmp_path)
    assert (judged.exit_code, judged.problems) == (3, ())
    assert [d.verdict for d in judged.drills] == ["aborted", "fail"]


def test_killed_at_any_moment_of_writing_leaves_no_damage(tmp_path: Path) -> None:
    """kill -9 at moments spread over many records; whatever was half done is never taken for tampering."""
    for n in range(8):
        run = start(tmp_path, f"r{n}", "1000")
        assert run.stdout and run.stdout.readline() == "open\n"
        time.sleep(0.013 * n)
        run.kill()
        run.communicate(timeout=10)
        judged = verify.verify(tmp_path)
        assert judged.problems == ()
    assert len(verify.verify(tmp_path).drills) >= 8
