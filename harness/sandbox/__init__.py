"""Throwaway servers for restores: `postgres_sandbox`, `redis_sandbox`, and the tools that come with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..settings import SandboxSettings
from . import choose, folders, lease, local
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

    Raises SandboxError, naming what was looked at and the remedy, when this machine has none.
    """
    fitting = choose.postgres_binaries(request, settings)
    if not fitting:
        raise choose.no_postgres(request, [_named(b) for b in postgres_servers(settings.postgres_bin)])
    with local.postgres(fitting[0], settings, deadline=deadline) as server:
        yield server


@contextlib.contextmanager
def redis_sandbox(request: RedisRequest, settings: SandboxSettings, *, deadline: float) -> Iterator[Server]:
    """A Redis or Valkey server that loads the request's RDB version, until the block is left.

    Raises ServerDied when the server ends while loading (the backup may be why), SandboxError when this
    machine has no server that fits.
    """
    fitting = choose.redis_binaries(request, settings)
    if not fitting:
        raise choose.no_redis(request, [_named(b) for b in redis_servers(settings.redis_bin)])
    with local.redis(fitting[0], request, settings, deadline=deadline) as server:
        yield server


def providers(settings: SandboxSettings) -> tuple[Provider, ...]:
    """Every way this machine has to get a server, for `provado doctor`."""
    found = (*postgres_servers(settings.postgres_bin), *redis_servers(settings.redis_bin))
    return tuple(Provider(b.engine, "local", b.provider, b.version, str(b.server.parent)) for b in found)


def sweep() -> list[str]:
    """End what crashed runs of this user left behind; returns what was removed, in words."""
    removed = []
    for name, left in lease.left_over():
        lease.kill(left)
        if folders.remove(Path(left.folder)):
            lease.drop(name)
            removed.append(f"sandbox {left.folder} of a run that ended without cleaning up")
    return removed


def _named(server: Binaries) -> str:
    return f"{server.engine} {server.version} ({server.provider})"
