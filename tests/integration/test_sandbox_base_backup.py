"""A sandbox that starts on an unpacked base backup."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.sandbox import PostgresRequest, Server, ServerDied, engine, find_tool, postgres_sandbox
from harness.sandbox.binaries import postgres_servers
from harness.settings import SandboxSettings


def connect(server: Server, database: str = "") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password.reveal(),
        dbname=database or server.database,
        autocommit=True,
    )


@pytest.fixture(scope="module")
def base_backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pg_basebackup makes of a server with one table, plus what a hostile or careless source adds."""
    settings = SandboxSettings(kind="local")
    if not any(b.major == 15 for b in postgres_servers(None)):
        pytest.skip("no PostgreSQL 15 here: its base backups are NOT tested")
    folder = tmp_path_factory.mktemp("base") / "data"
    options = (("wal_level", "replica"), ("max_wal_senders", "4"))
    request = PostgresRequest(major=15, exact=True, options=options)
    with postgres_sandbox(request, settings, deadline=time.monotonic() + 60) as server:
        with connect(server) as connection:
            connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        tool = find_tool("pg_basebackup", settings)
        assert tool
        subprocess.run(
            [
                tool,
                "-D",
                folder,
                "-X",
                "stream",
                "-h",
                server.host,
                "-p",
                str(server.port),
                "-U",
                "postgres",
                "-w",
            ],
            env={**os.environ, "PGPASSWORD": server.password.reveal()},
            check=True,
            timeout=60,
        )
    (folder / "postgresql.auto.conf").write_text("shared_preload_libraries = 'no_such_library'\n")
    (folder / "postgresql.conf").write_text("restore_command = 'touch /tmp/ran'\nport = 1\n")
    (folder / "pg_hba.conf").write_text("local all all reject\n")
    (folder / "standby.signal").touch()
    return folder


@pytest.mark.parametrize("kind", ["local", pytest.param("container", marks=pytest.mark.container)])
def test_starts_on_a_copy_of_it(base_backup: Path, kind: Any) -> None:
    if kind == "container" and engine.connect() is None:
        pytest.skip("no container engine: NOT tested")
    before = {p: p.stat().st_mtime_ns for p in base_backup.rglob("*")}
    request = PostgresRequest(major=15, data=base_backup)
    settings = SandboxSettings(kind=kind)
    with (
        postgres_sandbox(request, settings, deadline=time.monotonic() + 60) as server,
        connect(server, "postgres") as connection,
    ):
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
    assert {p: p.stat().st_mtime_ns for p in base_backup.rglob("*")} == before


def test_a_broken_one_makes_the_server_die_not_the_sandbox_fail(base_backup: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    subprocess.run(["cp", "-a", base_backup, broken], check=True)
    (broken / "backup_label").write_text("nonsense\n")
    request = PostgresRequest(major=15, data=broken)
    with (
        pytest.raises(ServerDied) as caught,
        postgres_sandbox(request, SandboxSettings(kind="local"), deadline=time.monotonic() + 60),
    ):
        pytest.fail("it must not start")
    assert "backup_label" in caught.value.log
    assert caught.value.died_with == 1
