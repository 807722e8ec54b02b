"""Rows read back over the connection and through the pipe are the same rows."""

from __future__ import annotations

import time

import pytest
import xxhash

from harness.postgres.proof import connect, table_rows
from harness.sandbox import PostgresRequest, postgres_sandbox
from harness.settings import SandboxSettings


@pytest.mark.parametrize("rows", [0, 1, 20, 5000])
def test_few_and_many_rows_are_read_alike(rows: int) -> None:
    with (
        postgres_sandbox(PostgresRequest(15), SandboxSettings(), deadline=time.monotonic() + 60) as server,
        connect(server, "postgres") as conn,
    ):
        conn.execute("CREATE TABLE t (n int, v text)")
        conn.execute("INSERT INTO t SELECT n, E'a\\nb\\t' || n FROM generate_series(1, %s) n", (rows,))
        few = table_rows(conn, server, "public", "t", ("n", "v"), size=1)
        piped = table_rows(conn, server, "public", "t", ("n", "v"))
    text = "".join(f"{n}\ta\\nb\\t{n}\n" for n in range(1, rows + 1)).encode()
    assert few == piped
    assert few.rows == rows
    assert few.digest == xxhash.xxh3_128(text).hexdigest()
