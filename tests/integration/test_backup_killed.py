"""kill -9 at ten random moments: no incomplete backup under a final name, no target half restored."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_servers import (
    SETTINGS,
    damage,
    digest,
    make_shop,
    postgres,
    query,
    redis_address,
    redis_server,
    url,
)

from harness import process
from harness.catalog import find, identify
from harness.components import recognisers
from harness.postgres.source import recognise
from harness.redis.wire import Wire
from harness.sandbox import Server
from harness.scratch import sweep_scratch
from harness.stream import Stream, open_file, sniff

pytestmark = pytest.mark.slow
MOMENTS = 10
SEED = 20261124


def provado(*argv: str, env: dict[str, str], cwd: Path, kill_after_s: float | None = None) -> float:
    """Run the command, killed after a while or to its end; returns how long it ran."""
    began = time.monotonic()
    child = process.start([sys.executable, "-m", "harness", *argv], env=env, cwd=cwd)
    if kill_after_s is not None:
        while child.poll() is None and time.monotonic() - began < kill_after_s:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait(20)
    else:
        assert child.wait(120) == 0
    process.end(child)
    return time.monotonic() - began


def killed(work: Callable[[float | None], float], check: Callable[[], None]) -> None:
    """One whole run to learn how long it takes, then ten that die at random moments of that time."""
    whole = work(None)
    moments = random.Random(SEED)
    for _ in range(MOMENTS):
        work(moments.uniform(0.3, 1.0) * whole)
        check()


def whole_backups(folder: Path, component: str) -> int:
    """Every file that is called as a backup can be read to its end, and is what its manifest says."""
    found = find(folder, recognisers(), component=component)
    for artifact in found:
        packing, _ = sniff(artifact.path)
        with open_file(artifact.path) as file:
            stream = Stream(file, artifact.path, packing)
            tail = b""
            for block in stream:
                tail = (tail + block)[-400:]
        assert artifact.manifest is not None and stream.sha256 in artifact.manifest.read_text()
        assert component == "redis" or b"dump complete" in tail
    return len(found)


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with postgres() as server:
        make_shop(server, "email_shop")
        query(
            server,
            "email_shop",
            "CREATE TABLE big AS SELECT n, md5(n::text) t FROM generate_series(1, 20000) n",
        )
        yield server


@pytest.fixture
def env(shop: Server, tmp_path: Path) -> dict[str, str]:
    return {"PGPASSWORD": shop.password.reveal(), "PYTHONPATH": str(Path(__file__).parents[2])}


def test_postgres_backup(shop: Server, env: dict[str, str], tmp_path: Path) -> None:
    argv = ("backup", "postgres", url(shop, "email_shop"), "--output", "b")
    killed(
        lambda after: provado(*argv, env=env, cwd=tmp_path, kill_after_s=after),
        lambda: (
            None if whole_backups(tmp_path / "b", "postgres") else pytest.fail("the first backup is gone")
        ),
    )
    before = whole_backups(tmp_path / "b", "postgres")
    provado(*argv, env=env, cwd=tmp_path)
    assert whole_backups(tmp_path / "b", "postgres") == before + 1
    assert not list((tmp_path / "b").glob(".*.partial"))


def test_postgres_recovery(shop: Server, env: dict[str, str], tmp_path: Path) -> None:
    good = digest(shop, "email_shop")
    provado("backup", "postgres", url(shop, "email_shop"), "--output", "b", env=env, cwd=tmp_path)
    (backup,) = find(tmp_path / "b", {"postgres": recognise})
    damage(shop, "email_shop")
    bad = digest(shop, "email_shop")
    assert bad != good
    argv = (
        *("restore", "postgres", str(backup.path), "--into", url(shop, "email_shop")),
        *("--replace", "--drop-old", "--no-safety"),
    )

    def check() -> None:
        now = digest(shop, "email_shop")
        assert now in (good, bad)
        if now == good:
            damage(shop, "email_shop")

    def work(after: float | None) -> float:
        took = provado(*argv, env=env, cwd=tmp_path, kill_after_s=after)
        if after is None:
            assert digest(shop, "email_shop") == good
            damage(shop, "email_shop")
        return took

    killed(work, check)
    provado(*argv, env=env, cwd=tmp_path)
    assert digest(shop, "email_shop") == good
    left = query(shop, "postgres", "SELECT datname FROM pg_database WHERE datname ~ '_provado_new_'")
    assert left == []


def content(wire: Wire) -> list[tuple[int, int]]:
    """Keys per database, and what the first of them says."""
    held = []
    for database in range(16):
        wire.call("SELECT", database)
        marked = wire.call("EXISTS", "provado:restore:staging")
        if wire.call("DBSIZE") and not marked:
            held.append((database, int(wire.call("DBSIZE"))))
    wire.call("SELECT", 0)
    return [*held, (-1, int(wire.call("GET", "state") or 0))]


def test_redis_backup_and_recovery(tmp_path: Path) -> None:
    with redis_server(appendonly="yes") as server, Wire(redis_address(server)) as wire:
        env = {"PW": server.password.reveal(), "PYTHONPATH": str(Path(__file__).parents[2])}
        where = (f"unix://{server.unix_socket}", "--password", "env:PW")
        list(wire.pipeline(("SET", f"key:{n}", "v" * 100) for n in range(8_000)))
        wire.call("SET", "state", 1)
        argv = ("backup", "redis", *where, "--output", "b")

        def whole() -> None:
            assert whole_backups(tmp_path / "b", "redis")

        killed(lambda after: provado(*argv, env=env, cwd=tmp_path, kill_after_s=after), whole)
        for left in wire.call("KEYS", "provado:canary:*"):  # by killed backups; they expire after ten minutes
            assert 0 < wire.call("TTL", left) <= 600
            wire.call("DEL", left)
        good = content(wire)
        newest = identify(find(tmp_path / "b", recognisers(), component="redis")[-1].path, recognisers())
        assert newest is not None

        def break_it() -> list[tuple[int, int]]:
            wire.call("SET", "state", 2)
            wire.call("DEL", *(f"key:{n}" for n in range(20_000)))
            wire.call("SELECT", 5)
            wire.call("SET", "other", 1)
            wire.call("SELECT", 0)
            return content(wire)

        bad = break_it()
        argv = (
            "restore",
            "redis",
            str(newest.path),
            "--into",
            where[0],
            *where[1:],
            "--replace",
            "--no-safety",
        )

        def check() -> None:
            now = content(wire)
            assert now in (good, bad)
            if now == good:
                break_it()
            wire.call("SELECT", 15)  # a minute later
            wire.call("DEL", "provado:restore:alive")
            wire.call("SELECT", 0)

        def work(after: float | None) -> float:
            took = provado(*argv, env=env, cwd=tmp_path, kill_after_s=after)
            if after is None:
                assert content(wire) == good
                break_it()
            return took

        killed(work, check)
        provado(*argv, env=env, cwd=tmp_path)
        assert content(wire) == good
        wire.call("SELECT", 15)
        assert wire.call("DBSIZE") == 0
    sweep_scratch()
    assert SETTINGS.policy.timezone == "UTC"
