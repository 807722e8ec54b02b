"""Provado's restore with proof against the bare ways, in turn on the same machine. Prints ratios.

    python benchmarks/postgres_restore.py gateway --scale 1 --runs 5 --output docs/performance.json

Ways: `gunzip -c | psql` into a server as the distribution sets it up (the runbook's), `pg_restore -j2` into a
server tuned like the sandbox, `provado verify` on the .sql.gz and on the custom archive. Needs the server's
binaries (--bin) and root or a user that may run them. Nothing is kept but what --keep names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from shapes import SHAPES

ROOT = os.geteuid() == 0
AS = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if ROOT else []
TUNED = [
    "fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0", "autovacuum=off",
    "synchronous_commit=off", "max_wal_size=20GB", "checkpoint_timeout=1h", "maintenance_work_mem=512MB",
    "shared_buffers=1GB",
]  # fmt: skip


class Server:
    """A throwaway server with the distribution's defaults, or tuned."""

    def __init__(self, bin_dir: Path, work: Path, name: str, settings: list[str]) -> None:
        self.bin, self.folder = bin_dir, work / name
        self.folder.mkdir()
        if ROOT:
            shutil.chown(self.folder, "nobody", "nogroup")
        self.data = self.folder / "data"
        self.run(
            "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "--locale=C.UTF-8",
            "-E",
            "UTF8",
            own=True,
        )
        options = " ".join(
            f"-c {s}" for s in [f"unix_socket_directories={self.folder}", "listen_addresses=''", *settings]
        )
        self.run("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-o", options, "start", own=True)

    def run(self, program: str, *args: object, own: bool = False) -> None:
        argv = [*(AS if own else []), str(self.bin / program), *map(str, args)]
        env = dict(
            os.environ, PGHOST=str(self.folder), PGUSER="postgres", PGOPTIONS="-c client_min_messages=warning"
        )
        with (self.folder / f"out-{program}").open("wb") as out:
            subprocess.run(
                argv, env=env, check=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/"
            )

    def pipe(self, command: str) -> None:
        env = dict(
            os.environ, PGHOST=str(self.folder), PGUSER="postgres", PATH=f"{self.bin}:{os.environ['PATH']}"
        )
        subprocess.run(["bash", "-c", command], env=env, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop", own=True)
        shutil.rmtree(self.folder)


def make(bin_dir: Path, work: Path, shape: str, scale: float) -> tuple[Path, Path]:
    """The dumps to restore: plain and gzipped, and a custom archive."""
    server = Server(bin_dir, work, "source", TUNED)
    server.run("createdb", "email_gateway")
    for number, statement in enumerate(SHAPES[shape](scale)):
        script = server.folder / f"{number}.sql"
        script.write_text(statement)
        server.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", script, "email_gateway")
    plain, custom = work / "email-gateway-daily-20260101-020000.sql.gz", work / "email-gateway.dump"
    options = "--verbose --no-owner --no-privileges --clean --if-exists --create"  # the customer's script's
    server.pipe(f"pg_dump {options} email_gateway 2>/dev/null | gzip > {plain}")
    server.pipe(f"pg_dump -Fc -f {custom} email_gateway")
    server.stop()
    return plain, custom


def measured(work: Callable[[], None]) -> dict[str, Any]:
    """Wall seconds and CPU seconds (children included) of calling `work`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall_s": wall, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def bare_psql(bin_dir: Path, work: Path, plain: Path) -> dict[str, Any]:
    server = Server(bin_dir, work, "bare", [])
    try:
        return measured(lambda: server.pipe(f"gunzip -c {plain} | psql -X -q -d postgres"))
    finally:
        server.stop()


def tuned_pg_restore(bin_dir: Path, work: Path, custom: Path) -> dict[str, Any]:
    server = Server(bin_dir, work, "tuned", TUNED)
    try:
        server.run("createdb", "email_gateway")
        return measured(lambda: server.run("pg_restore", "-j2", "-d", "email_gateway", custom))
    finally:
        server.stop()


def provado(work: Path, backup: Path) -> dict[str, Any]:
    output = Path(tempfile.mkdtemp(dir=work))
    report: dict[str, Any] = {}

    def verify() -> None:
        command = [
            shutil.which("provado") or "provado",
            "verify",
            str(backup),
            "--json",
            "--output",
            str(output),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=work)
        assert process.stdout
        peak = 0
        reader = threading.Thread(target=lambda: report.update(text=process.stdout.read()))
        reader.start()
        while process.poll() is None:
            peak = max(peak, _own_memory(process.pid))
            time.sleep(0.05)
        reader.join()
        report["peak_bytes"] = peak

    figures = measured(verify)
    result = json.loads(report["text"])
    if result["verdict"] != "pass":
        raise SystemExit(f"provado says {result['verdict']}: {result['backups'][0]['findings'][:3]}")
    stages = {s["name"]: s["seconds"] for s in result["backups"][0]["measured"]["stages"]}
    shutil.rmtree(output)
    return {**figures, "peak_mb": float(report["peak_bytes"]) / 1e6, "stages": stages}


def _own_memory(pid: int) -> int:
    """Resident bytes of Provado's own Python processes (the servers are not its own)."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for one in processes:
        with contextlib.suppress(psutil.Error):
            if any(word in one.name() for word in ("python", "provado", "pg_restore")):
                total += one.memory_info().rss
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ways", default="psql,pg_restore,provado,provado-custom")
    parser.add_argument("--bin", type=Path, default=Path("/usr/lib/postgresql/15/bin"))
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--keep", type=Path, help="folder where the dumps are kept and looked for")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="provado-bench-", dir=args.work))
    work.chmod(0o755)
    try:
        kept = args.keep / f"{args.shape}-{args.scale}" if args.keep else None
        if kept and (kept / "email-gateway.dump").exists():
            plain, custom = kept / "email-gateway-daily-20260101-020000.sql.gz", kept / "email-gateway.dump"
        else:
            plain, custom = make(args.bin, work, args.shape, args.scale)
            if kept:
                kept.mkdir(parents=True)
                plain, custom = (Path(shutil.move(str(p), kept)) for p in (plain, custom))
        ways = {
            "psql": lambda: bare_psql(args.bin, work, plain),
            "pg_restore": lambda: tuned_pg_restore(args.bin, work, custom),
            "provado": lambda: provado(work, plain),
            "provado-custom": lambda: provado(work, custom),
        }
        runs: dict[str, list[dict[str, Any]]] = {w: [] for w in args.ways.split(",")}
        for number in range(args.runs):
            for way, results in runs.items():
                results.append(ways[way]())
                print(f"run {number + 1} {way}: {json.dumps(results[-1])}", file=sys.stderr, flush=True)
        wall = {w: statistics.median(r["wall_s"] for r in results) for w, results in runs.items()}
        cpu = {w: statistics.median(r["cpu_s"] for r in results) for w, results in runs.items()}
        report = {
            "shape": args.shape, "scale": args.scale, "runs": args.runs, "gz_bytes": plain.stat().st_size,
            "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "wall_s": wall, "cpu_s": cpu,
            "floor_s": {w: c / len(os.sched_getaffinity(0)) for w, c in cpu.items()},
            "peak_mb": {w: max(r.get("peak_mb", 0) for r in results) for w, results in runs.items()},
            "ratios": {
                f"{ours}/{bare}": wall[ours] / wall[bare]
                for ours, bare in (("provado", "psql"), ("provado-custom", "pg_restore"))
                if ours in wall and bare in wall
            },
        }  # fmt: skip
        print(json.dumps(report, indent=1))
        if args.output:
            args.output.write_text(json.dumps(report, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
