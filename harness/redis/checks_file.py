"""Checks of what the file itself says; they run without a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ..check import Check, NotRun, check
from ..model import Finding, Severity
from .facts import RedisSubject
from .layout import Problem
from .rdb import RdbFacts, hidden_keys

AGAIN: Final = "use an older backup and take a new one"
_DEFAULT_DATABASES: Final = 16
# RDB version that each server version writes, by vendor (FACTS.md).
_WRITES: Final = {
    "redis": {"5.0": 9, "6.0": 9, "6.2": 9, "7.0": 10, "7.2": 11, "7.4": 12, "8.0": 12, "8.2": 12},
    "valkey": {"7.2": 11, "8.0": 11, "8.1": 11, "9.0": 80, "9.1": 80},
}


def problems(self: Check, found: Iterable[Problem]) -> Iterator[Finding]:
    """Those of the problems found earlier that are this check's to report."""
    for p in found:
        if p.check == self.id:
            yield self.finding(
                p.object,
                p.message,
                severity=p.severity,
                expected=p.expected,
                observed=p.observed,
                remedy=p.remedy,
            )


def _rdb(subject: RedisSubject) -> RdbFacts:
    facts = subject.facts.rdb()
    if facts is None:
        raise NotRun("there is no RDB in this backup")
    return facts


@check(
    "redis.archive-whole",
    proves="file",
    severity="critical",
    needs_server=False,
    remedy=AGAIN,
    controls=("ISO27001:A.8.13", "ISO27001:A.8.7"),
)
def archive_whole(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The archive is whole to its last byte and holds nothing that could harm whoever unpacks it."""
    yield from problems(self, subject.facts.problems)


@check(
    "redis.archive-data",
    proves="file",
    severity="critical",
    needs_server=False,
    remedy="repair the backup script: after it ran, `tar -tzf` must list dump.rdb or appendonlydir/",
)
def archive_data(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The backup holds an RDB or an AOF, one of a kind, where the restore procedure looks for it."""
    yield from problems(self, subject.facts.problems)
    found = subject.facts.layout
    known = ("redis.archive-whole", "redis.archive-data")
    if found.empty and not found.broken_aof and not any(p.check in known for p in found.problems):
        beside = ", ".join(found.beside[:6]) or "nothing"
        yield self.finding(
            subject.artifact.path.name,
            "the backup holds no data: there is no RDB and no AOF in it",
            expected="dump.rdb or appendonlydir/",
            observed=beside,
        )


@check("redis.rdb-whole", proves="file", severity="critical", needs_server=False, remedy=AGAIN)
def rdb_whole(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The RDB can be read from its header to its end mark, and its checksum holds."""
    yield from problems(self, subject.facts.problems)
    facts, name = _rdb(subject), _rdb_name(subject)
    if facts.damage:
        yield self.finding(name, f"the RDB {facts.damage}")
        return
    if facts.unknown:
        raise NotRun(
            f"the RDB {facts.unknown}; a newer Provado, or redis-check-rdb of that version, can tell",
            blocking=True,
        )
    if facts.stated_crc == 0 and facts.version >= 5:
        yield self.finding(
            name,
            "the RDB has no checksum: a flipped bit in it goes unseen",
            severity=Severity.MEDIUM,
            remedy="set rdbchecksum yes on the source",
        )
    elif facts.stated_crc != facts.computed_crc:
        yield self.finding(
            name,
            "the RDB's checksum does not hold: bytes were changed after it was written",
            expected=f"{facts.stated_crc or 0:016x}",
            observed=f"{facts.computed_crc or 0:016x}",
        )


@check(
    "redis.check-tool",
    proves="file",
    severity="high",
    needs_server=False,
    remedy="compare with what our own checks and the server say; use another backup if in doubt",
)
def check_tool(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The official check tool of the version that loads the backup has no complaint about any part of it."""
    if subject.opinion is None:
        raise NotRun("the official check tool was not run: no server was started for this backup")
    rdb, aof = subject.facts.rdb(), subject.facts.aof
    changed = rdb and rdb.stated_crc and rdb.stated_crc != rdb.computed_crc
    if (rdb and rdb.damage) or changed or (aof and (aof.damage or aof.open_transaction)):
        raise NotRun("what is wrong with the file is told above")
    opinion = subject.opinion.wait()
    for name in opinion.complaints:
        yield self.finding(
            name,
            "the official check tool refuses this file, which our own checks do not",
            expected="no complaint",
            observed=f"a complaint of version {opinion.version}",
        )
    if opinion.why:
        raise NotRun(f"the official check tool was no witness: {opinion.why}")
    if not opinion.complaints and not opinion.parts:
        raise NotRun("the official check tool was no witness: it knows no part of this backup")


@check("redis.rdb-end", proves="file", severity="critical", needs_server=False, remedy=AGAIN)
def rdb_end(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """No keys lie behind the RDB's end mark, where servers do not look."""
    facts = _rdb(subject)
    if subject.facts.layout.aof:
        raise NotRun("what follows the RDB of an AOF are commands (see redis.aof-whole)")
    if facts.damage or facts.unknown:
        raise NotRun("the RDB cannot be read to its end")
    path = subject.facts.layout.rdb
    if path is None or facts.end >= facts.size:
        return
    with path.open("rb") as file:
        hidden = hidden_keys(file, facts.end, facts.size)
    if hidden:
        yield self.finding(
            path.name,
            "keys lie behind the end mark: servers ignore them",
            expected="nothing behind the end mark",
            observed=f"{facts.size - facts.end:,} bytes with keys in them",
        )


@check("redis.rdb-header", proves="file", severity="high", needs_server=False, remedy=AGAIN)
def rdb_header(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The RDB's version fits what is in it and the server that says it wrote it."""
    facts, name = _rdb(subject), _rdb_name(subject)
    if facts.vendor == "redis" and facts.needs_version > facts.version and not facts.damage:
        yield self.finding(
            name,
            "the RDB uses forms that came after the version it states: older servers fail on it",
            expected=f"version {facts.needs_version} or later",
            observed=f"version {facts.version}",
        )
    aux = subject.facts.head.aux if subject.facts.head else facts.aux  # those of a newer version as well
    writer = aux.get("redis-ver", "")
    named, version = ("redis", writer) if writer else ("valkey", aux.get("valkey-ver", ""))
    foreign = facts.vendor == "valkey" and bool(writer)
    if foreign:
        yield self.finding(
            name,
            f"the header is Valkey's, but Redis {writer} is named as the writer, which refuses such a file",
            expected="a header of Redis",
            observed="a header of Valkey",
        )
    usual = _WRITES[named].get(".".join(_minor(version)))
    if usual and facts.version > usual and not foreign:
        yield self.finding(
            name,
            f"the RDB states a newer version than {named.capitalize()} {version} writes, "
            "its writer by its own words",
            expected=f"version {usual}",
            observed=f"version {facts.version}",
        )
    notes = subject.facts.layout.notes
    told = notes.get("redis_version", "")
    # After an upgrade the last rewrite's base, or a dump that was only loaded since, is of the old server.
    older = subject.facts.layout.aof or notes.get("rdb_saves") == "0"
    if writer and told and not older and "valkey_version" not in notes and _minor(writer) != _minor(told):
        yield self.finding(
            name,
            "the RDB was written by another server than the INFO output packed beside it is of",
            expected=f"Redis {told}",
            observed=f"Redis {writer}",
            remedy="make sure that this is the backup of the right server",
        )

    base = aux.get("aof-base") == "1" or aux.get("aof-preamble") == "1"
    if base and not subject.facts.layout.aof:
        yield self.finding(
            name,
            "the RDB is the base of an AOF, by its own mark: what was written after the last rewrite is in "
            "other files, which are not in the backup",
            severity=Severity.MEDIUM,
            remedy="back up the whole appendonlydir, or the dump that BGSAVE writes",
        )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


@check("redis.rdb-counts", proves="file", severity="high", needs_server=False, remedy=AGAIN)
def rdb_counts(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Each database in the RDB holds as many keys as the RDB itself announces."""
    facts = _rdb(subject)
    empty = [db for db, keys in facts.keys.items() if not keys and db not in facts.hints]
    if facts.damage or facts.unknown or not (facts.hints or empty):
        raise NotRun("the RDB announces no numbers of keys, or cannot be read to its end")
    if not facts.source_version or facts.version < 9:
        raise NotRun("the RDB's writer is unknown or older than 5.0: such writers announce numbers loosely")
    for db in sorted(empty):
        yield self.finding(
            f"db{db}", "the RDB begins a database and ends before its keys: servers begin none without keys"
        )
    for db, (keys, expires) in sorted(facts.hints.items()):
        if (keys, expires) != (facts.keys[db], facts.expires[db]):
            yield self.finding(
                f"db{db}",
                "the RDB announces another number of keys than it holds",
                expected=f"{keys:,} keys, {expires:,} with expiry",
                observed=f"{facts.keys[db]:,} keys, {facts.expires[db]:,} with expiry",
            )


@check(
    "redis.aof-files",
    proves="file",
    severity="critical",
    needs_server=False,
    remedy="take the backup again with the whole appendonlydir, at one moment",
)
def aof_files(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The AOF's manifest is there, and lists exactly the files that are there."""
    if subject.facts.layout.aof is None and not subject.facts.layout.broken_aof:
        raise NotRun("AOF: this backup has none, its data is an RDB")
    yield from problems(self, subject.facts.problems)


@check("redis.aof-whole", proves="file", severity="critical", needs_server=False, remedy=AGAIN)
def aof_whole(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """Every part of the AOF ends with a whole command and no open transaction."""
    if subject.facts.aof is None:
        raise NotRun("AOF: this backup has none, its data is an RDB")
    yield from problems(self, subject.facts.problems)


@check(
    "redis.not-empty",
    proves="data",
    severity="critical",
    needs_server=False,
    remedy="find out why the source was empty; if it should be, set redis.may_be_empty",
)
def not_empty(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """The backup holds keys, unless its source is known to hold none."""
    facts, manifest = subject.facts, subject.facts.manifest
    if facts.layout.empty:
        raise NotRun("there is no data to count (see the findings about the archive)")
    rdb = facts.rdb()
    if rdb and (rdb.damage or rdb.unknown):
        raise NotRun("the RDB cannot be read to its end")
    keys = rdb.total if rdb else 0
    if facts.aof and facts.aof.commands:
        if subject.live is None:
            raise NotRun("only a server that replays the AOF's commands can count what is left")
        keys = sum(subject.live.keys.values())
    if keys or subject.settings.redis.may_be_empty:
        return
    if manifest and not manifest.facts.get("total_keys"):
        return
    told = facts.layout.notes.get("db0")
    yield self.finding(
        subject.artifact.path.name,
        "the backup is valid but empty: it holds no key",
        expected=told,
        observed="0",
    )


@check(
    "redis.databases",
    proves="usability",
    severity="medium",
    needs_server=False,
    remedy="write `databases` into the redis.conf that recovery uses",
)
def enough_databases(self: Check, subject: RedisSubject) -> Iterator[Finding]:
    """A server with the default number of databases can hold the backup."""
    facts = _rdb(subject)
    highest = max(facts.keys, default=0)
    if highest >= _DEFAULT_DATABASES:
        yield self.finding(
            f"db{highest}",
            "the backup needs more databases than a server has by default: such a server refuses it",
            expected=f"databases {highest + 1}",
            observed=f"databases {_DEFAULT_DATABASES} by default",
        )


def _rdb_name(subject: RedisSubject) -> str:
    walk = subject.facts.walk
    return walk.path.name if walk else subject.artifact.path.name


CHECKS: Final = (
    archive_whole,
    archive_data,
    rdb_whole,
    check_tool,
    rdb_end,
    rdb_header,
    rdb_counts,
    aof_files,
    aof_whole,
    not_empty,
    enough_databases,
)
