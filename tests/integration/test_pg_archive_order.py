"""Parts of an archive change neither the order that counts nor what a reader of the whole text would see."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_servers import live, postgres, query
from test_pg_reading import _artifact, _told

from harness.drill import drill, open_drill
from harness.errors import ArtifactError
from harness.evidence.record import judge
from harness.model import Artifact, Evidence, Status
from harness.postgres import apart
from harness.postgres.contents import Listed, listed
from harness.postgres.pool import Pool
from harness.sandbox import Server, find_tools
from harness.settings import SandboxSettings, Settings, load_settings

INSPECT = importlib.import_module("harness.postgres.inspect")  # the package has a function of that name
Dump = Callable[..., Artifact]
MANY = "generate_series(1, 300) n"
THREE = "".join(
    f"CREATE TABLE {name} (id int, s text); INSERT INTO {name} SELECT n, repeat('{name}', n % 9) FROM {MANY};"
    for name in ("a", "b", "c")
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as started:
        yield started


@pytest.fixture
def dump(server: Server, tmp_path: Path) -> Dump:
    """Makes an archive of a database of these statements, with these options of pg_dump 15."""

    def made(statements: str, *options: str) -> Artifact:
        name = f"d{time.monotonic_ns()}"
        query(server, "postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        with live(server, name).connect() as conn:
            conn.execute("SET allow_in_place_tablespaces = on")
            for statement in filter(str.strip, statements.split(";\n")):
                conn.execute(statement.encode())
        tool = next(t for t in find_tools("pg_dump", SandboxSettings()) if "/15/" in str(t))
        path = tmp_path / (name + (".dir" if "-Fd" in options else ".dump"))
        address = {"PGHOST": str(server.host), "PGPORT": str(server.port), "PGUSER": server.user}
        env = {**os.environ, **address, "PGPASSWORD": server.password.reveal()}
        subprocess.run([tool, *(options or ("-Fc",)), "-f", path, name], env=env, check=True)
        return _artifact(path, manifest=None)

    return made


def _both(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None, size: int = 0
) -> list[Evidence]:
    """Drills by one text, and by parts for tables of `size` bytes in the archive."""
    loads, load = [], apart.load

    def counted(item: apart.Apart, *args: object, **more: object) -> None:
        loads.append(item)
        load(item, *args, **more)  # type: ignore[arg-type]

    settings = settings or load_settings(None, {})
    first = drill(artifact, settings)
    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)
    monkeypatch.setattr(apart, "APART_BYTES", size)
    monkeypatch.setattr(apart, "load", counted)
    second = drill(artifact, settings)
    monkeypatch.undo()
    assert loads
    return [first, second]


def _alike(found: list[Evidence]) -> str:
    told = [_told(one) for one in found]
    for one in told:
        one["facts"].pop("statements", None)  # type: ignore[attr-defined]
        one["findings"] = sorted(one["findings"], key=str)  # type: ignore[call-overload]
    assert told[0] == told[1]
    return judge(found[1]).verdict.value


# Rows of three partitions that come through their root lie between those of large tables.
ROOTED = (
    f"CREATE TABLE a_large AS SELECT n, md5(n::text) FROM {MANY};\n"
    "CREATE TABLE p (n int, s text) PARTITION BY LIST (n);\n"
    + "".join(f"CREATE TABLE p{n} PARTITION OF p FOR VALUES IN ({n});\n" for n in range(3))
    + "INSERT INTO p SELECT n % 3, 'x' FROM generate_series(1, 30) n;\n"
    f"CREATE TABLE z_large AS SELECT n, md5(n::text) FROM {MANY}"
)


@pytest.mark.slow
def test_rows_are_found_again_in_one_text(dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    """What compares rows, or loads them once more, counts the COPY blocks of one text."""
    artifact = dump(ROOTED, "-Fc", "--load-via-partition-root")
    target = Settings.model_validate({"postgres": {"target": {"encoding": "UTF8", "locale": "C"}}})
    assert _alike(_both(artifact, monkeypatch, target, size=1000)) == "pass"


@pytest.mark.slow
@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE z (id int, a int CHECK (there(a)), s text)",
        "CREATE DOMAIN d AS int CHECK (there(VALUE));\nCREATE TABLE z (id int, a d, s text)",
        "CREATE TABLE z (id int, a int, s text) PARTITION BY LIST (there(a));\n"
        "CREATE TABLE z1 PARTITION OF z FOR VALUES IN (true)",
    ],
    ids=["check", "domain", "partition"],
)
def test_rows_that_look_into_another_table_come_behind_its_rows(
    table: str, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = dump(
        "CREATE TABLE a (id int);\nINSERT INTO a SELECT generate_series(0, 9);\n"
        f"CREATE TABLE b AS SELECT n FROM {MANY};\n"
        "CREATE FUNCTION there(i int) RETURNS boolean LANGUAGE sql IMMUTABLE"
        " AS 'SELECT EXISTS (SELECT FROM public.a WHERE id = i)';\n"
        f"{table};\nINSERT INTO z SELECT n, n % 10, repeat('x', 999) FROM {MANY}"
    )
    assert _alike(_both(artifact, monkeypatch)) == "pass"


@pytest.mark.slow
def test_what_follows_the_rows_keeps_its_tablespace(dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first index says where it is to lie before its comment."""
    artifact = dump(
        "CREATE TABLESPACE elsewhere LOCATION '';\n"
        + "".join(
            f"CREATE TABLE {t} (n int) TABLESPACE elsewhere;\nINSERT INTO {t} SELECT n FROM {MANY};\n"
            for t in ("a", "b")
        )
        + "CREATE INDEX i ON a (n)"
    )
    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)
    monkeypatch.setattr(apart, "APART_BYTES", 0)
    opened = open_drill(artifact, load_settings(None, {}))
    try:
        with opened.subject.connect() as conn:
            where = (
                "SELECT relname, reltablespace > 0 FROM pg_class WHERE relname IN ('a', 'b', 'i') ORDER BY 1"
            )
            assert conn.execute(where).fetchall() == [("a", True), ("b", True), ("i", False)]
    finally:
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "tail",
    [
        b"\\! true\n", b"nonsense\n", b"SET session_replication_role = replica;\n",
        b"1\tx\n", b"COPY public.b (id, s) FROM stdin;\n1\tx\n\\.\n", b"'", b"/*", None,
    ],
)  # fmt: skip
def test_what_stands_behind_rows_is_seen(
    tail: bytes | None, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file of a table whose rows ended early, or (None) do not end."""
    artifact = dump(THREE, "-Fd", "-Z0")
    entry = next(e for e in listed(artifact, Path("/nowhere")) if e.kind == "TABLE DATA")
    file = artifact.path / entry.file
    rows = file.read_bytes()
    assert rows.endswith(b"\\.\n\n\n")
    file.write_bytes(rows + tail if tail is not None else rows[:-5])
    assert judge(_both(artifact, monkeypatch)[1]).verdict.value == "fail"


@pytest.mark.slow
@pytest.mark.parametrize("place", [1 << 60, 1 << 40, 30, 0])
def test_offsets_that_are_none_are_told_alike(
    place: int, dump: Dump, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = dump(THREE)
    entries = [e for e in listed(artifact, Path("/nowhere")) if e.kind == "TABLE DATA"]
    data = artifact.path.read_bytes()
    was = b"\x02" + entries[-1].begins.to_bytes(8, "little")
    assert data.count(was) == 1
    artifact.path.write_bytes(data.replace(was, b"\x02" + place.to_bytes(8, "little")))
    monkeypatch.setattr(INSPECT, "BY_LOAD_BYTES", 0)
    monkeypatch.setattr(apart, "APART_BYTES", 0)
    status = {c.id: c.status for c in drill(artifact, load_settings(None, {})).checks}
    assert status["pg.file-whole"] is Status.FAIL


def test_a_name_that_no_file_has_is_a_missing_file(dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = dump(THREE, "-Fd")
    toc = artifact.path / "toc.dat"
    file = next(e.file for e in listed(artifact, Path("/nowhere")) if e.kind == "TABLE DATA").encode()
    toc.write_bytes(toc.read_bytes().replace(file, b"/" * len(file)))
    assert apart.split(listed(artifact, Path("/nowhere"))) is None


@pytest.mark.slow
def test_a_part_that_cannot_be_read_ends_the_others() -> None:
    """What damage was found in need not wait for terabytes beside it."""
    head = b"--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: o\n--\n\n"
    endless = itertools.chain([head + b"COPY public.t (a) FROM stdin;\n"], itertools.repeat(b"1\n" * 1000))

    def part(blocks: Iterator[bytes], size: int) -> apart.Part:
        return apart.Part(lambda: contextlib.nullcontext(blocks), size)

    def none(*_: object) -> bool:
        return False

    with postgres() as server:
        query(server, "postgres", "CREATE TABLE t (a int)")
        address = live(server, "postgres")
        pool = Pool(lambda database: address.connect(), 2)
        item = apart.Apart((part(endless, 9), part(iter([head]), 1)), (0, 1), 2)
        began = time.monotonic()
        with address.connect() as conn, pytest.raises(ArtifactError, match="contents tell"):
            apart.load(item, pool, conn, address.connect, none, none, empty=False)  # type: ignore[arg-type]
        pool.close()
    assert time.monotonic() - began < 20


def _entry(number: int, kind: str, name: str, *needs: int) -> Listed:
    copy = f"COPY {name} (a) FROM stdin;\n" if kind == "TABLE DATA" else ""
    return Listed(number, kind, name, copy, needs, size=2 << 20 if copy else None)


GOOD = (
    _entry(1, "EXTENSION", "e"), _entry(2, "FUNCTION", "s.f"), _entry(3, "TABLE", "s.a"),
    _entry(4, "TABLE", "s.b"), _entry(5, "TABLE", "s.c", 2), _entry(6, "TABLE", "s.d", 1),
    _entry(7, "COMMENT", "EVENT TRIGGER t"), _entry(8, "SCHEMA", "EVENT TRIGGER t"),
    _entry(13, "TABLE DATA", "s.a", 3),
    _entry(14, "TABLE DATA", "s.b", 4), _entry(15, "TABLE DATA", "s.c", 5),
    _entry(16, "TABLE DATA", "s.d", 6),
)  # fmt: skip
CONFIGURATION = _entry(17, "TABLE DATA", "s.of_e", 1)


@pytest.mark.parametrize(
    ("entries", "places"),
    [
        (GOOD, (0, 1, 3)),
        ((*GOOD, CONFIGURATION), (0, 1)),
        ((*GOOD, _entry(20, "ACL", "DATABASE d")), None),
        ((*GOOD, _entry(20, "DATABASE PROPERTIES", "d")), None),
        ((*GOOD, _entry(20, "TABLE DATA", "pg_catalog.pg_proc")), None),
        ((*GOOD, Listed(20, "TABLE DATA", "s.e", "COPY s.e (a) FROM stdin;\n", ())), None),
        ((*GOOD, Listed(20, "TABLE DATA", "s.e", "", (), size=5)), None),
    ],
    ids=["good", "configuration", "rights", "settings", "catalog", "nowhere", "no copy"],
)
def test_which_tables_are_read_apart(entries: tuple[Listed, ...], places: tuple[int, ...] | None) -> None:
    found = apart.split(entries)
    assert (found.places if found else None) == places
    if found:
        assert 7 not in found.before
        assert 8 in found.before
        assert [e.number for e in found.apart] == [13 + place for place in found.places]
