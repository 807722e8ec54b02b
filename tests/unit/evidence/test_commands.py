"""`provado evidence` and `provado report` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import report_samples as samples

from harness.cli import run
from harness.evidence import ledger, sign


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three drills, the second aborted, signed with ops.key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROVADO_SIGNING_KEY", raising=False)
    assert run(["evidence", "keygen", "--output", "ops"]) == 0
    signer = sign.load_signer("file:ops.key")
    for n, drill in enumerate((samples.postgres(), samples.redis(), samples.failing()), 1):
        entry = ledger.begin(tmp_path / "reports", f"run-{n}", signer=signer)
        evidence = samples.evidence(drill, ledger=entry.as_json())
        (entry.folder / "evidence.json").write_text(json.dumps(evidence))
        if n != 2:
            ledger.finish(entry, evidence)
    return tmp_path


def test_verify_says_what_it_rests_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evidence", "verify", "reports", "--trusted-key", "ops.pub"]) == 0
    out = capsys.readouterr().out
    assert "intact, by the trusted key" in out
    assert "3 drills (1 aborted, 1 fail, 1 pass)" in out
    assert run(["evidence", "verify", "reports"]) == 3
    assert "without --trusted-key anyone could have written it" in capsys.readouterr().out


def test_verify_names_tampering_in_words_and_in_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "reports/drills/000003/evidence.json").write_text("{}")
    arguments = ["evidence", "verify", "reports", "--trusted-key", "ops.pub"]
    assert run(arguments) == 1
    assert "TAMPERED  file-changed: drills/000003/evidence.json of drill 3" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [p["code"] for p in told["problems"]] == ["file-changed"]
    assert told["exit_code"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["evidence", "verify", "nowhere"],
        ["evidence", "verify", "reports", "--trusted-key", "ops.key"],
        ["evidence", "verify", "reports", "--expect-head", "yesterday"],
        ["evidence", "keygen", "--output", "ops"],
        ["evidence", "note", "nowhere", "--drill", "1", "--by", "ana"],
        ["evidence", "note", "reports", "--drill", "9", "--by", "ana", "--signing-key", "file:ops.key"],
        ["evidence", "note", "reports", "--drill", "1", "--by", "ana"],
        ["evidence", "rotate", "reports", "--new-key", "file:ops.key"],
        ["report", "reports", "--since", "yesterday"],
        ["report", "reports", "--since", "2026-11-24", "--until", "2026-11-01"],
        ["report", "reports", "--drill", "9"],
        ["report", "nowhere"],
    ],
)
def test_usage_errors_exit_2(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr().err.startswith("provado: ")


def test_notes_rotation_and_expiry_keep_the_ledger_intact(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROVADO_SIGNING_KEY", "file:ops.key")
    note = ["evidence", "note", "reports", "--drill", "1", "--by", "ana"]
    assert run([*note, "--kind", "review", "--text", "read, agreed"]) == 0
    assert run([*note, "--kind", "ticket", "--link", "https://tickets.example/7"]) == 0
    assert run(["evidence", "keygen", "--output", "next"]) == 0
    assert run(["evidence", "rotate", "reports", "--new-key", "file:next.key"]) == 0
    assert run(note) == 2  # the old key signs no more
    monkeypatch.setenv("PROVADO_SIGNING_KEY", "file:next.key")
    expire = ["evidence", "expire", "reports", "--drill", "1", "--by", "rule", "--reason", "5 years"]
    assert run(expire) == 0
    for key in ("ops.pub", "next.pub"):
        assert run(["evidence", "verify", "reports", "--trusted-key", key]) == 0
    capsys.readouterr()
    assert run(["report", "reports", "--trusted-key", "ops.pub", "--output", "audit.html"]) == 0
    page = (folder / "audit.html").read_text()
    for said in ("read, agreed", "https://tickets.example/7", "Files removed", "Aborted"):
        assert said in page


def test_any_past_drill_renders_again(folder: Path) -> None:
    assert run(["report", "reports", "--drill", "3", "--lang", "pt-BR"]) == 0
    page = (folder / "reports/report-000003.pt-BR.html").read_text()
    assert "Reprovado: não confie neste backup" in page


def test_the_audit_report_ends_as_verify_does(folder: Path) -> None:
    assert run(["report", "reports", "--since", "1d"]) == 3
    (folder / "reports/drills/000003/evidence.json").unlink()
    assert run(["report", "reports", "--since", "1d", "--trusted-key", "ops.pub", "--lang", "pt-BR"]) == 1
    (page,) = (folder / "reports").glob("audit-*.pt-BR.html")
    assert "adulterado" in page.read_text()
