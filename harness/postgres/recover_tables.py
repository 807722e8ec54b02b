"""Restore some tables of a backup into a user's own database, in one transaction: all of it or nothing.

A table that is there keeps its identity (views, rights, foreign keys of others) and gets the backup's rows;
its lost indexes, constraints and triggers come back. A table that is gone is made as the backup has it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from ..backups import order
from ..component import DrillContext
from ..errors import ConfigError, RestoreError
from ..model import Artifact
from ..recovery import Recovered
from ..settings import Settings
from . import backup as taking
from . import patterns
from .databases import one
from .dump import Copy, Statement
from .failures import explain
from .live import Connection, Live
from .recover import Wish, read, source_database
from .source import sql_text
from .strict import copy_rows, execute, items_of

_NAME: Final = rb'((?:"(?:[^"]|"")+"|[\w$]+)(?:\.(?:"(?:[^"]|"")+"|[\w$]+))?)'
_RELATIONS: Final = tuple(  # (what a statement does to a table, pattern whose group 1 names the table)
    (kind, re.compile(rb"\s*" + text.replace(b"@", _NAME), re.I | re.S))
    for kind, text in (
        ("attach", rb"ALTER TABLE (?:ONLY )?@ ATTACH PARTITION "),
        ("foreign", rb"ALTER TABLE (?:ONLY )?@\s+ADD CONSTRAINT \S+ FOREIGN KEY "),
        ("constraint", rb"ALTER TABLE (?:ONLY )?@\s+ADD CONSTRAINT "),
        ("table", rb"CREATE (?:UNLOGGED )?TABLE @"),
        ("after", rb"ALTER TABLE (?:ONLY )?@ (?:CLUSTER|REPLICA IDENTITY|ENABLE|DISABLE|FORCE)"),
        ("before", rb"ALTER TABLE (?:ONLY )?@\s"),
        ("index", rb"CREATE (?:UNIQUE )?INDEX \S+ ON (?:ONLY )?@"),
        ("trigger", rb"CREATE (?:CONSTRAINT )?TRIGGER \S+ .*? ON @"),
        ("after", rb"CREATE POLICY \S+ ON @"),
        ("after", rb"CREATE STATISTICS .*? FROM @"),
        ("after", rb"CREATE RULE .*? TO @"),
        ("after", rb"COMMENT ON (?:CONSTRAINT|TRIGGER|POLICY|RULE) \S+ ON @"),
        ("before", rb"COMMENT ON TABLE @"),
        ("before", rb"(?:GRANT|REVOKE) [^;]*? ON TABLE @"),
    )
)
_COLUMN_COMMENT: Final = re.compile(
    rb"\s*COMMENT ON COLUMN " + _NAME + rb'\.(?:"(?:[^"]|"")+"|[\w$]+)\s', re.I
)
_SEQUENCE: Final = re.compile(rb"\s*(?:CREATE|ALTER) SEQUENCE " + _NAME, re.I)
_OWNED: Final = re.compile(
    rb"\s*ALTER SEQUENCE " + _NAME + rb" OWNED BY " + _NAME + rb'\.(?:"(?:[^"]|"")+"|[\w$]+)\s*$', re.I
)
_IDENTITY: Final = re.compile(rb"ADD GENERATED .*? AS IDENTITY \(\s*SEQUENCE NAME " + _NAME, re.I | re.S)
_ATTACHED: Final = re.compile(rb"ATTACH PARTITION " + _NAME, re.I)
_SETVAL: Final = re.compile(
    rb"\s*SELECT (?:pg_catalog\.)?setval\('((?:[^']|'')+)', (\d+), (true|false)\)", re.I
)
_ADDED: Final = re.compile(rb'(?:ADD CONSTRAINT|INDEX|TRIGGER)\s+("(?:[^"]|"")+"|[\w$]+)', re.I)
_SETTING: Final = re.compile(rb"\s*(?:SET |SELECT pg_catalog\.set_config\()", re.I)
_PARTS: Final = re.compile(rb'"((?:[^"]|"")+)"|([\w$]+)')
_LOCK_TIMEOUT: Final = "30s"

Name = tuple[str, str]  # schema, relation


@dataclass
class Script:
    """What the backup says about the chosen tables, in the order of the dump."""

    tables: list[Name] = field(default_factory=list)
    settings: list[Statement] = field(default_factory=list)
    statements: list[tuple[str, Name, Statement]] = field(default_factory=list)
    sequences: dict[Name, Name] = field(default_factory=dict)  # sequence -> its table
    made: list[tuple[Name, Statement]] = field(default_factory=list)  # statements that make sequences
    values: list[tuple[Name, int, bool]] = field(default_factory=list)
    above: set[Name] = field(default_factory=set)  # partitioned tables that those chosen are parts of


def recover_tables(
    artifact: Artifact,
    target: Live,
    wish: Wish,
    settings: Settings,
    scratch: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> Recovered:
    """Restore `wish.tables` into the existing database `target`.

    Raises ConfigError when the backup has no such table, RestoreError when the target refuses; the target
    is then as it was.
    """
    ctx = DrillContext(settings, scratch, time.monotonic() + wish.timeout_s)
    done = Recovered(target.place)
    with done.stage("read"):
        source = source_database(read(artifact, ctx, even_if_cut=wish.even_if_cut), target.database)
        with sql_text(artifact, ctx, "read") as text:
            script = _script(text, source, wish.tables)
    with target.connect(autocommit=False) as conn:
        there = [t for t in script.tables if _exists(conn, t)]
        full = [t for t in there if _count(conn, "SELECT count(*) FROM (SELECT FROM {} LIMIT 1) x", t)]
        conn.rollback()
        if full and not wish.replace:
            raise RestoreError(
                f"{', '.join(map(_text, full))} in {target.place} hold rows",
                remedy="nothing was changed; say --replace to replace them",
            )
        if full and wish.safety:
            progress("safety backup")
            asked = order(wish.safety, "recovery", settings.policy.zone)
            choice = taking.Choice(tables=tuple(_sql(t) for t in there))
            done.save("the tables before", lambda: taking.backup(target, asked, choice, settings))
        try:
            with done.stage("load"), conn.transaction():
                done.arrived = _load(conn, artifact, ctx, source, script, there, progress)
        except psycopg.Error as error:
            raise RestoreError(
                f"the database refused: {explain(error)}", where=target.place, remedy="nothing was changed"
            ) from None
    return done


def _script(blocks: Iterable[bytes], source: str | None, wanted: tuple[str, ...]) -> Script:
    """Collect what concerns the wanted tables, and the partitions of those that have some."""
    script = Script()
    everything: list[tuple[str, Name, Statement]] = []
    sequences: list[tuple[Name, Statement]] = []
    children: dict[Name, list[Name]] = {}
    for item in items_of(blocks, source):
        if isinstance(item, Copy) or not isinstance(item, Statement) or item.sql[:7].upper() == b"INSERT ":
            continue
        text = item.sql
        if _SETTING.match(text):
            script.settings.append(item)
        elif found := _OWNED.match(text):
            script.sequences[_name(found[1])] = _name(found[2])
            sequences.append((_name(found[1]), item))
        elif found := _SEQUENCE.match(text):
            sequences.append((_name(found[1]), item))
        elif found := _SETVAL.match(text):
            name = _name(found[1].replace(b"''", b"'"))
            script.values.append((name, int(found[2]), found[3].lower() == b"true"))
        elif found := _COLUMN_COMMENT.match(text):
            everything.append(("before", _name(found[1]), item))
        else:
            for kind, pattern in _RELATIONS:
                if found := pattern.match(text):
                    table = _name(found[1])
                    if kind == "attach" and (child := _ATTACHED.search(text)):
                        children.setdefault(table, []).append(_name(child[1]))
                    if identity := _IDENTITY.search(text):
                        script.sequences[_name(identity[1])] = table
                    everything.append((kind, table, item))
                    break
    known = {table for kind, table, _ in everything if kind == "table"}
    for text_name in wanted:
        matches = [t for t in known if _matches(text_name, t)]
        if len(matches) != 1:
            raise ConfigError(
                f"the backup has {'no table' if not matches else 'several tables'} {text_name}",
                remedy="name it as schema.table; nothing was changed",
            )
        queue = matches
        while queue:
            table = queue.pop()
            if table not in script.tables:
                script.tables.append(table)
                queue += children.get(table, [])
    chosen = set(script.tables)
    queue = list(chosen)
    while queue:
        part = queue.pop()
        queue += (parents := [root for root, parts in children.items() if part in parts])
        script.above.update(set(parents) - chosen)
    script.statements = [
        (kind, table, item)
        for kind, table, item in everything
        if table in chosen or (kind == "foreign" and _references(item.sql) in chosen)
    ]
    mine = {s for s, table in script.sequences.items() if table in chosen}
    script.made = [(name, item) for name, item in sequences if name in mine]
    script.values = [v for v in script.values if v[0] in mine]
    return script


def _load(
    conn: Connection,
    artifact: Artifact,
    ctx: DrillContext,
    source: str | None,
    script: Script,
    there: list[Name],
    progress: Callable[[str], None],
) -> dict[str, int]:
    conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_LOCK_TIMEOUT))
    for item in script.settings:
        execute(conn, item)
    conn.execute("SET check_function_bodies = off")
    new = set(script.tables) - set(there)
    saved: list[tuple[str, str, str]] = []
    if there:
        names = ", ".join(_sql(t) for t in there)
        conn.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE".encode())
        saved = _take_off_foreign_keys(conn, there)
        for table in there:
            conn.execute(f"ALTER TABLE {_sql(table)} DISABLE TRIGGER USER".encode())
        conn.execute(f"TRUNCATE {names}".encode())
    owned_later = [i for n, i in script.made if _OWNED.match(i.sql)]
    for name, item in script.made:
        if script.sequences[name] in new and item not in owned_later and not _exists(conn, name):
            execute(conn, item)
    for kind, table, item in script.statements:
        if table in new and kind in ("table", "before", "attach"):
            execute(conn, item)
    for name, item in script.made:
        if script.sequences[name] in new and item in owned_later:
            execute(conn, item)
    rows = _rows(conn, artifact, ctx, source, script, progress)
    _after(conn, script, new, saved)
    for table in there:
        conn.execute(f"ALTER TABLE {_sql(table)} ENABLE TRIGGER USER".encode())
    for name, value, called in script.values:
        if _exists(conn, name):
            position = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*name))
            now = conn.execute(position).fetchone()
            if now is None or (value, called) > (now[0], now[1]):  # never back: ids must not be given twice
                conn.execute("SELECT pg_catalog.setval(%s, %s, %s)", (_sql(name), value, called))
    wanted: dict[str, int] = {}  # by partitioned table, since the rows of all parts may stand under its name
    held: dict[str, int] = {}
    for table in script.tables:
        tree = _tree(conn, table)
        wanted[tree] = wanted.get(tree, 0) + rows.get(_text(table), 0)
        held[tree] = held.get(tree, 0) + _count(conn, "SELECT count(*) FROM ONLY {}", table)
    for tree, count in wanted.items():
        if held[tree] != count:
            raise RestoreError(f"{tree} does not hold the backup's {count:,} rows; nothing was changed")
    return rows


def _rows(
    conn: Connection,
    artifact: Artifact,
    ctx: DrillContext,
    source: str | None,
    script: Script,
    progress: Callable[[str], None],
) -> dict[str, int]:
    rows = {_text(t): 0 for t in script.tables if not _partitioned(conn, t)}
    with sql_text(artifact, ctx, "restore") as text:
        for item in items_of(text, source):
            if isinstance(item, Copy):
                table = (item.schema or "public", item.table)
            elif isinstance(item, Statement) and patterns.is_insert(item.sql):
                table = _name(item.sql[12:])
            else:
                continue
            if table in script.above:
                raise RestoreError(
                    f"the backup has the rows of all parts of {_text(table)} in one: which belong to"
                    " a part alone cannot be told",
                    remedy=f"nothing was changed; restore {_text(table)} with all its parts",
                )
            if table in script.tables:
                if isinstance(item, Copy):
                    progress(_text(table))
                got = copy_rows(conn, item) if isinstance(item, Copy) else execute(conn, item)
                rows[_text(table)] = rows.get(_text(table), 0) + (got or 0)
    return rows


def _after(conn: Connection, script: Script, new: set[Name], saved: list[tuple[str, str, str]]) -> None:
    """Constraints, indexes and triggers that are not there, keys before foreign keys."""
    for wanted in (("constraint", "index"), ("after", "trigger")):
        for kind, table, item in script.statements:
            if kind in wanted and (table in new or (kind != "after" and not _has(conn, table, item.sql))):
                execute(conn, item)
    for table_text, name, definition in saved:
        conn.execute(f"ALTER TABLE {table_text} ADD CONSTRAINT {name} {definition}".encode())
    for kind, table, item in script.statements:
        if kind == "foreign" and _exists(conn, table) and not _has(conn, table, item.sql):
            referenced = _references(item.sql)
            if referenced and _exists(conn, referenced):
                execute(conn, item)


def _take_off_foreign_keys(conn: Connection, tables: list[Name]) -> list[tuple[str, str, str]]:
    """Foreign keys from and to the tables, removed until the rows are in; (table, name, definition)."""
    found = conn.execute(
        "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND conparentid = 0"
        " AND (conrelid = ANY(%s::text[]::regclass[]) OR confrelid = ANY(%s::text[]::regclass[]))",
        ([_sql(t) for t in tables],) * 2,
    ).fetchall()
    for table, name, _ in found:
        conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    return [(str(t), str(n), str(d)) for t, n, d in found]


def _has(conn: Connection, table: Name, statement: bytes) -> bool:
    """Whether the constraint, index or trigger that a statement makes is there already."""
    found = _ADDED.search(statement)
    if found is None:
        return False
    name = _parts(found[1])[0]
    return bool(
        one(
            conn,
            "SELECT (SELECT count(*) FROM pg_constraint WHERE conrelid = to_regclass(%s) AND conname = %s)"
            " + (SELECT count(*) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
            "    WHERE i.indrelid = to_regclass(%s) AND c.relname = %s)"
            " + (SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s)",
            *(_sql(table), name) * 3,
        )
    )


def _count(conn: Connection, query: LiteralString, table: Name) -> int:
    row = conn.execute(sql.SQL(query).format(sql.Identifier(*table))).fetchone()
    return int(row[0]) if row else 0


def _exists(conn: Connection, name: Name) -> bool:
    return bool(one(conn, "SELECT (to_regclass(%s) IS NOT NULL)::int", _sql(name)))


def _partitioned(conn: Connection, name: Name) -> bool:
    return bool(
        one(conn, "SELECT (relkind = 'p')::int FROM pg_class WHERE oid = to_regclass(%s)", _sql(name))
    )


def _tree(conn: Connection, name: Name) -> str:
    """The partitioned table on top of a part, as SQL writes it; the table itself where it is none."""
    row = conn.execute(
        "SELECT coalesce(pg_catalog.pg_partition_root(c), c)::text FROM pg_catalog.to_regclass(%s) c",
        (_sql(name),),
    ).fetchone()
    return str(row[0]) if row else _text(name)


def _references(statement: bytes) -> Name | None:
    found = re.search(rb"\sREFERENCES " + _NAME, statement, re.I)
    return _name(found[1]) if found else None


def _parts(text: bytes) -> list[str]:
    found = _PARTS.findall(text)
    return [(a.replace(b'""', b'"') if a else b).decode("utf-8", "replace") for a, b in found]


def _name(text: bytes) -> Name:
    """Schema and relation of a name at the start of `text`; `public` where no schema is written."""
    found = re.match(_NAME, text)
    parts = _parts(found[1]) if found else ["?"]
    return (parts[0], parts[1]) if len(parts) > 1 else ("public", parts[0])


def _matches(wanted: str, table: Name) -> bool:
    schema, dot, name = wanted.rpartition(".")
    return (table[0] == schema and table[1] == name) if dot else table[1] == wanted


def _text(table: Name) -> str:
    return f"{table[0]}.{table[1]}"


def _sql(table: Name) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in table)
