"""`provado backup files` and `restore files`: round trip, template without secrets, all or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.backups import order
from harness.catalog import find, identify
from harness.component import DrillContext
from harness.errors import ConfigError, RestoreError
from harness.files import COMPONENT
from harness.files.backup import backup, template
from harness.files.recover import JOURNAL, Wish, plan, recover
from harness.model import Artifact
from harness.scratch import scratch_folder
from harness.settings import Settings

SETTINGS = Settings.model_validate({"policy": {"timezone": "UTC"}})
UTC = SETTINGS.policy.zone


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A system's folder."""
    root = tmp_path / "system"
    (root / "ssl/live").mkdir(parents=True)
    (root / "scripts").mkdir()
    (root / "nginx.conf").write_text("events {}\nhttp { server { listen 80; } }\n")
    (root / "docker-compose.yml").write_text("services: {}\n")
    (root / "docker-compose.prod.yml").write_text("services: {}\n")
    (root / "scripts/run.sh").write_text("#!/bin/sh\ntrue\n")
    (root / "scripts/run.sh").chmod(0o755)
    (root / "ssl/real.crt").write_text("certificate")
    (root / "ssl/live/x.crt").symlink_to("../real.crt")
    (root / "ssl/out").symlink_to("/etc/passwd")
    (root / ".env").write_text(
        "PORT=3000\nENCRYPTION_KEY=k3yk3yk3yk3y\nexport SMTP_PASSWORD='p4ss'\n"
        "DATABASE_URL=postgres://app:hunter2@db:5432/x\nODD=Zm9vYmFyYmF6cXV4Zm9vYmFy1234\n# a comment\n"
    )
    (root / "app.log").write_text("not configuration")
    return root


def taken(system: Path, folder: Path) -> Artifact:
    made = backup(system, order(folder, "daily", UTC), SETTINGS)
    found = identify(made.path, {"files": COMPONENT.recognise})
    assert found is not None and made.manifest == found.manifest
    return found


def test_the_backup_holds_the_runbooks_list_without_secrets(
    system: Path, tmp_path: Path, scratch: Path
) -> None:
    artifact = taken(system, tmp_path / "config-backups")
    assert artifact.path.name == time.strftime("%Y%m%d", time.gmtime())
    held = {str(p.relative_to(artifact.path)) for p in artifact.path.rglob("*") if p.is_file()}
    assert held == {
        "nginx.conf",
        "docker-compose.yml",
        "docker-compose.prod.yml",
        "env-template.txt",
        "scripts/run.sh",
        "ssl/real.crt",
        "ssl/live/x.crt",
    }
    text = (artifact.path / "env-template.txt").read_text()
    assert "ENCRYPTION_KEY=\n" in text and "PORT=3000" in text  # GATEWAY 12: the name stays
    assert not any(secret in text for secret in ("k3y", "p4ss", "hunter2", "Zm9v"))
    assert "DATABASE_URL=postgres://app:@db:5432/x" in text
    ctx = DrillContext(SETTINGS, scratch, time.monotonic() + 60)
    inspection = COMPONENT.inspect(artifact, ctx)
    manifest = json.loads(artifact.manifest.read_text()) if artifact.manifest else {}
    assert manifest["artifact"]["sha256"] == inspection.sha256
    second = backup(system, order(tmp_path / "config-backups", "daily", UTC), SETTINGS)
    assert second.path != artifact.path
    assert second.notes == ("ssl/out is a link out of the folder and was left out",)
    backup(system, order(tmp_path / "config-backups", "emergency", UTC), SETTINGS)
    found = find(tmp_path / "config-backups", {"files": COMPONENT.recognise})
    assert sorted(str(a.kind) for a in found) == ["None", "None", "emergency"]


def test_what_was_asked_for_must_be_there(system: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"redis\.conf is not there"):
        backup(system, order(tmp_path / "c", "daily", UTC), SETTINGS, ("redis.conf",))
    with pytest.raises(ConfigError, match="outside"):
        backup(system, order(tmp_path / "c", "daily", UTC), SETTINGS, ("../x",))
    with pytest.raises(ConfigError, match="holds none"):
        backup(tmp_path / "c", order(tmp_path / "d", "daily", UTC), SETTINGS)
    assert not [p for p in (tmp_path / "c").iterdir() if p.name.startswith("2")]


def test_round_trip(system: Path, tmp_path: Path, scratch: Path) -> None:
    artifact = taken(system, tmp_path / "config-backups")
    (system / "nginx.conf").write_text("broken")
    (system / "scripts/run.sh").unlink()
    wish = Wish(safety=tmp_path / "recovery")
    refused = plan(artifact, system, wish, SETTINGS, scratch)
    assert refused.refusal and "nginx.conf" in refused.refusal
    with pytest.raises(RestoreError):
        recover(refused, SETTINGS)
    assert (system / "nginx.conf").read_text() == "broken"
    wish = Wish(replace=True, safety=tmp_path / "recovery")
    done = recover(plan(artifact, system, wish, SETTINGS, scratch), SETTINGS)
    assert done.arrived["files"] == 6 and done.safety is not None
    assert (done.safety / "nginx.conf").read_text() == "broken"
    assert identify(done.safety, {"files": COMPONENT.recognise}) is not None  # can itself be restored
    assert (system / "nginx.conf").read_text().startswith("events")
    assert (system / "scripts/run.sh").stat().st_mode & 0o777 == 0o755
    assert "hunter2" in (system / ".env").read_text()  # a template never replaces the real one
    assert not (system / JOURNAL).exists() and not (system / ".provado-new").exists()
    some = Wish(replace=True, safety=None, paths=("ssl",))
    again = recover(plan(artifact, tmp_path / "new", some, SETTINGS, scratch), SETTINGS)
    assert again.arrived == {"files": 2}
    with pytest.raises(ConfigError, match="holds no nothing"):
        plan(artifact, system, Wish(paths=("nothing",)), SETTINGS, scratch)


def test_an_interrupted_recovery_is_finished_by_the_next(system: Path, tmp_path: Path, scratch: Path) -> None:
    artifact = taken(system, tmp_path / "config-backups")
    (system / "nginx.conf").write_text("broken")
    (system / ".provado-new").mkdir()
    (system / ".provado-new/nginx.conf").write_text("as listed")
    (system / JOURNAL).write_text(json.dumps({"files": ["nginx.conf", "done.already"]}))
    done = recover(plan(artifact, system, Wish(replace=True, safety=None), SETTINGS, scratch), SETTINGS)
    assert "finished a recovery that was interrupted here" in done.notes
    assert (system / "nginx.conf").read_text().startswith("events")


def test_template_keeps_every_name() -> None:
    assert template("A_TOKEN=x\nB=1\nnonsense here\n") == "A_TOKEN=\nB=1\n# (a line left out)\n"
