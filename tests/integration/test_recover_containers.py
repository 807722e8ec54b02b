"""The round trip with servers in containers, as the customer runs them: backup, damage, recovery."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_servers import (
    SETTINGS,
    damage,
    digest,
    live,
    make_shop,
    postgres,
    redis_address,
    redis_server,
)

from harness.backups import order
from harness.catalog import identify
from harness.components import recognisers
from harness.errors import SandboxError
from harness.postgres import recover as postgres_recover
from harness.postgres.backup import Choice
from harness.postgres.backup import backup as postgres_backup
from harness.redis import recover as redis_recover
from harness.redis.backup import backup as redis_backup
from harness.redis.wire import Wire

pytestmark = pytest.mark.container
ZONE = SETTINGS.policy.zone


def test_postgres(tmp_path: Path) -> None:
    try:
        with postgres("container") as server:
            make_shop(server, "email_shop")
            before = digest(server, "email_shop")
            taken = postgres_backup(
                live(server, "email_shop"), order(tmp_path, "daily", ZONE), Choice(), SETTINGS
            )
            damage(server, "email_shop")
            good = identify(taken.path, recognisers())
            assert good is not None
            wish = postgres_recover.Wish(replace=True, safety=tmp_path / "safety")
            postgres_recover.recover(good, live(server, "email_shop"), wish, SETTINGS, tmp_path)
            assert digest(server, "email_shop") == before
    except SandboxError as error:
        pytest.skip(f"no container engine with the images of tests/images/build.py: {error}")


def test_redis(tmp_path: Path) -> None:
    try:
        with redis_server("container", appendonly="yes") as server, Wire(redis_address(server)) as wire:
            wire.call("MSET", "a", "1", "b", "2")
            taken = redis_backup(redis_address(server), order(tmp_path, "daily", ZONE), SETTINGS)
            wire.call("FLUSHALL")
            good = identify(taken.path, recognisers())
            assert good is not None
            done = redis_recover.recover(
                good, redis_address(server), redis_recover.Wish(), SETTINGS, tmp_path
            )
            assert done.arrived["keys"] == 2 and wire.call("GET", "b") == b"2"
    except SandboxError as error:
        pytest.skip(f"no container engine with the images of tests/images/build.py: {error}")
