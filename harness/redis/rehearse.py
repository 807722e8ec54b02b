"""Rehearsal of the user's own recovery: their redis.conf, the backup's RDB put in place, server started.

This says something about the procedure, not about the backup. What would lead out of the sandbox (network,
passwords, paths, modules) is left out of the configuration; everything that decides about data stays.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path
from typing import Final

from ..component import DrillContext
from ..errors import ConfigError
from ..model import Severity
from ..sandbox import RedisRequest, Server, ServerDied, redis_sandbox
from .facts import RedisFacts
from .layout import Problem
from .live import keyspace
from .rdb import peek
from .wire import Address, Refused, ServerGone, Wire

# Directives that are not the rehearsal's business: who may connect from where, other files, other servers.
_LEFT_OUT: Final = re.compile(
    r"^(requirepass|masterauth|masteruser|user|aclfile|acl-\S+|bind\S*|port|tls-\S+|unixsocket\S*|dir|logfile|"
    r"pidfile|daemonize|supervised|replicaof|slaveof|replica-\S+|slave-\S+|loadmodule|include|syslog-\S+|"
    r"rename-command|protected-mode|cluster-\S+|oom-score-\S+|\S*cpulist|locale-collate|enable-\S+)\s",
    re.I,
)
_CONF: Final = "rehearsed.conf"


def rehearse(conf: Path, facts: RedisFacts, ctx: DrillContext) -> tuple[Problem, ...]:
    """Restore the RDB with `conf` as a runbook does: copy it into the data folder, start, look, stop.

    Only an RDB is rehearsed. Raises SandboxError when this machine has no fitting server, ConfigError when
    `conf` cannot be read.
    """
    rdb, head, walked = facts.layout.rdb, facts.head, facts.rdb()
    if rdb is None or head is None or walked is None or walked.damage or walked.unknown:
        return ()
    data = ctx.scratch / "rehearsal"
    data.mkdir()
    name = _value(_lines(conf), "dbfilename") or "dump.rdb"
    shutil.copyfile(rdb, data / Path(name).name)
    kept = [line for line in _lines(conf) if not _LEFT_OUT.match(line + " ")]
    if _value(kept, "save") is None:  # what a server does that is told nothing of `save`
        kept.append("save 3600 1 300 100 60 10000")
    (data / _CONF).write_text("\n".join(kept) + "\n", encoding="utf-8")
    options = (("include", _CONF),)
    request = RedisRequest(head.version, valkey_only=head.vendor == "valkey", data=data, options=options)
    try:
        with redis_sandbox(request, ctx.settings.sandbox, deadline=ctx.deadline) as server:
            return tuple(_look(server, walked.total, data / Path(name).name, kept))
    except ServerDied as died:
        if died.limit:
            raise
        return (_refused(died),)


def _look(server: Server, expected: int, given: Path, conf: list[str]) -> list[Problem]:
    address = Address(server.unix_socket, server.host, server.port, password=server.password)
    with Wire(address) as wire:
        wire.call("PING")
        keys = sum(figures.get("keys", 0) for figures in keyspace(wire.info("keyspace")).values())
        info = wire.info()
        problems = _complete(keys, expected, conf) + _evicting(info, conf)
        if server.shared is not None:
            with contextlib.suppress(ServerGone, Refused):
                wire.call("SHUTDOWN")
            problems += _overwritten(server.shared / given.name, keys, expected)
        return problems


def _complete(keys: int, expected: int, conf: list[str]) -> list[Problem]:
    if keys or not expected:
        return []
    appending = _value(conf, "appendonly") == "yes"
    return [
        Problem(
            "redis.rehearsal-complete",
            "redis.conf",
            "restored with this redis.conf the server starts empty, and answers PING as if nothing were wrong"
            + (" (appendonly yes: it looks for an AOF and ignores the RDB)" if appending else ""),
            Severity.HIGH,
            expected=f"{expected:,} keys",
            observed="0 keys",
            remedy="start once with appendonly no, then CONFIG SET appendonly yes and wait for the rewrite",
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
