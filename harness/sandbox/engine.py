"""The container engine: finding one without losing time when none runs, images, removal of containers."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import Future, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import SandboxError
from ..settings import SandboxSettings

_MAKING_S = 60.0
_DEFAULT_IMAGES = {
    "postgres": "postgres:{major}",
    "redis": "redis:{major}",
    "valkey": "valkey/valkey:{major}",
}


def address() -> str | None:
    """Where a container engine may listen: DOCKER_HOST, else a socket that exists; None costs no time.

    DOCKER_HOST is the engines' own convention, as PATH is the shell's; it is no setting of ours.
    """
    named = os.environ.get("DOCKER_HOST")
    if named:
        return named
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    for path in (
        "/var/run/docker.sock",
        f"{runtime}/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    ):
        if os.access(path, os.R_OK | os.W_OK):
            return f"unix://{path}"
    return None


def environment(where: str | None) -> dict[str, str]:
    """The engine's own variables (certificates ...), with its address."""
    named = {key: value for key, value in os.environ.items() if key.startswith("DOCKER_")}
    return {**named, "DOCKER_HOST": where or ""}


@lru_cache(maxsize=4)
def _connect(where: str) -> Any:
    import docker

    client = docker.from_env(timeout=5, environment=environment(where))
    client.ping()
    client.api.timeout = 120
    return client


def connect() -> Any | None:
    """A client of the engine, None when none answers within seconds."""
    where = address()
    if where is None or not _listens(where):
        return None
    try:
        return _connect(where)
    except Exception:
        return None


def _listens(where: str) -> bool:
    """False when nobody is behind a Unix socket: asked before the client library is even loaded."""
    if not where.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(where.removeprefix("unix://"))
        except OSError:
            return False
    return True


def shares_files() -> bool:
    """True when the engine is reached over a local socket, so that it may see the same files as we do."""
    return (address() or "").startswith("unix://")


def image_name(engine: str, major: int | str, settings: SandboxSettings) -> str:
    """The image for a server; `{major}` in a configured name stands for the wanted major version."""
    configured = {str(k): v for k, v in settings.images.items()}.get(engine)
    return (configured or _DEFAULT_IMAGES[engine]).format(major=major)


def local_image(client: Any, name: str) -> Any | None:
    """The image when the engine already has it."""
    import docker.errors

    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None


def pull(client: Any, name: str, deadline: float) -> Any:
    """Fetch an image from its registry. Raises SandboxError when that fails or takes too long."""
    outcome: list[Any] = []

    def fetch() -> None:
        try:
            outcome.append(client.images.pull(name))
        except Exception as error:
            outcome.append(error)

    worker = threading.Thread(target=fetch, daemon=True)
    worker.start()
    worker.join(max(0.0, min(600.0, deadline - time.monotonic())))
    if outcome and not isinstance(outcome[0], Exception):
        return outcome[0]
    why = f": {getattr(outcome[0], 'explanation', outcome[0])}" if outcome else " in time"
    raise SandboxError(
        f"the image {name} is not here and could not be fetched{why}",
        remedy=f"Fetch it where a registry can be reached (docker pull {name}), or name another with "
        "--image or sandbox.images",
    )


def digest(image: Any) -> str:
    """What identifies the image's content: the registry's digest, else the engine's id of it."""
    digests = image.attrs.get("RepoDigests") or []
    return str(digests[0]).partition("@")[2] if digests else str(image.id)


def ask(box: Any, answer: Future[None]) -> None:
    """Have the engine make and start testcontainers' `box`, in a thread that no signal interrupts.

    The engine goes on making a container when whoever asked for it is gone: who is interrupted must wait for
    the answer (`remove_container`), or the container would appear after it was looked for.
    """

    def begin() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            try:
                box.start()
            finally:
                box.get_docker_client().client.close()
        except BaseException as error:
            answer.set_exception(error)
        else:
            answer.set_result(None)

    threading.Thread(target=begin, name="provado-container", daemon=True).start()


def remove_container(name: str, answer: Future[None] | None = None) -> bool:
    """Remove a container with its volumes; True when there is none of that name (any more).

    `answer` is the engine's to being asked for it: waited for when it was asked, else it is not asked.
    """
    import docker.errors

    if answer and not answer.cancel():
        wait([answer], _MAKING_S)
    client = connect()
    if client is None:
        return False
    try:
        client.containers.get(name).remove(force=True, v=True)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError as error:
        if error.status_code != 409:  # being removed already
            return False
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            client.containers.get(name)
        except docker.errors.NotFound:
            return True
        time.sleep(0.05)
    return False


def has_container(name: str) -> bool:
    """Whether the engine has a container of that name now; False also when it does not answer."""
    import docker.errors

    client = connect()
    try:
        return client is not None and bool(client.containers.get(name))
    except docker.errors.APIError:
        return False


def no_engine() -> SandboxError:
    """The error when a container is asked for and no engine answers."""
    where = address()
    looked = f"the one at {where} does not answer" if where else "no Docker or Podman socket is here"
    return SandboxError(
        f"no container engine can be used: {looked}",
        remedy="Start Docker or Podman (or set DOCKER_HOST), or use --sandbox local",
    )


def name_of(client: Any) -> str:
    """`docker` or `podman`."""
    components = client.version().get("Components") or []
    return "podman" if any("podman" in str(c.get("Name", "")).lower() for c in components) else "docker"


def volume_folders(container: Any) -> list[Path]:
    """Folders on this machine in which the container's own volumes lie, where we may read them."""
    sources = [m.get("Source", "") for m in container.attrs.get("Mounts", ()) if m.get("Type") == "volume"]
    return [Path(s) for s in sources if s and os.access(s, os.R_OK | os.X_OK)]
