"""Steps after a restore and consistency across stores, through `provado verify` as users run it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_servers import SETTINGS, live, make_shop, postgres, redis_address, redis_server

from harness.backups import order
from harness.cli import run
from harness.postgres.backup import Choice
from harness.postgres.backup import backup as postgres_backup
from harness.redis.backup import backup as redis_backup
from harness.redis.wire import Wire

RULE = {
    "name": "jobs refer to the outbox",
    "keys": "bull:email:send:*",
    "field": "data",
    "path": "id",
    "table": "outbox",
    "column": "id",
}


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with backups of PostgreSQL and Redis of one moment; two of 50 jobs have no row."""
    folder = tmp_path_factory.mktemp("point")
    zone = SETTINGS.policy.zone
    with postgres() as server, redis_server() as cache, Wire(redis_address(cache)) as wire:
        make_shop(server, "email_shop")
        for n in range(1, 49):
            wire.call("HSET", f"bull:email:send:{n}", "data", json.dumps({"id": f"c{n}", "to": "x"}))
        for n in (90001, 90002):
            wire.call("HSET", f"bull:email:send:{n}", "data", json.dumps({"id": f"c{n}"}))
        wire.call("RPUSH", "bull:email:send:wait", 1, 2)
        wire.call("SET", "bull:email:send:id", "50")
        postgres_backup(live(server, "email_shop"), order(folder / "pg", "daily", zone), Choice(), SETTINGS)
        time.sleep(1.1)  # names tell seconds, and one test is about the time between the two
        redis_backup(redis_address(cache), order(folder / "redis", "daily", zone), SETTINGS)
    return folder


def verify(
    point: Path, capsys: pytest.CaptureFixture[str], *components: str, **config: Any
) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """Exit code, results by check id over all backups, and the whole answer."""
    path = {"postgres": "pg", "redis": "redis"}
    backups = [{"path": path[c], "component": c} for c in components]
    settings = {"backups": backups, "output": "out", **config}
    (point / "provado.yaml").write_text(yaml.safe_dump(settings))
    code = run(["verify", "--config", str(point / "provado.yaml"), "--json"])
    told = json.loads(capsys.readouterr().out)
    return code, {c["id"]: c for b in told["backups"] for c in b["checks"]}, told


def test_steps_run_on_the_restored_copy(point: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (point / "migrate.sql").write_text("ALTER TABLE companies ADD COLUMN plan text; DROP TABLE log;")
    script = (
        "import os, psycopg; os.environ['REDIS_URL'];"
        "psycopg.connect(os.environ['DATABASE_URL'], autocommit=True)"
        ".execute(\"UPDATE companies SET plan = 'free'\")"
    )
    steps = [
        {"name": "schema", "sql": "migrate.sql"},
        {"name": "data", "run": [sys.executable, "-W", "ignore", "-c", script]},
        {"name": "smoke", "query": "SELECT count(*) FROM companies WHERE plan = 'free'", "expect": 200},
    ]
    code, checks, told = verify(point, capsys, "postgres", after_restore=steps)
    found = {k: v["status"] for k, v in checks.items() if k.startswith("release.")}
    assert found == {"release.schema": "pass", "release.data": "pass", "release.smoke": "pass"}
    assert code == 0, told["reason"]
    assert "after restore" in [s["name"] for s in told["backups"][0]["measured"]["stages"]]


def test_a_migration_that_the_data_do_not_survive(point: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (point / "unique.sql").write_text("ALTER TABLE outbox ADD CONSTRAINT one_state UNIQUE (state);")
    steps = [
        {"name": "unique", "sql": "unique.sql"},
        {"name": "later", "query": "SELECT 1"},
    ]
    code, checks, told = verify(point, capsys, "postgres", after_restore=steps)
    assert code == 1
    assert (checks["release.unique"]["status"], checks["release.later"]["status"]) == ("fail", "not_run")
    text = json.dumps(told)
    assert "23505" in text and "paid" not in text  # the server's DETAIL quotes the row


@pytest.mark.parametrize(("allow", "verdict"), [(0, "fail"), (2, "pass")])
def test_jobs_without_a_row_are_counted(
    point: Path, capsys: pytest.CaptureFixture[str], allow: int, verdict: str
) -> None:
    rules = {"window": "1h", "rules": [{**RULE, "allow": allow}]}
    code, _, told = verify(point, capsys, "postgres", "redis", consistency=rules)
    assert (told["verdict"], code) == (verdict, 1 if verdict == "fail" else 0), told["reason"]
    junit = next((point / "out").rglob("junit.xml")).read_text()
    assert ("2 of 50 references have no row" in junit) == (verdict == "fail")
    assert "90001" not in junit


def test_a_rule_that_finds_nothing_to_compare_fails(point: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = {"rules": [{**RULE, "path": "no.such.place"}]}
    assert verify(point, capsys, "postgres", "redis", consistency=rules)[0] == 1


def test_backups_of_different_moments(point: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = {"window": 0.0001, "rules": [{**RULE, "allow": 2}]}
    assert verify(point, capsys, "postgres", "redis", consistency=rules)[0] == 1
