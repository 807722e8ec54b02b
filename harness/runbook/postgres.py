"""Rehearsals about PostgreSQL: each does for real, on the stand-in server, what a section describes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from psycopg import sql

from ..backups import order
from ..catalog import identify
from ..check import Check, NotRun, check
from ..component import inspected
from ..components import component, recognisers
from ..errors import ArtifactError, RestoreError
from ..model import Artifact, Finding
from ..postgres import recover
from ..postgres.backup import Choice, backup
from ..postgres.capture import capture_facts
from ..postgres.databases import drop, maintenance
from ..postgres.live import Live
from ..postgres.recover_tables import recover_tables
from .ground import Ground

_KEY: Final = "00" * 16  # digests are compared within one rehearsal only
_OUTSIDE: Final = ("database", "role", "tablespace", "membership", "setting", "parameter")
_REMEDY: Final = "follow docs/operations.md for this section, and correct the runbook's text"


@check("runbook.postgres-backup", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def whole(self: Check, ground: Ground) -> Iterator[Finding]:
    """A backup taken now is whole, and a database recovered from it equals its source."""
    yield from _round_trip(self, ground, Choice())


@check("runbook.postgres-compressed", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def compressed(self: Check, ground: Ground) -> Iterator[Finding]:
    """A compressed archive (pg_dump -Fc) can be taken, and a database recovered from it is equal."""
    yield from _round_trip(self, ground, Choice("custom", compress=9))


@check("runbook.postgres-tables", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def tables(self: Check, ground: Ground) -> Iterator[Finding]:
    """Some tables can be backed up alone; asking for one that does not exist is an error."""
    live: Live = ground.postgres()
    table = _largest(live)
    folder = ground.folder("tables")
    _take(ground, live, folder, Choice(tables=(table,)))
    try:
        _take(ground, live, folder, Choice(tables=(table, "provado_there_is_no_such_table")))
    except Exception as error:
        if "no table" not in str(error):
            raise
    else:
        yield self.finding("backup of tables", "a table that does not exist was passed over in silence")


@check("runbook.postgres-integrity", proves="file", severity="high", origin="declared", remedy=_REMEDY)
def integrity(self: Check, ground: Ground) -> Iterator[Finding]:
    """The newest backup can be read to its end, and a cut copy of it is noticed."""
    artifact = ground.newest("postgres")
    recover.read(artifact, ground.context())
    if not artifact.path.is_file():
        raise NotRun("the backup is a folder")
    cut = ground.folder("cut") / artifact.path.name
    with artifact.path.open("rb") as source, cut.open("wb") as target:
        shutil.copyfileobj(source, target)
        target.truncate(max(1, artifact.bytes * 2 // 3))
    try:
        recover.read(replace(artifact, path=cut, manifest=None), ground.context())
    except ArtifactError:
        return
    yield self.finding(artifact.path.name, "a copy cut at two thirds was taken for a whole backup")


@check(
    "runbook.postgres-restore-test", proves="restore", severity="critical", origin="declared", remedy=_REMEDY
)
def restore_test(self: Check, ground: Ground) -> Iterator[Finding]:
    """The newest backup restores in a throwaway server, which no other database can be reached from."""
    made = component("postgres")
    ctx = ground.context()
    inspection = inspected(made, ground.newest("postgres"), ctx)
    if not inspection.restorable:
        yield self.finding(inspection.artifact.path.name, "cannot be restored")
        return
    with made.restore(inspection, ctx) as subject:
        if not subject.restored:
            yield self.finding(inspection.artifact.path.name, "could not be restored to its end")
        for failure in subject.loaded.of_kind("error", "refused"):
            yield self.finding(failure.what, failure.why)


@check("runbook.postgres-recover", proves="usability", severity="critical", origin="declared", remedy=_REMEDY)
def whole_recovery(self: Check, ground: Ground) -> Iterator[Finding]:
    """A damaged database in use is recovered whole: every row, object and sequence, nothing twice."""
    live: Live = ground.postgres()
    before = _facts(live)
    artifact = ground.newest("postgres")
    table = _damage(live)
    if _same(before, _facts(live)):
        raise NotRun("the damage could not be done", blocking=True)
    wish = recover.Wish(replace=True, safety=ground.folder("safety"), drop_old=True)
    with live.connect() as session:  # services are connected when disaster strikes
        session.execute("SELECT 1")
        done = recover.recover(artifact, live, wish, ground.settings, ground.folder("recover"))
    if done.safety is None:
        yield self.finding(table, "no safety backup of the damaged state was taken")
    yield from _differences(self, before, _facts(live))


@check(
    "runbook.postgres-recover-table",
    proves="usability",
    severity="critical",
    origin="declared",
    remedy=_REMEDY,
)
def table_recovery(self: Check, ground: Ground) -> Iterator[Finding]:
    """One table is recovered with rows, indexes, constraints and sequences; all others stay."""
    live: Live = ground.postgres()
    before = _facts(live)
    table = _damage(live, only_rows=True)
    wish = recover.Wish(replace=True, safety=ground.folder("safety"), tables=(table,))
    recover_tables(ground.newest("postgres"), live, wish, ground.settings, ground.folder("recover"))
    yield from _differences(self, before, _facts(live))


@check("runbook.postgres-emergency", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def emergency(self: Check, ground: Ground) -> Iterator[Finding]:
    """An emergency backup is taken at once, beside the others and under its own kind."""
    taken = _take(ground, ground.postgres(), ground.folder("emergency"), Choice(), kind="emergency")
    if "-emergency-" not in taken.path.name:
        yield self.finding(taken.path.name, "the name does not say that it is an emergency backup")


@check("runbook.postgres-look", proves="usability", severity="medium", origin="declared", remedy=_REMEDY)
def look(self: Check, ground: Ground) -> Iterator[Finding]:
    """Size, tables and sessions of the database can be asked for."""
    live: Live = ground.postgres()
    with live.connect() as conn:
        for what, query in (
            ("size", "SELECT pg_database_size(current_database())"),
            ("tables", "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname !~ '^(pg_|information)'"),
            ("sessions", "SELECT count(*) FROM pg_catalog.pg_stat_activity"),
        ):
            row = conn.execute(query.encode()).fetchone()
            if not row or not row[0]:
                yield self.finding(what, "there is none")


CHECKS: Final = (
    whole,
    compressed,
    tables,
    integrity,
    restore_test,
    whole_recovery,
    table_recovery,
    emergency,
    look,
)


def _round_trip(self: Check, ground: Ground, choice: Choice) -> Iterator[Finding]:
    live: Live = ground.postgres()
    taken = _take(ground, live, ground.folder("backups"), choice)
    log = (taken.path.parent / "backup.log").read_text(encoding="utf-8")
    if taken.path.name not in log:
        yield self.finding("backup.log", "does not name the backup that was taken")
    copy = live.at(f"{live.database[:40]}_copy")
    try:
        wish = recover.Wish(safety=None)
        recover.recover(_artifact(taken.path), copy, wish, ground.settings, ground.folder("recover"))
        yield from _differences(self, _facts(live), _facts(copy))
    finally:
        with maintenance(live) as admin:
            drop(admin, copy.database)


def _take(ground: Ground, live: Live, folder: Path, choice: Choice, kind: str = "daily") -> Any:
    return backup(live, order(folder, kind, ground.settings.policy.zone), choice, ground.settings)


def _artifact(path: Path) -> Artifact:
    found = identify(path, recognisers(), component="postgres")
    if found is None:
        raise RestoreError("the backup just taken is not there", where=str(path))
    return found


def _facts(live: Live) -> dict[str, Any]:
    with live.connect() as conn:
        return capture_facts(conn, key=_KEY)


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return bool(a["tables"] == b["tables"])


def _differences(self: Check, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Finding]:
    """Tables, sequences and objects that are not as they were, by name."""
    for name in sorted(set(before["tables"]) | set(after["tables"])):
        a, b = before["tables"].get(name), after["tables"].get(name)
        if a != b:
            yield self.finding(
                name,
                "its rows are not those of before",
                expected=f"{a['rows']} rows" if a else "no table",
                observed=f"{b['rows']} rows" if b else "no table",
            )
    for name, a in before["sequences"].items():
        b = after["sequences"].get(name)
        if b is None or b["last_value"] < a["last_value"]:
            yield self.finding(name, "the sequence stands behind: numbers would be given out twice")
    for kind, objects in before["objects"].items():
        if not kind.startswith(_OUTSIDE) and objects != after["objects"].get(kind):
            there = after["objects"].get(kind, {})
            names = sorted(n for n in {*objects, *there} if objects.get(n) != there.get(n))
            yield self.finding(f"{kind} {names[0]}", f"{len(names)} of these are not as before")


_TABLES: Final = """
    SELECT format('%I.%I', n.nspname, c.relname), n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema)'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY pg_catalog.pg_relation_size(c.oid) DESC, 1"""


def _largest(live: Live) -> str:
    with live.connect() as conn:
        row = conn.execute(_TABLES).fetchone()
    if row is None:
        raise NotRun("the database has no table to rehearse with", blocking=True)
    return str(row[0])


def _damage(live: Live, *, only_rows: bool = False) -> str:
    """Take rows away from the largest table, and add a table that no backup has; returns the first's name."""
    with live.connect() as conn:
        row = conn.execute(_TABLES).fetchone()
        if row is None:
            raise NotRun("the database has no table to rehearse with", blocking=True)
        table = sql.Identifier(row[1], row[2])
        conn.execute("SET session_replication_role = replica")  # as a crash does: no trigger, no check
        conn.execute(
            sql.SQL(
                "DELETE FROM {} WHERE ctid IN"
                " (SELECT ctid FROM {} LIMIT greatest(1, (SELECT count(*) / 2 FROM {})))"
            ).format(table, table, table)
        )
        if not only_rows:
            conn.execute("CREATE TABLE public.provado_damage (a int)")
    return str(row[0])
