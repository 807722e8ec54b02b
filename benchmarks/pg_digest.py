"""Cost of a content digest against `COPY (SELECT ...) TO '/dev/null'` of the same table (issue 3, measure 5).

    python benchmarks/pg_digest.py [ROWS=1000000] [ROUNDS=5]

Prints the best of each, in CPU seconds of the server process (other load counts less) and in
wall-clock seconds, and the ratio, which must be at most 1.1.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import psycopg

from harness.postgres import digest
from harness.postgres.fingerprint import pin
from harness.sandbox import PostgresRequest, postgres_sandbox
from harness.settings import SandboxSettings

TABLE = """
CREATE TABLE public.outbox AS SELECT 'c' || md5(g::text) AS id, 'company ' || g % 500 AS company,
  md5(g::text) || '@example.com' AS recipient, 'subject of message number ' || g AS subject,
  repeat(md5((g * 7)::text), 5) AS html, (ARRAY['PENDING', 'SENT', 'FAILED'])[1 + g % 3] AS status,
  g % 5 AS attempts, '2026-01-01'::timestamptz + g * '1 s'::interval AS created_at, g % 2 = 0 AS tracked
FROM generate_series(1, {rows}) g
"""


def cpu_s(conn: psycopg.Connection[Any]) -> float:
    """CPU seconds of the server process so far: fields 14 and 15 of its own /proc/self/stat."""
    [(stat,)] = conn.execute("SELECT pg_read_file('/proc/self/stat', 0, 4096)").fetchall()
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(rows: int, rounds: int) -> int:
    """Measure turn by turn, so that both meet the same load; 1 when over the limit."""
    with postgres_sandbox(PostgresRequest(15), SandboxSettings(), deadline=time.monotonic() + 3600) as server:
        conn = psycopg.connect(
            host=server.host, port=server.port, user=server.user, password=server.password.reveal(),
            dbname="postgres", autocommit=True,
        )  # fmt: skip
        with conn:
            pin(conn)
            conn.execute(TABLE.format(rows=rows).encode())
            conn.execute("VACUUM ANALYZE public.outbox")
            [table] = digest.list_tables(conn)
            names = ", ".join(name for name, *_ in table.columns)
            work = {
                "copy": f"COPY (SELECT {names} FROM {table.name}) TO '/dev/null'",
                "digest": digest.digest_sql(table, b"k" * 16, "UTF8"),
            }
            cpu: dict[str, list[float]] = {name: [] for name in work}
            wall: dict[str, list[float]] = {name: [] for name in work}
            for _ in range(rounds):
                for name, statement in work.items():
                    before, began = cpu_s(conn), time.perf_counter()
                    conn.execute(statement.encode())
                    wall[name].append(time.perf_counter() - began)
                    cpu[name].append(cpu_s(conn) - before)
    ratio = min(cpu["digest"]) / min(cpu["copy"])
    print(f"{rows:,} rows, {table.size_bytes / 1e6:,.0f} MB on disk, best of {rounds}")
    print(f"COPY TO /dev/null  {min(cpu['copy']):6.2f} s CPU  {min(wall['copy']):6.2f} s")
    print(f"digest             {min(cpu['digest']):6.2f} s CPU  {min(wall['digest']):6.2f} s")
    print(f"ratio              {ratio:6.2f}         (at most 1.10)")
    return 0 if ratio <= 1.1 else 1


if __name__ == "__main__":
    given = [int(x) for x in sys.argv[1:3]]
    sys.exit(main(*given, *(1_000_000, 5)[len(given) :]))
