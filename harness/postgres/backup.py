"""Take a backup of a PostgreSQL database: whole or some tables, with its roles and a manifest of it.

pg_dump writes the file itself, so its exit status is the backup's; there is no pipe whose end could hide it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import psycopg

from .. import process
from ..atomic import write_atomic
from ..backups import Order, Taken, discarded_on_error, finish, need_room, partial, taking
from ..errors import ArtifactError, ConfigError, ToolError
from ..manifest import Manifest, write_manifest
from ..redact import mask
from ..settings import Settings
from ..stream import Stream, open_file
from .capture import capture_facts, snapshot, to_manifest
from .failures import explain
from .live import Connection, Live, client, major_of

Format = Literal["plain", "custom"]
_TRAILER: Final = b"-- PostgreSQL database dump complete"
# A gzipped plain dump of the gateway took 14% of the database; half leaves room for what compresses badly.
_LOCK_WAIT_MS: Final = 300_000
_SHARE_OF_DATABASE: Final = 0.5
_SHARE_OF_LAST: Final = 1.5


@dataclass(frozen=True)
class Choice:
    """What to put into the backup: all (`tables` empty) or some tables, and how. `compress` is 0 to 9."""

    format: Format = "plain"
    compress: int = 6
    tables: tuple[str, ...] = ()
    manifest: bool = True


def backup(source: Live, order: Order, choice: Choice, settings: Settings) -> Taken:
    """Take the backup and return it under its final name; on any error no file of that name exists.

    Raises ConfigError for tables that do not exist, ToolError when a program fails or is missing.
    """
    try:
        return _backup(source, order, choice, settings)
    except psycopg.Error as error:
        raise ToolError(f"the server stopped the backup: {explain(error)}", where=source.place) from None


def _backup(source: Live, order: Order, choice: Choice, settings: Settings) -> Taken:
    what = f"{order.kind} de {source.database}"
    with taking(order.folder, settings.policy.zone, what) as log, source.connect() as conn:
        began = time.monotonic()
        _check_tables(conn, choice.tables)
        prefix = source.database.replace("_", "-") + ("-tables" if choice.tables else "")
        ending = ".dump" if choice.format == "custom" else ".sql.gz" if choice.compress else ".sql"
        final = order.path(prefix, ending)
        need_room(order.folder, _expected_bytes(conn, final, choice))
        tool = client("pg_dump", major_of(conn), settings.sandbox)
        with discarded_on_error(partial(order.folder, final.name)) as path:
            facts = _dumped(tool, source, conn, path, choice, order)
            sha256 = _validate(path, choice, conn, order, settings)
            roles, notes = _globals(source, conn, final, order, settings)
            size, beside = path.stat().st_size, None
            if facts is not None:
                beside = final.with_name(final.name + ".manifest.json")
                write_manifest(beside, replace(facts, artifact={"sha256": sha256, "bytes": size}))
            finish(path, final)
        taken = Taken(final, beside, roles, size, sha256, round(time.monotonic() - began, 3), notes)
        log.write(f"Backup concluído: {final.name} ({size} bytes em {taken.seconds:.1f} s)")
        return taken


def _check_tables(conn: Connection, tables: tuple[str, ...]) -> None:
    """pg_dump skips a table it does not find as long as it finds another; here each one must exist."""
    missing = [t for t in tables if conn.execute("SELECT to_regclass(%s)", (t,)).fetchall() == [(None,)]]
    if missing:
        raise ConfigError(
            f"there is no table {', '.join(missing)}",
            where=conn.info.dbname,
            remedy="name tables as schema.table; nothing was written",
        )


def _expected_bytes(conn: Connection, final: Path, choice: Choice) -> int:
    """Room for a backup: by the newest one of the same name but for its time, else by the database's size."""
    stem, ending = final.name[: -len("YYYYMMDD-HHMMSS") - len(_ending(final))], _ending(final)
    earlier = sorted(final.parent.glob(f"{_literal(stem)}*{ending}"))
    if earlier:
        return int(earlier[-1].stat().st_size * _SHARE_OF_LAST)
    row = conn.execute("SELECT pg_database_size(current_database())").fetchone()
    return int((row[0] if row else 0) * (_SHARE_OF_DATABASE if choice.compress else 1.0))


def _ending(path: Path) -> str:
    return "." + path.name.split(".", 1)[1]


def _literal(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _dumped(
    tool: Path, source: Live, conn: Connection, path: Path, choice: Choice, order: Order
) -> Manifest | None:
    """Write the dump; for a whole database also capture what its snapshot holds.

    The capture goes first: sequences know no snapshots, and a dump whose sequences run ahead of the
    manifest is good, one whose sequences lag behind is not.
    """
    if choice.tables or not choice.manifest:
        _dump(tool, source, path, choice, order)
        return None
    with snapshot(conn) as name:
        facts = capture_facts(conn)
        _dump(tool, source, path, choice, order, name)
    return to_manifest(facts, snapshot=name)


def _dump(
    tool: Path, source: Live, path: Path, choice: Choice, order: Order, snapshot: str | None = None
) -> None:
    # Without a limit pg_dump would wait for ever behind a TRUNCATE that waits for our snapshot's locks.
    argv: list[str | Path] = [
        tool,
        "--no-password",
        f"--lock-wait-timeout={_LOCK_WAIT_MS}",
        f"--format={choice.format}",
        f"--compress={choice.compress}",
    ]
    argv += ["--create"] if choice.format == "plain" and not choice.tables else []
    argv += ["--strict-names", *(f"--table={t}" for t in choice.tables)] if choice.tables else []
    argv += [f"--snapshot={snapshot}"] if snapshot else []
    path.touch(mode=0o600)
    done = process.run([*argv, "--file", path], timeout_s=order.timeout_s, env=source.environment())
    if done.code != 0:
        raise ToolError(
            f"pg_dump ended with exit code {done.code}: {mask(done.error_text(2))}",
            where=source.place,
            remedy="nothing was written under a backup's name",
        )


def _validate(path: Path, choice: Choice, conn: Connection, order: Order, settings: Settings) -> str:
    """Read the whole file back; returns its SHA-256. Raises ArtifactError when it is not whole."""
    with open_file(path) as file:
        stream = Stream(file, path, ("gzip",) if choice.format == "plain" and choice.compress else ())
        tail = b""
        for block in stream:
            tail = (tail + block)[-4096:]
    if choice.format == "plain":
        if _TRAILER not in tail:
            raise ArtifactError("the dump does not end as pg_dump ends one", where=path.name)
        return stream.sha256
    tool = client("pg_restore", major_of(conn), settings.sandbox)
    done = process.run([tool, "--file=/dev/null", path], timeout_s=order.timeout_s)
    if done.code != 0:
        raise ArtifactError(f"pg_restore cannot read it back: {done.error_text(1)}", where=path.name)
    return stream.sha256


def _globals(
    source: Live, conn: Connection, final: Path, order: Order, settings: Settings
) -> tuple[Path, tuple[str, ...]]:
    """Roles and tablespaces beside the backup; password hashes only where we may read them."""
    tool = client("pg_dumpall", major_of(conn), settings.sandbox)
    row = conn.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    with_passwords = bool(row and row[0])
    argv: list[str | Path] = [tool, "--no-password", "--globals-only", f"--database={source.database}"]
    argv += [] if with_passwords else ["--no-role-passwords"]
    done = process.run(argv, timeout_s=min(order.timeout_s, 600), env=source.environment())
    if done.code != 0:
        raise ToolError(
            f"pg_dumpall --globals-only ended with exit code {done.code}: {mask(done.error_text(2))}",
            where=source.place,
        )
    path = final.with_name(final.name + ".globals.sql")
    write_atomic(path, done.stdout, mode=0o600)
    notes = () if with_passwords else ("no superuser: the roles were saved without their passwords",)
    return path, notes
