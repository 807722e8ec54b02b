"""The rows of a backup gathered by the table that holds them now, beside what the server has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from . import source
from .dump import Copy, read_dump
from .proof import read_rows
from .restore import HOME, RestoredPostgres
from .rows import Multiset, normaliser


@dataclass
class Group:
    """All rows that the file has for one table: COPY blocks (by index) and INSERTs.

    Several blocks go to one table when it is a partition root; `parts` are those of its partitions that the
    file names itself, whose rows count here. `expected` and `observed` count rows; `observed` is None when
    nothing could be loaded or the table cannot be found.
    """

    database: str
    schema: str | None
    table: str
    indexes: list[int] = field(default_factory=list)
    inserts: int = 0
    expected: int = 0
    observed: int | None = None
    parts: list[tuple[str | None, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Qualified name for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table

    @property
    def written(self) -> str:
        """Quoted, qualified name for SQL."""
        return sql.Identifier(*[p for p in (self.schema, self.table) if p]).as_string(None)


def groups(subject: RestoredPostgres) -> list[Group]:
    """All tables that the file has rows for, with rows expected and observed. COPY in CSV is left out."""
    facts, loaded = subject.facts_of_file, subject.loaded
    found: dict[tuple[str, str | None, str], Group] = {}

    def group(database: str, schema: str | None, table: str) -> Group:
        return found.setdefault((database, schema, table), Group(database, schema, table))

    for index, block in enumerate(facts.tables):
        if block.text:
            place = loaded.into.get(index)
            one = group(block.database or HOME, *(place or (block.schema, block.table)))
            one.indexes.append(index)
            one.expected += block.rows
    for (database, target), rows in loaded.inserted.items():
        if place := loaded.places.get((database, target)):
            one = group(database, *place)
            one.inserts += rows
            one.expected += rows
    every = _by_tree(subject, list(found.values()))
    for one in every:
        if one.inserts or any(i in loaded.copied for i in one.indexes):
            one.observed = _stored(subject, one)
    return every


# Places of partitions and of the topmost table above them, among the names given
_ABOVE: Final = """
WITH g AS (SELECT place, pg_catalog.to_regclass(name) AS c
  FROM unnest(%s::text[]) WITH ORDINALITY n(name, place))
SELECT g.place::int, top.place::int FROM g JOIN pg_catalog.pg_class k ON k.oid = g.c AND k.relispartition,
  LATERAL (SELECT t.place FROM pg_catalog.pg_partition_ancestors(g.c) WITH ORDINALITY a(relid, depth)
    JOIN g t ON t.c = a.relid WHERE a.relid <> g.c ORDER BY a.depth DESC LIMIT 1) top"""


def _by_tree(subject: RestoredPostgres, every: list[Group]) -> list[Group]:
    """Partitions that the file fills themselves and through a table above them, gathered under that one."""
    gathered: set[int] = set()
    for database in {g.database for g in every}:
        mine = [g for g in every if g.database == database]
        with subject.connect(database) as conn:
            pairs = conn.execute(_ABOVE, ([g.written for g in mine],)).fetchall()
        for part, top in ((mine[low - 1], mine[high - 1]) for low, high in pairs):
            top.parts.append((part.schema, part.table))
            top.indexes += part.indexes
            top.inserts += part.inserts
            top.expected += part.expected
            gathered.add(id(part))
    return [g for g in every if id(g) not in gathered]


def differing(subject: RestoredPostgres, every: Iterable[Group]) -> Iterator[tuple[Group, str]]:
    """Tables whose rows are not the file's, with the reason; compared as multisets where the text differs.

    Tables with INSERTs are left out: their values stand nowhere in comparable form.
    """
    doubtful = [g for g in every if _complete(subject, g) and not _same_text(subject, g)]
    for group, why in [(g, why) for g in doubtful if (why := _gone(subject, g))]:
        doubtful.remove(group)
        yield group, why
    in_file = _from_file(subject, doubtful) if doubtful else {}
    for group in doubtful:
        held, wanted = Multiset(), in_file[group.database, group.written]
        with subject.connect(group.database) as conn:
            first = subject.facts_of_file.tables[group.indexes[0]]
            columns = first.columns
            assert subject.server is not None  # noqa: S101 - rows were read from it before
            read = read_rows(conn, subject.server, group.schema, group.table, columns, first.encoding)
            held.add(read, normaliser(conn, group.written, columns))
        if wanted.same(held):
            continue
        lost, extra = wanted.missing(held), held.missing(wanted)
        if lost is None or extra is None:
            yield group, f"{wanted.rows:,} rows in the file, {held.rows:,} in the server"
        else:
            yield (
                group,
                f"{lost:,} of {wanted.rows:,} rows differ or are missing, {extra:,} are not the file's",
            )


def _complete(subject: RestoredPostgres, group: Group) -> bool:
    return (
        bool(group.indexes) and not group.inserts and all(i in subject.loaded.copied for i in group.indexes)
    )


def _gone(subject: RestoredPostgres, group: Group) -> str | None:
    """Why the table of a group cannot be read as the file has it: it, or a column, was dropped or renamed."""
    with subject.connect(group.database) as conn:
        names = conn.execute(
            "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass(%s)"
            " AND attnum > 0 AND NOT attisdropped UNION ALL"
            " SELECT NULL WHERE pg_catalog.to_regclass(%s) IS NULL",
            (group.written, group.written),
        ).fetchall()
    if (None,) in names:
        return "the table is not there any more"
    columns = subject.facts_of_file.tables[group.indexes[0]].columns
    return "a column is not there any more" if {(c,) for c in columns} - set(names) else None


def _same_text(subject: RestoredPostgres, group: Group) -> bool:
    index = group.indexes[0]
    rows = subject.rows.get(index)
    same = rows is not None and rows.digest == subject.facts_of_file.tables[index].digest
    return same and len(group.indexes) == 1


def _stored(subject: RestoredPostgres, group: Group) -> int | None:
    read = next((subject.rows[i] for i in group.indexes if i in subject.rows), None)
    if read is not None and not group.inserts and not group.parts:
        return read.rows
    with subject.connect(group.database) as conn:
        kind = conn.execute(
            "SELECT relkind FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s)", (group.written,)
        ).fetchone()
        if kind is None:
            return None
        # children of an inheritance parent have rows of their own
        query = sql.SQL("SELECT count(*) FROM {}" if kind[0] == "p" else "SELECT count(*) FROM ONLY {}")
        name = sql.Identifier(*[p for p in (group.schema, group.table) if p])
        row = conn.execute(query.format(name)).fetchone()
    return int(row[0]) if row else None


def _ordered(
    columns: Sequence[str], wanted: Sequence[str], way: Callable[[bytes], bytes] | None
) -> Callable[[bytes], bytes] | None:
    """`way` for rows in another order of columns: partitions loaded through their root keep their own."""
    if columns == wanted or sorted(columns) != sorted(wanted):
        return way
    places = [columns.index(name) for name in wanted]

    def ordered(line: bytes) -> bytes:
        fields = line.split(b"\t")
        if len(fields) == len(places):
            line = b"\t".join([fields[i] for i in places])
        return way(line) if way else line

    return ordered


def _from_file(subject: RestoredPostgres, wanted: Iterable[Group]) -> dict[tuple[str, str], Multiset]:
    """One pass over the file for the rows of these tables."""
    by_index = {i: g for g in wanted for i in g.indexes}
    sets = {(g.database, g.written): Multiset() for g in by_index.values()}
    ways: dict[int, Callable[[bytes], bytes] | None] = {}
    for index, group in by_index.items():
        columns = subject.facts_of_file.tables[group.indexes[0]].columns
        with subject.connect(group.database) as conn:
            way = normaliser(conn, group.written, columns)
        ways[index] = _ordered(subject.facts_of_file.tables[index].columns, columns, way)
    index = -1
    with source.sql_text(subject.artifact, subject.ctx, "compare rows") as text:
        for item in read_dump(text):
            if isinstance(item, Copy):
                index += 1
                if one := by_index.get(index):
                    sets[one.database, one.written].add(item.data, ways[index])
    return sets
