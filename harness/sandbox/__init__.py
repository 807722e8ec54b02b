"""Throwaway servers for restores: `postgres_sandbox`, `redis_sandbox`, and the tools that come with them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ProvadoError
from ..settings import SandboxSettings
from . import choose, container, engine, folders, lease, local
from .base import PostgresRequest, Provider, RedisRequest, Server, ServerDied
from .binaries import Binaries, find_tool, find_tools, postgres_servers, redis_servers
from .instance import end_all

__all__ = [
    "PostgresRequest",
    "Provider",
    "RedisRequest",
    "Server",
    "ServerDied",
    "end_all",
    "find_tool",
    "find_tools",
    "postgres_sandbox",
    "providers",
    "redis_sandbox",
    "sweep",
]


@contextlib.contextmanager
def postgres_sandbox(
    request: PostgresRequest, settings: SandboxSettings, *, deadline: float
) -> Iterator[Server]:
    """A PostgreSQL server that fits the request, until the block is left; `deadline` in monotonic seconds.

    Tries the fitting servers in the order of DESIGN section 4. Raises SandboxError, naming what was looked
    at and the remedy, when this machine has none.
    """
    options = choose.postgres_options(request, settings)
    looked_at = list(options.refused)
    with contextlib.ExitStack() as stack:
        for choice in options.choices:
            if time.monotonic() > deadline:
                raise choose.too_late(looked_at)
            try:
                if isinstance(choice, Binaries):
                    start = local.postgres(choice, request, settings, deadline=deadline)
                else:
                    start = container.postgres(choice, request, settings, deadline=deadline)
                server = stack.enter_context(start)
            except ServerDied as error:
                if request.data:
                    raise
                looked_at.append(f"{_named(choice)} did not serve: {error.what}")
            except (ProvadoError, OSError) as error:
                looked_at.append(f"{_named(choice)} did not serve: {_what(error)}")
            else:
                break
        else:
            late = time.monotonic() > deadline
            raise choose.too_late(looked_at) if late else choose.no_postgres(request, settings, looked_at)
        yield server


@contextlib.contextmanager
def redis_sandbox(request: RedisRequest, settings: SandboxSettings, *, deadline: float) -> Iterator[Server]:
    """A Redis or Valkey server that loads the request's RDB version, until the block is left.

    Raises ServerDied when the server ends while loading (the backup may be why), SandboxError when this
    machine has no server that fits.
    """
    options = choose.redis_options(request, settings)
    looked_at = list(options.refused)
    with contextlib.ExitStack() as stack:
        for choice in options.choices:
            if time.monotonic() > deadline:
                raise choose.too_late(looked_at)
            try:
                if isinstance(choice, Binaries):
                    start = local.redis(choice, request, settings, deadline=deadline)
                else:
                    start = container.redis(choice, request, settings, deadline=deadline)
                server = stack.enter_context(start)
            except ServerDied as error:
                if "Can't handle RDB format version" not in error.log:
                    raise
                looked_at.append(f"{_named(choice)} is too old for it")
            except (ProvadoError, OSError) as error:
                looked_at.append(f"{_named(choice)} did not serve: {_what(error)}")
            else:
                break
        else:
            late = time.monotonic() > deadline
            raise choose.too_late(looked_at) if late else choose.no_redis(request, settings, looked_at)
        yield server


def providers(settings: SandboxSettings) -> tuple[Provider, ...]:
    """Every way this machine has to get a server, for `provado doctor`: binaries, and images at hand."""
    found = (*postgres_servers(settings.postgres_bin), *redis_servers(settings.redis_bin))
    local_ones = [Provider(b.engine, "local", b.provider, b.version, str(b.server.parent)) for b in found]
    client = engine.connect()
    if client is None:
        return tuple(local_ones)
    name = engine.name_of(client)
    images = [
        Provider(kind, "container", name, "", tag)
        for tag in sorted(tag for image in client.images.list() for tag in image.tags)
        for kind in ("postgres", "redis", "valkey")
        if tag.rpartition("/")[2].partition(":")[0] == kind
    ]
    return (*local_ones, *images)


def sweep() -> list[str]:
    """End what crashed runs of this user left behind; returns what was removed, in words."""
    removed = []
    for name, left in lease.left_over():
        lease.kill(left)
        if left.container and not engine.remove_container(left.container):
            continue  # the engine does not answer now; the lease stays for the next run
        if folders.remove(Path(left.folder)):
            lease.drop(name)
            removed.append(f"sandbox {left.folder} of a run that ended without cleaning up")
    return removed


def _what(error: ProvadoError | OSError) -> str:
    return error.what if isinstance(error, ProvadoError) else str(error)


def _named(choice: choose.Choice) -> str:
    if isinstance(choice, Binaries):
        return f"{choice.engine} {choice.version} ({choice.provider})"
    return f"the image {choice.name}"
