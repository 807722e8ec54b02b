"""Rehearsal of the user's own recovery: their redis.conf, the backup's files put in place, server started.

This says something about the procedure, not about the backup. What would lead out of the sandbox (network,
passwords, paths, modules) is left out of the configuration; everything that decides about data stays.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..component import DrillContext
from ..errors import ConfigError
from ..model import Severity
from ..sandbox import RedisRequest, Server, ServerDied, redis_sandbox
from .digest import NEVER, RECORD
from .facts import RedisFacts
from .layout import Aof, Problem
from .live import keyspace, read_all
from .rdb import peek
from .spool import Spool, compare
from .wire import Address, Refused, ServerGone, Wire

# Directives that are not the rehearsal's business: who may connect from where, other files, other servers.
_LEFT_OUT: Final = re.compile(
    r"^(requirepass|masterauth|masteruser|user|aclfile|acl-\S+|bind\S*|port|tls-\S+|unixsocket\S*|dir|logfile|"
    r"pidfile|daemonize|supervised|replicaof|slaveof|replica-\S+|slave-\S+|loadmodule|include|syslog-\S+|"
    r"rename-command|protected-mode|cluster-\S+|oom-score-\S+|\S*cpulist|locale-collate|enable-\S+)\s",
    re.I,
)
_CONF: Final = "rehearsed.conf"


@dataclass(frozen=True)
class _Case:
    """What is rehearsed: the directives kept, the folder as a runbook fills it, and what must come back.

    `expected` holds the keys (None: no server could tell), `rdb` is the RDB's name in the folder.
    """

    conf: list[str]
    data: Path
    facts: RedisFacts
    expected: Spool | None
    rdb: str

    @property
    def appending(self) -> bool:
        """Whether the server looks for an AOF and for nothing else."""
        return (_value(self.conf, "appendonly") or "no").lower() == "yes"


def rehearse(conf: Path, facts: RedisFacts, restored: Spool | None, ctx: DrillContext) -> tuple[Problem, ...]:
    """Restore the backup with `conf` as a runbook does: copy the files into the data folder, start, look.

    `restored` are the keys that came back in the drill itself (None: none did, since the AOF is cut). Raises
    SandboxError when this machine has no fitting server, ConfigError when `conf` cannot be read.
    """
    found, walked = facts.layout, facts.rdb()
    if walked and (walked.damage or walked.unknown):
        return ()
    kept = [line for line in _lines(conf) if not _LEFT_OUT.match(line + " ")]
    name = Path(_value(kept, "dbfilename") or "dump.rdb").name
    case = _Case(kept, ctx.scratch / "rehearsal", facts, restored if found.aof else facts.spool(), name)
    case.data.mkdir()
    if found.rdb:
        shutil.copyfile(found.rdb, case.data / name)
    if found.aof:
        _place_aof(found.aof, case)
    if _value(kept, "save") is None:  # what a server does that is told nothing of `save`
        kept.append("save 3600 1 300 100 60 10000")
    (case.data / _CONF).write_text("\n".join(kept) + "\n", encoding="utf-8")
    version, valkey = needs(facts)
    request = RedisRequest(version, valkey_only=valkey, data=case.data, options=(("include", _CONF),))
    try:
        with redis_sandbox(request, ctx.settings.sandbox, deadline=ctx.deadline) as server:
            return tuple(_look(server, case, ctx))
    except ServerDied as died:
        if died.limit:
            raise
        damaged = restored is None and found.aof and "at line" not in died.log
        return () if damaged else (_refused(died),)  # a cut file that is refused is the file's own fault


def needs(facts: RedisFacts) -> tuple[int | None, bool]:
    """The RDB version that a server must know for this backup, and whether it must be Valkey."""
    head, aof = facts.head, facts.layout.aof
    version = head.version if head and head.version else None
    if aof and not aof.single:
        version = max(version or 0, 10)  # an AOF of several files came with 7.0
    return version, head is not None and head.vendor == "valkey"


def _place_aof(aof: Aof, case: _Case) -> None:
    """The files of the AOF under the names they have in the backup."""
    if aof.single:
        shutil.copyfile(aof.parts[0], case.data / aof.name)
        return
    own = case.facts.layout.root
    name = (_value(case.conf, "appenddirname") or "appendonlydir") if aof.folder == own else aof.folder.name
    folder = case.data / Path(name).name
    folder.mkdir()
    for part in (aof.folder / f"{aof.name}.manifest", *([aof.base] if aof.base else []), *aof.parts):
        shutil.copyfile(part, folder / part.name)


def _look(server: Server, case: _Case, ctx: DrillContext) -> list[Problem]:
    address = Address(server.unix_socket, server.host, server.port, password=server.password)
    with Wire(address) as wire:
        wire.wait_loaded(ctx.deadline)
        keys = _count(wire, case)
        info, seconds = wire.info(), int(wire.call("TIME")[0])
        expected = _alive(case.expected, (seconds + 1) * 1000) if case.expected else 0
        problems = _evicting(info, case.conf)
        evicted = info.get("evicted_keys", "0") != "0"  # then keys are missing, and it is told why
        if not evicted:
            problems = _complete(wire, keys, expected, case, ctx) + _cut(server) + problems
        if server.shared is not None and case.facts.layout.rdb and not evicted:
            with contextlib.suppress(ServerGone, Refused):
                wire.call("SHUTDOWN")
            problems += _overwritten(server.shared / case.rdb, keys, expected)
        return problems


def _count(wire: Wire, case: _Case) -> int:
    """Keys in the server, without our own."""
    keys = sum(figures.get("keys", 0) for figures in keyspace(wire.info("keyspace")).values())
    walked, aof = case.facts.rdb(), case.facts.aof
    ours = {*(walked.canaries if walked else ()), *(aof.canaries if aof else ())}
    return keys - (int(wire.call("EXISTS", *sorted(ours))) if ours else 0)


def _alive(spool: Spool, now_ms: int) -> int:
    """How many keys must still be there at `now_ms`."""
    count = 0
    for records in spool.buckets():  # a scan may meet a key twice
        deaths = {fields[:2]: fields[7] for fields in RECORD.iter_unpack(records)}
        count += sum(death == NEVER or death > now_ms for death in deaths.values())
    return count


def _complete(wire: Wire, keys: int, expected: int, case: _Case, ctx: DrillContext) -> list[Problem]:
    aof = case.facts.layout.aof
    remedy = "start once with appendonly no, then CONFIG SET appendonly yes and wait for the rewrite"
    if aof:
        remedy = "restore with appendonly yes, and with appendfilename and appenddirname as in the backup"
    if not keys and expected:
        what = (
            "restored with this redis.conf the server starts empty, and answers PING as if nothing were wrong"
        )
        if case.appending:
            why = " (appendonly yes: it looks for an AOF and ignores the RDB)"
            why = " (it looks for an AOF of another name: appendfilename, appenddirname)" if aof else why
        else:
            why = " (appendonly no: it ignores the AOF)" if aof else ""
    elif keys < expected:
        what = "restored with this redis.conf the server holds fewer keys than the backup"
        why = " (appendonly no: it ignores the AOF)" if aof and not case.appending else ""
    elif aof and not case.appending and case.expected and _other_content(wire, case.expected, case, ctx):
        what = (
            "with this redis.conf the server ignores the AOF, and serves another state from the RDB beside it"
        )
        return [_incomplete(what, "the content of the AOF", "another content", remedy)]
    else:
        return []
    return [_incomplete(what + why, f"{expected:,} keys", f"{keys:,} keys", remedy)]


def _incomplete(what: str, expected: str, observed: str, remedy: str) -> Problem:
    return Problem(
        "redis.rehearsal-complete",
        "redis.conf",
        what,
        Severity.HIGH,
        expected=expected,
        observed=observed,
        remedy=remedy,
    )


def _other_content(wire: Wire, expected: Spool, case: _Case, ctx: DrillContext) -> bool:
    spool = Spool(ctx.scratch)
    live = read_all(wire, case.facts.digester, spool, deadline=ctx.deadline)
    return bool(compare(expected, spool, past_ms=live.ended_ms))


def _cut(server: Server) -> list[Problem]:
    if not re.search(r"[Tt]runcating the AOF|AOF loaded anyway|[Rr]evert incomplete MULTI", server.log()):
        return []
    what = "with this redis.conf the server drops the cut end of the AOF, and tells its log only"
    return [
        _incomplete(
            what,
            "a server that refuses a cut file",
            "a server that answers without the end",
            "write aof-load-truncated no, and use another backup",
        )
    ]


def _evicting(info: dict[str, str], conf: list[str]) -> list[Problem]:
    evicted, policy = info.get("evicted_keys", "0"), info.get("maxmemory_policy", "")
    if evicted != "0":
        return [
            Problem(
                "redis.rehearsal-evicting",
                "redis.conf",
                "restored with this redis.conf the server throws keys away for lack of memory",
                Severity.HIGH,
                expected="0 evicted keys",
                observed=f"{evicted} evicted keys",
                remedy="raise maxmemory above the data's size, or restore with maxmemory 0",
            )
        ]
    limit, used = int(info.get("maxmemory", "0")), int(info.get("used_memory", "0"))
    if limit and used > limit:
        return [
            Problem(
                "redis.rehearsal-evicting",
                "redis.conf",
                "the restored data needs more memory than this redis.conf allows: "
                + (
                    "writes are refused"
                    if policy == "noeviction"
                    else "keys are thrown away with the next writes"
                ),
                Severity.HIGH,
                expected=f"maxmemory above {used:,}",
                observed=f"maxmemory {limit:,}, {policy}",
                remedy="raise maxmemory above the data's size",
            )
        ]
    if limit and policy.startswith("allkeys"):
        return [
            Problem(
                "redis.rehearsal-evicting",
                "redis.conf",
                "this redis.conf lets the server throw away any key when memory is short, queues included",
                Severity.MEDIUM,
                expected="noeviction",
                observed=policy,
                remedy="use noeviction where keys are data",
            )
        ]
    return []


def _overwritten(file: Path, keys: int, expected: int) -> list[Problem]:
    """After a shutdown: is what was restored still in the file, or did the server save over it?"""
    facts = peek(file) if file.is_file() else None
    announced = sum(hint[0] for hint in facts.hints.values()) if facts else 0
    if keys == 0 and expected and (facts is None or announced == 0):
        return [
            Problem(
                "redis.rehearsal-overwritten",
                "redis.conf",
                "at shutdown the empty server saves over the restored file: the copy in place is lost too",
                Severity.HIGH,
                expected=f"{expected:,} keys in the file",
                observed="0 keys in the file",
                remedy="keep the backup elsewhere until the keys were counted; stop with SHUTDOWN NOSAVE",
            )
        ]
    return []


def _refused(died: ServerDied) -> Problem:
    line = re.search(r"at line (\d+)", died.log)
    directive = re.search(r">>> '(\S+)", died.log)
    known = f" (directive {directive[1]})" if directive and re.fullmatch(r"[a-z-]+", directive[1]) else ""
    why = "it refuses the configuration" + known if line else "it ends while loading"
    return Problem(
        "redis.rehearsal-starts",
        "redis.conf",
        f"the server does not start with this redis.conf: {why}",
        Severity.HIGH,
        expected="a server that starts",
        observed=f"exit code {died.died_with}",
        remedy="a comment must stand on a line of its own; test with `redis-server redis.conf --port 0`",
    )


def _lines(conf: Path) -> list[str]:
    try:
        text = conf.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"redis.redis_conf cannot be read: {error.strerror}", where=str(conf)) from None
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _value(lines: list[str], name: str) -> str | None:
    """The last value given for a directive with one value."""
    found = [line.split(None, 1)[1] for line in lines if line.lower().startswith(name + " ")]
    return found[-1].strip().strip('"') if found else None
