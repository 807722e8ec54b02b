"""redis.conf: read line by line as Redis does, and tried on a real server in a sandbox.

The trial start leaves out what points outside (addresses, files, modules, replication, passwords), and
includes the rest under its own line numbers, so that Redis' complaint names the line of the backup.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..component import DrillContext
from ..errors import SandboxError
from ..sandbox import RedisRequest, ServerDied, redis_sandbox
from .facts import FolderFacts
from .layout import is_redis

_OURS: Final = frozenset(  # where the sandbox decides; nothing is unproven without them
    {"always-show-logo", "bind", "daemonize", "dir", "logfile", "pidfile", "port", "supervised", "unixsocket"}
    | {"unixsocketperm", "set-proc-title", "proc-title-template", "requirepass", "syslog-enabled"}
)
_OUTSIDE: Final = _OURS | {
    *("aclfile", "bind-source-addr", "cluster-config-file", "cluster-enabled", "disable-thp", "include"),
    *("enable-debug-command", "enable-module-command", "loadmodule", "locale-collate", "masterauth"),
    *("masteruser", "oom-score-adj", "oom-score-adj-values", "primaryauth", "primaryuser", "rename-command"),
    *("replicaof", "sentinel", "server_cpulist", "slaveof", "user", "io-threads-do-reads"),
}
_NEWER: Final = re.compile(  # directives that 7.0 does not know: no word against a newer source's file
    r"^(locale-collate|hide-user-data-from-log|max-new-connections-per-cycle|max-new-tls-connections-per-cycle|"
    r"lookahead|key-memory-histograms|replica-full-sync-buffer-limit|repl-diskless-.*|rdma-.*|extended-redis-"
    r"compatibility|commandlog-.*|import-mode|availability-zone|dual-channel-.*|search-.*|ts-.*|bf-.*|cf-.*|"
    r"cluster-.*|events-per-io-thread|prefetch-.*|hash-seed|lua-.*|latency-.*|vset-.*|unixsocketgroup|"
    r"rdb-version-check|close-.*|io-threads.*|tls-.*)$",
    re.I,
)


_PASSWORDS: Final = ("user", "requirepass", "masterauth", "primaryauth", "rename-command")


@dataclass(frozen=True)
class RedisStart:
    """How a server took one redis.conf. `line` and `complaint` are Redis' own words when it refused;
    `server` is empty when no server could be had, and `untested` says what stays unproven then."""

    name: str
    server: str = ""
    refused: bool = False
    newer: bool = False
    line: int | None = None
    directive: str = ""
    complaint: str = ""
    untested: str = ""


@dataclass(frozen=True)
class Directive:
    """One line of redis.conf: its number, the directive in lower case, its arguments, as Redis splits them.

    `trouble` says what is wrong with the line as such, in Redis' words.
    """

    line: int
    name: str
    args: tuple[str, ...] = ()
    trouble: str = ""


_COUNTS: Final = {
    **dict.fromkeys(("port", "tls-port", "dir", "logfile", "pidfile", "unixsocket", "aclfile"), 1),
    **dict.fromkeys(("requirepass", "masterauth", "masteruser"), 1),
    **dict.fromkeys(("replicaof", "slaveof"), 2),
}


def directives(text: str) -> list[Directive]:
    """The lines that count. A comment stands on a line of its own; behind a value it is part of it."""
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip(" \t\r\n")
        if not line or line.startswith("#"):
            continue
        words = split_args(line)
        if words is None:
            found.append(
                Directive(number, line.split()[0].lower(), trouble="Unbalanced quotes in configuration line")
            )
        elif words:
            found.append(Directive(number, words[0].lower(), tuple(words[1:])))
    return found


def split_args(line: str) -> list[str] | None:
    """Split like Redis: blanks between words, "..." with escapes, '...'; None for unbalanced quotes."""
    words: list[str] = []
    at = 0
    while True:
        while at < len(line) and line[at].isspace():
            at += 1
        if at >= len(line):
            return words
        word = ""
        while at < len(line) and not line[at].isspace():
            quote = line[at]
            if quote not in "\"'":
                word += quote
                at += 1
                continue
            at += 1
            while at < len(line) and line[at] != quote:
                if line[at] == "\\" and at + 1 < len(line) and (quote == '"' or line[at + 1] == "'"):
                    at += 1
                word += line[at]
                at += 1
            if at >= len(line) or (at + 1 < len(line) and not line[at + 1].isspace()):
                return None
            at += 1
        words.append(word)


def static_trouble(directive: Directive) -> str:
    """What Redis is sure to refuse, told without a server; "" when nothing is seen."""
    if directive.trouble:
        return directive.trouble
    if directive.name == "save" and directive.args not in (("",), ()):
        words = [word for arg in directive.args for word in arg.split()]
        if len(words) % 2 or not all(word.isdecimal() for word in words):
            return "Invalid save parameters"
    if any(arg.startswith("#") for arg in directive.args) and directive.name not in _PASSWORDS:
        return "a comment stands behind the value, where Redis takes it as part of it"
    # What the trial start leaves out, a server here does not judge.
    if _COUNTS.get(directive.name, len(directive.args)) != len(directive.args):
        return "wrong number of arguments"
    if directive.name in ("port", "tls-port") and "$" not in directive.args[0]:
        port = directive.args[0]
        if not port.isdecimal() or int(port) > 65535:
            return "argument must be between 0 and 65535 inclusive"
    return ""


def try_redis_conf(facts: FolderFacts, folder: Path, ctx: DrillContext) -> tuple[RedisStart, ...]:
    """Start a sandbox server on every redis.conf of the backup; results in the order of the names."""
    return tuple(_try(file.name, folder / file.name, ctx) for file in facts.files() if is_redis(file.name))


def _try(name: str, path: Path, ctx: DrillContext) -> RedisStart:
    if path.stat().st_size > 1 << 20:
        return RedisStart(name, refused=True, complaint="is too large for a redis.conf")
    text = path.read_bytes().decode("utf-8", "replace")
    kept = {d.line for d in directives(text) if d.name not in _OUTSIDE and not d.name.startswith("tls-")}
    left_out = sorted({d.name for d in directives(text) if d.line not in kept and d.name not in _OURS})
    lines = text.splitlines()
    data = ctx.scratch / "redis-trial"
    data.mkdir(mode=0o700, exist_ok=True)
    (data / "trial.conf").write_text(
        "\n".join(line if number in kept else "#" for number, line in enumerate(lines, 1)) + "\n",
        encoding="utf-8",
    )
    request = RedisRequest(rdb_version=10, data=data, options=(("include", "trial.conf"),))
    try:
        with redis_sandbox(request, ctx.settings.sandbox, deadline=ctx.deadline) as server:
            info = server.info
    except ServerDied as died:
        return _unknown(name, died, lines) or _refusal(name, died)
    except SandboxError as error:
        return RedisStart(name, untested=f"{name} was not tried on a server: {error}")
    untested = f"{name}: {', '.join(left_out)} were left out of the trial start" if left_out else ""
    return RedisStart(name, f"{info.provider} {info.version}".strip(), untested=untested)


def _unknown(name: str, died: ServerDied, lines: list[str]) -> RedisStart | None:
    """What Redis 8 says of a directive that it does not know, once all modules had their turn."""
    told = re.search(r"Unresolved Configuration\(s\) Detected:.*?>>> '\s*([\w-]+)", died.log, re.S)
    if told is None or died.limit:
        return None
    directive = told[1].lower()
    number = next((i for i, line in enumerate(lines, 1) if line.split()[:1] == [told[1]]), None)
    newer, version = bool(_NEWER.match(directive)), re.search(r"Redis version=([\d.]+)", died.log)
    server = f"Redis {version[1]}" if version else "Redis"
    return RedisStart(name, server, not newer, newer, number, directive, "Bad directive")


def _refusal(name: str, died: ServerDied) -> RedisStart:
    fatal = re.search(
        r"FATAL CONFIG FILE ERROR \(([^)]*)\) \*\*\*\s+Reading the configuration file, at line (\d+)\s+"
        r">>> '\s*([\w-]*)[^\n]*\n([^\n]*)",
        died.log,
    )
    if fatal is None or died.limit:
        return RedisStart(name, untested=f"{name} was not tried to the end: {died}")
    server, line, directive, complaint = fatal.groups()
    server = server.replace("Version", "Valkey")
    newer = "Bad directive" in complaint and bool(_NEWER.match(directive))
    # Redis' complaint is a fixed text for all but a few directives; quoted parts could be values.
    complaint = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", complaint.strip())[:200]
    return RedisStart(name, server, not newer, newer, int(line), directive.lower(), complaint)
