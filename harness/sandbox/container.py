"""Sandboxes in containers, by way of testcontainers and any Docker-compatible engine.

When the engine sees our files (the usual case) a container has no network at all: its Unix socket lies in a
folder that both sides see. Otherwise its port is published on the loopback address, and the evidence says so.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..errors import SandboxError
from ..model import SandboxInfo
from ..redact import Secret
from ..settings import SandboxSettings
from . import clients, engine, instance, launch
from .base import PostgresRequest, RedisRequest, Server, ServerDied
from .choose import Image
from .tuning import NOT_FROM_BACKUP, own_files, postgres_tuning, redis_tuning

_RUN, _SHARED, _GO, _CONFIG = "/provado/run", "/provado/shared", "/tmp/provado-go", "/tmp/provado.conf"  # noqa: S108
# Runs first, as root, in the container: shows that it sees our folder, waits for files that are copied in.
_BEGIN = (
    f"(: >{_SHARED}/.here) 2>/dev/null; "
    f'while [ -n "$PROVADO_WAIT" ] && [ ! -e {_GO} ]; do sleep 0.02; done; '
    'if command -v docker-entrypoint.sh >/dev/null; then exec docker-entrypoint.sh "$@"; fi; exec "$@"'
)
# What the official images need to give their data folder to the server's user and become it.
_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]


@contextlib.contextmanager
def postgres(
    choice: Image, request: PostgresRequest, settings: SandboxSettings, *, deadline: float
) -> Iterator[Server]:
    """A PostgreSQL server in a container. Raises SandboxError when it does not start or does not fit."""
    client, image = _image(choice, deadline)
    tuning = postgres_tuning(int(choice.version.split(".")[0]), request, settings)
    password = Secret(secrets.token_hex(24))
    environment = {
        "POSTGRES_PASSWORD": password.reveal(),
        "POSTGRES_INITDB_ARGS": "--no-sync --auth-local=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8",
    }

    own = own_files(request) if request.data else {}  # else the image's: its first steps need them

    def command(sockets: bool) -> list[str]:
        options = {**tuning, "listen_addresses": "" if sockets else "*"}
        if sockets:
            options["unix_socket_directories"] = _RUN
            options |= {setting: f"/tmp/{setting}.conf" for setting in own}  # noqa: S108 - in the container
        return ["postgres", *(part for key, value in options.items() for part in ("-c", f"{key}={value}"))]

    with _running(client, choice.name, environment, command, 5432, settings, deadline) as box:
        if request.data:
            if not box.sockets:
                raise SandboxError("a base backup can only be started where the engine sees our files")
            variables = dict(v.partition("=")[::2] for v in image.attrs["Config"]["Env"])
            box.copy_in(request.data, variables["PGDATA"], NOT_FROM_BACKUP)
            for setting, content in own.items():
                box.put(f"/tmp/{setting}.conf", content.encode())  # noqa: S108
        box.go()
        host, port = box.address(5432)
        database = "template1" if request.data else "postgres"
        version = clients.wait_postgres(
            host,
            port,
            password,
            lambda: box.check(deadline),
            database=database,
            user=request.superuser,
            main_process=True,
        )
        lack = clients.lack(host, port, password, database, request)
        if lack:
            raise SandboxError(
                f"PostgreSQL {version} {lack}",
                where=choice.name,
                remedy="Name a fitting image with --image postgres=NAME ({major} stands for the version)",
            )
        yield box.server(
            _info(client, version, choice.name, image, box.containment, tuning),
            host=host,
            port=port,
            user=request.superuser,
            password=password,
            database=database,
        )


@contextlib.contextmanager
def redis(
    choice: Image, request: RedisRequest, settings: SandboxSettings, *, deadline: float
) -> Iterator[Server]:
    """A Redis or Valkey server in a container, with a copy of `request.data` in its data folder."""
    client, image = _image(choice, deadline)
    password = Secret(secrets.token_hex(24))
    tuning = redis_tuning(request)

    def command(sockets: bool) -> list[str]:
        fixed = {"dir": "/data", "protected-mode": "no", "daemonize": "no", "logfile": "", "port": "6379"}
        if sockets:
            fixed |= {"port": "0", "unixsocket": f"{_RUN}/redis.sock", "unixsocketperm": "777"}
        pairs = {**tuning, **fixed}.items()
        return [f"{choice.engine}-server", _CONFIG, *(part for k, v in pairs for part in (f"--{k}", v))]

    with _running(client, choice.name, {}, command, 6379, settings, deadline) as box:
        if request.data:
            box.copy_in(request.data, "/data")
        box.put(_CONFIG, f"requirepass {password.reveal()}\n".encode())
        box.go()
        host, port = box.address(6379)
        socket = f"{host}/redis.sock" if box.sockets else None
        version = clients.wait_redis(host, port, socket, password, lambda: box.check(deadline))
        yield box.server(
            _info(client, version, choice.name, image, box.containment, tuning),
            host=host,
            port=0 if socket else port,
            user="default",
            password=password,
            unix_socket=socket,
        )


def _image(choice: Image, deadline: float) -> tuple[Any, Any]:
    """The engine's client, and the image, fetched when it is not here."""
    client = engine.connect()
    if client is None:
        raise engine.no_engine()
    return client, engine.local_image(client, choice.name) or engine.pull(client, choice.name, deadline)


def _info(
    client: Any, version: str, name: str, image: Any, containment: tuple[str, ...], tuning: dict[str, str]
) -> SandboxInfo:
    return SandboxInfo(
        "container", version, engine.name_of(client), name, engine.digest(image), containment, tuning
    )


class _Box:
    """A running container and the folder it shares with us."""

    def __init__(self, made: instance.Instance, container: Any, sockets: bool, disk: int) -> None:
        self.made, self.container, self.sockets = made, container, sockets
        self.limit: str | None = None
        self.last_log = ""
        self.over = threading.Event()
        container.reload()
        self.volumes = engine.volume_folders(container)
        network = (
            "no network (Unix socket only)" if sockets else "loopback port published; network not blocked"
        )
        watched = (
            "disk limit" if self.volumes else "disk limit not enforced (volumes cannot be seen from here)"
        )
        self.containment = (
            network,
            "capabilities dropped",
            "no new privileges",
            "memory and process limits",
            watched,
        )
        if self.volumes:
            threading.Thread(target=self._watch, args=(disk,), daemon=True).start()

    def _watch(self, disk: int) -> None:
        pause = 0.5
        while not self.over.wait(pause):
            began = time.monotonic()
            if sum(launch.disk_bytes(str(v)) for v in (*self.volumes, self.made.folder)) > disk:
                self.limit = "disk"
                with contextlib.suppress(Exception):  # it may be gone already
                    self.container.kill()
                return
            pause = max(0.5, 20 * (time.monotonic() - began))

    def go(self) -> None:
        """Let the server start."""
        self.put(_GO, b"")

    def put(self, path: str, content: bytes) -> None:
        """Write one small file in the container."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(path.rpartition("/")[2])
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
        self.container.put_archive(path.rpartition("/")[0], buffer.getvalue())

    def copy_in(self, source: Path, target: str, leave_out: frozenset[str] = frozenset()) -> None:
        """Stream a folder's content into the container, without holding it in memory."""
        read, write = os.pipe()

        def pack() -> None:
            with os.fdopen(write, "wb") as sink, tarfile.open(fileobj=sink, mode="w|") as archive:
                for entry in sorted(e for e in source.iterdir() if e.name not in leave_out):
                    archive.add(entry, arcname=entry.name, filter=_plain)

        worker = threading.Thread(target=pack, daemon=True)
        worker.start()
        with os.fdopen(read, "rb") as stream:
            self.container.put_archive(target, iter(lambda: stream.read(1 << 20), b""))
        worker.join()

    def address(self, port: int) -> tuple[str, int]:
        """Host (a socket directory, or the loopback address) and port to connect to."""
        if self.sockets:
            return str(self.made.folder / "run"), port
        self.container.reload()
        bound = self.container.ports.get(f"{port}/tcp") or [{}]
        return "127.0.0.1", int(bound[0].get("HostPort", 0))

    def alive(self) -> bool:
        """True while the container runs."""
        if self.made.proof:
            return False
        with contextlib.suppress(Exception):  # no answer, or removed: not alive
            self.container.reload()
            return bool(self.container.status == "running")
        return False

    def passed(self) -> str | None:
        """The limit that ended the server, if one did. The engine tells so a moment after clients notice."""
        until = time.monotonic() + 1
        while self.limit is None and time.monotonic() < until:
            self.alive()
            # PostgreSQL outlives the kernel's killing of one of its processes, and starts anew, empty-handed.
            killed = "was terminated by signal 9" in self.log()
            if killed or self.container.attrs.get("State", {}).get("OOMKilled"):
                self.limit = "memory"
            time.sleep(0.05)
        return self.limit

    def log(self) -> str:
        """The end of the server's output; what was last seen once the container is gone."""
        with contextlib.suppress(Exception):
            self.last_log = self.container.logs(tail=2000).decode("utf-8", "replace")[-(256 << 10) :]
        return self.last_log

    def check(self, deadline: float) -> None:
        """Raise ServerDied when the server has ended, SandboxError past the deadline."""
        if not self.alive():
            limit, code = self.passed(), self.container.attrs.get("State", {}).get("ExitCode")
            raise ServerDied(
                f"the server in the container ended before it answered (exit code {code})",
                log=self.log(),
                exit_code=code,
                limit=limit,
                remedy=f"Raise sandbox.{limit} in provado.yaml" if limit else None,
            )
        if time.monotonic() > deadline:
            raise SandboxError(
                "the server in the container did not answer before the deadline",
                remedy="Raise sandbox.timeout",
            )

    def server(self, info: SandboxInfo, **where: Any) -> Server:
        """The handle that components work with."""
        shared = self.made.folder / "shared" if self.sockets else None
        return Server(
            info=info,
            shared=shared,
            shared_inside=_SHARED if shared else None,
            alive=self.alive,
            log=self.log,
            limit=self.passed,
            teardown=lambda: instance.teardown(self.made),
            **where,
        )


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Folders and plain files only, owned by root and readable by the server's user."""
    if not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


@contextlib.contextmanager
def _running(
    client: Any,
    image: str,
    environment: dict[str, str],
    command: Callable[[bool], list[str]],
    port: int,
    settings: SandboxSettings,
    deadline: float,
) -> Iterator[_Box]:
    """A started container: over a shared socket folder when the engine sees our files, else over loopback."""
    for sockets in (True, False) if engine.shares_files() else (False,):
        made = instance.create(None)
        made.folder.chmod(0o700)  # the engine mounts the folders below; nobody has to walk here
        box: _Box | None = None
        try:
            container = _start(client, made, image, environment, command(sockets), port, settings, sockets)
            box = _Box(made, container, sockets, settings.disk)
            if sockets and not _seen(made.folder / "shared" / ".here", box, deadline):
                continue
            yield box
            return
        finally:
            if box:
                box.over.set()
                box.log()
            instance.teardown(made)


def _seen(marker: Path, box: _Box, deadline: float) -> bool:
    """Whether what the container writes into the shared folder arrives here."""
    until = min(deadline, time.monotonic() + 5)
    while time.monotonic() < until:
        if marker.exists():
            marker.unlink()
            return True
        if not box.alive():
            box.check(deadline)
        time.sleep(0.01)
    return False


def _start(
    client: Any,
    made: instance.Instance,
    image: str,
    environment: dict[str, str],
    command: list[str],
    port: int,
    settings: SandboxSettings,
    sockets: bool,
) -> Any:
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    testcontainers_config.ryuk_disabled = True  # our leases sweep; its helper wants the engine's socket
    label = f"provado-{made.name}"
    instance.lease_container(made, label)
    arguments: dict[str, Any] = {
        "detach": True,
        "cap_drop": ["ALL"],
        "cap_add": _CAPABILITIES,
        "security_opt": ["no-new-privileges"],
        "mem_limit": settings.memory,
        "memswap_limit": settings.memory,
        "pids_limit": 512,
        "shm_size": settings.memory // 4,
        "labels": {"provado.sandbox": made.name},
    }
    box = DockerContainer(
        image, docker_client_kw={"timeout": 120, "environment": engine.environment(engine.address())}
    )
    if sockets:
        for name, inside in (("run", _RUN), ("shared", _SHARED)):
            folder = made.folder / name
            folder.mkdir()
            folder.chmod(0o1777)  # the container's user is not ours; the folder above lets nobody in
            box.with_volume_mapping(folder, inside, "rw")
        arguments["network"] = "none"
        made.sockets = (made.folder / "run" / ".s.PGSQL.5432", made.folder / "run" / "redis.sock")
    else:
        box.ports[f"{port}/tcp"] = ("127.0.0.1", None)  # type: ignore[assignment]
    box.with_name(label).with_kwargs(**arguments).with_envs(**environment, PROVADO_WAIT="1")
    box.with_command(["sh", "-c", _BEGIN, "sh", *command])
    answer: Future[None] = Future()
    made.container = lambda: engine.remove_container(label, answer)
    try:
        engine.ask(box, answer)
        answer.result()
        return client.containers.get(label)
    except Exception as error:
        raise SandboxError(
            f"the container engine could not start {image}: {error}",
            remedy="See whether the image runs at all (docker run), or use --sandbox local",
        ) from None
