"""`provado verify` as a program: options, exit codes, streams, signals. Backups are notes (tests/toy.py)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy

from harness import components
from harness.cli import run

TOY = str(Path(__file__).parents[1] / "toy_cli.py")
GOOD, BAD, UNKNOWN, SLOW = "a b END", "LOST END", "BROKEN END", "SLEEP END"


@pytest.fixture
def job(tmp_path):
    """Run the command in a folder with the given notes; its temporary files lie in ./tmp."""
    (tmp_path / "tmp").mkdir()

    def run(*args, start=False, env=None, **notes):
        for name, text in notes.items():
            (tmp_path / f"{name}.note").write_text(text)
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PROVADO_")}
        environ |= {"TMPDIR": str(tmp_path / "tmp"), "TOY_LOG": str(tmp_path / "toy.log"), **(env or {})}
        call = subprocess.Popen(
            [sys.executable, TOY, *args],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if start:
            return call
        out, err = call.communicate(timeout=60)
        return call.returncode, out, err

    return run


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Run the command in this process, where a good note lies: enough for what ends before a drill."""
    toy.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "n.note").write_text(GOOD)
    (tmp_path / "plain.txt").write_text("")

    def run_here(*args):
        code = run(list(args))
        said = capsys.readouterr()
        return code, said.out, said.err

    yield run_here
    components.component.cache_clear()


def restored(folder, count, within_s=20):
    """Wait until `count` restores have begun."""
    until = time.monotonic() + within_s
    log = folder / "toy.log"
    while time.monotonic() < until:
        if log.exists() and len(log.read_text().splitlines()) >= count:
            return
        time.sleep(0.05)
    raise AssertionError("no restore began")


def left_over(folder):
    return [p.name for p in (folder / "tmp").iterdir() if p.name.startswith("provado-scratch-")]


@pytest.mark.parametrize(
    ("notes", "code", "verdict"),
    [
        ({"n": GOOD}, 0, "pass"),
        ({"n": GOOD, "m": BAD}, 1, "fail"),
        ({"n": GOOD, "m": UNKNOWN}, 3, "inconclusive"),
    ],
)
def test_json_stands_alone_on_stdout_and_all_outputs_agree(job, tmp_path, notes, code, verdict):
    returned, out, err = job("verify", *[f"{n}.note" for n in notes], "--json", **notes)
    result = json.loads(out)
    assert (returned, result["exit_code"], result["verdict"]) == (code, code, verdict)
    assert len(result["backups"]) == len(notes)
    assert "n.note: restore" in err
    reports = tmp_path / "reports"
    names = ("evidence.json", "report.html", "pytest.html", "junit.xml", "provado.prom")
    assert all((reports / name).stat().st_size for name in names)
    assert json.loads((reports / "evidence.json").read_text())["verdict"] == verdict
    assert f'provado_exit_code{{component="all",series=""}} {code}' in (reports / "provado.prom").read_text()
    junit = (reports / "junit.xml").read_text()
    assert ("<failure" in junit, "<error" in junit) == (verdict == "fail", verdict == "inconclusive")


def test_the_screen_begins_with_the_verdict(job):
    code, out, err = job("verify", "n.note", "m.note", n=GOOD, m=BAD)
    assert code == 1
    assert out.startswith("FAIL: 1 of 2 backups fail; m.note: public.words: 2 words are lost")
    assert "unproven: no manifest" in out
    assert "\nReport: reports/report.html\n" in out
    assert "\033" not in out + err


def test_quiet_says_one_line(job):
    code, out, err = job("verify", "n.note", "--quiet", n=GOOD)
    assert (code, out.count("\n"), err) == (0, 1, "")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--nope"], "--nope"),
        (["n.note", "--sandbox", "moon"], "--sandbox"),
        (["n.note", "--rpo", "soon"], "rpo"),
        (["n.note", "--jobs", "0"], "jobs"),
        (["n.note", "--config", "nope.yaml"], "nope.yaml"),
        (["n.note", "--image", "postgres"], "--image"),
        (["n.note", "--manifest", "nope.json"], "nope.json"),
        (["n.note", "--select", "weekly"], "weekly"),
        (["n.note", "--signing-key", "hunter2"], "env:NAME"),
        (["plain.txt"], "no backup of a kind known here"),
    ],
)
def test_a_wrong_command_line_is_exit_2(here, args, told):
    code, out, err = here("verify", *args)
    assert code == 2, err
    assert told in err
    assert out == ""


def test_a_wrong_key_in_the_configuration_is_exit_2(here, tmp_path):
    (tmp_path / "provado.yaml").write_text("sandbox: {kindd: local}\n")
    code, _, err = here("verify", "n.note")
    assert code == 2
    assert "sandbox.kindd" in err


def test_a_backup_that_is_not_there_fails(job):
    code, out, _ = job("verify", "n.note", "gone.note", "--json", n=GOOD)
    assert code == 1
    assert {b["format"]: b["verdict"] for b in json.loads(out)["backups"]} == {
        "missing": "fail",
        "note": "pass",
    }
    assert job("verify")[0] == 1


def test_flag_beats_variable_beats_file_beats_default(job, tmp_path):
    (tmp_path / "provado.yaml").write_text("objectives: {rpo: 1m}\nbackups: [{path: DATED.note}]\n")
    (tmp_path / "DATED.note").write_text("DATED END")
    assert job("verify")[0] == 1
    assert job("verify", env={"PROVADO_RPO": "5000w"})[0] == 0
    assert job("verify", "--rpo", "1m", env={"PROVADO_RPO": "5000w"})[0] == 1


def test_the_users_pytest_setup_is_not_picked_up(job, tmp_path):
    (tmp_path / "conftest.py").write_text("raise SystemExit('never import me')")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --nonsense\n")
    assert job("verify", "n.note", env={"PYTEST_ADDOPTS": "--nonsense"}, n=GOOD)[0] == 0
    assert not (tmp_path / ".pytest_cache").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_tears_everything_down(job, tmp_path, jobs, sent):
    call = job("verify", "m.note", "n.note", "--jobs", jobs, "--json", start=True, m=SLOW, n=SLOW)
    restored(tmp_path, int(jobs))
    assert left_over(tmp_path)
    call.send_signal(sent)
    out, err = call.communicate(timeout=20)
    assert (call.returncode, out) == (130, "")
    assert "interrupted" in err
    assert left_over(tmp_path) == []
    assert not (tmp_path / "reports" / "evidence.json").exists()


def test_the_next_run_sweeps_what_a_killed_one_left(job, tmp_path):
    call = job("verify", "m.note", start=True, m=SLOW)
    restored(tmp_path, 1)
    call.kill()
    call.communicate(timeout=20)
    assert left_over(tmp_path)
    code, _, err = job("verify", "n.note", n=GOOD)
    assert code == 0
    assert "removed what a crashed run left" in err
    assert left_over(tmp_path) == []


def test_several_at_once_find_the_same(job):
    notes = {"k": GOOD, "m": BAD, "n": UNKNOWN}
    seen = []
    for jobs in ("1", "3"):
        _, out, _ = job("verify", "k.note", "m.note", "n.note", "--jobs", jobs, "--json", **notes)
        entries = json.loads(out)["backups"]
        seen.append([(b["path"], b["verdict"], b["findings"]) for b in entries])
    assert seen[0] == seen[1]


def test_a_reader_that_goes_away_takes_nothing_from_the_verdict(job, tmp_path):
    for note, code in ((GOOD, 0), (BAD, 1)):
        with job("verify", "n.note", start=True, n=note) as call:
            call.stdout.close()
            call.stderr.read()
        assert call.returncode == code
