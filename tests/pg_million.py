"""A table of a million rows, spoiled in one place: is each change found? (issue 3, measure 5)

    python tests/pg_million.py [--rows 1000000] [--only CHANGE ...]

Makes the table in a PostgreSQL 15, captures its manifest, and for each change: copies the database, changes
just that, dumps the copy with pg_dump and runs `provado verify --manifest` on the dump. The dump of the
unchanged database must pass, every other one must fail with a finding that names the table or large object.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE / "integration"))

import click  # noqa: E402
from live_servers import live, postgres, query, url  # noqa: E402

from harness.sandbox import Server, find_tool  # noqa: E402
from harness.settings import SandboxSettings  # noqa: E402

# The partition of a row is what `m.pick` says, so that another answer for a moment moves just one row:
# all rows of the parent, and every definition, stay the same.
PICK = (
    "CREATE OR REPLACE FUNCTION m.pick(id bigint) RETURNS int LANGUAGE sql IMMUTABLE AS"
    " 'SELECT CASE WHEN id = {odd} THEN 1 ELSE (id % 2)::int END'"
)
SCHEMA = f"""
CREATE SCHEMA m;
{PICK.format(odd=0)};
CREATE TABLE m.events (id bigint NOT NULL, company text NOT NULL, subject text, note text,
  price numeric(12, 4), score double precision, body jsonb, created_at timestamptz NOT NULL
) PARTITION BY LIST (m.pick(id));
CREATE TABLE m.events_even PARTITION OF m.events FOR VALUES IN (0);
CREATE TABLE m.events_odd PARTITION OF m.events FOR VALUES IN (1);
CREATE TABLE m.heard (line text);
CREATE TABLE m.heard_old () INHERITS (m.heard);
"""
ROWS = """
INSERT INTO m.events SELECT g, 'company ' || g % 500, 'subject of message ' || g,
  CASE g % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE repeat(md5(g::text), 3) END, (g % 10000)::numeric / 7,
  sqrt(g::float8), jsonb_build_object('n', g, 'to', md5(g::text) || '@example.com'),
  '2026-01-01'::timestamptz + g * '1 s'::interval FROM generate_series(1, {rows}) g;
INSERT INTO m.heard SELECT 'line ' || g FROM generate_series(1, 1000) g;
CREATE INDEX events_id ON m.events (id);
SELECT lo_from_bytea(4711, decode(repeat('0123456789abcdef', 40000), 'hex'));
"""
_NEXT = math.nextafter(math.sqrt(5000), 99)
EVEN, ODD = "m.events_even", "m.events_odd"
CHANGES: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {  # name -> statements, objects to be named
    "two values swapped between rows": (
        (
            "UPDATE m.events SET subject = CASE id WHEN 100 THEN 'subject of message 200'"
            " ELSE 'subject of message 100' END WHERE id IN (100, 200)",
        ),
        frozenset({EVEN}),
    ),
    "NULL instead of ''": (("UPDATE m.events SET note = NULL WHERE id = 1000",), frozenset({EVEN})),
    "one row twice, another gone": (
        (
            "INSERT INTO m.events SELECT * FROM m.events WHERE id = 3001",
            "DELETE FROM m.events WHERE id = 4001",
        ),
        frozenset({ODD}),
    ),
    "the last bit of a float": (
        (f"UPDATE m.events SET score = '{_NEXT!r}' WHERE id = 5000",),
        frozenset({EVEN}),
    ),
    "a row in another partition": (
        (
            PICK.format(odd=600),
            "WITH moved AS (DELETE FROM m.events WHERE id = 600 RETURNING *)"
            " INSERT INTO m.events SELECT * FROM moved",
            PICK.format(odd=0),
        ),
        frozenset({EVEN, ODD}),
    ),
    "a row in another child table": (
        (
            "DELETE FROM ONLY m.heard WHERE line = 'line 7'",
            "INSERT INTO m.heard_old VALUES ('line 7')",
        ),
        frozenset({"m.heard", "m.heard_old"}),
    ),
    "a changed large object": (
        ("SELECT lo_put(4711, 200000, '\\xff')",),
        frozenset({"large object 4711"}),
    ),
}
SOURCE, COPY = "million_pristine", "million"


def make(server: Server, rows: int) -> None:
    """The database before any change."""
    query(server, "postgres", f"CREATE DATABASE {SOURCE} TEMPLATE template0")
    with live(server, SOURCE).connect() as conn:
        conn.execute(SCHEMA.encode())
        conn.execute(ROWS.format(rows=rows).encode())


def capture(server: Server, manifest: Path) -> None:
    """`provado capture postgres` of the copy under the name that dumps will have."""
    done = provado(server, "capture", "postgres", url(server, COPY), "--output", manifest)
    assert done.returncode == 0, done.stderr


def copied(server: Server, *statements: str) -> None:
    """A fresh copy of the database, changed."""
    with live(server, "postgres").connect() as conn:
        conn.autocommit = True
        conn.execute(f"DROP DATABASE IF EXISTS {COPY}".encode())
        conn.execute(f"CREATE DATABASE {COPY} TEMPLATE {SOURCE}".encode())
    for statement in statements:  # each in a session of its own, which does not know the last `m.pick`
        query(server, COPY, statement)


def dump(server: Server, path: Path) -> None:
    """What pg_dump makes of the copy."""
    tool = find_tool("pg_dump", SandboxSettings())
    assert tool is not None
    call = [tool, "--create", "--format=plain", "--file", path, COPY]
    subprocess.run(call, env=live(server, COPY).environment(), check=True, timeout=120)


def verify(server: Server, path: Path, manifest: Path, output: Path) -> tuple[str, dict[str, list[str]]]:
    """The verdict of `provado verify`, and what its findings of high severity name, by check."""
    done = provado(
        server, "verify", path, "--manifest", manifest, "--output", output, "--json", "--sandbox", "local"
    )
    result = json.loads(done.stdout)
    told: dict[str, list[str]] = {}
    for finding in result["backups"][0]["findings"]:
        if finding["severity"] in ("high", "critical"):
            told.setdefault(finding["check"], []).append(finding["object"])
    return result["verdict"], told


def provado(server: Server, *words: object) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    env = live(server, COPY).environment()
    call = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(call, env=env, capture_output=True, text=True, timeout=170, check=False)


def main() -> int:
    """Every change through the command line; 1 when one goes unseen or the unchanged dump does not pass."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--only", nargs="*", default=["nothing", *CHANGES])
    given = options.parse_args()
    wrong = 0
    with postgres("local") as server, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        here, manifest = Path(folder), Path(folder) / "manifest.json"
        make(server, given.rows)
        copied(server)
        began = time.monotonic()
        capture(server, manifest)
        click.echo(f"{given.rows:,} rows; manifest in {time.monotonic() - began:.1f} s")
        for name in given.only:
            statements, objects = CHANGES.get(name, ((), frozenset()))
            began = time.monotonic()
            copied(server, *statements)
            dump(server, here / "million.sql")
            dumped = time.monotonic()
            verdict, told = verify(server, here / "million.sql", manifest, here / "reports")
            named: set[Any] = {o for found in told.values() for o in found}
            right = verdict == ("fail" if objects else "pass") and objects <= named
            wrong += not right
            seconds = f"copy and dump {dumped - began:.1f} s, verify {time.monotonic() - dumped:.1f} s"
            click.echo(f"{'ok   ' if right else 'WRONG'} {name}: {verdict} {told} ({seconds})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
