"""Whole verification of a large Redis backup beside the bare time a server takes to load it.

    python benchmarks/redis_million.py [KEYS=1000000] [--manifest]

Makes a data set of strings, hashes, lists and sorted sets, a fifth of it with expiry, saves it, and drills
the RDB in this process. Prints the bare load time; time, CPU time and stages of the drill; and the peak
memory of the Python processes (ours and the one that walks the file), server not counted.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from harness.catalog import identify
from harness.drill import drill
from harness.evidence.record import judge
from harness.manifest import write_manifest
from harness.redis.capture import capture
from harness.redis.digest import Digester
from harness.redis.inspect import recognise
from harness.redis.rdb import RdbFacts, walk
from harness.redis.wire import Address, Wire
from harness.sandbox import RedisRequest, Server, redis_sandbox
from harness.settings import SandboxSettings, Settings


def main(keys: int, with_manifest: bool) -> int:
    """Measure and print; 1 when the backup was not judged good."""
    with tempfile.TemporaryDirectory(prefix="provado-bench-") as name:
        folder = Path(name)
        dump, manifest = folder / "dump.rdb", folder / "manifest.json"
        with server(None) as made:
            with wire(made) as one:
                fill(one, keys)
                one.call("SAVE")
                if with_manifest:
                    began = time.perf_counter()
                    write_manifest(manifest, capture(one, scratch=folder))
                    print(f"capture of the manifest  {time.perf_counter() - began:6.2f} s")
                    began = time.perf_counter()
                    capture(one, digests=False, scratch=folder)
                    print(f"  without digests        {time.perf_counter() - began:6.2f} s")
            assert made.shared is not None
            shutil.copyfile(made.shared / "dump.rdb", dump)
        print(f"{keys:,} keys, RDB of {dump.stat().st_size / 1e6:.1f} MB")
        for text, keys_only in (("walk of the keys alone", True), ("walk with all values", False)):
            began = time.perf_counter()
            walked = listed(dump, keys_only)
            print(f"{text:24} {time.perf_counter() - began:6.2f} s, {walked.total:,} keys")
        data = folder / "data"
        data.mkdir()
        shutil.copyfile(dump, data / "dump.rdb")
        began = time.perf_counter()
        with server(data) as bare, wire(bare) as one:
            one.wait_loaded(time.monotonic() + 600)
            bare_s = time.perf_counter() - began
        print(f"start and bare load      {bare_s:6.2f} s")
        artifact = identify(dump, {"redis": recognise}, manifest=manifest if with_manifest else None)
        assert artifact is not None
        peak = Peak()
        began, cpu = time.perf_counter(), cpu_s()
        evidence = drill(artifact, Settings())
        took, cpu = time.perf_counter() - began, cpu_s() - cpu
        print(f"whole verification       {took:6.2f} s ({took / bare_s:.1f} times the bare load)")
        print(f"  CPU time of all of it  {cpu:6.2f} s")
        for stage in evidence.stages:
            print(f"  {stage.name:22} {stage.seconds:6.2f} s")
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory              {peak.stop() / 1e6:6.0f} MB together, {own:.0f} MB in this process")
        verdict = judge(evidence).verdict
        print(f"verdict                  {verdict}, {evidence.measured.keys:,} keys")
        return 0 if verdict == "pass" else 1


def listed(dump: Path, keys_only: bool) -> RdbFacts:
    """Walk the file in this process; its keys are counted and not kept."""
    with dump.open("rb", buffering=0) as file:
        until = time.monotonic() + 600
        return walk(
            file, dump.stat().st_size, Digester(), lambda *key: None, deadline=until, keys_only=keys_only
        )


def server(data: Path | None) -> AbstractContextManager[Server]:
    """A throwaway server of RDB version 10."""
    return redis_sandbox(RedisRequest(10, data=data), SandboxSettings(), deadline=time.monotonic() + 1200)


def wire(one: Server) -> Wire:
    """A connection to it."""
    return Wire(Address(one.unix_socket, password=one.password))


def fill(one: Wire, keys: int) -> None:
    """Seven strings, a hash, a list and a sorted set out of every ten keys; two of ten expire."""
    seed = random.Random(1)
    for start in range(0, keys, 10_000):
        for _ in one.pipeline(commands(start, min(keys, start + 10_000), seed)):
            pass


def commands(start: int, end: int, seed: random.Random) -> Iterator[tuple[str | int, ...]]:
    """The writes for one batch of keys."""
    for n in range(start, end):
        kind = n % 10
        if kind < 2:
            yield "SET", f"session:{n}", f"value-{n}-{seed.random()}", "EX", 10**6 + n
        elif kind < 7:
            yield "SET", f"cache:page:{n}", f"value-{n}-{seed.random()}"
        elif kind == 7:
            yield "HSET", f"user:{n}", "name", f"name {n}", "n", n
        elif kind == 8:
            yield "RPUSH", f"list:{n}", n, n + 1, "x"
        else:
            yield "ZADD", f"scores:{n}", n, "a", "1.5", "b"


def cpu_s() -> float:
    """CPU seconds of this process and of those it started and saw end (the server among them)."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)


class Peak:
    """Highest memory of this process and its Python children (not the sandbox's servers) together."""

    def __init__(self) -> None:
        self._highest, self._ended = 0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def stop(self) -> int:
        """Bytes at the highest moment."""
        self._ended.set()
        self._watcher.join()
        return self._highest

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.1):
            total = own.memory_info().rss
            for child in own.children():
                try:
                    if "walker" in " ".join(child.cmdline()):
                        total += child.memory_info().rss
                except psutil.Error:
                    continue
            self._highest = max(self._highest, total)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("keys", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--manifest", action="store_true", help="Compare with a captured manifest as well.")
    options = parser.parse_args()
    sys.exit(main(options.keys, options.manifest))
