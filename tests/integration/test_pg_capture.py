"""The manifest of a live source: of one instant, nothing hidden, nothing secret; clear words else."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from live_servers import live, postgres, query, url
from pg_subject import clone, make_zoo
from pg_zoo import FIRST_GENERATION

from harness import process
from harness.cli import run as command
from harness.errors import ToolError
from harness.manifest import read_manifest, write_manifest
from harness.postgres.capture import capture, capture_facts, snapshot
from harness.postgres.compare import compare_objects
from harness.postgres.difference import Way
from harness.redact import Secret
from harness.sandbox import PostgresRequest, Server, find_tool, postgres_sandbox
from harness.settings import SandboxSettings


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        make_zoo(made, "zoo")
        yield made


def source(server: Server, database: str, user: str = "postgres", password: str | None = None) -> Secret:
    secret = server.password.reveal() if password is None else password
    return Secret(f"host={server.host} port={server.port} dbname={database} user={user} password={secret}")


def test_it_is_complete_and_holds_no_secret(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    manifest = capture(source(server, "zoo"), jobs=2, progress=lambda done, total, name: told.append(name))
    write_manifest(tmp_path / "m.json", manifest)
    assert read_manifest(tmp_path / "m.json", "postgres") == manifest
    facts = manifest.facts
    assert facts["tables"]["z.child"]["rows"] == 3
    assert facts["tables"]["z.cache"]["unlogged"]
    assert {"z.parted_1", "z.parted_2", "z.base", "z.heir"} <= facts["tables"].keys()
    assert "z.parted" not in facts["tables"]
    assert facts["sequences"]["z.ticket"] == {
        "last_value": 60,
        "is_called": True,
        "increment": 5,
        "cycle": True,
    }
    assert list(facts["large_objects"]["objects"]) == ["4711"]
    assert facts["unreadable"] == []
    assert manifest.source["database"] == "zoo" and manifest.source["system_identifier"]
    assert set(told) == facts["tables"].keys()
    text = (tmp_path / "m.json").read_text()
    for secret in (
        server.password.reveal(),
        "not-a-secret",
        "concealed",
        "hidden",
        "'one'",
        "SCRAM-SHA-256$",
    ):
        assert secret not in text


def test_two_captures_of_one_state_are_equal_but_for_the_key(server: Server) -> None:
    with live(server, "zoo").connect() as conn:
        one = capture_facts(conn)
        two = capture_facts(conn)
        again = capture_facts(conn, key=one["key"])
    assert one["key"] != two["key"]
    assert one["tables"] != two["tables"]
    assert {k: v for k, v in one.items() if k != "server"} == {
        k: v for k, v in again.items() if k != "server"
    }


def test_all_of_it_is_of_the_snapshots_instant(server: Server) -> None:
    clone(server, "zoo", "busy", "CREATE TABLE z.total (n bigint)", "INSERT INTO z.total VALUES (0)")
    stop = threading.Event()

    def write() -> None:
        with live(server, "busy").connect() as conn:
            conn.autocommit = True
            while not stop.is_set():  # both tables change together, or not at all
                with conn.transaction():
                    conn.execute("INSERT INTO z.child (v) VALUES ('w')")
                    conn.execute("UPDATE z.total SET n = n + 1")
                with conn.transaction():
                    conn.execute("TRUNCATE z.base")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for jobs in (1, 3):
            with live(server, "busy").connect() as conn:
                conn.autocommit = True

                def connect() -> psycopg.Connection[tuple[object, ...]]:
                    return live(server, "busy").connect()

                with snapshot(conn) as name:
                    facts = capture_facts(conn, jobs=jobs, connect=connect)
                    [(total,)] = conn.execute("SELECT n FROM z.total").fetchall()
                    assert facts["tables"]["z.child"]["rows"] == 3 + total
                    with live(server, "busy").connect() as other:  # as pg_dump --snapshot would see it
                        other.autocommit = True
                        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                        other.execute(f"SET TRANSACTION SNAPSHOT '{name}'".encode())
                        assert other.execute("SELECT n FROM z.total").fetchall() == [(total,)]
    finally:
        stop.set()
        writer.join()


def test_no_digest(server: Server) -> None:
    facts = capture(source(server, "zoo"), digests=False).facts
    assert facts["tables"]["z.child"] == {"kind": "table", "unlogged": False, "rows": 3}
    assert facts["large_objects"] == {"count": 1, "digest": None, "objects": {}}


def test_a_role_that_cannot_see_everything_is_refused(server: Server) -> None:
    query(server, "postgres", "CREATE ROLE backup LOGIN PASSWORD 'backup-role'")
    own = source(server, "zoo", "backup", "backup-role")
    with pytest.raises(ToolError, match=r"no privilege to read z\..*GRANT pg_read_all_data"):
        capture(own)
    query(server, "postgres", "GRANT pg_read_all_data TO backup")
    with pytest.raises(ToolError, match=r"row security hides rows of z\.tenant.*BYPASSRLS"):
        capture(own)
    query(server, "postgres", "ALTER ROLE backup BYPASSRLS")
    facts = capture(own).facts
    assert facts["unreadable"] == ["large object content"]
    # What it could read is what a superuser reads.
    with live(server, "zoo").connect() as conn:
        full = capture_facts(conn, key=facts["key"])
    assert facts["tables"] == full["tables"]
    assert all(full["objects"][kind] == objects for kind, objects in facts["objects"].items())
    query(server, "postgres", "DROP ROLE backup")


def test_a_source_that_is_not_there(server: Server) -> None:
    with pytest.raises(ToolError) as caught:
        capture(
            Secret(f"host={server.host} port={server.port} dbname=nowhere user=postgres password=hush-hush")
        )
    assert "hush-hush" not in str(caught.value)


def test_the_command(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPASSWORD", server.password.reveal())
    monkeypatch.setenv("SOURCE_URL", url(server, "zoo"))
    output = tmp_path / "zoo.manifest.json"
    assert command(["capture", "postgres", "env:SOURCE_URL", "--output", str(output)]) == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o640
    data = json.loads(output.read_text())
    assert (data["schema"], data["component"]) == ("provado/manifest/1", "postgres")
    assert command(["capture", "postgres", "env:NO_SUCH_URL", "--output", str(output)]) == 2
    assert "NO_SUCH_URL" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("major", [17, 18])
def test_newer_majors_show_the_same(server: Server, major: int) -> None:
    with live(server, "zoo").connect() as conn:
        source = capture_facts(conn)
    request = PostgresRequest(major, exact=True)
    with postgres_sandbox(request, SandboxSettings(), deadline=time.monotonic() + 120) as newer:
        make_zoo(newer, "zoo")
        with live(newer, "zoo").connect() as conn:
            copy = capture_facts(conn, key=source["key"])
    assert copy["server"]["major"] == major
    for one, two in ((source, copy), (copy, source)):
        result = compare_objects(one, two, Way())
        assert (result.differences, result.omitted) == ([], [])
    for part in ("tables", "sequences", "large_objects"):
        assert source[part] == copy[part]


@pytest.mark.slow
def test_not_null_is_an_object_of_its_own_since_18() -> None:
    request = PostgresRequest(18, exact=True)
    with postgres_sandbox(request, SandboxSettings(), deadline=time.monotonic() + 120) as newer:
        query(newer, "postgres", "CREATE TABLE t (a int CONSTRAINT one NOT NULL, b int NOT NULL NO INHERIT)")
        query(newer, "postgres", "CREATE TABLE kid () INHERITS (t)")
        with live(newer, "postgres").connect() as conn:
            conn.autocommit = True
            before = capture_facts(conn)

            def changed(*statements: str) -> dict[str, str]:
                for statement in statements:
                    conn.execute(statement.encode())
                after = capture_facts(conn, key=before["key"])
                return {
                    f"{d.object} {', '.join(name for name, _, _ in d.changes)}": d.severity.value
                    for d in compare_objects(before, after, Way()).differences
                }

            assert changed() == {}
            other = "ALTER TABLE public.t RENAME CONSTRAINT one TO two"
            name = "not null named (18)"
            assert changed(other) == {f"public.t.a {name}": "medium", f"public.kid.a {name}": "medium"}
            conn.execute(b"ALTER TABLE public.t RENAME CONSTRAINT two TO one")
            conn.execute(b"DROP TABLE public.kid")
            before = capture_facts(conn, key=before["key"])
            again = "ALTER TABLE public.t ALTER b DROP NOT NULL", "ALTER TABLE public.t ALTER b SET NOT NULL"
            assert changed(*again) == {"public.t.b not null inherited (18)": "critical"}


def test_a_first_generation_database_equals_its_restored_dump(server: Server, tmp_path: Path) -> None:
    """What people write and what the server makes of its own dump are other texts for the same thing."""
    tool = find_tool("pg_dump", SandboxSettings())
    assert tool
    for name in ("first", "second"):
        query(server, "postgres", f"CREATE DATABASE {name} TEMPLATE template0")
    with live(server, "first").connect() as conn:
        conn.execute(FIRST_GENERATION.encode())
    environment = {"PGPASSWORD": server.password.reveal()}
    dump = process.run([tool, "-d", url(server, "first")], env=environment, timeout_s=60)
    not_for_us = (b"\\", b"COPY ", b"SET transaction_timeout")  # empty tables; a newer pg_dump
    text = b"\n".join(line for line in dump.stdout.split(b"\n") if not line.startswith(not_for_us))
    with live(server, "second").connect() as conn:
        conn.execute(text)
    with live(server, "first").connect() as conn:
        one = capture_facts(conn)
    with live(server, "second").connect() as conn:
        two = capture_facts(conn, key=one["key"])
    assert compare_objects(one, two, Way()).differences == []
