"""Backups while others write (issue 3, measure 4): `provado backup` always passes, a later pg_dump never.

    python tests/pg_writers.py [--seconds 60] [--clients 4]

pgbench writes to a PostgreSQL 15 all the while. Again and again `provado backup postgres` takes a backup with
its manifest, and a second later pg_dump takes one of its own. Each of the first must pass against its
manifest; each of the second must fail against the same manifest, with tables named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE / "integration"))

from live_servers import live, postgres, query, url  # noqa: E402

from harness.sandbox import Server, find_tool  # noqa: E402
from harness.settings import SandboxSettings  # noqa: E402

BASE = "busy"


def tool(name: str) -> Path:
    """One of PostgreSQL's programs."""
    found = find_tool(name, SandboxSettings())
    assert found is not None, name
    return found


def provado(server: Server, *words: object) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    call = [sys.executable, "-m", "harness", *map(str, words)]
    env = live(server, BASE).environment()
    return subprocess.run(call, env=env, capture_output=True, text=True, timeout=120, check=False)


def verdict(server: Server, path: Path, manifest: Path, output: Path) -> tuple[str, list[str]]:
    """The verdict of a dump against a manifest, and the tables whose rows it finds other."""
    done = provado(server, "verify", path, "--manifest", manifest, "--output", output, "--json")
    result = json.loads(done.stdout)
    told = [f["object"] for f in result["backups"][0]["findings"] if f["check"] == "pg.manifest-rows"]
    return result["verdict"], told


def taken(server: Server, folder: Path, seconds: float, clients: int) -> list[tuple[Path, Path]]:
    """Backups taken while pgbench writes, each with the pg_dump made a second later."""
    env = live(server, BASE).environment()
    bench = str(tool("pgbench"))
    subprocess.run([bench, "-i", "-q", "-s", "3", BASE], env=env, check=True, capture_output=True)
    # -R: so many transactions a second, that the machine is busy but not stuck
    call = [bench, "-c", str(clients), "-T", str(int(seconds) + 600), "-R", "300", BASE]
    writer = subprocess.Popen(call, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pairs: list[tuple[Path, Path]] = []
    until = time.monotonic() + seconds
    try:
        time.sleep(1)
        while time.monotonic() < until:
            out = folder / str(len(pairs))
            done = provado(
                server, "backup", "postgres", url(server, BASE), "--kind", "daily", "--output", out
            )
            assert done.returncode == 0, done.stderr
            [made] = out.glob("busy-daily-*.sql.gz")
            time.sleep(1)
            later = out / "later.sql"
            subprocess.run([tool("pg_dump"), "--create", "--file", later, BASE], env=env, check=True)
            assert writer.poll() is None
            pairs.append((made, later))
    finally:
        writer.terminate()
        writer.wait()
    return pairs


def main() -> int:
    """1 when a backup with its manifest does not pass, or a later dump does."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--clients", type=int, default=4)
    given = options.parse_args()
    wrong = 0
    with postgres("local") as server, tempfile.TemporaryDirectory(dir="/var/tmp") as scratch:
        folder = Path(scratch)
        query(server, "postgres", f"CREATE DATABASE {BASE}")
        pairs = taken(server, folder, given.seconds, given.clients)
        [(rows,)] = query(server, BASE, "SELECT count(*) FROM pgbench_history")
        click.echo(f"{len(pairs)} backups in {given.seconds:.0f} s, {rows:,} transactions meanwhile")
        for made, later in pairs:
            manifest = made.with_name(made.name + ".manifest.json")
            first = verdict(server, made, manifest, folder / "reports")
            second = verdict(server, later, manifest, folder / "reports")
            right = first == ("pass", []) and second[0] == "fail" and bool(second[1])
            wrong += not right
            click.echo(f"{'ok   ' if right else 'WRONG'} backup: {first[0]}; a second later: {second}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
