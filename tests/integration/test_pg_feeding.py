"""Rows that go through a named pipe arrive as over the connection: all or none, with the same complaint."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_servers import postgres

from harness.errors import ArtifactError
from harness.postgres import copying, feeding, pipes
from harness.postgres.proof import connect
from harness.sandbox import Server

Connection = psycopg.Connection[tuple[Any, ...]]
COPY = b'COPY s."from stdin" (n, v) FROM stdin'
TABLE = b's."from stdin"'


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        with connect(made, "postgres") as conn:
            conn.execute('CREATE SCHEMA s; CREATE TABLE s."from stdin" (n int, v text)')
            conn.execute("CREATE ROLE plain; GRANT USAGE ON SCHEMA s TO plain")
        yield made


@pytest.fixture
def conn(server: Server) -> Iterator[Connection]:
    with connect(server, "postgres") as conn:
        conn.execute('TRUNCATE s."from stdin"')
        yield conn
    assert server.shared
    assert not list(server.shared.glob("rows-*"))
    assert not [t for t in threading.enumerate() if t.name.startswith("provado-rows")]


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The statements that read from a pipe."""
    seen: list[bytes] = []
    through = feeding._through_pipe

    def noted(conn: Connection, folder: Any, inside: str, statement: bytes, options: bytes) -> Any:
        seen.append(statement + options)
        return through(conn, folder, inside, statement, options)

    monkeypatch.setattr(feeding, "_through_pipe", noted)
    return seen


def _rows(many: int) -> bytes:
    return b"".join(b"%d\tvalue %d \\\\ \xc3\xa9\n" % (n, n) for n in range(many))


def _held(conn: Connection) -> list[tuple[Any, ...]]:
    return conn.execute('SELECT n, v FROM s."from stdin" ORDER BY ctid').fetchall()


def _cut(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 4096, 8 << 20])
def test_rows_arrive_in_their_order_however_they_are_cut(
    server: Server, conn: Connection, piped: list[bytes], size: int
) -> None:
    many = 50 if size == 1 else 120_000  # several times what the pipe holds
    taken = copying.filled(conn, TABLE, COPY, _cut(_rows(many), size), server)
    assert taken == many
    assert piped and piped[0].endswith(b"WITH (FREEZE true)")
    assert _held(conn) == [(n, f"value {n} \\ é") for n in range(many)]
    assert copying.idle(conn)


def test_no_rows_are_rows_too(server: Server, conn: Connection, piped: list[bytes]) -> None:
    assert copying.filled(conn, TABLE, COPY, [], server) == 0
    assert copying.filled(conn, TABLE, COPY, [b""], server) == 0
    assert copying.filled(conn, TABLE, COPY, [b"1\tno newline at the end"], server) == 1
    assert len(piped) == 3


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.lists(st.binary(max_size=9), max_size=12), cuts=st.integers(1, 7))
def test_any_text_means_what_it_means_over_the_connection(
    server: Server, conn: Connection, text: list[bytes], cuts: int
) -> None:
    """Also text that is no COPY text at all. What ends it (backslash, full stop) never gets that far."""
    rows = b"".join(b"%d\t%s\n" % (n, one.replace(b".", b"")) for n, one in enumerate(text))
    told = []
    for through in (None, server):
        conn.execute('TRUNCATE s."from stdin"')
        try:
            copying.filled(conn, TABLE, COPY, _cut(rows, cuts), through)
            told.append((None, None, _held(conn)))
        except psycopg.Error as error:
            told.append((error.diag.message_primary, error.diag.context, _held(conn)))
    assert told[0] == told[1]


@pytest.mark.parametrize("place", [0, 1, 100_000])
def test_a_bad_row_is_told_as_over_the_connection_and_leaves_none(
    server: Server, conn: Connection, piped: list[bytes], place: int
) -> None:
    rows = _rows(place) + b"one\tbad\n" + _rows(100_000)
    told = []
    for through in (None, server):
        with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
            copying.filled(conn, TABLE, COPY, _cut(rows, 65536), through)
        told.append((caught.value.diag.message_primary, caught.value.diag.context))
        assert _held(conn) == []
        assert copying.idle(conn)
    assert told[0] == told[1]
    assert len(piped) == 1


@pytest.mark.parametrize("after", [0, 1, 50])
def test_text_that_cannot_be_read_on_leaves_no_rows(
    server: Server, conn: Connection, piped: list[bytes], after: int
) -> None:
    def damaged() -> Iterator[bytes]:
        yield from itertools.islice(_cut(_rows(200_000), 65536), after)
        raise ArtifactError("damaged", remedy="none")

    for _ in range(5):  # whatever the server was about just then
        began = time.monotonic()
        with pytest.raises(ArtifactError):
            copying.filled(conn, TABLE, COPY, damaged(), server)
        assert time.monotonic() - began < 5
        assert copying.idle(conn)
        assert _held(conn) == []
    assert len(piped) == 5


@pytest.mark.parametrize("after_ms", [0, 0.2, 1, 5, 50])
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("mode", [os.O_RDONLY, os.O_WRONLY])
def test_whoever_leaves_a_pipe_early_need_not_wait_for_the_server(
    server: Server, conn: Connection, mode: int, fails: bool, after_ms: float
) -> None:
    copying.send(conn, COPY, [_rows(200_000)])  # more than a pipe holds
    assert server.shared
    assert server.shared_inside
    way = "TO" if mode == os.O_RDONLY else "FROM"
    with pipes.named_pipe(server.shared) as path, contextlib.ExitStack() as ours:
        if mode == os.O_WRONLY:  # as who writes has one: the server may not have opened its own yet
            ours.callback(os.close, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        query = f"COPY s.\"from stdin\" {way} '{server.shared_inside}/{path.name}'".encode()
        began = time.monotonic()
        with contextlib.suppress(InterruptedError), pipes.started(conn, query, path, mode) as (copy, _):
            time.sleep(after_ms / 1000)
            if fails:
                raise InterruptedError
        assert time.monotonic() - began < 10
        assert copy.done()
    assert copying.idle(conn)
    assert len(_held(conn)) == 200_000


@pytest.mark.parametrize("waits", [False, True])
def test_a_connection_that_ends_is_noticed(server: Server, piped: list[bytes], waits: bool) -> None:
    with connect(server, "postgres") as conn, connect(server, "postgres") as other:
        other.execute('TRUNCATE s."from stdin"')

        def ended() -> Iterator[bytes]:
            for number, block in enumerate(_cut(_rows(400_000), 65536)):
                yield block
                if number == 20:
                    other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
                    time.sleep(1 if waits else 0)

        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            copying.filled(conn, TABLE, COPY, ended(), server)
        assert time.monotonic() - began < 10
        assert _held(other) == []
    assert len(piped) == 1


def test_a_cancelled_copy_is_noticed_while_nothing_is_sent(server: Server, conn: Connection) -> None:
    """As the drill's deadline does it."""

    def slow() -> Iterator[bytes]:
        for block in _cut(_rows(200_000), 65536):
            yield block
            conn.cancel_safe(timeout=5)

    with pytest.raises(psycopg.errors.QueryCanceled):
        copying.filled(conn, TABLE, COPY, slow(), server)
    assert copying.idle(conn)
    assert _held(conn) == []


def test_a_role_that_may_read_no_files_sends_its_rows(
    server: Server, conn: Connection, piped: list[bytes]
) -> None:
    conn.execute('ALTER TABLE s."from stdin" OWNER TO plain; SET ROLE plain')
    try:
        assert copying.filled(conn, TABLE, COPY, [b"1\ta\n"], server) == 1
    finally:
        conn.execute('RESET ROLE; ALTER TABLE s."from stdin" OWNER TO postgres')
    assert not piped


@pytest.mark.parametrize(
    "options", [b" WITH (FORMAT csv)", b" CSV", b" WHERE n > 0", b" -- FROM stdin", b" /* FROM stdin */"]
)
def test_other_text_than_copy_writes_goes_over_the_connection(
    server: Server, conn: Connection, piped: list[bytes], options: bytes
) -> None:
    with feeding.whichever(conn, COPY + options, b"", server) as copy:
        copy.write(b"1,a\n" if b"csv" in options.lower() else b"1\ta\n")
    assert copy.taken == 1
    assert not piped
