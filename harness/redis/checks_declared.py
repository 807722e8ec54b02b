"""Checks of what provado.yaml expects: required keys, queues, and the recovery procedure itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..check import Check, NotRun, check
from ..model import Finding, Severity
from ..sandbox import RedisRequest
from ..sandbox.choose import loads
from .checks_file import problems
from .digest import is_canary
from .facts import RedisSubject
from .live import keyspace
from .queues import examine
from .wire import Wire

_LOST: Final = "find out where the jobs went before the workers start; use an older backup if need be"


def _wire(subject: RedisSubject) -> Wire:
    if subject.wire is None or subject.died:
        raise NotRun("the restored server does not answer (see redis.readable)", blocking=True)
    return subject.wire


@check(
    "redis.required-keys",
    proves="data",
    severity="critical",
    origin="declared",
    remedy="find out why they are missing; correct redis.require if they need not be there",
)
def required_keys(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The keys that must be there are there: as many as declared for each pattern."""
    required = subject.settings.redis.require
    if not required:
        raise NotRun("no required keys are declared (redis.require in provado.yaml)")
    wire = _wire(subject)
    spaces = sorted(keyspace(wire.info("keyspace")))
    for pattern, least in required.items():
        count = sum(_count(wire, db, pattern, least) for db in spaces)
        if count < least:
            yield self.finding(
                pattern,
                "no key fits this pattern" if not count else "too few keys fit this pattern",
                expected=f"at least {least:,}",
                observed=f"{count:,}",
            )


def _count(wire: Wire, db: int, pattern: str, enough: int) -> int:
    wire.call("SELECT", db)
    found: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, keys = wire.call("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
        found.update(k for k in keys if not is_canary(k))
        if cursor == b"0" or len(found) >= enough:
            return len(found)


@check(
    "redis.allowed-drop",
    proves="data",
    severity="critical",
    origin="last_good",
    remedy="look at the source; if the keys are meant to be gone, raise redis.allowed_drop for one run",
)
def allowed_drop(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """No database lost more keys since the last good drill than allowed."""
    allowed = subject.settings.redis.allowed_drop
    if allowed is None:
        raise NotRun("provado.yaml allows no drop to compare with (redis.allowed_drop)")
    facts = (subject.last_good or {}).get("facts")
    before = facts.get("keys_per_database") if isinstance(facts, Mapping) else None
    if not isinstance(before, Mapping):
        raise NotRun("no earlier passing drill of this series: nothing to compare numbers of keys with")
    if subject.live is None:
        raise NotRun("the restored keys could not be counted (see redis.readable)", blocking=True)
    for db, keys in before.items():
        left = subject.live.keys.get(int(db), 0)
        if left < keys * (1 - allowed):
            yield self.finding(
                f"db{db}",
                f"lost {(keys - left) / keys:.0%} of its keys since the last good drill;"
                f" {allowed:.0%} is allowed",
                expected=f"at least {keys * (1 - allowed):,.0f}",
                observed=f"{left:,}",
            )


@check("redis.queues", proves="usability", severity="critical", origin="declared", remedy=_LOST)
def queues(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every job of the declared BullMQ queues has its payload and is in exactly one state."""
    declared = subject.settings.redis.queues
    if not declared:
        raise NotRun("no queues are declared (redis.queues in provado.yaml)")
    wire = _wire(subject)
    for name in declared:
        facts = examine(wire, name)
        subject.queues[name] = facts.states
        if not facts.found:
            yield self.finding(
                f"queue {name}", "the queue is not there at all", expected="a queue", observed="nothing"
            )
            continue
        for state, count in facts.without_payload.items():
            yield self.finding(
                f"queue {name}",
                f"{_jobs(count)} in state {state} without a payload: workers fail on them",
                observed=f"{count:,} of {facts.states[state]:,}",
            )
        if facts.in_two_states:
            yield self.finding(
                f"queue {name}",
                f"{_jobs(facts.in_two_states)} in two states at once: what runs twice is done twice",
                observed=facts.in_two_states,
            )
        if facts.in_no_state:
            yield self.finding(
                f"queue {name}",
                f"{_jobs(facts.in_no_state)} with a payload but in no state: lost to the workers",
                severity=Severity.HIGH,
                observed=f"{facts.in_no_state:,} of {facts.jobs:,}",
            )
        if facts.highest_id > (facts.counter or 0):
            yield self.finding(
                f"queue {name}",
                "the id counter is behind the jobs: new jobs get the ids of old ones, and are dropped",
                expected=f"at least {facts.highest_id:,}",
                observed=facts.counter,
                remedy=f"set {name}:id to the highest job id before the workers start",
            )
        if facts.without_next_run:
            yield self.finding(
                f"queue {name}",
                f"{_jobs(facts.without_next_run)} that should repeat without a next run waiting",
                severity=Severity.HIGH,
                observed=f"{facts.without_next_run:,} of {facts.repeatable:,}",
                remedy="add these repeatable jobs again after recovery",
            )


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


@check(
    "redis.target",
    proves="usability",
    severity="high",
    origin="declared",
    needs_server=False,
    remedy="recover into the version that wrote the backup or a later one, and correct redis.target",
)
def target(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The server that recovery has, by its declared version, loads this backup."""
    declared, head = subject.settings.redis.target, subject.facts.head
    if declared is None:
        raise NotRun("no target server is declared (redis.target in provado.yaml)")
    if head is None or not head.version:
        raise NotRun("the backup holds no RDB that states its version")
    engine, _, version = declared.rpartition(" ")
    numbers = tuple(int(n) for n in version.removeprefix(engine).split("."))
    request = RedisRequest(head.version, valkey_only=head.vendor == "valkey")
    if not loads(engine or "redis", numbers, request):
        yield self.finding(
            subject.artifact.path.name,
            "the declared target server refuses this backup: it is too old for it, or of another vendor",
            expected=f"{engine or 'redis'} {version}",
            observed=f"RDB version {head.version} of {head.vendor} {head.source_version or ''}".rstrip(),
        )


def _rehearsed(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    if subject.settings.redis.redis_conf is None:
        raise NotRun("the recovery was not rehearsed: no redis.redis_conf is declared in provado.yaml")
    if subject.not_rehearsed:
        raise NotRun(f"the recovery was not rehearsed: {subject.not_rehearsed}", blocking=True)
    if subject.rehearsed is None:
        raise NotRun("the recovery was not rehearsed: the backup itself was not restored")
    yield from problems(self, subject.rehearsed)
    refused = any(p.check == "redis.rehearsal-starts" for p in subject.rehearsed)
    if refused and self.id != "redis.rehearsal-starts":
        raise NotRun("the rehearsed server did not start")


@check(
    "redis.rehearsal-starts",
    proves="usability",
    severity="high",
    origin="declared",
    needs_server=False,
    remedy="correct redis.conf",
)
def rehearsal_starts(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """With the declared redis.conf a server starts on the restored RDB."""
    yield from _rehearsed(self, subject)


@check(
    "redis.rehearsal-complete",
    proves="usability",
    severity="high",
    origin="declared",
    needs_server=False,
    remedy="correct redis.conf",
)
def rehearsal_complete(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """With the declared redis.conf the server does not come up empty."""
    yield from _rehearsed(self, subject)


@check(
    "redis.rehearsal-evicting",
    proves="usability",
    severity="high",
    origin="declared",
    needs_server=False,
    remedy="correct redis.conf",
)
def rehearsal_evicting(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """With the declared redis.conf the server keeps every key, now and when memory gets short."""
    yield from _rehearsed(self, subject)


@check(
    "redis.rehearsal-overwritten",
    proves="usability",
    severity="high",
    origin="declared",
    needs_server=False,
    remedy="correct redis.conf",
)
def rehearsal_overwritten(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """With the declared redis.conf a shutdown does not save an empty server over the restored file."""
    yield from _rehearsed(self, subject)


CHECKS: Final = (
    required_keys,
    allowed_drop,
    queues,
    target,
    rehearsal_starts,
    rehearsal_complete,
    rehearsal_evicting,
    rehearsal_overwritten,
)
