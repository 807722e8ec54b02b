"""Restore a Redis backup into a sandbox so that nothing is hidden, and read every key back.

An RDB is loaded with `appendonly no` (else the server starts empty), an AOF with `aof-load-truncated no`
(else a cut tail is dropped in silence), payloads are sanitised (else a damaged one kills the server when
it is read), and nothing is evicted. The server works on a copy.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..component import DrillContext, Inspection, Outcome
from ..errors import SandboxError
from ..model import Measured, SandboxInfo, Stage
from ..sandbox import RedisRequest, Server, ServerDied, redis_sandbox
from .facts import RedisFacts, RedisSubject
from .layout import place
from .live import LiveFacts, read_all
from .opinion import ask
from .rehearse import needs, rehearse
from .spool import Spool
from .wire import Address, ServerGone, Wire

DATABASES: Final = 1024  # more than anyone uses: how many a target must have is a check's business
_TOO_OLD: Final = "it is too old for this RDB version"
_FORM: Final = "it does not know a form that the file uses"
_LACKS: Final = (  # the sandbox lacks something: nothing is said about the backup
    (r"Can't handle RDB format version", _TOO_OLD),
    (r"module data I can't load|no matching module|requires? module", "it lacks a module the data needs"),
    (r"Can't handle RDB|Unknown RDB", _FORM),
    (r"Out [Oo]f [Mm]emory allocating|Cannot allocate memory", "it ran out of memory"),
    (r"No space left", "its disk is full"),
    (r"nknown command '[A-Za-z]{2,}\.[A-Za-z.]{2,}'", "it lacks a module whose commands the AOF holds"),
    (r"Engine .* not found|Failed.*load.*function engine", "it lacks a function engine the data needs"),
)
_REASONS: Final = (
    (r"Wrong RDB checksum", "the RDB's checksum does not hold"),
    (r"Unexpected end of file|Short read|unexpected EOF", "the file ends too early"),
    (r"Wrong signature", "the file does not begin as an RDB does"),
    (r"Bad file format reading the append only file", "the append-only file is damaged"),
    (r"[Tt]runcat", "the append-only file is cut"),
    (r"manifest|doesn't exist", "the AOF's manifest and its files do not fit together"),
    (r"nknown command", "the append-only file holds a command that servers do not know"),
    (r"[Ii]ntegrity check failed|sanitiz|[Cc]orrupt", "a value is damaged inside"),
)
_SANITISE: Final = ("sanitize-dump-payload", "yes")


@contextlib.contextmanager
def restore(inspection: Inspection, ctx: DrillContext) -> Iterator[RedisSubject]:
    """The backup in a running server, with all its keys read back, until the block is left.

    When a fitting server refuses the data, the subject says so (`refused`) and has no server. Raises
    SandboxError when this machine has no server that could load it.
    """
    facts: RedisFacts = inspection.facts
    subject = make_subject(inspection, ctx)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        request = _request(facts, ctx.scratch)
        subject.opinion = ask(facts, request, ctx)
        stack.callback(subject.opinion.stop)
        server = _start(request, facts, ctx, stack)
        if isinstance(server, str):
            subject.refused = server
            if facts.aof and (facts.aof.damage or facts.aof.open_transaction):
                _rehearse(subject, ctx)  # a server that is told to be less strict may start on it
            yield subject
            return
        subject.server = server
        address = _address(server)
        wire = subject.wire = stack.enter_context(Wire(address))
        try:
            wire.wait_loaded(ctx.deadline)
            subject.stages.append(Stage("restore", round(time.perf_counter() - began, 4)))
            subject.load_notes = _load_notes(server.log())
            _read_back(subject, wire, ctx)
        except ServerGone as gone:
            subject.died = _why_died(server, str(gone))
        _rehearse(subject, ctx)
        yield subject


def _rehearse(subject: RedisSubject, ctx: DrillContext) -> None:
    conf = ctx.settings.redis.redis_conf
    if conf is None:
        return
    began = time.perf_counter()
    try:
        subject.rehearsed = rehearse(conf, subject.facts, subject.spool, ctx)
    except SandboxError as lack:
        subject.not_rehearsed = lack.what
    except ServerGone as gone:
        subject.not_rehearsed = str(gone)
    subject.stages.append(Stage("rehearsal", round(time.perf_counter() - began, 4)))


def make_subject(inspection: Inspection, ctx: DrillContext) -> RedisSubject:
    """The subject without a server, for the static checks."""
    return RedisSubject(
        inspection.artifact,
        ctx.settings,
        inspection.facts,
        ctx.scratch,
        inspection.sha256,
        inspection.source_version,
        last_good=ctx.last_good,
    )


def outcome(subject: RedisSubject) -> Outcome:
    """What is known of the drill; asked again after teardown for its proof."""
    server, live, facts = subject.server, subject.live, subject.facts
    keys = sum(live.keys.values()) if live else None
    unproven = []
    # With a manifest, what the server made of an AOF is compared with the source key by key.
    compared = facts.manifest is not None and bool(facts.manifest.facts.get("digests", True))
    if facts.manifest is None:
        unproven.append("no manifest: the backup was not compared with its source")
        if facts.layout.aof:
            unproven.append("an AOF that was cut between two commands looks whole: only a manifest tells")
    if facts.layout.aof and facts.aof and facts.aof.touched is None and not compared:
        unproven.append(
            "keys written by the AOF were not compared with the file: its commands may touch any key"
        )
    elif facts.layout.aof and facts.aof and facts.aof.touched and not compared:
        unproven.append(
            f"{len(facts.aof.touched)} keys written by the AOF's commands were not compared with the file"
        )
    rdb = facts.walk.known() if facts.walk else None
    if rdb and rdb.modules:
        unproven.append(
            f"{sum(rdb.modules.values())} keys of module types: no server told what they hold, since only "
            "their module can read them"
        )
    measured = Measured(
        rto_s=sum(s.seconds for s in subject.stages if s.name == "restore") or None, keys=keys
    )
    known: dict[str, object] = {}
    if live:
        known = {"keys_per_database": live.keys, "expiring_per_database": live.expires, "types": live.types}
        known["libraries"] = sorted(live.libraries or ())
        known.update({f"queue {name}": states for name, states in subject.queues.items()})
    info = server.info if server else SandboxInfo("none")
    return Outcome(
        info,
        tuple(subject.stages),
        measured,
        tuple(unproven),
        server.teardown() if server and not server.alive() else None,
        {k: {str(n): v for n, v in d.items()} if isinstance(d, dict) else d for k, d in known.items()},
    )


def _address(server: Server) -> Address:
    user = server.user if server.user != "default" else None
    return Address(server.unix_socket, server.host, server.port, user, server.password)


def _request(facts: RedisFacts, scratch: Path) -> RedisRequest:
    """The server and the data folder that this backup needs."""
    data = scratch / "data"
    data.mkdir()
    found, (version, valkey) = facts.layout, needs(facts)
    options = [("databases", str(DATABASES)), _SANITISE, ("maxmemory", "0"), ("save", "")]
    if found.aof:
        options += [("appendonly", "yes"), ("aof-load-truncated", "no"), ("auto-aof-rewrite-percentage", "0")]
        if found.aof.single:
            place(found.aof.parts[0], data / "appendonly.aof")
            options += [("appendfilename", "appendonly.aof")]
        else:
            folder = data / "appendonlydir"
            folder.mkdir()
            base = (found.aof.base,) if found.aof.base else ()
            manifest = found.aof.folder / f"{found.aof.name}.manifest"
            for part in dict.fromkeys((manifest, *base, *found.aof.parts)):
                place(part, folder / part.name)
            options += [("appendfilename", found.aof.name), ("appenddirname", folder.name)]
    elif found.rdb:
        place(found.rdb, data / "dump.rdb")
        options += [("appendonly", "no"), ("dbfilename", "dump.rdb")]
    return RedisRequest(version, valkey_only=valkey, data=data, options=tuple(options))


def _start(
    request: RedisRequest, facts: RedisFacts, ctx: DrillContext, stack: contextlib.ExitStack
) -> Server | str:
    """A server with the data, or in plain words why it would not load it."""
    try:
        return stack.enter_context(redis_sandbox(request, ctx.settings.sandbox, deadline=ctx.deadline))
    except ServerDied as died:
        if died.limit:
            raise
        again = _otherwise(request, facts, died.log)
        return _start(again, facts, ctx, stack) if again else _refusal(died, facts)


def _otherwise(request: RedisRequest, facts: RedisFacts, log: str) -> RedisRequest | None:
    """The same request as the server would have it, when its own settings were what it stumbled over."""
    options = dict(request.options)
    if re.search(r"Bad directive|FATAL CONFIG FILE ERROR", log) and _SANITISE[0] in options:
        del options[_SANITISE[0]]  # came with 6.2
    elif "configured to handle more than" in log and (rdb := facts.rdb()):
        highest = max(rdb.keys, default=0)
        if not DATABASES <= highest < 1 << 20 or int(options["databases"]) > highest:
            return None
        options["databases"] = str(highest + 1)
    elif facts.layout.aof and "nknown command" in log and not _wrote_it(log, facts):
        # Commands state no version: a newer server may know what the oldest one does not.
        valkey = facts.writer()[0] == "valkey"
        newer = replace(request, valkey_only=valkey, rdb_version=request.rdb_version if valkey else 12)
        return None if newer == request else newer
    else:
        return None
    return replace(request, options=tuple(options.items()))


def _refusal(died: ServerDied, facts: RedisFacts) -> str:
    for pattern, lack in _LACKS:
        if re.search(pattern, died.log):
            if lack in (_TOO_OLD, _FORM) and _wrote_it(died.log, facts):
                return "even the version that wrote it does not know what it holds"
            raise SandboxError(
                f"the server found here cannot load this backup: {lack}",
                remedy="install the source's server and name it with --redis-bin, or use --sandbox container",
            ) from died
    for pattern, reason in _REASONS:
        if re.search(pattern, died.log):
            return reason
    return f"the server ended while loading (exit code {died.died_with})"


def _wrote_it(log: str, facts: RedisFacts) -> bool:
    """Whether the server that refuses is of the version that says it wrote the file, or a later one."""
    served = re.search(r"\b(Redis|Valkey) version=(\d+)\.(\d+)", log)
    vendor, numbers = facts.writer()
    if served is None or served[1].lower() != vendor:
        return False
    return len(numbers) == 2 and (int(served[2]), int(served[3])) >= numbers


def _why_died(server: Server, what: str) -> str:
    if server.alive():
        return what
    crashed = re.search(r"crashed by signal|ASSERTION FAILED|Guru Meditation", server.log())
    return "the server crashed on a value" if crashed else "the server ended"


def _load_notes(log: str) -> tuple[str, ...]:
    """What the server did to the data while loading, in plain words; log lines may quote data."""
    notes = []
    if re.search(r"[Rr]evert incomplete MULTI", log):
        notes.append("undid an incomplete transaction")
    if re.search(r"[Tt]runcating the AOF|AOF loaded anyway", log):
        notes.append("dropped the end of the append-only file")
    for match in re.finditer(r"empty keys skipped: (\d+)", log):
        if int(match[1]):
            notes.append(f"skipped {match[1]} empty keys")
    return tuple(dict.fromkeys(notes))


def _read_back(subject: RedisSubject, wire: Wire, ctx: DrillContext) -> LiveFacts:
    began = time.perf_counter()
    spool = Spool(ctx.scratch)
    progress: Callable[[int, int], None] = lambda done, total: ctx.progress("read back", done, total)  # noqa: E731
    live = read_all(wire, subject.facts.digester, spool, deadline=ctx.deadline, progress=progress)
    subject.live, subject.spool, subject.info = live, spool, wire.info()
    subject.stages.append(Stage("read back", round(time.perf_counter() - began, 4)))
    return live
