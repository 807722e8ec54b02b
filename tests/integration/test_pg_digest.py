"""Row digests: equal for equal rows on every major, in any order; another for any change of one value."""

# ruff: noqa: E501 - SQL by the line

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from live_servers import live, postgres, query

from harness.postgres import digest
from harness.postgres.fingerprint import pin
from harness.sandbox import PostgresRequest, Server, postgres_sandbox
from harness.settings import SandboxSettings

Connection = psycopg.Connection[tuple[Any, ...]]
KEY = b"\x07" * 16
TYPES = """
CREATE SCHEMA d;
CREATE TYPE d.mood AS ENUM ('', 'ok');
CREATE DOMAIN d.code AS text;
CREATE TYPE d.pair AS (a int, b text);
CREATE FUNCTION d.pair_text(d.pair) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'same'::text $$;
CREATE CAST (d.pair AS text) WITH FUNCTION d.pair_text(d.pair) AS ASSIGNMENT;
CREATE TABLE d.t (id int, t text, v varchar(9), c char(4), n numeric, f float8, r float4, ts timestamptz, d date,
  iv interval, j json, jb jsonb, b bytea, a text[], e d.mood, dm d.code, p d.pair, rg int4range, o oid, bo bool,
  m money, x point, bt varbit, tv tsvector, g int GENERATED ALWAYS AS (id * 2) STORED, "odd ""name" text, ip inet);
INSERT INTO d.t (id, t, v, c, n, f, r, ts, d, iv, j, jb, b, a, e, dm, p, rg, o, bo, m, x, bt, tv, "odd ""name", ip)
SELECT i, 'text ' || i, 'v' || i, 'c', 1.10, 0.1 + i, 0.1, '2026-01-01 00:00+00'::timestamptz + i * '1 s'::interval,
  '2026-01-01', '1 mon 2 days', '{"a": 1}', '{"a": 1}', '\\x00ff', ARRAY['a', NULL, ''], 'ok', 'd', ROW(i, 'b')::d.pair, '[1,5)',
  12, true, 12.5, '(1,2.5)', B'101', 'a:1 b:2', 'z', '10.0.0.1' FROM generate_series(1, 50) i;
CREATE TABLE d.nothing ();
INSERT INTO d.nothing SELECT FROM generate_series(1, 3);
CREATE TABLE d.twice (a int, b text);
INSERT INTO d.twice VALUES (1, 'same'), (1, 'same'), (2, 'other');
"""

CHANGES = (
    "SET t = overlay(t PLACING 'X' FROM 1 FOR 1)",
    "SET t = NULL",
    "SET t = ''",
    "SET v = v || ' '",
    "SET n = 1.1",
    "SET n = 'NaN'",
    "SET f = '-0'",
    "SET f = nextafter",
    "SET r = '0.10000001'",
    "SET ts = 'infinity'",
    "SET ts = ts + '1 microsecond'::interval",
    "SET iv = '32 days'",
    """SET j = '{"a":1}'""",
    """SET jb = '{"a": 1.0}'""",
    "SET b = set_byte(b, 0, 1)",
    "SET b = ''",
    "SET a = ARRAY['a', '', NULL]",
    "SET e = ''",
    "SET e = NULL",
    "SET dm = NULL",
    "SET dm = ''",
    "SET p = ROW(7, NULL)",
    "SET rg = 'empty'",
    "SET bo = NULL",
    "SET bt = B''",
    "SET tv = ''",
    "SET o = NULL",
    """SET "odd ""name" = t, t = "odd ""name" """,
    "SET id = 900",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        query(made, "postgres", "CREATE DATABASE digests TEMPLATE template0")
        with live(made, "digests").connect() as conn:
            conn.execute(TYPES.encode())
        yield made


@pytest.fixture(scope="module")
def conn(server: Server) -> Iterator[Connection]:
    with live(server, "digests").connect() as opened:
        opened.autocommit = True
        pin(opened)
        yield opened


def read(conn: Connection, name: str = "d.t", key: bytes = KEY, encoding: str = "UTF8") -> dict[str, Any]:
    [table] = [t for t in digest.list_tables(conn) if t.name == name]
    return digest.digest_table(conn, table, key, encoding)


@pytest.mark.parametrize("change", CHANGES)
def test_one_value_of_one_row(conn: Connection, change: str) -> None:
    before = read(conn)
    if "nextafter" in change:  # the smallest step a float8 can make
        [(value,)] = conn.execute("SELECT f FROM d.t WHERE id = 7").fetchall()
        import math

        change = f"SET f = '{math.nextafter(value, 99)!r}'"
    with conn.transaction(force_rollback=True):
        changed = conn.execute(f"UPDATE d.t {change} WHERE id = 7".encode())
        assert changed.rowcount == 1
        after = read(conn)
    assert after["rows"] == before["rows"]
    assert after["digest"] != before["digest"]
    assert read(conn) == before


def test_swapped_values_and_rows_gained_and_lost(conn: Connection) -> None:
    before, twice = read(conn), read(conn, "d.twice")
    with conn.transaction(force_rollback=True):
        conn.execute("UPDATE d.t SET t = CASE id WHEN 1 THEN 'text 2' ELSE 'text 1' END WHERE id IN (1, 2)")
        assert read(conn)["digest"] != before["digest"]
    with conn.transaction(force_rollback=True):  # XOR would not see two equal rows become two others
        conn.execute("UPDATE d.twice SET b = 'new' WHERE a = 1")
        assert read(conn, "d.twice")["digest"] != twice["digest"]
    with conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM d.twice WHERE ctid = (SELECT min(ctid) FROM d.twice WHERE a = 1)")
        conn.execute("INSERT INTO d.twice VALUES (2, 'other')")
        assert read(conn, "d.twice")["rows"] == 3
        assert read(conn, "d.twice")["digest"] != twice["digest"]


def test_order_of_rows_and_columns_and_the_session_do_not_count(server: Server, conn: Connection) -> None:
    before = read(conn)
    with live(server, "digests").connect() as other:
        other.autocommit = True
        other.execute(
            "SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601';"
            "SET bytea_output = 'escape'; SET extra_float_digits = -3; SET search_path = d;"
            "SET quote_all_identifiers = on"
        )
        pin(other)
        with other.transaction(force_rollback=True):
            other.execute(
                'CREATE TABLE d.copy AS SELECT ip, "odd ""name", g, tv, bt, x, m, bo, o, rg, p, dm, e, a, b, jb,'
                " j, iv, d, ts, r, f, n, c, v, t, id FROM d.t ORDER BY md5(t)"
            )
            assert read(other, "d.copy") == before


def test_no_columns_no_rows(conn: Connection) -> None:
    assert read(conn, "d.nothing")["rows"] == 3
    with conn.transaction(force_rollback=True):
        conn.execute("DELETE FROM d.nothing")
        assert read(conn, "d.nothing") == {"rows": 0, "digest": "0"}


def test_the_key_is_needed(conn: Connection) -> None:
    assert read(conn)["digest"] != read(conn, key=b"\x08" * 16)["digest"]


@pytest.mark.parametrize(
    ("encoding", "names", "values"),
    [
        ("LATIN1", ("a", "b", "c"), ("ação", "é", "ñ")),
        ("KOI8R", ("ц", "б", "ю"), ("привет", "мир", "ё")),  # sorted otherwise by their bytes in KOI8-R
        ("EUC_JP", ("日", "本", "ア"), ("日本語", "カナ", "語")),  # UTF-8's bytes are no text there
        ("EUC_KR", ("한", "가", "a"), ("한국어", "가나다", "각")),
    ],
)
def test_other_encodings_give_the_same(
    encoding: str, names: tuple[str, ...], values: tuple[str, ...], server: Server
) -> None:
    columns = ", ".join(
        f'"{name}" {kind}' for name, kind in zip(names, ("text", "text", "text[]"), strict=True)
    )
    rows = f"('{values[0]}', NULL, '{{{values[2]}}}', '{values[2]}', 1), ('{values[1]}', '', NULL, '', NULL)"
    changed = rows.replace("NULL, '{", "'', '{")
    found = []
    for number, (in_encoding, stored) in enumerate(((encoding, rows), ("UTF8", rows), (encoding, changed))):
        name = f"{encoding.lower()}_{number}"
        query(
            server,
            "postgres",
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{in_encoding}' LOCALE 'C'",
        )
        with live(server, name).connect() as conn:
            conn.autocommit = True
            pin(conn)
            conn.execute(f"CREATE TABLE public.t ({columns}, p char(6), n int)".encode())
            conn.execute(f"INSERT INTO public.t VALUES {stored}".encode())
            found.append(read(conn, "public.t", encoding=in_encoding))
    assert found[0] == found[1] != found[2]


def test_many_columns(conn: Connection) -> None:
    with conn.transaction(force_rollback=True):
        columns = ", ".join(f"c{i} text" for i in range(400))
        conn.execute(f"CREATE TABLE d.wide ({columns})".encode())
        conn.execute("INSERT INTO d.wide (c399) VALUES ('x')")
        before = read(conn, "d.wide")
        for name in ("c0", "c399", "c99"):  # c99 is the last by name
            with conn.transaction(force_rollback=True):
                conn.execute(f"UPDATE d.wide SET {name} = ''".encode())
                assert read(conn, "d.wide")["digest"] != before["digest"]


def test_large_objects(conn: Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("SELECT lo_from_bytea(77001, '\\x00ff'), lo_from_bytea(77002, '')")
        before = digest.large_objects(conn, KEY)
        assert before["count"] == 2
        conn.execute("SELECT lo_put(77001, 1, '\\xfe')")
        after = digest.large_objects(conn, KEY)
        assert after["objects"]["77001"] != before["objects"]["77001"]
        assert after["objects"]["77002"] == before["objects"]["77002"]
        conn.execute("SELECT lo_put(77002, 70000000, '\\x01')")  # a hole that a restore fills with zeros
        sparse = digest.large_objects(conn, KEY)["objects"]["77002"]
        conn.execute(
            "SELECT lo_unlink(77002), lo_from_bytea(77002, decode(repeat('00', 70000000) || '01', 'hex'))"
        )
        assert digest.large_objects(conn, KEY)["objects"]["77002"] == sparse


@pytest.mark.slow
def test_every_major_here_gives_the_same(conn: Connection) -> None:
    expected = {t.name: digest.digest_table(conn, t, KEY, "UTF8") for t in digest.list_tables(conn)}
    with ExitStack() as stack:
        for major in (17, 18):
            made = stack.enter_context(
                postgres_sandbox(PostgresRequest(major), SandboxSettings(), deadline=time.monotonic() + 120)
            )
            with live(made, "postgres").connect() as other:
                other.autocommit = True
                pin(other)
                assert other.info.server_version // 10000 == major
                other.execute(TYPES.encode())
                found = {
                    t.name: digest.digest_table(other, t, KEY, "UTF8") for t in digest.list_tables(other)
                }
                assert found == expected
