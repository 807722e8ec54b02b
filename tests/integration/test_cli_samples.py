"""`provado verify` on the sample backups, with whatever servers this machine has: nothing is replaced."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.sandbox import providers
from harness.settings import SandboxSettings

ROOT = Path(__file__).parents[2]
DAILY = ROOT / "fixtures/backups/email-gateway-daily-20261124-020000.sql.gz"

pytestmark = pytest.mark.skipif(
    not {"postgres"} <= {p.engine for p in providers(SandboxSettings())},
    reason="no PostgreSQL server here: pip install 'provado[embedded]'",
)


@pytest.fixture
def provado(tmp_path):
    """Run the command in an empty folder; returns exit code, result and stderr."""

    def run(*args, env=None):
        environ = {k: v for k, v in os.environ.items() if not k.startswith("PROVADO_")} | (env or {})
        done = subprocess.run(
            [sys.executable, "-m", "harness", "verify", *map(str, args), "--json"],
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    return run


def test_the_samples_pass(provado, tmp_path):
    code, result, err = provado(ROOT / "fixtures")
    told = [(b["path"], b["reason"], b["findings"]) for b in result["backups"] if b["verdict"] != "pass"]
    assert (code, told) == (0, []), err
    assert [b["component"] for b in result["backups"]] == ["postgres", "redis", "files"]
    postgres, redis, files = result["backups"]
    assert postgres["measured"]["rows"] > 1000
    assert redis["measured"]["keys"] > 50
    assert files["measured"]["files"] > 5
    evidence = json.loads((tmp_path / "reports/evidence.json").read_text())
    assert all(b["teardown"]["complete"] for b in evidence["backups"] if b["component"] != "files")
    assert all(b["sandbox"]["containment"] for b in evidence["backups"] if b["component"] != "files")


def test_a_cut_backup_fails_and_a_good_one_beside_it_does_not(provado, tmp_path):
    whole = DAILY.read_bytes()
    cut = tmp_path / "email-gateway-daily-20261124-020000.sql.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    code, result, _ = provado(cut)
    assert code == 1
    assert result["backups"][0]["findings"][0]["severity"] == "critical"


def test_without_an_engine_container_is_inconclusive_with_the_remedy(provado):
    code, result, _ = provado(
        DAILY, "--sandbox", "container", env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    )
    assert (code, result["verdict"]) == (3, "inconclusive")
    assert "container" in result["reason"].lower()


@pytest.mark.slow
def test_local_and_several_at_once_agree(provado):
    seen = []
    for jobs in ("1", "3"):
        _, result, _ = provado(ROOT / "fixtures", "--sandbox", "local", "--jobs", jobs)
        seen.append([(b["path"], b["verdict"], b["findings"], b["unproven"]) for b in result["backups"]])
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_users_tests_see_the_restored_servers(tmp_path):
    (tmp_path / "test_own.py").write_text(
        """
import psycopg
import pytest


@pytest.mark.proves("usability")
def test_companies(restored_postgres, manifest):
    assert restored_postgres.value("select count(*) from companies") > 0
    assert manifest.component == "postgres"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        restored_postgres.connection.execute("create table x ()")


def test_stores_together(restored_redis, restored_postgres):
    assert restored_redis.client.dbsize() > 0
    assert restored_postgres.value("select 1") == 1


def test_folder(restored_files):
    assert "server" in restored_files.text("nginx.conf")
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "test_own.py", "-q", f"--provado-backup={ROOT / 'fixtures'}"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    evidence = json.loads((tmp_path / "reports/evidence.json").read_text())
    own = [c["id"] for b in evidence["backups"] for c in b["checks"] if c["id"].startswith("test.")]
    assert sorted(id.rpartition(".")[2] for id in own) == [
        "test_companies",
        "test_folder",
        "test_stores_together",
    ]
