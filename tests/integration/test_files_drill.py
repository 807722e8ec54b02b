"""The sample configuration through the whole drill, as folder and as tarball; the customer's redis.conf."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from harness.catalog import identify
from harness.drill import drill
from harness.escrow import run_probe
from harness.evidence.record import judge
from harness.files import COMPONENT
from harness.model import Evidence, Status, Verdict
from harness.settings import Settings, load_settings

FIXTURES = Path(__file__).parents[2] / "fixtures"
SAMPLE = FIXTURES / "config-backups/20261124"


def drilled(path: Path, settings: Settings | None = None) -> Evidence:
    artifact = identify(path, {"files": COMPONENT.recognise})
    assert artifact
    return drill(artifact, settings or Settings())


def test_the_sample_passes_with_nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    evidence = drilled(SAMPLE)
    assert judge(evidence).verdict is Verdict.PASS
    assert evidence.measured.files == 12
    assert list(tmp_path.iterdir()) == []


def test_the_declared_sample_has_its_secret_in_escrow() -> None:
    settings = load_settings(FIXTURES / "provado.yaml", environ={})
    evidence = drilled(SAMPLE, settings)
    statuses = {check.id: check.status for check in evidence.checks}
    assert statuses["files.secrets-escrow"] is Status.PASS
    assert statuses["files.manifest"] is Status.PASS
    assert judge(evidence).verdict is Verdict.PASS
    key = (FIXTURES / "escrow/ENCRYPTION_KEY").read_text().strip()
    assert key not in repr(evidence)


def test_the_declared_probe_opens_what_the_dump_holds() -> None:
    secrets = load_settings(FIXTURES / "provado.yaml", environ={}).secrets
    text = gzip.decompress(next(FIXTURES.glob("backups/*-daily-*.sql.gz")).read_bytes()).decode()
    sealed = re.findall(r"^(?:[^\t\n]*\t){5}[0-9a-f]{64}\t([A-Za-z0-9+/=]{30,})\t[0-9a-f]{32}\t", text, re.M)
    assert len(sealed) > 50
    (probe,) = secrets.probes
    assert run_probe(probe, secrets, sealed[:20], folder=FIXTURES) == 0
    changed = [value[:-6] + "AAAAA=" for value in sealed[:3]]
    assert run_probe(probe, secrets, changed, folder=FIXTURES) == 3


def test_the_same_files_in_a_tarball_pass(tmp_path: Path) -> None:
    path = tmp_path / "config-backup-20261124-020000.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(SAMPLE, "config-backup")
    evidence = drilled(path)
    assert evidence.artifact.format == "tar"
    assert judge(evidence).verdict is Verdict.PASS


def test_the_customers_redis_conf_fails_with_every_line_named(tmp_path: Path) -> None:
    folder = tmp_path / "20261124"
    shutil.copytree(SAMPLE, folder)
    conf = folder / "redis.conf"
    text = conf.read_text(encoding="utf-8")
    for value, comment in (("900 1", "15 min"), ("300 10", "5 min"), ("60 10000", "1 min")):
        text = text.replace(f"save {value}\n", f"save {value}    # {comment}\n")
    conf.write_text(text, encoding="utf-8")
    evidence = drilled(folder)
    assert judge(evidence).verdict is Verdict.FAIL
    assert {(f.check, f.object) for f in evidence.findings if f.severity.rank > 1} == {
        ("files.redis-conf", f"redis.conf:{line}") for line in (9, 10, 11)
    }


def test_a_cut_tarball_fails(tmp_path: Path) -> None:
    path = tmp_path / "config-backup-20261124.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(SAMPLE, "config-backup")
    path.write_bytes(path.read_bytes()[:-700])
    artifact = identify(path, {"files": COMPONENT.recognise})
    assert artifact
    assert judge(drill(artifact, Settings())).verdict is Verdict.FAIL
