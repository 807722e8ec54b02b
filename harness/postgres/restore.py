"""Restore a logical backup into a sandbox, and what the checks get to look at afterwards."""

from __future__ import annotations

import contextlib
import functools
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from ..component import DrillContext, Inspection
from ..errors import ArtifactError, SandboxError
from ..manifest import Manifest, read_manifest
from ..model import Artifact, Stage, Teardown
from ..sandbox import PostgresRequest, Server, postgres_sandbox
from ..settings import Settings
from . import source, target
from .byte_order import ByteOrder
from .dump import read_dump
from .facts import DumpFacts, ahead
from .load import Loader
from .loaded import Loaded
from .physical import UNPACKED, BaseBackup
from .physical_restore import open_physical, start, user_databases
from .pool import Connection, Pool, cancel, workers
from .proof import Rows, connect
from .prover import Prover
from .reading import Reading

HOME: Final = "provado"
_BUILT_IN: Final = {"postgres", "template0", "template1"}


@dataclass
class RestoredPostgres:
    """A backup in a sandbox. `server` is None when nothing was restored; then only `inspection` speaks.

    `database` is the one that is judged (a cluster dump has several: `databases`); `problem` says why the
    text could not be read to its end; `rows[i]` is what the server holds for block i of `facts.tables`;
    `in_target` is what loading into a database as declared did, where that is another than the drill's.
    """

    inspection: Inspection
    ctx: DrillContext
    server: Server | None = None
    database: str = HOME
    databases: tuple[str, ...] = ()
    loaded: Loaded = field(default_factory=Loaded)
    global_roles: Loaded | None = None
    in_target: Loaded | None = None
    problem: ArtifactError | None = None
    rows: dict[int, Rows] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    teardown: Teardown | None = None
    idle: dict[str, list[Connection]] = field(default_factory=dict)

    @property
    def restored(self) -> bool:
        """True while a server with the backup's content can be asked."""
        return self.server is not None and self.problem is None

    @property
    def artifact(self) -> Artifact:
        """The backup as found; its time is the file's own where the file tells one."""
        return self.inspection.dated

    @property
    def settings(self) -> Settings:
        """The drill's settings."""
        return self.ctx.settings

    @property
    def facts_of_file(self) -> DumpFacts:
        """What the file says of itself."""
        facts: DumpFacts = self.inspection.facts
        return facts

    @property
    def last_good(self) -> Mapping[str, Any] | None:
        """Evidence of the newest passing drill of the series."""
        return self.ctx.last_good

    @property
    def deadline(self) -> float:
        """When the drill must be over, in monotonic seconds."""
        return self.ctx.deadline

    @property
    def sandbox_major(self) -> int:
        """Major version of the server restored into."""
        return int(self.server.info.version.split(".")[0]) if self.server else 0

    @cached_property
    def manifest(self) -> Manifest | None:
        """The manifest given for this backup or lying beside it. Raises ConfigError when it is none."""
        path = self.artifact.manifest
        return read_manifest(path, "postgres") if path else None

    @contextlib.contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection]:
        """A read-only superuser connection to the judged database, or another one of the sandbox."""
        if self.server is None:
            raise SandboxError("nothing was restored")
        idle = self.idle.setdefault(database or self.database, [])
        conn = idle.pop() if idle else connect(self.server, database or self.database, pinned=True)
        try:
            yield conn
        finally:
            if conn.closed or conn.info.transaction_status != TransactionStatus.IDLE:
                conn.close()
            else:  # a check looks at thousands of sequences: one connection for all of them
                conn.execute("RESET ALL")
                idle.append(conn)

    def disconnect(self) -> None:
        """Close the connections kept for checks."""
        for conn in (c for idle in self.idle.values() for c in idle):
            conn.close()
        self.idle.clear()

    def facts(self) -> dict[str, Any]:
        """Catalog and content of the restored database as `capture` sees them; computed once."""
        return self._captured

    @cached_property
    def _captured(self) -> dict[str, Any]:
        from .capture import capture_facts

        with self.connect() as conn:
            facts: dict[str, Any] = capture_facts(conn)
        return facts


@contextlib.contextmanager
def restore(inspection: Inspection, ctx: DrillContext) -> Iterator[RestoredPostgres]:
    """Load the backup into a throwaway server and keep it alive for the checks.

    Statements that fail are results (`loaded.failures`). Raises SandboxError when this machine has no
    server for it, or the server or the deadline ended before the load did.
    """
    facts: DumpFacts = inspection.facts
    subject = RestoredPostgres(inspection, ctx)
    if facts.base is not None:
        yield from _physical(subject, facts.base)
    else:
        yield from _logical(subject, facts)


def _logical(subject: RestoredPostgres, facts: DumpFacts) -> Iterator[RestoredPostgres]:
    inspection, ctx = subject.inspection, subject.ctx
    reading: Reading | None = inspection.rest  # type: ignore[assignment]
    known = reading.head if reading else facts
    needs = _needs(inspection.artifact, known)
    with _stage(subject, "sandbox"):
        opened = postgres_sandbox(needs[0], ctx.settings.sandbox, deadline=ctx.deadline)
        server = opened.__enter__()
    try:
        subject.server = server
        _load(subject, server, known, reading)
        if reading:
            subject.inspection = reading.finish()
        again = (
            not subject.inspection.restorable or _needs(inspection.artifact, subject.facts_of_file) != needs
        )
        if not again:
            yield subject
    finally:
        subject.disconnect()
        try:
            opened.__exit__(None, None, None)
        finally:
            subject.teardown = server.teardown()
    if again:  # the text went on otherwise than it began
        fresh = RestoredPostgres(subject.inspection, ctx)
        if fresh.inspection.restorable:
            yield from _logical(fresh, fresh.facts_of_file)
        else:
            yield fresh


def _needs(artifact: Artifact, facts: DumpFacts) -> tuple[PostgresRequest, str]:
    """The server that the backup needs, and the encoding of the database for text that names none."""
    request = PostgresRequest(
        _target(artifact, facts),
        extensions=frozenset(facts.extensions - {"plpgsql"}),
        features=frozenset(facts.features),
    )
    return request, facts.encoding if facts.encoding == "SQL_ASCII" else "UTF8"


def _physical(subject: RestoredPostgres, base: BaseBackup) -> Iterator[RestoredPostgres]:
    """A server on the backup's own files; a recovery that fails is a result (`problem`)."""
    opened = open_physical(base, subject.ctx)
    try:
        with _stage(subject, "restore"):
            server = start(opened)
    except ArtifactError as problem:
        subject.problem = problem
        yield subject
        return
    try:
        subject.server = server
        shutil.rmtree(subject.ctx.scratch / UNPACKED, ignore_errors=True)  # the sandbox has a copy of its own
        subject.databases = tuple(user_databases(server))
        named = subject.manifest.source.get("database") if subject.manifest else None
        subject.database = str(named) if named in subject.databases else subject.databases[0]
        subject.facts_of_file.created |= dict.fromkeys(subject.databases, b"")
        yield subject
    finally:
        subject.disconnect()
        try:
            opened.__exit__(None, None, None)
        finally:
            subject.teardown = server.teardown()


def _target(artifact: Artifact, facts: DumpFacts) -> int | None:
    """Major version to restore into: the source's.

    An archive can only be read with the tools of the pg_dump that wrote it, and those write SQL for servers
    of their own version and later (pg_dump's documentation, Notes): their version, if it is newer.
    """
    if artifact.format in source.ARCHIVES and facts.major and facts.dump_major:
        return max(facts.major, facts.dump_major)
    return facts.major


@contextlib.contextmanager
def _stage(subject: RestoredPostgres, name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        subject.stages.append(Stage(name, round(time.perf_counter() - began, 3)))


def _load(subject: RestoredPostgres, server: Server, known: DumpFacts, reading: Reading | None) -> None:
    """Globals, then the backup, then the proof of its rows; a watchdog cancels what outlives the deadline.

    `known` is what was read of the backup by now, `reading` what reads the rest meanwhile.
    """
    ctx, facts = subject.ctx, subject.facts_of_file
    plan = reading.plan if reading else lambda: facts
    live: list[Connection] = []
    order = ByteOrder(functools.partial(connect, server))

    def opened(database: str) -> Connection:
        order.begin(database)
        conn = connect(server, database)
        live.append(conn)
        return conn

    late = threading.Event()

    def end() -> None:
        late.set()
        for conn in live:
            cancel(conn)

    timer = threading.Timer(max(0.1, ctx.deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    pool = Pool(opened, workers(), server)
    try:
        with opened("postgres") as conn:
            _home(conn, known)
        if subject.artifact.globals:
            with _stage(subject, "globals"):
                subject.global_roles = _globals(subject, opened)
        prover = Prover(server, pool, facts, plan, subject.loaded, HOME, subject.rows)
        loader = Loader(
            opened, HOME, known, facts, plan, pool, prover.early, prover.forget, loaded=subject.loaded
        )
        try:
            with _stage(subject, "restore"):
                if reading:
                    with contextlib.closing(reading.items()) as items:
                        loader.run(items)
                else:
                    with source.sql_text(subject.artifact, ctx, "restore") as text:
                        loader.run(read_dump(text, ahead(facts)))
        except ArtifactError as problem:
            subject.problem = problem
            loader.settle()
        finally:
            loader.close()
        order.end()
        if reading and not reading.finish().restorable:
            return
        subject.databases = tuple(_filled(subject, opened))
        subject.database = _judged(subject)
        if subject.problem is None:
            with _stage(subject, "proof"):
                prover.rest()
            declared, facts = ctx.settings.postgres.target, subject.facts_of_file
            if declared and target.wanted(declared, subject.artifact, facts):
                with _stage(subject, "target"):
                    subject.in_target = target.rehearse(declared, subject.artifact, facts, ctx, opened)
    except psycopg.Error as error:
        if not late.is_set():
            raise _ended(server, error) from error
    finally:
        timer.cancel()
        pool.close()
    if late.is_set():
        raise SandboxError("the drill ran out of time", remedy="raise sandbox.timeout in provado.yaml")


def _ended(server: Server, error: psycopg.Error) -> SandboxError:
    """Why the server could not go on: a lack of this machine, which says nothing about the backup."""
    limit = server.limit() or {"53100": "disk", "53200": "memory"}.get(error.sqlstate or "")
    if limit:
        return SandboxError(
            f"the sandbox ran out of {limit}", remedy=f"raise sandbox.{limit} in provado.yaml"
        )
    return SandboxError(
        f"the sandbox server could not go on ({error.sqlstate or type(error).__name__})",
        remedy="run the drill again; if it happens again, report it",
    )


def _home(conn: Connection, facts: DumpFacts) -> None:
    """The database for dumps that name none: as wide as the text needs it."""
    encoding = facts.encoding if facts.encoding == "SQL_ASCII" else "UTF8"
    conn.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}{}").format(
            sql.Identifier(HOME), encoding, sql.SQL(" LOCALE 'C'" if encoding == "SQL_ASCII" else "")
        )
    )


def _globals(subject: RestoredPostgres, opened: Any) -> Loaded:
    from ..stream import Stream, open_file, sniff

    path = subject.artifact.globals
    assert path is not None  # noqa: S101 - asked for by the caller
    loader = Loader(opened, "postgres")
    try:
        packing, _ = sniff(path)
        with open_file(path) as file:
            loader.run(read_dump(Stream(file, path, packing)))
    finally:
        loader.close()
    return loader.loaded


def _filled(subject: RestoredPostgres, opened: Any) -> Iterator[str]:
    """Databases that the backup made or filled, in its order."""
    named = [d for d in subject.loaded.databases if d not in _BUILT_IN]
    if not subject.facts_of_file.databases:
        yield HOME
        return
    with opened("postgres") as conn:
        there = {row[0] for row in conn.execute("SELECT datname FROM pg_catalog.pg_database")}
    yield from (d for d in named if d in there and d != HOME)
    if not [d for d in named if d != HOME]:
        yield from (d for d in ("postgres",) if d in subject.loaded.databases)


def _judged(subject: RestoredPostgres) -> str:
    """The manifest's database where it is there, else the one with the most rows, else the first."""
    if subject.manifest and (name := subject.manifest.source.get("database")) in subject.databases:
        return str(name)
    rows: dict[str, int] = {}
    for table in subject.facts_of_file.tables:
        rows[table.database or HOME] = rows.get(table.database or HOME, 0) + table.rows
    return max(subject.databases, key=lambda d: rows.get(d, 0), default=HOME)
