"""Start a server on a physical backup: recovery from its own WAL, with none of its settings."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Final

import psycopg
from psycopg import sql

from ..component import DrillContext
from ..errors import ArtifactError, SandboxError
from ..sandbox import PostgresRequest, Server, ServerDied, postgres_sandbox
from .physical import BaseBackup
from .pool import Connection
from .proof import connect

_OWN: Final = frozenset({"postgres", "template0", "template1"})
# What the server says before it gives up (sources: xlogrecovery.c, xlog.c, relcache.c) -> what that means.
_DAMAGE: Final = (
    (r"WAL ends before end of online backup", "its WAL ends before the end of the backup"),
    (r"WAL ends before consistent recovery point", "its WAL ends before the data files are consistent"),
    (r"could not (?:locate|find) (?:a valid|required) checkpoint record", "its WAL lacks the checkpoint"),
    (r"could not read from log segment|invalid (?:magic|record|resource)", "its WAL is damaged"),
    (r"incremental backup", "it is an incremental backup, to be joined by pg_combinebackup first"),
    (r"incorrect checksum in control file", "global/pg_control is damaged"),
    (r"could not (?:open|find) .*control", "global/pg_control is missing"),
    (r"invalid page|could not read block", "its data files are damaged"),
    (r'could not open (?:file|directory) "(?:base|global|pg_\w+)', "files are missing in the data directory"),
    (r"is not a valid data directory", "its data directory is incomplete"),
    (
        r"cache lookup failed|could not find (?:tuple|pg_\w+ tuple)|catalog is missing",
        "its catalog is damaged",
    ),
)
_HERE: Final = (
    (r"locale is incompatible|not recognized by setlocale", "install the source's locale on this machine"),
    (r"database files are incompatible with server", "use a server built as the source's is"),
    (r"could not (?:map|create|resize) .*(?:memory|segment)|No space left", "raise sandbox.memory or disk"),
    (r'could not access file "\$libdir|could not load library', "install the extensions' libraries"),
)


def open_physical(base: BaseBackup, ctx: DrillContext) -> AbstractContextManager[Server]:
    """A sandbox server on the backup's data, not started yet: enter it with `start`.

    tablespace_map would make the server link tablespaces to their places at the source: here they lie in the
    data directory itself.
    """
    (base.data / "tablespace_map").unlink(missing_ok=True)
    major = base.major or 0
    options = [("allow_in_place_tablespaces", "on")] if major >= 15 else []
    options += [("event_triggers", "off")] if major >= 17 else []  # not even those at login
    request = PostgresRequest(
        9 if major == 9 else major,
        exact=True,
        data=base.data,
        superuser=base.superuser,
        options=tuple(options),
    )
    return postgres_sandbox(request, ctx.settings.sandbox, deadline=ctx.deadline)


def start(opened: AbstractContextManager[Server]) -> Server:
    """The running server. Raises ArtifactError when the backup makes it end, SandboxError when this machine
    is why."""
    try:
        return opened.__enter__()
    except ServerDied as died:
        if died.limit:
            raise
        reasons = [plain for pattern, plain in _DAMAGE if re.search(pattern, died.log)]
        for pattern, remedy in _HERE if not reasons else ():
            if re.search(pattern, died.log):
                raise SandboxError("this machine cannot run the backup's server", remedy=remedy) from None
        raise ArtifactError(
            f"the server does not start on this backup: {reasons[0] if reasons else 'it ended in recovery'}",
            remedy="take backups with pg_basebackup -X stream, and use an older one that passes",
        ) from None


def user_databases(server: Server) -> list[str]:
    """Databases that can be entered, the largest first; `postgres` only where there is no other."""
    with connect(server, "template1") as conn:
        found = [
            str(row[0])
            for row in conn.execute(
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn"
                " ORDER BY pg_catalog.pg_database_size(oid) DESC, 1"
            )
        ]
    return [name for name in found if name not in _OWN] or [n for n in found if n != "template0"][:1]


_RELATIONS: Final = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p' AND c.relkind IN ('r', 'm', 't', 'S', 'i') AND c.relispopulated
ORDER BY n.nspname LIKE 'pg\\_%', 2, 3
"""


def relations(conn: Connection) -> list[tuple[int, str, str, str]]:
    """Everything with storage: object id, schema, name, kind; the user's own first."""
    return [(oid, schema, name, kind) for oid, schema, name, kind in conn.execute(_RELATIONS)]


def extension(conn: Connection, name: str) -> bool:
    """Have an extension's functions in the open transaction; False when the server lacks them."""
    if (
        conn.execute("SELECT FROM pg_catalog.pg_available_extensions WHERE name = %s", (name,)).fetchone()
        is None
    ):
        return False
    statement = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA pg_catalog")
    return attempt(conn, statement.format(sql.Identifier(name))) is None


def attempt(conn: Connection, statement: sql.Composed) -> psycopg.Error | None:
    """Run a query inside the open transaction and undo its failure -> the error, None when it went well."""
    conn.execute("SAVEPOINT provado")
    try:
        conn.execute(statement)
    except psycopg.OperationalError as error:
        if conn.broken:
            raise
        conn.execute("ROLLBACK TO provado")
        return error
    except psycopg.Error as error:
        conn.execute("ROLLBACK TO provado")
        return error
    conn.execute("RELEASE provado")
    return None
