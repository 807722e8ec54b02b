"""Which servers serve a request, best first, and why the others do not (the order of DESIGN section 4)."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .. import process
from ..errors import SandboxError, ToolError
from ..settings import SandboxSettings
from . import engine
from .base import FEATURES, PostgresRequest, RedisRequest
from .binaries import Binaries, postgres_servers, redis_servers

_NEWEST_POSTGRES = 18
# RDB version -> the oldest Redis that loads it (FACTS.md; tried with every writer), and its image's tag.
_REDIS_FOR_RDB = {10: ((7, 0), "7"), 11: ((7, 2), "7.2"), 12: ((7, 4), "7.4")}
_NEWEST_RDB = 12


@dataclass(frozen=True)
class Image:
    """A container image to run: the server (`postgres`, `redis`, `valkey`) and the tag's version."""

    engine: str
    version: str
    name: str
    local: bool


Choice = Binaries | Image


@dataclass(frozen=True)
class Options:
    """Servers to try in turn, and in words what was looked at and does not fit."""

    choices: tuple[Choice, ...]
    refused: tuple[str, ...]


def postgres_options(request: PostgresRequest, settings: SandboxSettings) -> Options:
    """The order: explicit path, system server of the same major, image at hand, wheel of the same major,
    newer servers by age, image to be fetched. Without a known major the newest server comes first."""
    if request.data and not request.exact:
        request = replace(request, exact=True)
    if settings.kind == "container":
        image = _postgres_image(request, settings)
        if image is None:
            raise engine.no_engine()
        return Options((image,), ())
    fitting: list[Binaries] = []
    refused: list[str] = []
    for server in postgres_servers(settings.postgres_bin):
        if settings.postgres_bin and server.provider != "path":
            continue
        lack = _lack(server, request)
        if lack:
            refused.append(f"PostgreSQL {server.version} ({server.provider}) {lack}")
        else:
            fitting.append(server)
    if settings.postgres_bin or settings.kind == "local":
        return Options(tuple(_by_age(fitting, request)), tuple(refused))
    same = [s for s in fitting if s.major == request.major] if request.major else _by_age(fitting, request)
    choices: list[Choice] = [*(s for s in same if not s.wheel or not request.major)]
    image = None if choices else _postgres_image(request, settings)
    at_hand = image is not None and image.local and image.version == str(request.major or image.version)
    choices += [image] if image and at_hand else []
    choices += [s for s in _by_age(fitting, request) if s not in choices]
    choices += [image] if image and not at_hand else []
    return Options(tuple(choices), tuple(refused))


def _by_age(servers: list[Binaries], request: PostgresRequest) -> list[Binaries]:
    if request.major is None:
        return sorted(servers, key=lambda s: (s.numbers, not s.wheel), reverse=True)
    return sorted(servers, key=lambda s: (s.major, s.wheel))


def _lack(server: Binaries, request: PostgresRequest) -> str | None:
    """Why a server cannot take the restore, in words that follow its name; None when it can."""
    if request.major and server.major < request.major:
        return f"is older than the source ({request.major})"
    if request.major and request.exact and server.major != request.major:
        return f"is not the source's major version ({request.major})"
    missing = sorted(name for name in request.extensions if not _has_extension(server, name))
    if missing:
        return f"lacks the extension {', '.join(missing)}"
    without = sorted(name for name in request.features if not _has(server.server, FEATURES[name][0]))
    return f"is built without {', '.join(without)}" if without else None


def _has_extension(server: Binaries, name: str) -> bool:
    return "/" not in name and any((place / f"{name}.control").is_file() for place in _extensions(server))


@lru_cache(maxsize=64)
def _extensions(server: Binaries) -> tuple[Path, ...]:
    """Folders that hold the server's extension control files."""
    bin_folder = server.server.parent
    near = [bin_folder.parent / "share" / inner for inner in ("extension", "postgresql/extension")]
    near.append(Path(f"/usr/share/postgresql/{server.major}/extension"))
    found = tuple(place for place in near if place.is_dir())
    if not found and (bin_folder / "pg_config").is_file():
        try:
            done = process.run([bin_folder / "pg_config", "--sharedir"], timeout_s=10)
        except ToolError:
            return ()
        found = (Path(done.stdout.decode("utf-8", "replace").strip()) / "extension",)
    return found


@lru_cache(maxsize=64)
def _has(server: Path, symbol: bytes) -> bool:
    """Whether the program is linked with a library: its symbols stand in the file."""
    with server.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(symbol) >= 0


def _postgres_image(request: PostgresRequest, settings: SandboxSettings) -> Image | None:
    """The image for the source's major (the newest that is here, or exists, when that is unknown)."""
    client = engine.connect()
    if client is None:
        return None
    if request.major:
        tags = ["9.6" if request.major == 9 else str(request.major)]
        if not request.exact:  # a newer one that is here spares a download
            tags += [str(major) for major in range(max(request.major, 9) + 1, _NEWEST_POSTGRES + 1)]
    else:
        tags = [str(major) for major in range(_NEWEST_POSTGRES, 9, -1)]
    return _first_image("postgres", tags, settings)


def _first_image(server: str, tags: list[str], settings: SandboxSettings) -> Image:
    client = engine.connect()
    for tag in tags:
        name = engine.image_name(server, tag, settings)
        if engine.local_image(client, name):
            return Image(server, tag, name, True)
    return Image(server, tags[0], engine.image_name(server, tags[0], settings), False)


def redis_options(request: RedisRequest, settings: SandboxSettings) -> Options:
    """The order: explicit path, system server, image at hand, wheel, image to be fetched; in each the oldest
    Redis that loads the file before newer ones, and Redis before Valkey."""
    if settings.kind == "container":
        image = _redis_image(request, settings)
        if image is None:
            raise engine.no_engine()
        return Options((image,), ())
    fitting: list[Binaries] = []
    refused: list[str] = []
    for server in redis_servers(settings.redis_bin):
        if settings.redis_bin and server.provider != "path":
            continue
        if loads(server.engine, server.numbers, request):
            fitting.append(server)
        else:
            refused.append(
                f"{server.engine.capitalize()} {server.version} ({server.provider}) cannot load it"
            )
    fitting.sort(key=lambda s: (s.engine != "redis", s.wheel, s.numbers))
    choices: list[Choice] = [*fitting]
    if settings.kind == "auto" and not settings.redis_bin and (not fitting or fitting[0].wheel):
        image = _redis_image(request, settings)
        if image:
            choices.insert(0 if image.local else len(choices), image)
    return Options(tuple(choices), tuple(refused))


def loads(server: str, version: tuple[int, ...], request: RedisRequest) -> bool:
    """Whether a server loads the requested RDB version."""
    rdb = request.rdb_version or 0
    if request.valkey_only or rdb >= 80:
        return server == "valkey" and version >= (9,)
    if rdb > _NEWEST_RDB:
        return server == "redis" and version >= (8, 3)  # perhaps; the server itself says no otherwise
    if rdb == _NEWEST_RDB:
        return server == "redis" and version >= (7, 4)
    if server == "valkey":
        return True
    return rdb not in _REDIS_FOR_RDB or version >= _REDIS_FOR_RDB[rdb][0]


def _redis_image(request: RedisRequest, settings: SandboxSettings) -> Image | None:
    if engine.connect() is None:
        return None
    rdb = request.rdb_version or 0
    if request.valkey_only or rdb >= 80:
        return _first_image("valkey", ["9"], settings)
    if rdb > _NEWEST_RDB:
        return _first_image("redis", ["latest"], settings)
    return _first_image("redis", [_REDIS_FOR_RDB[max(rdb, 10)][1]], settings)


def too_late(looked_at: list[str]) -> SandboxError:
    """The error when the deadline passed before a server was there."""
    tried = "; ".join(looked_at) or "none was tried"
    return SandboxError(
        f"the deadline passed before a throwaway server answered ({tried})",
        remedy="Raise sandbox.timeout in provado.yaml",
    )


def no_postgres(request: PostgresRequest, settings: SandboxSettings, looked_at: list[str]) -> SandboxError:
    """The error when no PostgreSQL fits or starts."""
    wanted = f"PostgreSQL {request.major}" if request.major else "PostgreSQL"
    wanted += " or newer" if request.major and not request.exact else ""
    needs = [f"extension {name}" for name in sorted(request.extensions)] + sorted(request.features)
    if needs:
        wanted += f" with {', '.join(needs)}"
    major = request.major or _NEWEST_POSTGRES
    if needs:
        remedy = (
            f"Install the packages that bring them to a local PostgreSQL {major}, "
            "or name an image that has them with --image postgres=NAME"
        )
    elif settings.kind == "container":
        remedy = (
            "Fetch such an image (docker pull), name one with --image postgres=NAME, or use --sandbox auto"
        )
    else:
        remedy = (
            f"Install postgresql-{major} (or name its folder with --postgres-bin), pip install "
            "'provado[embedded]', or start a container engine"
        )
    return SandboxError(f"no {wanted} to restore into: {_seen(looked_at)}", remedy=remedy)


def no_redis(request: RedisRequest, settings: SandboxSettings, looked_at: list[str]) -> SandboxError:
    """The error when no Redis or Valkey fits or starts."""
    rdb = request.rdb_version or 0
    if request.valkey_only or rdb >= 80:
        need = "Valkey 9"
    elif rdb > _NEWEST_RDB:
        need = "a Redis newer than 8.2"
    else:
        oldest = _REDIS_FOR_RDB.get(rdb)
        need = f"Redis {'.'.join(map(str, oldest[0]))} or newer" if oldest else "Redis"
    remedy = f"Install {need} and name its folder with --redis-bin, or start a container engine"
    if settings.kind == "container":
        remedy = f"Fetch an image of {need}, name one with --image redis=NAME, or use --sandbox auto"
    version = f" (RDB version {rdb})" if rdb else ""
    return SandboxError(
        f"no server that loads this backup{version}, {need} is needed: {_seen(looked_at)}",
        remedy=remedy,
    )


def _seen(looked_at: list[str]) -> str:
    return "; ".join(looked_at) if looked_at else "no server was found on this machine"
