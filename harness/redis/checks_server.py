"""Checks of the restored server against the file: everything in the file arrived, and nothing besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..check import Check, NotRun, check
from ..model import Finding, Severity
from . import differences
from .facts import RedisSubject
from .live import LiveFacts
from .spool import Differences, Spool, compare

_TRY: Final = "restore an older backup; tell the server's maintainers if the file is whole"


def _live(subject: RedisSubject) -> tuple[LiveFacts, Spool]:
    if subject.live is None or subject.spool is None:
        raise NotRun("the server's keys could not be read back (see redis.readable)", blocking=True)
    return subject.live, subject.spool


def _against_file(subject: RedisSubject) -> tuple[Differences, Spool, str]:
    """File against server. Of an AOF, only keys that none of its commands touches can be told."""
    live, spool = _live(subject)
    facts, skip = subject.facts, frozenset[bytes]()
    if facts.layout.aof and facts.aof:
        if facts.aof.damage:
            raise NotRun("the AOF cannot be read to its end")
        if facts.aof.touched is None:
            raise NotRun(
                "the AOF's commands may touch any key: the file alone does not tell what must arrive"
            )
        skip = frozenset(facts.aof.touched)
    expected = facts.spool()
    rdb = facts.rdb()
    if expected is None or rdb is None:
        raise NotRun("there is no RDB to compare the server with: the AOF holds commands only")
    if rdb.damage or rdb.unknown:
        raise NotRun("the RDB cannot be read to its end")
    if subject.compared is None:
        subject.compared = compare(expected, spool, past_ms=live.ended_ms, skip=skip)
    return subject.compared, expected, "in the restored server"


@check("redis.loads", proves="restore", severity="critical", needs_server=False, remedy=_TRY)
def loads(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """A server of a fitting version loads the backup, and drops nothing while it does."""
    if subject.server is None and subject.refused is None:
        raise NotRun("no server was started for this backup")
    if subject.refused:
        yield self.finding(
            subject.artifact.path.name, f"the server refuses to load the backup: {subject.refused}"
        )
    for note in subject.load_notes:
        yield self.finding(subject.artifact.path.name, f"while loading, the server {note}")


@check("redis.readable", proves="usability", severity="critical", remedy=_TRY)
def readable(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every key can be read, and the server still answers afterwards."""
    if subject.died:
        yield self.finding(subject.artifact.path.name, f"reading the keys back stopped: {subject.died}")
        return
    live, _ = _live(subject)
    if live.unreadable:
        yield self.finding(
            "keys",
            f"the server refuses to give the values of {live.unreadable:,} keys",
            observed=live.unreadable,
        )
    if subject.wire is None or subject.wire.call("PING") != b"PONG":
        yield self.finding("server", "the server no longer answers")


@check("redis.keys-arrived", proves="data", severity="critical", remedy=_TRY)
def keys_arrived(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every key of the file is in the server, in its database, and none besides."""
    found, expected, where = _against_file(subject)
    yield from differences.presence(self, found, expected, where)


@check("redis.values-arrived", proves="data", severity="critical", remedy=_TRY)
def values_arrived(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every key has the type and the value it has in the file; streams keep groups and pending entries."""
    found, _, where = _against_file(subject)
    yield from differences.contents(self, found, where, untold=Severity.INFO)


@check("redis.expiry-arrived", proves="data", severity="critical", remedy=_TRY)
def expiry_arrived(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every key expires at the millisecond that the file states."""
    found, _, where = _against_file(subject)
    yield from differences.expiry(self, found, where)
    if found.expired:
        yield self.finding(
            "keys",
            "expired before the restore and so not in the server: "
            + ("1 key" if found.expired == 1 else f"{found.expired:,} keys"),
            severity=Severity.INFO,
            observed=found.expired,
            remedy="nothing to do",
        )


@check("redis.functions-arrived", proves="schema", severity="critical", remedy=_TRY)
def functions_arrived(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every function library of the file is in the server, unchanged."""
    live, _ = _live(subject)
    facts, rdb = subject.facts, subject.facts.rdb()
    if rdb is None or (facts.aof and facts.aof.functions):
        raise NotRun("functions are written by the AOF's commands")
    if live.libraries is None:
        if rdb.libraries:
            raise NotRun("this server has no functions, the backup has", blocking=True)
        return
    yield from libraries(self, rdb.libraries, live.libraries)


def libraries(self: Check, expected: dict[str, str], observed: dict[str, str]) -> Iterator[Finding]:
    """Function libraries that are missing, changed or too many."""
    for name in sorted(expected.keys() | observed.keys()):
        if name not in observed:
            yield self.finding(f"library {name}", "the function library is missing")
        elif name not in expected:
            yield self.finding(f"library {name}", "a function library that should not exist")
        elif expected[name] != observed[name]:
            yield self.finding(f"library {name}", "the function library has other source text")


@check(
    "redis.evicted",
    proves="restore",
    severity="critical",
    remedy="restore with maxmemory 0, and raise it only above used_memory",
)
def evicted(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The server evicted no key while loading or afterwards."""
    _live(subject)
    count = subject.info.get("evicted_keys")
    if count is None:
        raise NotRun("the server shows no INFO", blocking=True)
    if count != "0":
        yield self.finding("server", f"the server evicted {count} keys", expected="0", observed=count)


@check(
    "redis.modules",
    proves="usability",
    severity="medium",
    needs_server=False,
    remedy="have the module at hand for recovery, and list its types in redis.modules",
)
def modules(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Keys of module types are expected, since only their module can read them."""
    rdb = subject.facts.rdb()
    if rdb is None:
        raise NotRun("there is no RDB in this backup")
    allowed, manifest = set(subject.settings.redis.modules), subject.facts.manifest
    if (rdb.modules or rdb.module_aux) and manifest and manifest.facts.get("modules") == []:
        yield self.finding(
            "modules",
            "the file holds data of a module, and its source has none: the source's own server refuses it",
            severity=Severity.HIGH,
            expected="no module",
            observed=", ".join(sorted({*rdb.modules, *rdb.module_aux})[:6]),
            remedy="find out which server wrote this file; use an older backup and take a new one",
        )
        return
    for name in sorted(rdb.module_aux - allowed - rdb.modules.keys()):
        yield self.finding(
            f"type {name}", "data of a module beside the keys: a server without it refuses the whole file"
        )
    for name, count in sorted(rdb.modules.items()):
        if name not in allowed:
            yield self.finding(
                f"type {name}",
                f"{count:,} keys of a module's type: a server without that module refuses the whole file",
                observed=f"{count:,} keys",
            )


CHECKS: Final = (
    loads,
    readable,
    keys_arrived,
    values_arrived,
    expiry_arrived,
    functions_arrived,
    evicted,
    modules,
)
