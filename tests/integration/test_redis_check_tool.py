"""The official check tool as a second opinion: of every version at hand, and without a false alarm."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
from redis_servers import SERVERS, fill, running
from test_redis_drill import archive, bad, verdict, verify

from harness.model import Evidence, Verdict
from harness.redis.opinion import Opinion, _judge
from harness.sandbox import RedisRequest
from harness.sandbox.tool import Finished, redis_program, run_check
from harness.settings import SandboxSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/redis"))
from rdb_files import key, rdb, string


def told(evidence: Evidence) -> tuple[str, str | None]:
    found = next(c for c in evidence.checks if c.id == "redis.check-tool")
    return str(found.status), found.reason


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_no_complaint_about_what_a_server_writes(name: str, tmp_path: Path) -> None:
    """Every type and encoding; keys and whole hashes whose time has come; the parts of an AOF."""
    with running(SERVERS[name], appendonly="yes") as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("SET", "gone", "x", "PX", 1)
        one.wire.call("SAVE")
        assert one.server.shared is not None
        parts = {
            str(p.relative_to(one.server.shared)): p.read_bytes()
            for p in one.server.shared.rglob("appendonly*")
            if p.is_file()
        }
        dump = one.dump.read_bytes()
    (tmp_path / "dump.rdb").write_bytes(dump)
    evidence = verify(tmp_path / "dump.rdb")
    assert bad(evidence) == {} and told(evidence) == ("pass", None)
    evidence = verify(archive(tmp_path / "redis-backup-1.tar.gz", parts))
    assert bad(evidence) == {}
    assert told(evidence)[0] == "pass" or "knows no part" in str(told(evidence)[1])


def test_a_complaint_is_a_finding(tmp_path: Path) -> None:
    """A list without elements, under a right checksum: servers step over it in silence."""
    body = (
        b"\xfa" + string(b"redis-ver") + string(b"7.0.15") + b"\xfe\x00" + key(b"a", b"1") + b"\x12\x01k\x00"
    )
    (tmp_path / "dump.rdb").write_bytes(rdb(body))
    evidence = verify(tmp_path / "dump.rdb")
    assert "refuses this file" in bad(evidence)["redis.check-tool"]


def test_damage_that_is_known_is_told_once(tmp_path: Path) -> None:
    whole = rdb(b"\xfe\x00" + key(b"a", b"value"))
    (tmp_path / "dump.rdb").write_bytes(whole.replace(b"value", b"vXlue"))
    evidence = verify(tmp_path / "dump.rdb")
    assert set(bad(evidence)) == {"redis.rdb-whole", "redis.loads"} and told(evidence)[0] == "not_run"


@pytest.mark.parametrize(
    ("code", "output", "complaints"),
    [
        (0, "RDB looks OK", 0),
        (1, "[offset 9] Wrong RDB checksum", 1),
        (1, "Can't handle RDB format version 12", 0),
        (1, "[offset 0] Wrong signature trying to load DB from file", 0),
        (1, "The RDB file contains module data I can't load", 0),
        (-11, "", 0),
        (None, "", 0),
    ],
)
def test_what_the_tool_does_not_understand_is_no_complaint(
    code: int | None, output: str, complaints: int
) -> None:
    opinion = Opinion("7.0.15")
    _judge(opinion, "dump.rdb", Finished(code, output))
    assert len(opinion.complaints) == complaints and opinion.parts == (code == 0)
    assert bool(opinion.why) == (code != 0 and not complaints)


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """A tool that never ends (here: a server under its name) is stopped at the deadline or before."""
    program = redis_program(RedisRequest(10), SandboxSettings())
    assert program is not None
    (tmp_path / "part").write_text("port 0\nunixsocket s\n")
    stop, began = threading.Event(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    settings = SandboxSettings()
    done = run_check(program, "redis-x", tmp_path, "part", settings, deadline=began + 60, stop=stop)
    assert done.exit_code is None and time.monotonic() - began < 5


@pytest.mark.parametrize("kind", [0x30, 0xF3, 0x06])
@pytest.mark.parametrize("name", sorted(SERVERS))
def test_what_its_own_writer_does_not_know_is_damage(name: str, kind: int, tmp_path: Path) -> None:
    """A record of an unknown type may be of a newer version, but not where the writer itself refuses it."""
    with running(SERVERS[name]) as one:
        one.wire.call("SET", "aaaa", "bbbb")
        one.wire.call("SAVE")
        spoilt = bytearray(one.dump.read_bytes())
    spoilt[spoilt.index(b"\x04aaaa") - 1] = kind
    (tmp_path / "dump.rdb").write_bytes(bytes(spoilt[:-8]) + bytes(8))
    assert verdict(verify(tmp_path / "dump.rdb")) is Verdict.FAIL
