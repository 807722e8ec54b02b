"""Throwaway servers for restores: `postgres_sandbox`, `redis_sandbox`, and the tools that come with them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from ..errors import ProvadoError, SandboxError
from ..settings import SandboxSettings
from . import choose, container, engine, folders, lease, local
from .base import PostgresRequest, Provider, RedisRequest, Server, ServerDied
from .binaries import Binaries, find_tool, find_tools, postgres_servers, redis_servers
from .instance import end_all

_MAKING_S = 120.0

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

    def open_(choice: choose.Choice) -> AbstractContextManager[Server]:
        if isinstance(choice, Binaries):
            return local.postgres(choice, request, settings, deadline=deadline)
        return container.postgres(choice, request, settings, deadline=deadline)

    def died(choice: choose.Choice, error: ServerDied) -> str | None:
        return None if request.data else f"{_named(choice)} did not serve: {error.what}"

    options = choose.postgres_options(request, settings)
    lack = partial(choose.no_postgres, request, settings)
    with _first_that_serves(options, open_, died, lack, deadline) as server:
        yield server


@contextlib.contextmanager
def redis_sandbox(request: RedisRequest, settings: SandboxSettings, *, deadline: float) -> Iterator[Server]:
    """A Redis or Valkey server that loads the request's RDB version, until the block is left.

    Raises ServerDied when the server ends while loading (the backup may be why), SandboxError when this
    machine has no server that fits.
    """

    def open_(choice: choose.Choice) -> AbstractContextManager[Server]:
        if isinstance(choice, Binaries):
            return local.redis(choice, request, settings, deadline=deadline)
        return container.redis(choice, request, settings, deadline=deadline)

    def died(choice: choose.Choice, error: ServerDied) -> str | None:
        too_old = "Can't handle RDB format version" in error.log
        return f"{_named(choice)} is too old for it" if too_old else None

    options = choose.redis_options(request, settings)
    lack = partial(choose.no_redis, request, settings)
    with _first_that_serves(options, open_, died, lack, deadline) as server:
        yield server


@contextlib.contextmanager
def _first_that_serves(
    options: choose.Options,
    open_: Callable[[choose.Choice], AbstractContextManager[Server]],
    died: Callable[[choose.Choice, ServerDied], str | None],
    lack: Callable[[list[str]], SandboxError],
    deadline: float,
) -> Iterator[Server]:
    """The first of the choices that opens. `died` says what a server's early end means for the search, None
    when it ends the search; `lack` is the error when none is left, told what was looked at."""
    looked_at = list(options.refused)
    with contextlib.ExitStack() as stack:
        for choice in options.choices:
            if time.monotonic() > deadline:
                raise choose.too_late(looked_at)
            try:
                server = stack.enter_context(open_(choice))
            except ServerDied as error:
                why = died(choice, error)
                if why is None:
                    raise
                looked_at.append(why)
            except (ProvadoError, OSError) as error:
                looked_at.append(f"{_named(choice)} did not serve: {_what(error)}")
            else:
                break
        else:
            raise choose.too_late(looked_at) if time.monotonic() > deadline else lack(looked_at)
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
        there = left.container is None or engine.has_container(left.container)
        if left.container and not engine.remove_container(left.container):
            continue  # the engine does not answer now; the lease stays for the next run
        seen = Path(left.folder).exists()
        if not folders.remove(Path(left.folder)):
            continue
        if there or lease.age_s(name) > _MAKING_S:  # else the engine may still be making the container
            lease.drop(name)
        if seen:
            removed.append(f"sandbox {left.folder} of a run that ended without cleaning up")
    return removed


def _what(error: ProvadoError | OSError) -> str:
    return error.what if isinstance(error, ProvadoError) else str(error)


def _named(choice: choose.Choice) -> str:
    if isinstance(choice, Binaries):
        return f"{choice.engine} {choice.version} ({choice.provider})"
    return f"the image {choice.name}"
