"""The life of one local server: start under the supervisor, lease, limits, proven end."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import process
from ..errors import SandboxError
from ..model import Teardown
from ..process import User
from . import folders, lease
from . import launch as launch_program
from .base import ServerDied

_LIVE: dict[str, Callable[[], object]] = {}  # how to end every sandbox of this process that still lives
_LOCK = threading.RLock()  # a signal handler may call `end_all` while its own thread holds it


@dataclass
class Instance:
    """A local server from the making of its folder to the proof that nothing is left of it."""

    name: str
    folder: Path
    user: User | None
    lease: lease.Lease
    sockets: tuple[Path, ...] = ()
    supervisor: process.Popen[bytes] | None = None
    lifeline: int | None = None
    container: Callable[[], bool] | None = None  # removes it; True when there is none any more
    containment: tuple[str, ...] = ()
    proof: Teardown | None = None
    told: dict[str, Any] = field(default_factory=dict)  # what the supervisor said
    pending: bytes = b""
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log_file(self) -> Path:
        """Where the server's output goes; only the harness may read it."""
        return self.folder / "server.log"

    def log(self) -> str:
        """The end of the server's output (at most 256 KiB). May quote data."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - (256 << 10)))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def alive(self) -> bool:
        """True while the server process runs and no limit is about to end it."""
        server = self.lease.server
        return self.proof is None and server is not None and server.alive() and limit(self) is None


def create(user: User | None) -> Instance:
    """A folder, leased before it is made."""
    name = secrets.token_hex(8)
    owner, space = lease.this_process(), lease.namespace()
    try:
        folder = folders.new_sandbox_folder(
            lambda path: lease.write(name, lease.Lease(owner, space, str(path)))
        )
    except SandboxError:
        lease.drop(name)
        raise
    made = Instance(name, folder, user, lease.Lease(owner, space, str(folder)))
    with _LOCK:
        _LIVE[name] = lambda: teardown(made)
    made.log_file.touch(mode=0o600)
    return made


def subfolder(instance: Instance, name: str) -> Path:
    """A folder inside the sandbox that belongs to the server's user."""
    path = instance.folder / name
    path.mkdir(mode=0o700)
    if instance.user:
        os.chown(path, instance.user.uid, instance.user.gid)
    return path


def shared_folder(instance: Instance) -> Path:
    """A folder in which we and the server's user can make files, and neither can replace the other's.

    As root we follow names there: were the folder the server's, it could put a link in place of our file.
    """
    path = instance.folder / "shared"
    path.mkdir(mode=0o700)
    if instance.user:
        os.chown(path, -1, instance.user.gid)
        path.chmod(0o1730)
    return path


def spawn(instance: Instance) -> None:
    """Start the supervisor, so that it gets ready while the server's data are being copied."""
    receive, instance.lifeline = os.pipe()
    log = os.open(instance.log_file, os.O_WRONLY | os.O_APPEND)
    try:
        instance.supervisor = process.start(
            [sys.executable, *launch_program.COMMAND], stdin=receive, stdout=process.PIPE, stderr=log
        )
    finally:
        os.close(receive)
        os.close(log)


def launch(
    instance: Instance,
    argv: list[str],
    *,
    env: dict[str, str],
    cwd: Path,
    needs: tuple[Path, ...],
    memory: int,
    disk: int,
    stop_signal: int,
    deadline: float,
) -> None:
    """Have the supervisor start the server. Raises SandboxError when it cannot be started.

    When it cannot in a view of the files of its own (a kernel or a layout that does not bear it), it is
    started without one, and the evidence does not name one.
    """
    user = instance.user
    orders: dict[str, Any] = {
        "argv": argv,
        "env": env,
        "cwd": str(cwd),
        "needs": [str(path) for path in needs],
        "home": str(folders.home()),
        "folder": str(instance.folder),
        "uid": user.uid if user else None,
        "gid": user.gid if user else None,
        "memory": memory,
        "disk": disk,
        "stop_signal": int(stop_signal),
        "grace_s": 2.0,
    }
    error = _ordered(instance, {**orders, "own_view": True}, deadline)
    if error:
        _end_supervisor(instance)
        instance.told.clear()
        spawn(instance)
        error = _ordered(instance, {**orders, "own_view": False}, deadline)
    if error:
        raise SandboxError(
            f"the server {argv[0]} cannot be started: {error}",
            remedy="Check that the program is executable for ordinary users",
        )
    instance.containment = (*instance.told["containment"], "memory and disk limits")


def _ordered(instance: Instance, orders: dict[str, Any], deadline: float) -> str | None:
    """Give the supervisor its orders and lease what it started; the error when it could not."""
    if instance.lifeline is None or instance.supervisor is None:
        return "the sandbox was ended before"
    with contextlib.suppress(BrokenPipeError):  # the supervisor died: it does not answer below
        os.write(instance.lifeline, launch_program.message(orders))
    pid = _hear(instance, "pid", deadline)
    if not isinstance(pid, int):
        return "its supervisor did not answer"
    supervisor = instance.supervisor.pid
    instance.lease = replace(
        instance.lease,
        supervisor=lease.Process(supervisor, lease.started(supervisor)),
        server=lease.Process(pid, lease.started(pid)),
    )
    lease.write(instance.name, instance.lease)
    return str(instance.told["error"]) if "error" in instance.told else None


def _end_supervisor(instance: Instance) -> None:
    """Have the supervisor end the server and itself, and see that both did."""
    if instance.lifeline is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(instance.lifeline, b"stop\n")  # closing is not enough: a forked child may hold a copy
        os.close(instance.lifeline)
        instance.lifeline = None
    if instance.supervisor:
        with contextlib.suppress(process.TimeoutExpired):
            instance.supervisor.wait(10)
        limit(instance)  # hear it out: what ended the server may be asked for later
        process.end(instance.supervisor, grace_s=0.1)
        if instance.supervisor.stdout:
            instance.supervisor.stdout.close()
    lease.kill(instance.lease)


def _hear(instance: Instance, key: str, deadline: float) -> object | None:
    """What the supervisor told under `key`, waiting for it until the deadline or the supervisor's end."""
    with instance.lock:
        stream = instance.supervisor.stdout if instance.supervisor else None
        while key not in instance.told and stream and not stream.closed:
            ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(stream.fileno(), 1 << 16) if ready else b""
            if not data:
                break
            instance.pending += data
            *lines, instance.pending = instance.pending.split(b"\n")
            for line in lines:
                instance.told.update(launch_program.understood(line))
        return instance.told.get(key)


def ended(instance: Instance, deadline: float) -> int | None:
    """The exit code of a program that ends by itself; None when it still runs at the deadline."""
    code = _hear(instance, "exit_code", deadline)
    return code if isinstance(code, int) else None


def limit(instance: Instance) -> str | None:
    """The limit that ended the server, "memory" or "disk". Known before clients notice the end."""
    passed = _hear(instance, "limit", time.monotonic())
    return str(passed) if passed else None


def died(instance: Instance, what: str) -> ServerDied:
    """The error that tells how a server which no longer runs came to its end."""
    code = _hear(instance, "exit_code", time.monotonic() + 5)
    passed, log = limit(instance), instance.log()
    if passed:
        return ServerDied(
            f"{what}: it passed the sandbox's {passed} limit",
            log=log,
            exit_code=None,
            limit=passed,
            remedy=f"Raise sandbox.{passed} in provado.yaml, or run where there is more of it",
        )
    how = f"exit code {code}" if isinstance(code, int) else "of unknown cause"
    return ServerDied(f"{what} ({how})", log=log, exit_code=code if isinstance(code, int) else None)


def check(instance: Instance, what: str, deadline: float) -> None:
    """Raise ServerDied when the server has ended, SandboxError when the deadline has passed."""
    if not instance.alive():
        raise died(instance, f"{what} ended before it answered")
    if time.monotonic() > deadline:
        raise SandboxError(f"{what} did not answer before the deadline", remedy="Raise sandbox.timeout")


def lease_container(instance: Instance, name: str) -> None:
    """Note in the lease that a container belongs to the sandbox, before it is made."""
    instance.lease = replace(instance.lease, container=name)
    lease.write(instance.name, instance.lease)


def teardown(instance: Instance) -> Teardown:
    """End the server, remove its folder, look that nothing is left. Safe to call again and from anywhere."""
    with instance.lock:
        if instance.proof:
            return instance.proof
        _end_supervisor(instance)
        no_container = instance.container is None or instance.container()
        gone = folders.remove(instance.folder)
        server, supervisor = instance.lease.server, instance.lease.supervisor
        instance.proof = Teardown(
            process_gone=no_container and not any(p and p.alive() for p in (server, supervisor)),
            socket_gone=not any(s.exists() for s in instance.sockets),
            directory_gone=gone,
        )
        if instance.proof.complete:
            lease.drop(instance.name)
        with _LOCK:
            _LIVE.pop(instance.name, None)
        return instance.proof


def end_all() -> None:
    """Tear down every sandbox of this process that still lives. For signal handlers and the end of the run.

    In a forked child it does nothing: the sandboxes are its parent's.
    """
    with _LOCK:
        ends = list(_LIVE.values())
    for end in ends:
        end()


atexit.register(end_all)
os.register_at_fork(after_in_child=_LIVE.clear)
