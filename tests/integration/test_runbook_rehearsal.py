"""Runbooks rehearsed for real: the customer's in Portuguese, and a quite different one in English."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_servers import SETTINGS, live, make_shop, postgres

from harness import process
from harness.backups import order
from harness.cli import run
from harness.postgres.backup import Choice, backup
from harness.runbook.parse import parse_runbook, read_runbook
from harness.runbook.trace import rehearsals, trace
from harness.settings import load_settings

DATA = Path(__file__).parents[1] / "data"
ROOT = Path(__file__).parents[2]
CUSTOMER = ROOT.parent / "shared/runbook/backup-recovery-runbook.pt-BR.md"


def test_sections_have_the_anchors_of_their_headings() -> None:
    sections = read_runbook(DATA / "clinic-runbook.md")
    assert [s.slug for s in sections] == [
        "clinic-database-backup-and-disaster-recovery",
        "goals",
        "nightly-dump",
        "is-the-dump-any-good",
        "when-the-database-is-lost",
        "one-table-only",
        "who-to-call",
    ]
    assert sections[3].commands == ("pg_restore --list /srv/dumps/clinic.dump",)
    assert sections[3].path[-2:] == ("Nightly dump", "Is the dump any good?")
    assert [s.slug for s in parse_runbook("# A\nx\n# A\ny\n")] == ["a", "a-1"]


def test_the_customers_runbook_is_covered_both_ways() -> None:
    settings = load_settings(DATA / "email-gateway.yaml")
    assert settings.runbook is not None
    traced = trace(settings.runbook)
    index = read_runbook(CUSTOMER)
    assert len(traced.sections) == len(index) == 39
    assert [t.section.slug for t in traced.untested] == []
    assert traced.astray == () and traced.unused == ()
    commands = [t for t in traced.sections if t.section.commands]
    assert all(t.rehearsals for t in commands)  # a section with commands is rehearsed, not explained away


@pytest.mark.slow
def test_the_customers_runbook_is_rehearsed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        [
            "rehearse",
            "--config",
            str(DATA / "email-gateway.yaml"),
            "--output",
            str(tmp_path / "out"),
            "--json",
        ]
    )
    told = json.loads(capsys.readouterr().out)
    bad = {
        f"{row['section']}: {name}": result
        for row in told["sections"]
        for name, result in row["results"].items()
        if result["status"] != "pass"
    }
    assert bad == {}
    assert code == 0
    table = (tmp_path / "out/runbook.md").read_text()
    assert "Recuperação do Redis > Recuperação Completa | redis-recover | redis-recover: pass |" in table
    done = {name for row in told["sections"] for name in row["results"]}
    assert done == set(rehearsals())


def clinic(folder: Path, **sections: str) -> Path:
    mapping = {
        "clinic-database-backup-and-disaster-recovery": "text: title",
        "goals": "objectives",
        "nightly-dump": "postgres-compressed",
        "is-the-dump-any-good": "postgres-integrity, postgres-restore-test",
        "when-the-database-is-lost": "postgres-recover",
        "one-table-only": "postgres-recover-table",
        "who-to-call": "text: a phone number",
        **sections,
    }
    data: dict[str, Any] = {
        "backups": [{"path": "dumps", "component": "postgres"}],
        "objectives": {"rpo": "1h", "rto": "2h"},
        "output": "out",
        "runbook": {"path": str(DATA / "clinic-runbook.md"), "sections": mapping},
    }
    path = folder / "provado.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one dump of another system."""
    folder = tmp_path_factory.mktemp("clinic")
    with postgres() as server:
        make_shop(server, "clinic")
        taken = order(folder / "dumps", "daily", SETTINGS.policy.zone)
        backup(live(server, "clinic"), taken, Choice("custom"), SETTINGS)
    return folder


@pytest.mark.slow
def test_another_runbook_works_from_configuration_alone(dumps: Path) -> None:
    config = clinic(dumps)
    suite = str(ROOT / "suites/test_runbook.py")
    done = process.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            suite,
            "--provado-config",
            str(config),
            "-p",
            "no:cacheprovider",
        ],
        timeout_s=300,
        env={"PYTHONPATH": str(ROOT)},
        cwd=dumps,
    )
    assert done.code == 0, done.stdout.decode()
    assert b"8 passed" in done.stdout
    told = json.loads((dumps / "out/runbook.json").read_text())
    assert told["verdict"] == "pass"


def test_a_section_without_a_test_fails(dumps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = clinic(dumps)
    data = yaml.safe_load(config.read_text())
    del data["runbook"]["sections"]["who-to-call"]
    data["runbook"]["sections"] = {
        **dict.fromkeys(data["runbook"]["sections"], "text: not now"),
        "goals": "objectives",
        "gone-section": "monitor",
    }
    config.write_text(yaml.safe_dump(data))
    assert run(["rehearse", "--config", str(config)]) == 1
    text = capsys.readouterr().out
    assert "NOTHING  stands for section who-to-call" in text and "gone-section" in text
    data["runbook"]["sections"]["goals"] = "no-such-rehearsal"
    config.write_text(yaml.safe_dump(data))
    assert run(["rehearse", "--config", str(config)]) == 2
