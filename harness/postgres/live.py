"""A user's own PostgreSQL server: how it is reached, and the client programs of its version.

Passwords go to psycopg and to the programs' environment, never into an argument list or a message.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import conninfo, pq

from .. import process
from ..errors import ConfigError, ToolError
from ..redact import Secret, mask, read_secret
from ..sandbox.binaries import postgres_servers
from ..settings import SandboxSettings

Connection = psycopg.Connection[tuple[Any, ...]]
_CONNECT_S: Final = 15
_ENV: Final = {  # connection parameter -> the variable that libpq's programs read
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "dbname": "PGDATABASE",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
_LIBPQ: Final = ("PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGSSLMODE", "PGSSLROOTCERT")


@dataclass(frozen=True)
class Live:
    """A database on a running server, as the user named it. `parameters` never holds the password."""

    parameters: Mapping[str, str]
    password: Secret | None

    @property
    def database(self) -> str:
        """Name of the database."""
        return self.parameters["dbname"]

    @property
    def place(self) -> str:
        """Where it is, for people: no password, no user."""
        host = self.parameters.get("host", "local socket")
        return f"{host}:{self.parameters.get('port', '5432')}/{self.database}"

    def at(self, database: str) -> Live:
        """The same server, another database."""
        return replace(self, parameters={**self.parameters, "dbname": database})

    def connect(self, *, autocommit: bool = True, **more: Any) -> Connection:
        """A connection. Raises ToolError when the server cannot be reached or refuses us."""
        parameters: dict[str, Any] = {
            "connect_timeout": _CONNECT_S,
            "application_name": "provado",
            **self.parameters,
            **more,
        }
        if self.password:
            parameters["password"] = self.password.reveal()
        try:
            return psycopg.connect(**parameters, autocommit=autocommit)
        except psycopg.OperationalError as error:
            raise ToolError(
                f"cannot connect: {mask(str(error)).strip().splitlines()[-1]}",
                where=self.place,
                remedy="check address, user, password and pg_hba.conf",
            ) from None

    def environment(self) -> dict[str, str]:
        """What libpq's programs need to reach it."""
        env = {_ENV[k]: str(v) for k, v in self.parameters.items() if k in _ENV}
        env |= {k: os.environ[k] for k in _LIBPQ if k in os.environ and k not in env}
        if self.password:
            env["PGPASSWORD"] = self.password.reveal()
        return {"PGCONNECT_TIMEOUT": str(_CONNECT_S), "PGAPPNAME": "provado", **env}


def live(url: str, password: str | None = None) -> Live:
    """A server from `postgresql://…` or `key=value …`, itself or as `env:NAME` / `file:PATH`.

    `password` is `env:NAME` or `file:PATH`; without it PGPASSWORD, a password file, or one inside the
    address counts. Raises ConfigError when the text is no address or names no database.
    """
    if url.startswith(("env:", "file:")):
        url = read_secret(url).reveal()
    try:
        found = {k: str(v) for k, v in conninfo.conninfo_to_dict(_known(url)).items() if v is not None}
    except psycopg.ProgrammingError:
        raise ConfigError(
            "is no PostgreSQL address", remedy="write postgresql://user@host:5432/database"
        ) from None
    inside = found.pop("password", None)
    secret = read_secret(password) if password else Secret(inside) if inside else None
    if secret is None and os.environ.get("PGPASSWORD"):
        secret = Secret(os.environ["PGPASSWORD"])
    for key, name in (("host", "PGHOST"), ("port", "PGPORT"), ("user", "PGUSER"), ("dbname", "PGDATABASE")):
        if key not in found and os.environ.get(name):
            found[key] = os.environ[name]
    if "dbname" not in found:
        raise ConfigError(
            "the address names no database", remedy="write postgresql://user@host:5432/database"
        )
    return Live(found, secret)


def _known(url: str) -> str:
    """The URL without what only other programs understand (Prisma's `schema`, `connection_limit` ...)."""
    if "://" not in url or "?" not in url:
        return url
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    head, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part.partition("=")[0] in known]
    return f"{head}?{'&'.join(kept)}" if kept else head


def client(name: str, major: int, settings: SandboxSettings) -> Path:
    """The program `name` (pg_dump ...) of the server's major version, else the oldest newer one.

    A newer pg_dump writes settings that an older server refuses, an older one refuses to dump at all.
    Raises ToolError naming what there is.
    """
    folders = [b.server.parent for b in postgres_servers(settings.postgres_bin)]
    if settings.postgres_bin:
        folders.insert(0, settings.postgres_bin)
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which(name)
    candidates = [f / name for f in folders] + ([Path(on_path)] if on_path else [])
    found: dict[int, Path] = {}
    for path in dict.fromkeys(p for p in candidates if os.access(p, os.X_OK)):
        done = process.run([path, "--version"], timeout_s=20)
        version = re.search(rb"\) (\d+)", done.stdout)
        if done.code == 0 and version:
            found.setdefault(int(version[1]), path)
    for version_number in sorted(found):
        if version_number >= major:
            return found[version_number]
    raise ToolError(
        f"no {name} of PostgreSQL {major} or newer was found"
        + (f" (there is {', '.join(map(str, sorted(found)))})" if found else ""),
        remedy=f"install postgresql-client-{major}",
    )


def major_of(conn: Connection) -> int:
    """Major version of the server behind a connection.."""
    return conn.info.server_version // 10000
