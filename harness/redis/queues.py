"""BullMQ queues in a restored server: no job lost, none in two states, none without its payload.

A job's payload is a hash named after its id; which state it is in shows by the list or sorted set that
holds the id. BullMQ moves ids with scripts, so a consistent copy never shows one in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from .live import keyspace
from .wire import Wire

LISTS: Final = ("wait", "active", "paused")
SORTED: Final = ("delayed", "prioritized", "completed", "failed", "waiting-children")
PENDING: Final = ("wait", "active", "paused", "delayed", "prioritized", "waiting-children")
_OTHER_HASHES: Final = frozenset((b"meta", b"de", b"groups", b"limiter"))


@dataclass
class QueueFacts:
    """Counts about one queue. `states` holds jobs per state; the rest is zero in a whole queue."""

    name: str
    found: bool = False
    states: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    without_payload: Counter[str] = field(default_factory=Counter)  # per state
    in_two_states: int = 0
    in_no_state: int = 0
    highest_id: int = 0
    counter: int | None = None
    without_next_run: int = 0
    repeatable: int = 0


def examine(wire: Wire, queue: str) -> QueueFacts:
    """Look at one queue (`prefix:name`), in whichever database it lies; leaves the connection in it."""
    facts = QueueFacts(queue)
    prefix = queue.encode() + b":"
    for db in sorted(keyspace(wire.info("keyspace"))):
        wire.call("SELECT", db)
        if wire.call("EXISTS", prefix + b"meta", prefix + b"id", *(prefix + s.encode() for s in LISTS)):
            facts.found = True
            _examine(wire, prefix, facts)
            break
    return facts


def _examine(wire: Wire, prefix: bytes, facts: QueueFacts) -> None:
    payloads = set(_job_ids(wire, prefix))
    facts.jobs = len(payloads)
    seen: Counter[bytes] = Counter()
    pending: set[bytes] = set()
    for state in (*LISTS, *SORTED):
        ids = _ids(wire, prefix + state.encode(), state in LISTS)
        facts.states[state] = len(ids)
        seen.update(set(ids))
        if len(set(ids)) != len(ids):
            facts.in_two_states += len(ids) - len(set(ids))
        lost = sum(job not in payloads for job in ids)
        if lost:
            facts.without_payload[state] = lost
        if state in PENDING:
            pending.update(ids)
    facts.in_two_states += sum(count > 1 for count in seen.values())
    facts.in_no_state = len(payloads - seen.keys())
    facts.highest_id = max((int(job) for job in payloads if job.isdigit()), default=0)
    counter = wire.call("GET", prefix + b"id")
    facts.counter = int(counter) if counter is not None and counter.isdigit() else None
    _repeatable(wire, prefix, pending, facts)


def _job_ids(wire: Wire, prefix: bytes) -> Iterator[bytes]:
    """Ids of the jobs whose payload is there: hashes named after one, without further parts."""
    pattern = b"".join(b"\\" + bytes((c,)) if c in b"*?[]\\^" else bytes((c,)) for c in prefix) + b"*"
    cursor = b"0"
    while True:
        cursor, keys = wire.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        kinds = wire.pipeline([("TYPE", key) for key in keys])
        for key, kind in zip(keys, kinds, strict=True):
            job = key[len(prefix) :]
            repeated = (
                job.startswith(b"repeat:") and job.count(b":") == 2 and job.rpartition(b":")[2].isdigit()
            )
            if kind == b"hash" and job not in _OTHER_HASHES and (b":" not in job or repeated):
                yield job
        if cursor == b"0":
            return


def _ids(wire: Wire, key: bytes, is_list: bool) -> list[bytes]:
    kind = wire.call("TYPE", key)
    if kind == b"none":
        return []
    found: list[bytes]
    if is_list and kind == b"list":
        found = wire.call("LRANGE", key, 0, -1)
    elif kind == b"zset":
        found = wire.call("ZRANGE", key, 0, -1)
    else:
        return []
    return [job for job in found if not job.startswith(b"0:")]  # 0:... is a marker that wakes workers


def _repeatable(wire: Wire, prefix: bytes, pending: set[bytes], facts: QueueFacts) -> None:
    """Every repeatable job has its next run waiting, as a job whose id ends with the time of that run."""
    if wire.call("TYPE", prefix + b"repeat") != b"zset":
        return
    flat = wire.call("ZRANGE", prefix + b"repeat", 0, -1, "WITHSCORES")
    runs = {job.rpartition(b":")[2] for job in pending if job.startswith(b"repeat:")}
    times = [b"%d" % int(float(score)) for score in flat[1::2]]
    facts.repeatable = len(times)
    facts.without_next_run = sum(time not in runs for time in times)
