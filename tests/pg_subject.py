"""A live database as the checks get it after a restore: what a drill would hand them, without the drill."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from live_servers import live, query
from pg_zoo import ROLES, SUBSCRIPTION, ZOO

from harness.check import Check, NotRun
from harness.component import Inspection
from harness.manifest import Manifest
from harness.model import Artifact, Finding
from harness.postgres.capture import capture_facts, to_manifest
from harness.postgres.dump import Entry
from harness.postgres.facts import DumpFacts
from harness.postgres.fingerprint import Connection
from harness.postgres.loaded import Loaded
from harness.sandbox import Server
from harness.settings import Settings

TAKEN = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@dataclass
class Restored:
    """The attributes of `RestoredPostgres` that checks read."""

    server: Server
    database: str
    settings: Settings = field(default_factory=Settings)
    manifest: Manifest | None = None
    facts: DumpFacts = field(default_factory=DumpFacts)
    globals: Path | None = Path("globals.sql")
    last_good: Mapping[str, Any] | None = None
    loaded: Loaded = field(default_factory=Loaded)
    taken_at: datetime = TAKEN
    restored: bool = True
    sha256: str = "0" * 64
    deadline: float = field(default_factory=lambda: time.monotonic() + 300)

    @property
    def artifact(self) -> Artifact:
        return Artifact(
            Path("zoo.sql"),
            "postgres",
            "plain",
            taken_at=self.taken_at,
            taken_at_basis="name",
            globals=self.globals,
        )

    @property
    def inspection(self) -> Inspection:
        return Inspection(self.artifact, self.sha256, True, self.facts)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with live(self.server, self.database).connect() as conn:
            conn.autocommit = True
            conn.execute("SET default_transaction_read_only = on")
            yield conn


def make_zoo(server: Server, database: str) -> None:
    """The zoo's roles and the zoo."""
    query(server, "postgres", ROLES)
    query(server, "postgres", f"CREATE DATABASE {database} TEMPLATE template0")
    with live(server, database).connect() as conn:
        conn.execute(ZOO.encode())
    query(server, database, SUBSCRIPTION)


def clone(server: Server, source: str, name: str, *changes: str) -> str:
    """A copy of a database, changed."""
    query(server, "postgres", f"CREATE DATABASE {name} TEMPLATE {source}")
    query(server, name, SUBSCRIPTION)
    with live(server, name).connect() as conn:
        conn.autocommit = True
        for change in changes:
            conn.execute(change.encode())
    return name


def manifest_of(server: Server, database: str) -> Manifest:
    """Its manifest."""
    with live(server, database).connect() as conn:
        return to_manifest(capture_facts(conn))


def dump_facts(database: str, *types: str, owner: str | None = "zoo_owner") -> DumpFacts:
    """Facts of a pg_dump file that creates the database and has entries of these types."""
    facts = DumpFacts(databases=[database], created={database: b"CREATE DATABASE"})
    facts.headers = {"server-version": ["15.1"], "dump-version": ["15.1"]}
    facts.entries = [(database, Entry(t, "x", None, owner, 1)) for t in (*types, "TABLE")]
    return facts


def findings(check: Check, subject: Restored) -> list[Finding]:
    """What one check finds."""
    return list(check.run(subject))


def not_run(check: Check, subject: Restored) -> str:
    """Why a check has nothing to compare."""
    try:
        found = list(check.run(subject))
    except NotRun as skipped:
        return skipped.reason
    raise AssertionError(f"it ran and found {found}")
