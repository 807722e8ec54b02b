"""`provado backup` and `provado restore` as typed: seed arguments, emergency, health checks, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from live_servers import damage, digest, live, make_shop, postgres, query, redis_address, redis_server, url

from harness import process
from harness.cli import run
from harness.redis.wire import Wire
from harness.sandbox import Server

PATHS = {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with postgres() as server:
        make_shop(server, "email_shop")
        yield server


@pytest.fixture
def here(tmp_path: Path, shop: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and the shop's password in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PGPASSWORD", shop.password.reveal())
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object], str]:
    code = run(list(argv))
    out = capsys.readouterr()
    return code, json.loads(out.out) if out.out.startswith("{") else {}, out.out + out.err


def test_the_seeds_arguments(
    here: Path, shop: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("DB_HOST", shop.host),
        ("DB_PORT", str(shop.port)),
        ("DB_USER", shop.user),
        ("DB_NAME", "email_shop"),
        ("DB_PASSWORD", shop.password.reveal()),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PGPASSWORD")
    (here / "backups").mkdir()
    for kind in ("daily", "weekly"):  # GATEWAY 2: a daily run must not touch weekly backups
        old = datetime.now(UTC) - timedelta(days=9)
        (here / f"backups/email-shop-{kind}-{old:%Y%m%d-%H%M%S}.sql.gz").write_bytes(b"")
    code, _, text = told(capsys, "backup", "postgres", "daily", "7", "./backups", "--test", "due")
    assert code == 0 and "let go: email-shop-daily" in text and "restore test: pass" in text
    kinds = sorted(p.name.split("-")[2] for p in (here / "backups").glob("*.sql.gz"))
    assert kinds == ["daily", "weekly"]
    log = (here / "backups/backup.log").read_text()
    assert "Removidos 1 backups antigos" in log and "Teste de restauração: pass" in log
    code, again, _ = told(capsys, "backup", "postgres", "daily", "7", "./backups", "--test", "due", "--json")
    assert (code, again["restore_test"]) == (0, None)  # not due again so soon
    assert shop.password.reveal() not in text


def test_emergency_takes_the_newest_that_passed(
    here: Path, shop: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(shop, "email_shop")
    address = url(shop, "email_shop")
    code, good, _ = told(capsys, "backup", "postgres", address, "--json")
    assert code == 0
    asked = ("restore", "postgres", "emergency", "--into", address, "--replace", "--drop-old")
    code, _, text = told(capsys, *asked)
    assert code == 2 and "no postgres backup here has passed a drill" in text
    verified = process.run(  # a process of its own: it ends every sandbox it finds in its process
        [sys.executable, "-m", "harness", "verify", str(good["path"])], timeout_s=120, cwd=here, env=PATHS
    )
    assert verified.code == 0, verified.stdout.decode()
    newer = (
        here / "backups" / f"email-shop-daily-{datetime.now(UTC) + timedelta(hours=1):%Y%m%d-%H%M%S}.sql.gz"
    )
    newer.write_bytes(b"newer, never tested")
    damage(shop, "email_shop")
    code, plan, _ = told(capsys, *asked, "--dry-run", "--json")
    assert code == 0 and "swap" in str(plan["steps"])
    code, done, text = told(capsys, *asked, "--json", "--health", "test 1 = 1", "--health-timeout", "5")
    assert code == 0, text
    assert digest(shop, "email_shop") == before
    assert Path(str(done["safety"])).is_file() and done["health_s"] is not None


def test_a_failing_health_check_is_told(here: Path, shop: Server, capsys: pytest.CaptureFixture[str]) -> None:
    code, good, _ = told(capsys, "backup", "postgres", url(shop, "email_shop"), "--json")
    target = url(shop, "email_shop_copy")
    unhealthy = ("--health", "http://127.0.0.1:1/healthz", "--health-timeout", "1")
    code, _, text = told(capsys, "restore", "postgres", str(good["path"]), "--into", target, *unhealthy)
    assert code == 1 and "restored, but the health check" in text
    assert query(shop, "email_shop_copy", "SELECT count(*) FROM outbox") == [(3000,)]
    code, _, text = told(capsys, "restore", "postgres", str(good["path"]), "--into", target)
    assert code == 1 and "--replace" in text
    code, _, _ = told(capsys, "restore", "postgres", "nothing.sql.gz", "--into", target)
    assert code == 2


def test_redis_and_files(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(appendonly="yes") as server, Wire(redis_address(server)) as wire:
        wire.call("MSET", "a", "1", "b", "2")
        monkeypatch.setenv("REDIS_PW", server.password.reveal())
        address = ("--password", "env:REDIS_PW")
        code, good, text = told(capsys, "backup", "redis", f"unix://{server.unix_socket}", *address, "--json")
        assert code == 0, text
        wire.call("DEL", "a")
        target = ("--into", f"unix://{server.unix_socket}", *address)
        code, _, _ = told(capsys, "restore", "redis", str(here / "redis-backups"), *target)
        assert code == 1
        code, done, _ = told(capsys, "restore", "redis", str(good["path"]), *target, "--replace", "--json")
        assert code == 0 and done["keys"] == 2
        assert wire.call("GET", "a") == b"1"
        typed = f"unix://:{server.password.reveal()}@{server.unix_socket}"
        code, _, text = told(capsys, "backup", "redis", typed)
        assert code == 0 and "process list" in text and server.password.reveal() not in text
    (here / "system").mkdir()
    (here / "system/nginx.conf").write_text("events {}\n")
    assert told(capsys, "backup", "files", "system")[0] == 0
    (here / "system/nginx.conf").unlink()
    assert told(capsys, "restore", "files", "config-backups", "--into", "system")[0] == 0
    assert (here / "system/nginx.conf").is_file()
    assert live is not None and os.environ["PGPASSWORD"]
