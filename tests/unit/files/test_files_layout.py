"""Which folders and archives are taken for configuration backups, and which are not."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from harness.catalog import find
from harness.errors import ConfigError
from harness.files import COMPONENT
from harness.files.layout import recognise
from harness.stream import sniff

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.mark.parametrize(
    ("name", "held", "taken"),
    [
        ("20261124", "nginx.conf", True),
        ("2026-11-24", ".env.example", True),
        ("20261124-020000", "docker-compose.yml", True),
        ("config-backup-emergency-20261124-020000", "redis.conf", True),
        ("emergency-backups/config", "nginx.conf", True),
        ("20261124", "foto.jpg", False),
        ("projeto", "nginx.conf", False),
        ("config", "nginx.conf", False),
        ("redis-backup-20261124-020000", "redis-config.txt", False),
    ],
)
def test_folders(tmp_path: Path, name: str, held: str, taken: bool) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    (folder / held).write_text("x")
    assert (recognise(folder, b"") == "folder") is taken


def test_archives(tmp_path: Path) -> None:
    (tmp_path / "nginx.conf").write_text("events {}")
    path = tmp_path / "qualquer.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "nginx.conf", "20261124/nginx.conf")
    assert recognise(path, sniff(path)[1]) == "tar"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "nginx.conf", "dump.rdb")
    assert recognise(path, sniff(path)[1]) is None
    path.write_bytes(gzip.compress(b"nginx.conf" * 100))
    assert recognise(path, sniff(path)[1]) is None


def test_the_samples_are_found_in_their_folder_and_nothing_else_is() -> None:
    found = find(FIXTURES, {"files": COMPONENT.recognise})
    assert [a.path.name for a in found if a.component == "files"] == ["20261124"]
    assert found[-1].manifest or found[0].manifest
    with pytest.raises(ConfigError):
        find(FIXTURES / "README.md", {"files": COMPONENT.recognise})
