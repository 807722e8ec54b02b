"""Real processes on one ledger: two at once, and one that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.evidence import ledger, sign, verify

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
    looked = 0
    while any(run.poll() is None for run in runs):
        if (tmp_path / "ledger/00000001.json").exists():
            assert verify.verify(tmp_path).problems == ()  # writing is no tampering
            looked += 1
    assert looked > 3
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


def test_the_recipe_in_the_docs_needs_no_provado(tmp_path: Path) -> None:
    """docs/evidence.md's shell script agrees with us, on an intact ledger and on changed ones."""
    docs = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")
    (tmp_path / "check.sh").write_text(docs.split("```sh\n")[1].split("```")[0])
    private, public, _ = sign.generate(tmp_path / "ops")
    output = tmp_path / "reports"
    for name in ("one", "two"):
        entry = ledger.begin(output, name, signer=sign.load_signer(f"file:{private}"))
        (entry.folder / "evidence.json").write_text(name)
        head = ledger.finish(entry, {"verdict": "pass"})

    def recipe() -> tuple[int, str]:
        done = subprocess.run(
            ["sh", tmp_path / "check.sh", output, public], capture_output=True, text=True, timeout=30
        )
        return done.returncode, done.stdout

    assert recipe() == (0, f"intact: 5 records, head {head}\n")
    (output / "drills/000001/evidence.json").write_text("swapped")
    assert recipe()[0] == 1
    (output / "drills/000001/evidence.json").write_text("one")
    record = output / "ledger/00000003.json"
    whole = record.read_bytes()
    record.unlink()
    assert recipe() == (1, "record 3 is missing\n")
    record.write_bytes(whole + b"\n")
    assert recipe() == (1, "the chain is broken at record 4\n")
    other = sign.generate(tmp_path / "other")[0]
    statement = sign.unseal(whole).statement
    forger = sign.load_signer(f"file:{other}")
    assert forger
    record.write_bytes(sign.seal(statement, [forger]))
    assert recipe() == (1, "record 3 is not signed with this key\n")
