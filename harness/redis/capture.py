"""The manifest of a live source, or of the very RDB that a backup saved: what a restored copy must hold.

It holds no key names and no values: names and values as digests keyed with the manifest's own salt, types,
expiry, and the kind of key (`session:*`).
"""

from __future__ import annotations

import base64
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..errors import ArtifactError, ConfigError, ToolError
from ..manifest import Manifest
from ..redact import Secret
from . import saving
from .canary import Planted, planted, proven
from .digest import Digester, KeyClasses, columns, records
from .live import read_all, server_version
from .rdb import RdbFacts, walk
from .spool import Spool
from .wire import Refused, ServerGone, Wire, parse_url

_CONFIG: Final = (  # settings a target must have for the data to stay whole; none of them is a secret
    "databases",
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "appendfilename",
    "appenddirname",
    "dbfilename",
    "save",
    "rdbchecksum",
    "notify-keyspace-events",
    "cluster-enabled",
)
Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def capture(
    source: str | Secret | Wire,
    *,
    digests: bool = True,
    timeout_s: float = 4 * 3600.0,
    progress: Progress = _silent,
    scratch: Path | None = None,
) -> Manifest:
    """The manifest of a live source: an address (see `wire.parse_url`) or an open connection.

    The server goes on serving meanwhile: keys written during the capture may be in it or not. `scratch` is
    a folder for some 60 bytes per key. Without `digests` keys are listed with type and expiry, and what
    they hold stays unproven. Raises ConfigError when the server cannot be reached or read.
    """
    if isinstance(source, Wire):
        return _manifest(source, digests, timeout_s, progress, scratch)
    url = source.reveal() if isinstance(source, Secret) else source
    with Wire(parse_url(url)) as wire:
        return _manifest(wire, digests, timeout_s, progress, scratch)


def capture_saved(
    source: str | Secret,
    rdb: Path,
    *,
    canary: bool = True,
    digests: bool = True,
    timeout_s: float = 4 * 3600.0,
    progress: Progress = _silent,
) -> tuple[Manifest, list[str]]:
    """The manifest of the RDB that the server writes now: BGSAVE, watched to its end, then that file is read.

    `rdb` is the server's dump as seen from here; it may be copied afterwards, as long as nothing saves again.
    Raises ConfigError when the server cannot be reached, ToolError when it does not save, ArtifactError when
    the file is not what it saved.
    """
    address = replace(parse_url(source.reveal() if isinstance(source, Secret) else source), database=0)
    try:
        with Wire(address) as wire:
            began, deadline = datetime.now(UTC), time.monotonic() + timeout_s
            with planted(address, wire, wanted=canary) as bird:
                counted = saving.save(wire, deadline)
            if not rdb.is_file():
                raise ConfigError(
                    "there is no such file", where=str(rdb), remedy="name the server's own dump"
                )
            facts, read = facts_of_rdb(
                rdb, wire, canary=bird, digests=digests, timeout_s=timeout_s, progress=progress
            )
            saving.same_counts(read, counted)
            return Manifest("redis", source_facts(wire), began, facts), bird.notes()
    except ServerGone as gone:
        raise ToolError(f"the capture stopped: {gone}") from None


def _manifest(
    wire: Wire, digests: bool, timeout_s: float, progress: Progress, scratch: Path | None
) -> Manifest:
    began = datetime.now(UTC)
    facts = capture_facts(wire, digests=digests, timeout_s=timeout_s, progress=progress, scratch=scratch)
    return Manifest("redis", source_facts(wire), began, facts)


def capture_facts(
    wire: Wire,
    *,
    digests: bool = True,
    timeout_s: float = 4 * 3600.0,
    progress: Progress = _silent,
    scratch: Path | None = None,
) -> dict[str, Any]:
    """The `facts` of a manifest, read from a live server key by key."""
    salt = secrets.token_bytes(16)
    digester = Digester(salt)
    with tempfile.TemporaryDirectory(prefix="provado-capture-", dir=scratch) as folder:
        spool = Spool(Path(folder))
        deadline = time.monotonic() + timeout_s
        try:
            live = read_all(wire, digester, spool, deadline=deadline, progress=progress, values=digests)
        except Refused as refused:
            raise ConfigError(
                str(refused),
                where=wire.place,
                remedy="the user needs +@read +info +scan +time and access to all keys (~*)",
            ) from None
        except (ServerGone, TimeoutError) as gone:
            raise ConfigError(
                str(gone), where=wire.place, remedy="look at the server, and try again"
            ) from None
        if live.unreadable:
            raise ConfigError(
                f"{live.unreadable} keys cannot be read by this user",
                where=wire.place,
                remedy="give the user access to all keys (~*) and read commands",
            )
        around = {**_around(wire), "read_until_ms": live.ended_ms}
        return _pack(salt, spool, live.libraries, around, digests)


def facts_of_rdb(
    path: Path,
    wire: Wire | None = None,
    *,
    canary: Planted | None = None,
    digests: bool = True,
    timeout_s: float = 4 * 3600.0,
    progress: Progress = _silent,
) -> tuple[dict[str, Any], RdbFacts]:
    """The `facts` of a manifest from the very RDB that a backup saved, and what the RDB says of itself.

    `wire` adds what an RDB never holds: ACL users, configuration, modules; `canary` is what the file must
    hold. Raises ArtifactError when the file cannot be walked to its end, or lacks the canary.
    """
    salt = secrets.token_bytes(16)
    digester = Digester(salt)
    size = path.stat().st_size
    with (
        tempfile.TemporaryDirectory(prefix="provado-capture-") as folder,
        path.open("rb", buffering=0) as file,
    ):
        spool = Spool(Path(folder))
        canaries: dict[str, str] = {}
        rdb = walk(
            file,
            size,
            digester,
            spool.sink(digester, canaries),
            deadline=time.monotonic() + timeout_s,
            progress=lambda done: progress(done, size),
            keys_only=not digests,
        )
        rdb.canaries = canaries
        broken = rdb.damage or rdb.unknown
        if not broken and rdb.stated_crc and rdb.stated_crc != rdb.computed_crc:
            broken = "has a checksum that does not hold"
        if broken:
            raise ArtifactError(f"the RDB {broken}", where=path.name, remedy="take the backup again")
        facts = _pack(salt, spool, rdb.libraries, _around(wire) if wire else {}, digests)
        record = proven(canary, canaries, digester) if canary else None
        return {**facts, **({"canary": record} if record else {})}, rdb


def source_facts(wire: Wire) -> dict[str, Any]:
    """The manifest's `source`: which server it was."""
    info = wire.info()
    vendor, version = server_version(info)
    return {
        "vendor": vendor,
        "version": ".".join(map(str, version)),
        "place": wire.place,
        **{k: info[k] for k in ("run_id", "role", "os", "tcp_port", "master_replid") if k in info},
    }


def _around(wire: Wire) -> dict[str, Any]:
    """What stands around the keys: users, settings, modules, replication. What is forbidden is left out."""
    made: dict[str, Any] = {}
    info = wire.info()
    for name in ("master_repl_offset", "rdb_last_save_time", "used_memory", "maxmemory_policy"):
        if name in info:
            made[name] = info[name]
    try:
        made["acl_users"] = sorted(u.decode("utf-8", "replace") for u in wire.call("ACL", "USERS"))
    except Refused:
        made["acl_users"] = None
    settings: dict[str, str] = {}
    for name in _CONFIG:
        try:
            reply = wire.call("CONFIG", "GET", name)
        except Refused:
            break  # managed services forbid CONFIG altogether
        if reply:
            settings[name] = reply[1].decode("utf-8", "replace")
    made["config"] = settings or None
    try:
        listed = wire.call("MODULE", "LIST")
        made["modules"] = sorted(dict(zip(m[::2], m[1::2], strict=False))[b"name"].decode() for m in listed)
    except (Refused, KeyError):
        made["modules"] = None
    return made


def _pack(
    salt: bytes, spool: Spool, libraries: dict[str, str] | None, around: dict[str, Any], digests: bool
) -> dict[str, Any]:
    data = b"".join(spool.buckets())
    packed = {name: base64.b64encode(column).decode() for name, column in columns(data).items()}
    return {
        **around,
        "salt": salt.hex(),
        "total_keys": spool.count,
        "kinds": spool.classes.names,
        "keys": packed,
        "libraries": libraries,
        "digests": digests,
    }


def expected_keys(facts: dict[str, Any], folder: Path) -> Spool:
    """The manifest's keys as a spool in `folder`. Raises ConfigError when the manifest is damaged."""
    try:
        packed = {name: base64.b64decode(column, validate=True) for name, column in facts["keys"].items()}
        data = records(packed, int(facts["total_keys"]))
        del packed
        spool = Spool(folder, KeyClasses([str(kind) for kind in facts["kinds"]]))
        spool.add_all(data)
        return spool
    except (KeyError, ValueError, TypeError, OverflowError):
        raise ConfigError(
            "the manifest's list of keys is damaged", remedy="capture it again, or verify without it"
        ) from None
