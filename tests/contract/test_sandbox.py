"""What every sandbox provider promises (harness/sandbox/base.py), tried on every server this machine has."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.sandbox import (
    PostgresRequest,
    RedisRequest,
    Server,
    ServerDied,
    end_all,
    engine,
    folders,
    lease,
    local,
    postgres_sandbox,
    redis_sandbox,
    sweep,
)
from harness.sandbox.binaries import Binaries, postgres_servers, redis_servers
from harness.settings import SandboxSettings

CONTAINER = SandboxSettings(kind="container")


@dataclass(frozen=True)
class Provided:
    """One way to get a server. `open(settings, data)` gives it; `postgres` tells which kind it is."""

    name: str
    postgres: bool
    binaries: Binaries | None

    def open(self, data: Path | None = None, **settings: Any) -> AbstractContextManager[Server]:
        deadline = time.monotonic() + 60
        if self.binaries is None:
            chosen = SandboxSettings(kind="container", **settings)
            if self.postgres:
                return postgres_sandbox(PostgresRequest(major=15), chosen, deadline=deadline)
            return redis_sandbox(RedisRequest(rdb_version=10, data=data), chosen, deadline=deadline)
        if self.postgres:
            return local.postgres(
                self.binaries, PostgresRequest(), SandboxSettings(**settings), deadline=deadline
            )
        request = RedisRequest(data=data)
        return local.redis(self.binaries, request, SandboxSettings(**settings), deadline=deadline)


LOCAL = [
    Provided(f"{b.engine}-{b.version}-{b.provider}", b.engine == "postgres", b)
    for b in (*postgres_servers(None), *redis_servers(None))
]
IN_CONTAINERS = [Provided("postgres-container", True, None), Provided("redis-container", False, None)]


def _parameters(choices: list[Provided]) -> list[Any]:
    return [pytest.param(c, id=c.name, marks=[] if c.binaries else [pytest.mark.container]) for c in choices]


def _one_of_each() -> list[Provided]:
    """One PostgreSQL, one Redis, one Valkey: for what does not depend on the server's version."""
    engines = {c.binaries.engine: c for c in reversed(LOCAL) if c.binaries}
    return [*engines.values()]


# Redis reads and writes no files on request.
only_postgres = pytest.mark.parametrize(
    "running", _parameters([c for c in (*LOCAL, *IN_CONTAINERS) if c.postgres]), indirect=True, scope="module"
)


@pytest.fixture(scope="module", params=_parameters([*LOCAL, *IN_CONTAINERS]))
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each provider, shared by the tests that do it no harm."""
    provided: Provided = request.param
    if provided.binaries is None:
        needs_engine()
    with provided.open() as server:
        yield server


def needs_engine() -> None:
    """Skip, and say so, only where no container engine with the test images can be had."""
    client = engine.connect()
    if (
        client is None
        or not engine.local_image(client, "postgres:15")
        or not engine.local_image(client, "redis:7")
    ):
        pytest.skip("no container engine with the images of tests/images/build.py: containers are NOT tested")


def sql(server: Server, query: str, password: str | None = None) -> Any:
    """The first value of a query's answer."""
    with psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=password if password is not None else server.password.reveal(),
        dbname=server.database,
        autocommit=True,
    ) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@contextlib.contextmanager
def keys(server: Server, password: str | None = None) -> Iterator[redis.Redis]:
    """A Redis client, closed at the end."""
    client = redis.Redis(
        unix_socket_path=server.unix_socket,
        password=server.password.reveal() if password is None else password or None,
        socket_timeout=20,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    try:
        yield client
    finally:
        client.close()


def is_postgres(server: Server) -> bool:
    return server.user == "postgres"


def test_answers_with_the_version_it_names(running: Server) -> None:
    if is_postgres(running):
        assert str(sql(running, "SHOW server_version")).split()[0] == running.info.version
    else:
        with keys(running) as client:
            info = client.info("server")
            assert info.get("valkey_version", info["redis_version"]) == running.info.version
    assert running.alive()
    assert running.info.provider


def test_lets_nobody_in_without_the_password(running: Server) -> None:
    if is_postgres(running):
        for wrong in ("", "postgres", "x" * 48):
            with pytest.raises(psycopg.OperationalError):
                sql(running, "SELECT 1", wrong)
    else:
        for wrong in ("", "x" * 48):
            with (
                keys(running, wrong) as client,
                pytest.raises((redis.ResponseError, redis.AuthenticationError)),
            ):
                client.ping()


@pytest.fixture
def listener() -> Iterator[tuple[int, Callable[[], int]]]:
    """A port on this machine's loopback address, and how many have connected to it so far."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        seen = 0

        def connections() -> int:
            nonlocal seen
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
                    seen += 1
            return seen

        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        assert connections() == 1  # reachable for us
        yield port, lambda: connections() - 1


def test_has_no_way_out_to_a_network(running: Server, listener: tuple[int, Callable[[], int]]) -> None:
    port, connections = listener
    if is_postgres(running):
        sql(running, "CREATE EXTENSION IF NOT EXISTS dblink")
        for host in ("127.0.0.1", "::1", "10.255.255.1"):
            with pytest.raises(psycopg.errors.SqlclientUnableToEstablishSqlconnection):
                sql(running, f"SELECT dblink_connect('host={host} port={port} connect_timeout=2')")
    else:
        with keys(running) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", port)
            try:
                until = time.monotonic() + 1.5  # it tries once a second
                while time.monotonic() < until and not connections():
                    time.sleep(0.05)
                assert client.info("replication")["master_link_status"] == "down"
            finally:
                client.execute_command("REPLICAOF", "NO", "ONE")
    assert connections() == 0
    assert any("no network" in word for word in running.info.containment)


@only_postgres
def test_shares_a_folder(running: Server) -> None:
    assert running.shared
    assert running.shared_inside
    (running.shared / "in.txt").write_text("42\n", "ascii")
    (running.shared / "in.txt").chmod(0o644)
    assert sql(running, f"SELECT pg_read_file('{running.shared_inside}/in.txt')") == "42\n"
    sql(running, f"COPY (SELECT 43) TO '{running.shared_inside}/out.txt'")
    assert (running.shared / "out.txt").read_text("ascii") == "43\n"


@pytest.fixture
def open_folders() -> Iterator[list[Path]]:
    """Folders that everybody may enter and write: one for scratch files, one elsewhere on the disk."""
    made = [Path(tempfile.mkdtemp(prefix=".provado-test-", dir=base)) for base in ("/var/tmp", Path.cwd())]
    for folder in made:
        folder.chmod(0o777)
    yield made
    for folder in made:
        shutil.rmtree(folder)


@only_postgres
def test_reads_and_writes_no_files_of_ours(running: Server, open_folders: list[Path]) -> None:
    """Only where the kernel gave it a view of its own; the evidence says when it did not."""
    if (
        running.info.kind == "local"
        and "files read-only but the sandbox's own" not in running.info.containment
    ):
        pytest.skip(f"the kernel gives no view of its own here: {running.info.containment}")
    scratch, other = open_folders
    (scratch / "secret").write_text("ours", "ascii")
    with pytest.raises(psycopg.Error):
        sql(running, f"SELECT pg_read_file('{scratch}/secret')")
    for folder in (scratch, other):
        with contextlib.suppress(psycopg.Error):
            sql(running, f"COPY (SELECT 1) TO '{folder}/planted'")
        assert not (folder / "planted").exists()
        with contextlib.suppress(psycopg.Error):
            sql(running, f"COPY (SELECT 1) TO '{folder.parent}/provado-planted'")
        assert not (folder.parent / "provado-planted").exists()


@pytest.mark.parametrize("provided", _parameters([*_one_of_each(), *IN_CONTAINERS]))
def test_two_are_apart_and_leave_nothing(provided: Provided) -> None:
    if provided.binaries is None:
        needs_engine()
    with provided.open() as one, provided.open() as two:
        assert one.password.reveal() != two.password.reveal()
        assert one.host != two.host
        if is_postgres(one):
            sql(one, "CREATE TABLE mine()")
            assert sql(two, "SELECT count(*) FROM pg_class WHERE relname = 'mine'") == 0
            with pytest.raises(psycopg.OperationalError):
                sql(two, "SELECT 1", one.password.reveal())
        else:
            with keys(one) as client:
                client.set("mine", 1)
            with keys(two) as client:
                assert client.dbsize() == 0
            with keys(two, one.password.reveal()) as client, pytest.raises(redis.AuthenticationError):
                client.ping()
        folders_used = [Path(server.host).parent for server in (one, two)]
        assert all(folder.is_dir() for folder in folders_used)
        proof = one.teardown()
        assert proof is not None
        assert proof.complete
        assert not one.alive()
        assert two.alive()
    assert two.teardown() == proof
    assert not any(folder.exists() for folder in folders_used)


@pytest.mark.parametrize("provided", _parameters(_one_of_each()))
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_ends_whatever_happens(provided: Provided, error: type[BaseException]) -> None:
    with pytest.raises(error), provided.open() as server:
        raise error
    proof = server.teardown()
    assert proof is not None
    assert proof.complete


def test_end_all_ends_what_is_open() -> None:
    with LOCAL[0].open() as server:
        end_all()
        assert not server.alive()
        assert not Path(server.host).exists()


@pytest.mark.parametrize("provided", _parameters(_one_of_each()))
def test_ends_at_its_memory_limit(provided: Provided) -> None:
    with provided.open(memory="150M") as server:
        if is_postgres(server):
            with pytest.raises(psycopg.OperationalError):
                sql(
                    server, "SELECT length(string_agg(repeat('x', 10000), '')) FROM generate_series(1, 40000)"
                )
        else:
            with keys(server) as client, pytest.raises(redis.ConnectionError):
                for number in range(100_000):
                    client.set(f"k{number}", b"x" * (1 << 20))
        assert server.limit() == "memory"
        assert not server.alive()


def test_ends_at_its_disk_limit() -> None:
    with LOCAL[0].open(disk="150M") as server:
        with pytest.raises(psycopg.OperationalError):
            sql(server, "CREATE TABLE big AS SELECT repeat('x', 2000) x FROM generate_series(1, 2000000)")
        assert server.limit() == "disk"


@pytest.mark.container
@pytest.mark.slow
@pytest.mark.parametrize("provided", _parameters(IN_CONTAINERS))
def test_a_container_ends_at_its_memory_limit(provided: Provided) -> None:
    needs_engine()
    with provided.open(memory="200M") as server:
        if is_postgres(server):  # the kernel ends the backend, and PostgreSQL starts anew
            with pytest.raises(psycopg.OperationalError):
                sql(
                    server, "SELECT length(string_agg(repeat('x', 10000), '')) FROM generate_series(1, 90000)"
                )
        else:
            with keys(server) as client, pytest.raises(redis.ConnectionError):
                for number in range(100_000):
                    client.set(f"k{number}", b"x" * (1 << 20))
        assert server.limit() == "memory"


def test_a_server_that_dies_while_loading_tells(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_bytes(b"REDIS0009\xfa\x09broken" + b"\xff" * 64)
    for provided in _one_of_each():
        if not provided.postgres:
            with pytest.raises(ServerDied) as caught, provided.open(tmp_path):
                pytest.fail("it must not start on a broken file")
            assert caught.value.died_with not in (None, 0)
            assert caught.value.limit is None
            assert caught.value.log


def test_data_is_copied_not_used_in_place(tmp_path: Path) -> None:
    provided = next(c for c in LOCAL if not c.postgres)
    with provided.open() as server, keys(server) as client:
        client.set("k", "v")
        client.save()
        assert server.shared
        (tmp_path / "dump.rdb").write_bytes((server.shared / "dump.rdb").read_bytes())
    before = (tmp_path / "dump.rdb").read_bytes()
    (tmp_path / "dump.rdb").chmod(0o400)
    with provided.open(tmp_path) as server, keys(server) as client:
        assert client.get("k") == b"v"
        client.flushall()
        client.save()
    assert (tmp_path / "dump.rdb").read_bytes() == before


@pytest.mark.container
def test_a_container_loads_the_data_it_is_given(tmp_path: Path) -> None:
    needs_engine()
    source = next(
        c for c in LOCAL if c.binaries and c.binaries.engine == "redis" and c.binaries.version < "7.2"
    )
    with source.open() as server, keys(server) as client:
        client.set("k", "v")
        client.save()
        assert server.shared
        (tmp_path / "dump.rdb").write_bytes((server.shared / "dump.rdb").read_bytes())
    with IN_CONTAINERS[1].open(tmp_path) as server, keys(server) as client:
        assert client.get("k") == b"v"


HELD = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
from harness.sandbox import PostgresRequest, RedisRequest, postgres_sandbox, redis_sandbox, lease
from harness.settings import SandboxSettings
kind, engine = sys.argv[1:]
settings, deadline = SandboxSettings(kind=kind), time.monotonic() + 60
opened = (postgres_sandbox(PostgresRequest(major=15), settings, deadline=deadline) if engine == "postgres"
          else redis_sandbox(RedisRequest(rdb_version=10), settings, deadline=deadline))
with opened as server:
    print(json.dumps({"host": server.host, "containment": server.info.containment}), flush=True)
    time.sleep(60)
"""


def leases() -> list[dict[str, Any]]:
    """All leases; those of other runs come and go meanwhile."""
    found = []
    for file in (folders.cache() / "leases").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            found.append(json.loads(file.read_text("utf-8")))
    return found


@contextlib.contextmanager
def held(kind: str, engine_name: str) -> Iterator[tuple[subprocess.Popen[str], Path, lease.Lease]]:
    """Another process that holds a sandbox open: the process, its sandbox's folder, its lease."""
    with subprocess.Popen(
        [sys.executable, "-c", HELD, kind, engine_name], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            folder = Path(json.loads(process.stdout.readline())["host"]).parent
            (mine,) = [found for found in leases() if found["folder"] == str(folder)]
            named = {k: lease.Process(**mine[k]) for k in ("supervisor", "server") if mine[k]}
            owner = lease.Process(**mine["owner"])
            yield process, folder, lease.Lease(owner, "", str(folder), **named, container=mine["container"])
        finally:
            process.kill()


def gone(process: lease.Process | None, within_s: float = 5) -> bool:
    until = time.monotonic() + within_s
    while process and process.alive() and time.monotonic() < until:
        time.sleep(0.02)
    return process is None or not process.alive()


@pytest.mark.parametrize("first", ["harness", "supervisor", "both"])
@pytest.mark.parametrize("engine_name", ["postgres", "redis"])
def test_kill_9_then_sweep_leaves_nothing(engine_name: str, first: str) -> None:
    with held("local", engine_name) as (process, folder, left):
        assert left.server
        assert left.supervisor
        if first in ("supervisor", "both"):
            os.kill(left.supervisor.pid, signal.SIGKILL)
        if first in ("harness", "both"):
            process.kill()
        assert gone(left.server)  # without any sweeping
        process.kill()
        process.wait()
        assert gone(left.supervisor)
        sweep()  # what it returns may name other runs' leftovers, and another run may have swept ours
    assert not folder.exists()
    assert str(folder) not in [found["folder"] for found in leases()]


def test_a_running_sandbox_is_not_swept() -> None:
    with held("local", "redis") as (_, folder, left):
        sweep()
        assert folder.exists()
        assert left.server
        assert left.server.alive()


@pytest.mark.container
def test_a_killed_run_s_container_is_swept() -> None:
    needs_engine()
    with held("container", "redis") as (process, folder, left):
        assert left.container
        process.kill()
        process.wait()
        sweep()
        client = engine.connect()
        assert client is not None
        assert left.container not in [c.name for c in client.containers.list(all=True)]
    assert not folder.exists()


@pytest.mark.container
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_container_that_is_being_made_when_its_run_ends_is_not_left(sent: signal.Signals) -> None:
    """The engine makes it all the same, after the run has looked for it."""
    needs_engine()
    client = engine.connect()
    assert client is not None
    with subprocess.Popen([sys.executable, "-c", HELD, "container", "postgres"]) as process:
        mine = None
        while mine is None and process.poll() is None:
            mine = next((x for x in leases() if x["owner"]["pid"] == process.pid and x["container"]), None)
        assert mine is not None
        time.sleep(0.02)  # asked for by now, and not yet made
        process.send_signal(sent)
        process.wait(60)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        if sent is signal.SIGKILL:
            sweep()
        there = mine["container"] in [c.name for c in client.containers.list(all=True, ignore_removed=True)]
        assert sent is signal.SIGKILL or not there
        time.sleep(0.1)
    assert not there
    assert not Path(mine["folder"]).exists()


def test_sigterm_ends_it_by_way_of_the_harness() -> None:
    """What the command line's signal handler does: raise SystemExit, which leaves the block."""
    with held("local", "postgres") as (process, folder, left):
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert gone(left.server, 0)
        assert gone(left.supervisor, 0)
    assert not folder.exists()


def ordinary_python() -> str:
    """A Python that a user who is not root may run. Root's own often lies below /root."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (
        Path(sys.executable).resolve(),
        Path("/usr/bin") / version,
        Path("/usr/local/bin") / version,
    ):
        if candidate.exists() and folders.reachable(candidate):
            return str(candidate)
    pytest.skip(f"no {version} that an ordinary user may run: the user's side is NOT tested")


@pytest.mark.skipif(os.geteuid() != 0, reason="we are an ordinary user: every other test is this one")
@pytest.mark.parametrize("engine_name", ["postgres", "redis"])
def test_works_as_an_ordinary_user(engine_name: str, open_folders: list[Path]) -> None:
    home = open_folders[0]
    home.chmod(0o755)
    os.chown(home, 65534, 65534)
    (home / "async_timeout.py").write_text("timeout = None\n")  # redis-py wants it before Python 3.11.3
    packages = [str(home), str(Path(redis.__file__).parents[1]), str(Path(local.__file__).parents[2])]
    script = HELD.replace("time.sleep(60)", "pass") + "print(server.teardown())\n"
    done = subprocess.run(
        [ordinary_python(), "-c", script, "local", engine_name],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(packages)},
        cwd=home,
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[0])
    assert any("no network" in word for word in told["containment"])
    assert "directory_gone=True" in done.stdout
    assert "process_gone=True" in done.stdout
    assert not Path(told["host"]).exists()


def test_no_process_of_a_sandbox_runs_as_root() -> None:
    with LOCAL[0].open() as server:
        servers = []
        for below in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # backends come and go
                if below.name().startswith("postgres"):
                    servers.append(below.uids().real)
        assert servers
        assert 0 not in servers
        assert server.alive()
