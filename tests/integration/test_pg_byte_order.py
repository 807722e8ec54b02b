"""Databases in C.UTF-8 are loaded in byte order: which must be the same order, and leave no trace."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from harness.postgres.byte_order import ByteOrder
from harness.postgres.pool import Connection
from harness.postgres.proof import connect
from harness.sandbox import PostgresRequest, Server, postgres_sandbox
from harness.settings import SandboxSettings

WORDS = [
    "",
    " ",
    "\t",
    "A",
    "a",
    "Á",
    "á",
    "ação",
    "acao",
    "z",
    "Z",
    "ß",
    "e\u0301",
    "é",
    "\u00a0",
    "\uffff",
    "\U0001f600",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_sandbox(PostgresRequest(15), SandboxSettings(), deadline=time.monotonic() + 60) as opened:
        yield opened


def _made(server: Server, name: str, locale: str) -> ByteOrder:
    with connect(server, "postgres") as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE template0 {locale}")
    return ByteOrder(lambda database: connect(server, database))


def _collation(conn: Connection) -> str:
    row = conn.execute("SELECT datcollate FROM pg_database WHERE datname = current_database()").fetchone()
    assert row
    return str(row[0])


def test_an_index_built_by_bytes_is_in_the_order_of_the_locale(server: Server) -> None:
    order = _made(server, "sorted", "LOCALE 'C.UTF-8'")
    order.begin("sorted")
    with connect(server, "sorted") as conn:
        assert _collation(conn) == "C"
        conn.execute("CREATE TABLE t (v text)")
        with conn.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (%s)", [(w + x,) for w in WORDS for x in WORDS])
        conn.execute("CREATE INDEX ON t (v)")
    order.end()
    with connect(server, "sorted") as conn:
        assert _collation(conn) == "C.UTF-8"
        conn.execute("CREATE EXTENSION amcheck")
        conn.execute("SELECT bt_index_check('t_v_idx', true)")  # raises where the order differs
        rows = conn.execute("SELECT v FROM t ORDER BY v").fetchall()
        assert [r[0] for r in rows] == sorted(w + x for w in WORDS for x in WORDS)


@pytest.mark.parametrize(
    "locale", ["LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'", "LOCALE 'C'", "ENCODING 'LATIN1' LOCALE 'C'"]
)
def test_other_locales_stay_as_they_are(server: Server, locale: str) -> None:
    name = f"other{abs(hash(locale))}"
    order = _made(server, name, locale)
    order.begin(name)
    assert not order.collations
    order.end()
    with connect(server, name) as conn:
        assert _collation(conn) == "C"


def test_a_database_dropped_meanwhile_is_no_trouble(server: Server) -> None:
    order = _made(server, "gone", "LOCALE 'C.UTF-8'")
    order.begin("gone")
    with connect(server, "postgres") as conn:
        conn.execute("DROP DATABASE gone")
    order.end()
    with pytest.raises(psycopg.OperationalError):
        connect(server, "gone")
