"""redis.conf tried on a real server: the customer's defect, other faults, and files that are fine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.component import DrillContext
from harness.files.facts import read_folder
from harness.files.redis_conf import RedisStart, directives, split_args, static_trouble, try_redis_conf
from harness.sandbox import RedisRequest, redis_sandbox
from harness.settings import Settings

GOOD = (Path(__file__).parents[2] / "fixtures/source/system/redis.conf").read_text(encoding="utf-8")


def tried(tmp_path: Path, text: str, settings: dict[str, object] | None = None) -> RedisStart:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "redis.conf").write_text(text, encoding="utf-8")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ctx = DrillContext(Settings.model_validate(settings or {}), scratch, time.monotonic() + 30)
    facts = read_folder(folder, max_bytes=1 << 20, max_files=9, deadline=ctx.deadline)
    (start,) = try_redis_conf(facts, folder, ctx)
    return start


def test_the_sample_redis_conf_starts(tmp_path: Path) -> None:
    start = tried(tmp_path, GOOD)
    assert start.server
    assert not start.refused
    assert not start.untested


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("save 900 1\n", "save 900 1   # depois de 15 minutos\n", "Invalid save parameters"),
        ("appendonly yes", "appendonly sim", "argument must be 'yes' or 'no'"),
        ("maxmemory 512mb", "maxmemory 512xb", "memory value"),
        ("tcp-keepalive 300", "tcp-keepaliv 300", "Bad directive"),
        ('appendfilename "appendonly.aof"', 'appendfilename "appendonly.aof', "Unbalanced quotes"),
    ],
)
def test_redis_names_the_line_of_the_backup(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = GOOD.replace(old, new)
    start = tried(tmp_path, text)
    assert start.refused
    assert start.line == text.splitlines().index(new.rstrip("\n")) + 1
    # Quoted parts could be values of the file: they are left out.
    assert complaint.replace("'yes'", "'...'").replace("'no'", "'...'") in start.complaint


def test_what_points_outside_is_left_out_and_said(tmp_path: Path) -> None:
    text = GOOD + "include /etc/redis/local.conf\nreplicaof 10.1.2.3 6379\nrequirepass segredo-do-redis\n"
    text += (
        "rename-command CONFIG outro-nome\naclfile /etc/redis/users.acl\ntls-port 6380\nloadmodule /x.so\n"
    )
    start = tried(tmp_path, text)
    assert start.server
    for name in ("include", "replicaof", "aclfile", "tls-port", "loadmodule"):
        assert name in start.untested
    assert "segredo" not in repr(start)


def test_a_directive_of_a_newer_redis_is_no_fault(tmp_path: Path) -> None:
    start = tried(tmp_path, GOOD + "hide-user-data-from-log yes\n")
    assert start.server
    assert not start.refused


def test_without_a_server_nothing_is_shown_and_that_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    start = tried(tmp_path, GOOD, {"sandbox": {"redis_bin": str(empty), "kind": "local"}})
    assert not start.server
    assert not start.refused
    assert "not tried" in start.untested


def test_our_reading_of_lines_agrees_with_redis(tmp_path: Path) -> None:
    settings = Settings()
    for line in (
        'maxclients "100"',
        "maxclients '100'",
        'maxclients "10\\x30"',
        "maxclients 100 200",
        'a "b',
    ):
        words = split_args(line)
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x/t.conf").write_text(line.replace("a ", "maxclients ") + "\n")
        request = RedisRequest(10, data=tmp_path / "x", options=(("include", "t.conf"),))
        try:
            with redis_sandbox(request, settings.sandbox, deadline=time.monotonic() + 30):
                accepted = True
        except Exception:
            accepted = False
        assert accepted == (words is not None and len(words) == 2), line


def test_static_reading_finds_comments_behind_values() -> None:
    text = 'save 900 1 # x\nport 6379 # y\nrequirepass #ok\nsave ""\nsave 900 1 300 10\nuser a on #abc ~*\n'
    assert [d.line for d in directives(text) if static_trouble(d)] == [1, 2]
