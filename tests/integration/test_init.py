"""`provado init` writes a configuration that the other commands take."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from live_servers import live, make_shop, postgres, redis_address, redis_server, url

from harness.cli import run
from harness.redis.wire import Wire
from harness.runbook.trace import trace
from harness.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the runbook lays it out, with the sample backups."""
    monkeypatch.chdir(tmp_path)
    for name in ("backups", "redis-backups", "config-backups"):
        shutil.copytree(ROOT / "fixtures" / name, tmp_path / name)
    return tmp_path


def test_a_folder_and_a_runbook(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runbook = ROOT.parent / "shared/runbook/backup-recovery-runbook.pt-BR.md"
    assert run(["init", "--runbook", str(runbook)]) == 0
    settings = load_settings(here / "provado.yaml")
    assert [(s.path.name, s.component) for s in settings.backups] == [
        ("backups", "postgres"),
        ("redis-backups", "redis"),
        ("config-backups", "files"),
    ]
    assert (settings.objectives.rpo, settings.objectives.rto) == (24 * 3600, 4 * 3600)
    assert {k: r.keep / 86400 for k, r in settings.policy.kinds.items()} == {
        "daily": 7,
        "weekly": 30,
        "monthly": 90,
    }
    assert settings.postgres.tables["public.companies"].min_rows
    assert settings.runbook is not None
    traced = trace(settings.runbook)
    assert traced.untested == () and traced.astray == ()
    assert sum(bool(t.rehearsals) for t in traced.sections) > 25
    assert run(["init"]) == 2  # never over an existing file
    assert run(["rehearse", "--list"]) == 0
    assert "recuperação-completa" in capsys.readouterr().out


def test_live_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with postgres() as server, redis_server() as cache, Wire(redis_address(cache)) as wire:
        make_shop(server, "shop")
        with live(server, "shop").connect() as conn:
            conn.execute("ANALYZE")
        for n in range(10):
            wire.call("SET", f"session:{n}", "x")
        monkeypatch.setenv("PGPASSWORD", server.password.reveal())
        monkeypatch.setenv("CACHE", f"unix://:{cache.password.reveal()}@{cache.unix_socket}")
        assert run(["init", "--postgres", url(server, "shop"), "--redis", "env:CACHE"]) == 0
    text = (tmp_path / "provado.yaml").read_text()
    settings = load_settings(tmp_path / "provado.yaml")
    assert settings.postgres.tables["public.outbox"].min_rows == 1500
    assert settings.redis.require == {"session:*": 5}
    assert server.password.reveal() not in text and cache.password.reveal() not in text
