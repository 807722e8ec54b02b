"""Checks of the backup against its source's manifest: does it hold what the source held?

An RDB is compared as it lies in the file, so that keys which expired since then count by the file's clock;
an AOF by what the server made of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from ..check import Check, NotRun, check
from ..manifest import Manifest
from ..model import Finding, Severity
from . import differences
from .canary import from_record
from .capture import expected_keys
from .checks_server import libraries
from .facts import RedisSubject
from .spool import Differences, Spool, compare

_AGAIN: Final = "find out how the backup came to differ, use an older one, and take a new one"
_WHERE: Final = "in the backup"
_AHEAD_S: Final = 86_400


def _manifest(subject: RedisSubject) -> Manifest:
    if subject.facts.manifest is None:
        raise NotRun("no manifest: the backup was not compared with its source")
    return subject.facts.manifest


def _observed(subject: RedisSubject) -> tuple[Spool, int]:
    """The backup's keys, and the clock (ms) by which its keys may have expired."""
    facts = subject.facts
    rdb = facts.rdb()
    if facts.layout.aof is None:
        spool = facts.spool()
        if spool is None or rdb is None or rdb.damage or rdb.unknown:
            raise NotRun("the backup's keys cannot be read to the end")
        return spool, ((rdb.ctime or 0) + 1) * 1000  # to the second, rounded down: it may be almost one later
    if subject.live is None or subject.spool is None:
        raise NotRun("what the AOF holds shows only once a server replayed it, which did not happen")
    return subject.spool, subject.live.ended_ms


def _compared(subject: RedisSubject) -> tuple[Differences, Spool]:
    manifest = _manifest(subject)
    if subject.against_source is None:
        observed, clock_ms = _observed(subject)
        expected = expected_keys(dict(manifest.facts), subject.scratch)
        read_until = int(manifest.facts.get("read_until_ms") or 0)  # by the source's own clock
        # A clock in the file that runs ahead of all others must not make keys look expired.
        clock_ms = min(clock_ms, int((time.time() + _AHEAD_S) * 1000))
        past = max(clock_ms, read_until, int(manifest.captured_at.timestamp() * 1000))
        digests = bool(manifest.facts.get("digests", True))
        subject.against_source = compare(expected, observed, past_ms=past, values=digests), expected
    return subject.against_source


@check(
    "redis.source-keys",
    proves="data",
    severity="critical",
    origin="manifest",
    needs_server=False,
    remedy=_AGAIN,
)
def source_keys(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The backup holds every key that its source held, in its database, and none besides."""
    found, expected = _compared(subject)
    yield from differences.presence(self, found, expected, _WHERE)


@check(
    "redis.source-values",
    proves="data",
    severity="critical",
    origin="manifest",
    needs_server=False,
    remedy=_AGAIN,
)
def source_values(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every key has the type and value it had in the source; streams with groups and pending entries."""
    found, _ = _compared(subject)
    yield from differences.contents(self, found, _WHERE)
    if not found.type and not _manifest(subject).facts.get("digests", True):
        raise NotRun("the manifest was captured without digests: only types could be compared")


@check(
    "redis.source-expiry",
    proves="data",
    severity="critical",
    origin="manifest",
    needs_server=False,
    remedy=_AGAIN,
)
def source_expiry(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every key expires when it would have in the source."""
    found, _ = _compared(subject)
    yield from differences.expiry(self, found, _WHERE)


@check(
    "redis.source-functions",
    proves="schema",
    severity="critical",
    origin="manifest",
    needs_server=False,
    remedy=_AGAIN,
)
def source_functions(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The backup holds the source's function libraries, unchanged."""
    expected = _manifest(subject).facts.get("libraries")
    if expected is None:
        raise NotRun("the manifest tells nothing of functions: its source has none, or did not show them")
    _, rdb = _observed(subject), subject.facts.rdb()
    if subject.facts.layout.aof and subject.live:
        observed = subject.live.libraries
    else:
        observed = rdb.libraries if rdb else {}
    if observed is None:
        raise NotRun("this server has no functions, the source has", blocking=bool(expected))
    yield from libraries(self, dict(expected), observed)


@check(
    "redis.source-file",
    proves="identity",
    severity="medium",
    origin="manifest",
    needs_server=False,
    remedy="verify the file that the manifest was made with, or capture a manifest for this one",
)
def source_file(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The file is the very one its manifest was made with."""
    made = _manifest(subject).artifact
    if not made:
        raise NotRun("the manifest was captured from a server, not made with a file")
    if subject.sha256 and made.get("sha256") != subject.sha256:
        yield self.finding(
            subject.artifact.path.name,
            "the file is not the one its manifest was made with: it was packed again, or changed",
            expected=made.get("sha256"),
            observed=subject.sha256,
        )


@check(
    "redis.source-canary",
    proves="identity",
    severity="high",
    origin="manifest",
    needs_server=False,
    remedy="find the file that belongs to this manifest; what lies here is another backup",
)
def source_canary(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The file holds the key that was written for this one backup: it is no other file under its name."""
    record = _manifest(subject).facts.get("canary")
    if record is None:
        raise NotRun("the manifest tells of no canary: none was written when the backup was taken")
    facts, rdb = subject.facts, subject.facts.rdb()
    if rdb and (rdb.damage or rdb.unknown):
        raise NotRun("the RDB cannot be read to its end")
    held = {**(rdb.canaries if rdb else {}), **(facts.aof.canaries if facts.aof else {})}
    expected = from_record(record)
    found = held.get(expected.name)
    if found is None or found != expected.digest(facts.digester):
        yield self.finding(
            subject.artifact.path.name,
            "the canary of this backup is not in the file: another or an older file lies under its name",
            expected=expected.name,
            observed=", ".join(sorted(held)[:3]) or "no canary",
        )


@check(
    "redis.source-around",
    proves="usability",
    severity="medium",
    origin="manifest",
    needs_server=False,
    remedy="back up users.acl and redis.conf with the configuration, and restore them first",
)
def source_around(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """What an RDB never holds, ACL users and settings that keep the data whole, is accounted for."""
    facts = _manifest(subject).facts
    users = [u for u in facts.get("acl_users") or () if u != "default"]
    if users and not any("acl" in name.lower() for name in subject.facts.layout.beside):
        yield self.finding(
            "ACL users",
            f"{len(users)} ACL users of the source are in no RDB or AOF",
            expected=", ".join(users[:10]),
            observed="no ACL file in the backup",
        )
    settings = facts.get("config") or {}
    if int(settings.get("databases", 16)) != 16:
        yield self.finding(
            "databases",
            "the source has another number of databases than a server has by default",
            severity=Severity.INFO,
            expected=settings["databases"],
            observed="16",
        )
    if settings.get("maxmemory", "0") != "0" and "allkeys" in settings.get("maxmemory-policy", ""):
        yield self.finding(
            "maxmemory-policy",
            "the source evicts keys when memory is short: the backup may hold less than was written",
            severity=Severity.INFO,
            observed=settings["maxmemory-policy"],
            remedy="use noeviction where keys are data, as queues are",
        )


CHECKS: Final = (
    source_keys,
    source_values,
    source_expiry,
    source_functions,
    source_file,
    source_canary,
    source_around,
)
