"""Sandboxes from binaries on this machine: PostgreSQL, Redis and Valkey under the supervisor."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .. import process
from ..errors import SandboxError
from ..model import SandboxInfo
from ..process import User
from ..redact import Secret
from ..settings import SandboxSettings
from . import clients, folders, instance, template
from .base import PostgresRequest, RedisRequest, Server
from .binaries import Binaries
from .tuning import NOT_FROM_BACKUP, own_files, postgres_tuning, redis_tuning

_FREE_USERS = range(61184, 65520)  # what systemd hands out to services that want a user for a while


def initdb_user() -> User | None:
    """Who runs initdb: ourselves, or `nobody` when we are root. initdb wants a name in the user database."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam("nobody")
        if _mapped(entry.pw_uid):
            return User(entry.pw_uid, entry.pw_gid)
    raise SandboxError(
        "we are root, and there is no user `nobody` here to run a server as (servers refuse to be root)",
        remedy="Run as an ordinary user",
    )


def server_user() -> User | None:
    """Whom a server runs as: ourselves, or, when we are root, a user id that nobody else here uses."""
    if os.geteuid() != 0:
        return None
    taken = set()
    for entry in os.scandir("/proc"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            taken.add(entry.stat().st_uid)
    for _ in range(20):
        uid = secrets.choice(_FREE_USERS)
        if uid not in taken and _mapped(uid):
            try:
                pwd.getpwuid(uid)
            except KeyError:
                return User(uid, uid)
    return initdb_user()


def _mapped(number: int) -> bool:
    """False in a user namespace that does not know the id as user and group (rootless containers)."""
    for kind in ("uid", "gid"):
        lines = Path(f"/proc/self/{kind}_map").read_text("ascii").splitlines()
        ranges = [[int(n) for n in line.split()] for line in lines]
        if not any(first <= number < first + count for first, _, count in ranges):
            return False
    return True


@contextlib.contextmanager
def postgres(
    server: Binaries, request: PostgresRequest, settings: SandboxSettings, *, deadline: float
) -> Iterator[Server]:
    """A PostgreSQL server from local binaries, tuned for restoring and throwing away."""
    user = server_user()
    server = accessible(server, user)
    base = None if request.data else template.template(server, initdb_user(), deadline=deadline)
    made = instance.create(user)
    try:
        data, run = made.folder / f"data-{made.name}", instance.subfolder(made, "run")
        shared = instance.shared_folder(made)
        instance.spawn(made)
        if base:
            template.copy_tree(base.data, data, user)
        elif request.data:
            template.copy_tree(request.data, data, user, leave_out=NOT_FROM_BACKUP)
        own = {}
        for setting, content in own_files(request).items():
            path = made.folder / f"{setting}.conf"
            path.write_text(content, "ascii")
            path.chmod(0o644)
            own[setting] = str(path)
        tuning = postgres_tuning(server.major, request, settings)
        options = {
            **tuning,
            **own,
            "listen_addresses": "",
            "unix_socket_directories": str(run),
            "unix_socket_permissions": "0700",
            "dynamic_shared_memory_type": "mmap",
        }
        made.sockets = (run / ".s.PGSQL.5432",)
        argv = [str(server.server), "-D", str(data)]
        for key, value in options.items():
            argv += ["-c", f"{key}={value}"]
        instance.launch(
            made,
            argv,
            env=process.base_env({"HOME": str(made.folder), "TZ": "UTC"}),
            cwd=data,
            needs=server.needs,
            memory=settings.memory,
            disk=settings.disk,
            stop_signal=signal.SIGQUIT,
            deadline=deadline,
        )
        password = Secret(secrets.token_hex(24))
        name = f"PostgreSQL {server.version}"
        clients.wait_postgres(
            str(run),
            5432,
            base.password if base else password,
            lambda: instance.check(made, name, deadline),
            database="postgres" if base else "template1",  # a restored cluster need not have the former
            user=request.superuser,
            fresh=password if base else None,
        )
        yield Server(
            info=SandboxInfo("local", server.version, server.provider, None, None, made.containment, tuning),
            host=str(run),
            port=5432,
            user=request.superuser,
            password=password,
            database="postgres" if base else "template1",
            shared=shared,
            shared_inside=str(shared),
            alive=made.alive,
            log=made.log,
            limit=lambda: instance.limit(made),
            teardown=lambda: instance.teardown(made),
        )
    finally:
        instance.teardown(made)


@contextlib.contextmanager
def redis(
    server: Binaries, request: RedisRequest, settings: SandboxSettings, *, deadline: float
) -> Iterator[Server]:
    """A Redis or Valkey server from local binaries, with a copy of `request.data` in its folder."""
    user = server_user()
    server = accessible(server, user)
    made = instance.create(user)
    try:
        run, data = instance.subfolder(made, "run"), instance.subfolder(made, f"data-{made.name}")
        instance.spawn(made)
        if request.data:
            shutil.rmtree(data)
            template.copy_tree(request.data, data, user)
        socket = run / "redis.sock"
        made.sockets = (socket,)
        password = Secret(secrets.token_hex(24))
        tuning = redis_tuning(request)
        fixed = {
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "dir": str(data),
            "daemonize": "no",
            "protected-mode": "yes",
            "logfile": "",
            "pidfile": "",
        }
        # The password stands in a file: the command line is for everybody to read.
        config = made.folder / "server.conf"
        config.touch(mode=0o600)
        if user:
            os.chown(config, user.uid, user.gid)
        config.write_text(f"requirepass {password.reveal()}\n", "ascii")
        argv = [str(server.server), str(config)]
        for key, value in {**tuning, **fixed}.items():
            argv += [f"--{key}", value]
        instance.launch(
            made,
            argv,
            env=process.base_env({"HOME": str(made.folder)}),
            cwd=data,
            needs=server.needs,
            memory=settings.memory,
            disk=settings.disk,
            stop_signal=signal.SIGKILL,
            deadline=deadline,
        )
        name = f"{server.engine} {server.version}"
        clients.wait_redis("", 0, str(socket), password, lambda: instance.check(made, name, deadline))
        yield Server(
            info=SandboxInfo("local", server.version, server.provider, None, None, made.containment, tuning),
            host=str(run),
            port=0,
            user="default",
            password=password,
            unix_socket=str(socket),
            shared=data,
            shared_inside=str(data),
            alive=made.alive,
            log=made.log,
            limit=lambda: instance.limit(made),
            teardown=lambda: instance.teardown(made),
        )
    finally:
        instance.teardown(made)


def _link_or_copy(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)


def accessible(server: Binaries, user: User | None) -> Binaries:
    """`server` where the unprivileged user can run it: a copy in the cache when it lies in a closed folder.

    Typical: root's virtual environment below /root. The permissions there are not ours to change.
    """
    if user is None or folders.reachable(server.server):
        return server
    status = server.server.stat()
    name = f"{server.provider}-{server.version}-{status.st_size}-{status.st_mtime_ns}"
    place = folders.cache() / "servers" / name
    if not place.is_dir():
        place.parent.mkdir(mode=0o755, exist_ok=True)
        fresh = place.with_name(f".{name}-{os.getpid()}")
        for path in server.needs:
            shutil.copytree(path, fresh / path.name, symlinks=True, copy_function=_link_or_copy)
        try:
            fresh.rename(place)
        except OSError:  # another run was faster
            shutil.rmtree(fresh)
    moved = place / server.server.relative_to(server.needs[0].parent)
    if not folders.reachable(moved):
        raise SandboxError(
            f"an unprivileged user cannot run {server.server}, nor its copy in {place}",
            remedy="Install the server's package system-wide, or run as an ordinary user",
        )
    return replace(server, server=moved, needs=(place,))
