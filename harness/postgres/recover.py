"""Bring a backup into a user's own PostgreSQL server without ever leaving the target half restored.

The backup is loaded into a new database beside the target and checked there; only then two renames in one
transaction put it in the target's place. Until that moment the target is untouched, whatever happens, and
afterwards the database that was there still is, under another name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from ..backups import order
from ..component import DrillContext
from ..errors import ArtifactError, ConfigError, ProvadoError, RestoreError
from ..manifest import read_manifest
from ..model import Artifact
from ..recovery import Plan, Recovered
from ..settings import Settings
from . import backup as taking
from .databases import carry_over, create, drop, exclusive, maintenance, one, stem, swap
from .dump import Item, Statement
from .facts import DumpFacts, read_facts
from .failures import explain
from .live import Connection, Live
from .source import sha256_of, sql_text
from .strict import Sent, execute, items_of, send

# The swap's own commit waits for the disk, and with it for everything written before.
_QUICK: Final = "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'"
_UNTOUCHED: Final = "the target was not touched"
_NEW: Final = "_provado_new_"
_USER_TABLES: Final = """
    SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND n.nspname !~ '^pg_toast'"""


@dataclass(frozen=True)
class Wish:
    """How to recover. `replace` allows a target that holds data or is in use; `safety` is the folder for the
    backup of its current state (None: take none); `drop_old` drops the replaced database at the end;
    `tables` restores only these; `roles` is a globals file whose missing roles are created first;
    `even_if_cut` takes a dump that may lack its end."""

    replace: bool = False
    safety: Path | None = Path("recovery-backups")
    drop_old: bool = False
    tables: tuple[str, ...] = ()
    roles: Path | None = None
    even_if_cut: bool = False
    timeout_s: float = 4 * 3600.0


@dataclass(frozen=True)
class Target:
    """The target as found: does it exist, what does it hold, who is connected, what crashed runs left."""

    exists: bool
    tables: int
    sessions: int
    leftovers: tuple[str, ...]


def read(artifact: Artifact, ctx: DrillContext, *, even_if_cut: bool = False) -> DumpFacts:
    """Read the whole backup without a server. Raises ArtifactError when it cannot be restored.

    A dump without pg_dump's last line, or not the file that its manifest was made with, may lack whole
    tables without any error: it is refused unless `even_if_cut`.
    """
    if artifact.format not in ("plain", "custom", "directory", "tar", "pg_dumpall"):
        raise ArtifactError(
            f"is of format {artifact.format}",
            where=str(artifact.path),
            remedy="restore it with its own tools",
        )
    with sql_text(artifact, ctx, "read") as text:
        facts = read_facts(text)
    if facts.problem is not None:
        raise facts.problem
    if facts.truncated:
        raise ArtifactError(
            f"the dump ends {facts.truncated}", where=artifact.path.name, remedy="use an older backup"
        )
    if not even_if_cut:
        _whole(artifact, facts)
    refused = [danger for _, danger in facts.dangers if danger.refuse]
    if refused:
        raise ArtifactError(
            refused[0].message, where=artifact.path.name, remedy="do not restore this file: it was changed"
        )
    return facts


def _whole(artifact: Artifact, facts: DumpFacts) -> None:
    remedy = "use an older backup; to restore what is there, say --even-if-cut"
    for begins, ends in (("dump", "complete"), ("cluster", "cluster-complete")):
        if len(facts.headers.get(begins, ())) > len(facts.headers.get(ends, ())):
            raise ArtifactError(
                "does not end as pg_dump ends a dump: it was cut or edited",
                where=artifact.path.name,
                remedy=remedy,
            )
    recorded = read_manifest(artifact.manifest, "postgres").artifact if artifact.manifest else None
    if recorded and recorded.get("sha256") != sha256_of(artifact.path):
        raise ArtifactError(
            "is not the file that its manifest was made with", where=artifact.path.name, remedy=remedy
        )


def inspect_target(target: Live) -> Target:
    """Look at the target. Raises ToolError when the server cannot be reached."""
    with maintenance(target) as conn:
        exists = one(conn, "SELECT count(*) FROM pg_catalog.pg_database WHERE datname = %s", target.database)
        sessions = one(
            conn, "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = %s", target.database
        )
        names = conn.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname, %s) ORDER BY 1",
            (stem(target.database) + _NEW,),
        )
        leftovers = tuple(str(row[0]) for row in names)
    tables = 0
    if exists:
        with target.connect() as conn:
            tables = one(conn, _USER_TABLES)
    return Target(bool(exists), tables, sessions, leftovers)


def plan(artifact: Artifact, facts: DumpFacts, target: Live, found: Target, wish: Wish) -> Plan:
    """What `recover` would do, in words, and why it would refuse."""
    refusal = None
    if found.exists and not wish.replace and (found.tables or found.sessions):
        refusal = f"{target.place} holds {found.tables} tables and has {found.sessions} sessions"
    steps = [f"read {artifact.path.name} to its end: {len(facts.tables)} tables, {facts.rows:,} rows"]
    steps += [f"drop {name}, left by an interrupted recovery" for name in found.leftovers]
    if found.tables and wish.safety:
        steps.append(f"back up the current state of {target.place} into {wish.safety}")
    steps.append("load the backup into a new database beside the target, stopping at the first error")
    steps.append("compare the rows of every table with the backup")
    if found.exists:
        steps.append(f"end {found.sessions} sessions and swap the names in one transaction")
        last = "drop" if wish.drop_old else "keep, under another name,"
        steps.append(f"{last} the database that was replaced")
    else:
        steps.append(f"give the new database its name {target.database}")
    return Plan(tuple(steps), refusal)


def recover(
    artifact: Artifact,
    target: Live,
    wish: Wish,
    settings: Settings,
    scratch: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> Recovered:
    """Restore the whole backup as database `target`.

    Raises RestoreError (ArtifactError for a bad backup, ToolError for an unreachable server); the target is
    then as it was, and the message says what else is left.
    """
    ctx = DrillContext(settings, scratch, time.monotonic() + wish.timeout_s)
    done = Recovered(target.place)
    with done.stage("read"):
        facts = read(artifact, ctx, even_if_cut=wish.even_if_cut)
        source = source_database(facts, target.database)
    with maintenance(target) as admin, exclusive(admin, target):
        found = inspect_target(target)
        if refusal := plan(artifact, facts, target, found, wish).refusal:
            raise RestoreError(refusal, remedy="nothing was changed; say --replace to replace it")
        for name in found.leftovers:  # we hold the lock, so nobody is filling them
            drop(admin, name)
        if found.tables and wish.safety:
            progress("safety backup")
            asked = order(wish.safety, "recovery", settings.policy.zone)
            done.save("the state before", lambda: taking.backup(target, asked, taking.Choice(), settings))
        if roles := wish.roles or artifact.globals:
            create_missing_roles(admin, items_of([roles.read_bytes()], None), done)
        elif artifact.format == "pg_dumpall":
            with sql_text(artifact, ctx, "roles") as text:
                create_missing_roles(admin, items_of(text, None), done)
        stamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}"
        new = f"{stem(target.database)}{_NEW}{stamp}"
        try:
            with done.stage("load"):
                create(admin, new, facts.created.get(source or ""), target, found.exists, done.notes)
                with target.at(new).connect() as conn, sql_text(artifact, ctx, "restore") as text:
                    conn.execute(_QUICK)
                    sent = send(conn, items_of(text, source), source=source, target=new, progress=progress)
                    done.notes += [f"not needed here: {name}" for name in dict.fromkeys(sent.skipped)]
            with done.stage("check"), target.at(new).connect() as conn:
                _same_rows(conn, facts, sent, source)
                done.arrived = sent.arrived
                conn.execute("ANALYZE")
            if found.exists and source not in facts.created:
                carry_over(admin, target.database, new)
            with done.stage("swap"):
                old = swap(admin, target, new, stamp if found.exists else None)
        except BaseException as stop:
            left = _left_behind(admin, new)
            if isinstance(stop, psycopg.Error):
                raise RestoreError(
                    f"the server refused: {explain(stop)}{left}", where=target.place, remedy=_UNTOUCHED
                ) from None
            if left and isinstance(stop, ProvadoError):
                raise RestoreError(f"{stop.what}{left}", where=stop.where, remedy=stop.remedy) from None
            raise
        if old and wish.drop_old:
            with contextlib.suppress(psycopg.Error):  # say, a subscription of its own holds it
                drop(admin, old)
                old = None
        if old:
            done.left.append(
                f'the database before, as {old}; when it is needed no more: DROP DATABASE "{old}"'
            )
    return done


def source_database(facts: DumpFacts, wanted: str) -> str | None:
    """The database of the backup to restore: the only one in it, or the one called as the target is."""
    named = [d for d in facts.databases if d not in ("postgres", "template1")] or facts.databases
    if not named:
        return None
    if wanted in named:
        return wanted
    if len(named) > 1:
        raise ConfigError(
            f"the backup holds the databases {', '.join(named)}, none of which is called {wanted}",
            remedy="name one of them as the target",
        )
    return named[0]


def create_missing_roles(admin: Connection, items: Iterable[Item], done: Recovered) -> None:
    """Create the roles of globals that the server lacks; those it has stay as they are."""
    there = {str(r[0]) for r in admin.execute("SELECT rolname FROM pg_catalog.pg_roles")}
    made: set[str] = set()
    for item in items:
        if not isinstance(item, Statement) or item.sql[:1].upper() not in (b"C", b"A", b"G"):
            continue
        words = item.sql[:500].decode("utf-8", "replace").split()
        if words[:2] == ["CREATE", "ROLE"] and (name := _unquoted(words[2])) not in there:
            execute(admin, item)
            made.add(name)
        elif (words[:2] == ["ALTER", "ROLE"] and _unquoted(words[2]) in made) or (
            words[:1] == ["GRANT"] and "TO" in words and _unquoted(words[words.index("TO") + 1]) in made
        ):
            execute(admin, item)
    done.notes += [f"created role {name}" for name in sorted(made)]


def _same_rows(conn: Connection, facts: DumpFacts, sent: Sent, source: str | None) -> None:
    """Every COPY block of the file arrived, and is still there: counted by table. Raises RestoreError."""
    wanted: dict[str, int] = {}
    for table in facts.tables:
        if source is None or table.database in ("", source):
            wanted[table.name] = wanted.get(table.name, 0) + table.rows
    for name, rows in wanted.items():
        if sent.rows.get(name) != rows:
            raise RestoreError(
                f"{name}: the backup holds {rows:,} rows, {sent.rows.get(name, 0):,} arrived",
                remedy=_UNTOUCHED,
            )


def _left_behind(admin: Connection, new: str) -> str:
    """Remove the new database after a failure; what to say when that fails, too."""
    try:
        drop(admin, new)
    except psycopg.Error:
        return f" (the database {new} is left; the next recovery drops it)"
    return ""


def _unquoted(name: str) -> str:
    name = name.rstrip(";")
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
