"""The sample backups: whole, small, declared, and free of what must not be committed."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from harness.archive import unpack
from harness.files.facts import digest as folder_digest
from harness.manifest import read_manifest
from harness.settings import load_settings

FIXTURES = Path(__file__).parents[2] / "fixtures"
SUMS = {
    name: digest
    for digest, _, name in (
        line.partition("  ") for line in (FIXTURES / "SHA256SUMS").read_text().splitlines()
    )
}


def dump(kind: str) -> str:
    (path,) = (FIXTURES / "backups").glob(f"email-gateway-{kind}-*.sql.gz")
    return gzip.decompress(path.read_bytes()).decode()


def test_every_sample_has_the_checksum_it_was_committed_with() -> None:
    for name, digest in SUMS.items():
        assert hashlib.sha256((FIXTURES / name).read_bytes()).hexdigest() == digest, name


def test_no_sample_lies_there_without_a_checksum() -> None:
    folders = ("backups", "redis-backups", "config-backups", "escrow")
    lying = {str(p.relative_to(FIXTURES)) for f in folders for p in (FIXTURES / f).rglob("*") if p.is_file()}
    assert lying == set(SUMS)


def test_every_backup_has_a_manifest_bound_to_it() -> None:
    backups = [*(FIXTURES / "backups").glob("*.sql.gz"), *(FIXTURES / "redis-backups").glob("*.tar.gz")]
    assert len(backups) == 5
    for path in backups:
        component = "postgres" if path.suffixes[-2] == ".sql" else "redis"
        manifest = read_manifest(path.with_name(f"{path.name}.manifest.json"), component)
        assert manifest.artifact == {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
    folder = FIXTURES / "config-backups/20261124"
    manifest = read_manifest(folder.with_name("20261124.manifest.json"), "files")
    assert manifest.artifact
    assert manifest.artifact["sha256"] == folder_digest(folder)


def test_the_folder_stays_small() -> None:
    assert sum(p.stat().st_size for p in FIXTURES.rglob("*") if p.is_file()) < 1_000_000


def test_the_declaration_loads_and_names_folders_that_exist() -> None:
    settings = load_settings(FIXTURES / "provado.yaml", environ={})
    assert [s.component for s in settings.backups] == ["postgres", "redis", "files"]
    assert all(s.path.is_dir() for s in settings.backups)


@pytest.mark.parametrize("kind", ["daily", "weekly", "monthly"])
def test_dumps_are_made_as_the_customers_script_makes_them(kind: str) -> None:
    text = dump(kind)
    assert "DROP DATABASE IF EXISTS email_gateway;" in text
    assert "CREATE DATABASE email_gateway " in text
    assert "GRANT " not in text
    assert "OWNER TO" not in text
    assert "\n-- PostgreSQL database dump complete\n" in text[-200:]


def test_later_dumps_hold_what_earlier_ones_held() -> None:
    def outbox(kind: str) -> set[str]:
        block = re.search(r"^COPY public\.email_outbox .*?;\n(.*?)^\\\.$", dump(kind), re.S | re.M)
        assert block
        return {line.split("\t", 1)[0] for line in block[1].splitlines()}

    assert outbox("monthly") < outbox("weekly") < outbox("daily")


def test_the_escrowed_key_is_in_no_backup() -> None:
    key = (FIXTURES / "escrow/ENCRYPTION_KEY").read_text().strip()
    everything = "".join(dump(kind) for kind in ("daily", "weekly", "monthly"))
    everything += "".join(
        p.read_text(errors="replace") for p in (FIXTURES / "config-backups").rglob("*") if p.is_file()
    )
    assert len(key) == 64
    assert key not in everything


def test_the_newest_queue_refers_to_emails_of_the_newest_dump(tmp_path: Path) -> None:
    newest = sorted((FIXTURES / "redis-backups").glob("*.tar.gz"))[-1]
    unpack(newest, ("gzip",), tmp_path)
    (rdb,) = tmp_path.rglob("dump.rdb")
    jobs = set(re.findall(rb"bull:email:send:(c[a-z0-9]{24})", rdb.read_bytes()))
    text = dump("daily")
    assert len(jobs) > 50
    assert all(f"\n{job.decode()}\t" in text for job in jobs)
