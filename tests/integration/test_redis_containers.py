"""Redis drills in containers: verdict and findings are those of local servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis_servers import SERVERS, fill, running
from test_redis_drill import archive

from harness.backups import order
from harness.catalog import identify
from harness.drill import drill
from harness.evidence.record import judge
from harness.model import Evidence
from harness.redis.backup import backup
from harness.redis.inspect import recognise
from harness.redis.wire import Address
from harness.sandbox import engine
from harness.settings import Settings

pytestmark = pytest.mark.container
SYSTEM = next((folder for name, folder in sorted(SERVERS.items()) if name.startswith("redis-7")), None)


def judged(path: Path, kind: str, conf: Path | None) -> tuple[str, list[tuple[str, str, str]]]:
    data: dict[str, object] = {"sandbox": {"kind": kind}, "redis": {"redis_conf": str(conf)} if conf else {}}
    artifact = identify(path, {"redis": recognise})
    assert artifact is not None
    evidence: Evidence = drill(artifact, Settings.model_validate(data))
    assert evidence.sandbox.kind in (kind, "none")
    assert not [c for c in evidence.checks if c.status == "error"]
    found = sorted((f.check, str(f.severity), f.object) for f in evidence.findings)
    return str(judge(evidence).verdict), found


def test_containers_judge_as_local_servers_do(tmp_path: Path) -> None:
    if SYSTEM is None:
        pytest.skip("no Redis 7 here")
    client = engine.connect()
    if client is None or not engine.local_image(client, "redis:7"):
        pytest.skip("no container engine with the images of tests/images/build.py: NOT tested")
    with running(SYSTEM, appendonly="yes") as one:
        fill(one.wire, one.vendor, one.version)
        source = Address(one.server.unix_socket, password=one.server.password)
        settings = Settings.model_validate({"policy": {"timezone": "UTC"}})
        taken = backup(source, order(tmp_path, "daily", settings.policy.zone), settings, one.server.shared)
        one.wire.call("SAVE")
        dump = one.dump.read_bytes()
    conf = tmp_path / "redis.conf"
    conf.write_text("appendonly yes\n")
    spoilt = archive(tmp_path / "redis-backup-1.tar.gz", {"dump.rdb": dump.replace(b"word-1", b"word-9", 1)})
    only_dump = archive(tmp_path / "redis-backup-2.tar.gz", {"dump.rdb": dump})
    for path, configured, verdict in (
        (taken.path, conf, "pass"),
        (only_dump, None, "pass"),
        (only_dump, conf, "fail"),
        (spoilt, None, "fail"),
    ):
        assert judged(path, "container", configured) == judged(path, "local", configured)
        assert judged(path, "container", configured)[0] == verdict
