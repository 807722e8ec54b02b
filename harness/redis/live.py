"""Reading every key of a live server back, as the digests that the file's walker makes."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Final

import hiredis

from .digest import MODULE, NEVER, NO_DIGEST, TYPES, Digester, Group, Value, is_canary
from .live_old import entry_id, exact_expiry, old_stream, pairs
from .rdb import library_name
from .rdb_values import Damaged, Short, length, module_parts
from .spool import Spool
from .wire import Refused, Wire, pack

_BATCH_BYTES: Final = 8 << 20
_READ: Final = {
    b"string": b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n",
    b"hash": b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n",
    b"set": b"*2\r\n$8\r\nSMEMBERS\r\n$%d\r\n%b\r\n",
    b"list": b"*4\r\n$6\r\nLRANGE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\n-1\r\n",
    b"zset": b"*5\r\n$6\r\nZRANGE\r\n$%d\r\n%b\r\n$1\r\n0\r\n$2\r\n-1\r\n$10\r\nWITHSCORES\r\n",
    b"stream": b"*6\r\n$5\r\nXINFO\r\n$6\r\nSTREAM\r\n$%d\r\n%b\r\n$4\r\nFULL\r\n$5\r\nCOUNT\r\n$1\r\n0\r\n",
}
# Others (TopK-TYPE, vectorset, graphdata) arrange themselves anew when they are loaded.
_DUMPED: Final = frozenset(b"ReJSON-RL MBbloom-- MBbloomCF CMSk-TYPE TSDB-TYPE TDIS-TYPE".split())
_CHANGED: Final = r"^WRONGTYPE|no such key"  # the key was replaced or removed since its type was asked
_TYPE: Final = b"*2\r\n$4\r\nTYPE\r\n$%d\r\n%b\r\n"
_EXPIRE: Final = b"*2\r\n$11\r\nPEXPIRETIME\r\n$%d\r\n%b\r\n"
_PTTL: Final = b"*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n"


@dataclass
class LiveFacts:
    """What a server holds besides its keys' digests; counts are of keys that were read."""

    keys: dict[int, int] = field(default_factory=dict)
    expires: dict[int, int] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    libraries: dict[str, str] | None = None  # None: this server has no functions, or does not show them
    unreadable: int = 0  # keys whose value the server refused to give, though they exist
    ended_ms: int = 0  # the server's clock when reading ended


def server_version(info: dict[str, str]) -> tuple[str, tuple[int, ...]]:
    """("redis" or "valkey", version) as INFO gives it; Valkey also shows a Redis version for old clients."""
    vendor = "valkey" if "valkey_version" in info else "redis"
    text = info.get(f"{vendor}_version", "0")
    return vendor, tuple(int(n) for n in re.findall(r"\d+", text)[:3])


def keyspace(info: dict[str, str]) -> dict[int, dict[str, int]]:
    """Database -> figures (keys, expires, subexpiry ...) from INFO keyspace."""
    made: dict[int, dict[str, int]] = {}
    for name, text in info.items():
        if re.fullmatch(r"db\d+", name):
            pairs = (p.split("=", 1) for p in text.split(",") if "=" in p)
            made[int(name[2:])] = {k: int(v) for k, v in pairs if v.isdigit()}
    return made


def read_all(
    wire: Wire,
    digester: Digester,
    spool: Spool,
    *,
    deadline: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
    values: bool = True,
) -> LiveFacts:
    """Read every key of every database into `spool`. Keys that expire meanwhile, and our own, are left out.

    Without `values` they have name, type and expiry only. Raises ServerGone when the server dies or answers
    no more, TimeoutError past `deadline` (`time.monotonic()` seconds).
    """
    info = wire.info()
    if not info:  # without it nothing tells which databases there are: an empty answer would look like none
        raise Refused("INFO", "NOPERM")
    spaces = keyspace(info)
    total = sum(figures.get("keys", 0) for figures in spaces.values())
    facts = LiveFacts()
    reader = _Reader(wire, digester, facts, server_version(info)[1])
    take = spool.sink(digester)
    done = 0
    for db, figures in sorted(spaces.items()):
        wire.call("SELECT", db)
        volatile = figures.get("subexpiry", 0) or figures.get("keys_with_volatile_items", 0)
        read = expiring = 0
        reader.select(bool(volatile), values)
        for key, value, expiry in reader.database():
            take(db, key, value, expiry)
            read += 1
            expiring += expiry != NEVER
            if read % 2048 == 0:
                progress(done + read, total)
                if time.monotonic() > deadline:
                    raise TimeoutError("reading the server back did not finish in time")
        facts.keys[db], facts.expires[db] = read, expiring
        done += read
    wire.call("SELECT", wire.address.database)
    facts.types = {kind.decode(): count for kind, count in reader.counts.items()}
    facts.libraries = functions(wire, digester)
    seconds, micros = wire.call("TIME")
    facts.ended_ms = int(seconds) * 1000 + int(micros) // 1000
    return facts


def functions(wire: Wire, digester: Digester) -> dict[str, str] | None:
    """Function libraries -> digest of their source; None when the server has no such thing."""
    try:
        listed = wire.call("FUNCTION", "LIST", "WITHCODE")
    except Refused:
        return None
    made = {}
    for library in listed:
        code = dict(zip(library[::2], library[1::2], strict=False)).get(b"library_code", b"")
        made[library_name(code)] = digester.library(code)
    return made


class _Reader:
    """Reads one database, always asking for the next batch before the last one's values are worked on.

    Three batches are under way: the values of one, types and expiry of the next, names of the one after.
    Batches shrink when values are large, so that the server's output buffer stays small.
    """

    def __init__(self, wire: Wire, digester: Digester, facts: LiveFacts, version: tuple[int, ...]) -> None:
        self.wire, self.digester, self.facts = wire, digester, facts
        self.modern = version >= (7, 0)  # has PEXPIRETIME
        self.asked = _READ if version >= (6, 0) else {k: c for k, c in _READ.items() if k != b"stream"}
        self.size = 100
        self.counts: Counter[bytes] = Counter()  # keys read, per type
        self.select(volatile=False, values=True)

    def select(self, volatile: bool, values: bool) -> None:
        """What the next database is: hashes whose fields expire (`volatile`), values wanted or not."""
        self.volatile, self.values = volatile, values
        # When a hash with expiring fields ends stands in its fields: it is read at any rate.
        self.simple = {k: c for k, c in self.asked.items() if values or (volatile and k == b"hash")}

    def database(self) -> Iterator[tuple[bytes, Value, int]]:
        """(key, value, expiry) of every key that still exists when it is read."""
        cursor, names = self.wire.call("SCAN", 0, "COUNT", self.size)
        typed: list[tuple[bytes, bytes, int]] = []
        more = True
        while more or names or typed:
            more = cursor != b"0"
            names = [k for k in names if not is_canary(k)]
            plain = [(k, t, e) for k, t, e in typed if t in self.simple]
            commands = [_READ[t] % (len(k), k) for k, t, _ in plain]
            expire = _EXPIRE if self.modern else _PTTL
            commands += [_TYPE % (len(k), k) for k in names]
            commands += [expire % (len(k), k) for k in names]
            if more:
                commands.append(pack("SCAN", cursor, "COUNT", self.size))
            received = self.wire.received
            replies = self.wire.exchange(b"".join(commands), len(commands))
            hashes: list[tuple[bytes, int, dict[bytes, bytes]]] = []
            for key, kind, expiry in plain:
                reply = next(replies)
                if isinstance(reply, hiredis.ReplyError):
                    self.facts.unreadable += not re.search(_CHANGED, str(reply))
                elif kind == b"hash" and self.volatile:
                    if reply:
                        hashes.append((key, expiry, dict(zip(reply[::2], reply[1::2], strict=True))))
                elif reply is not None and (reply or kind == b"string"):  # else it expired just now
                    self.counts[kind] += 1
                    yield key, self.value(kind, reply), expiry
            self.adapt(self.wire.received - received)
            others = [(k, t, e) for k, t, e in typed if t not in self.simple]
            types = [next(replies) for _ in names]
            left = [next(replies) for _ in names]
            listed, names = names, []
            if more:
                cursor, names = _granted("SCAN", next(replies))
            # Nothing is under way any more: single questions may be asked again.
            readable = [not isinstance(r, hiredis.ReplyError) for r in types]
            self.facts.unreadable += readable.count(False)
            listed, types, left = (list(compress(x, readable)) for x in (listed, types, left))
            typed = [
                (k, t, e)
                for k, t, e in zip(listed, types, self.expiries(listed, left), strict=True)
                if t != b"none" and e is not None
            ]
            for key, kind, expiry in others:
                known = kind in _READ
                value: Value | None
                if not self.values:
                    value = Value(TYPES.index(kind.decode()) if known else MODULE, NO_DIGEST)
                elif known:
                    value = old_stream(self.wire, self.digester, key)
                else:
                    value = self.digester.module(kind, self.dumped(key, kind))
                if value is not None:
                    self.counts[kind if known else b"module"] += 1
                    yield key, value, expiry
            for key, expiry, held in hashes:
                self.counts[b"hash"] += 1
                yield key, self.digester.hash(held, self.field_expiry(key, list(held))), expiry

    def dumped(self, key: bytes, kind: bytes) -> list[bytes]:
        """What a module writes of a value, where that is known to be the same from save to save."""
        if kind not in _DUMPED:
            return []
        with contextlib.suppress(Refused, Damaged, Short, IndexError, TypeError):
            payload = self.wire.call("DUMP", key)
            _, start = length(payload, 1)
            return module_parts(payload, start)[0]
        return []

    def adapt(self, received: int) -> None:
        if received > _BATCH_BYTES:
            self.size = max(10, self.size // 4)
        elif received < _BATCH_BYTES // 8:
            self.size = min(1000, self.size * 2)

    def value(self, kind: bytes, reply: Any) -> Value:
        digester = self.digester
        if kind == b"string":
            return digester.string(reply)
        if kind == b"hash":
            return digester.hash(dict(zip(reply[::2], reply[1::2], strict=True)), {})
        if kind == b"set":
            return digester.set(reply)
        if kind == b"list":
            return digester.list(reply)
        if kind == b"zset":
            return digester.zset((reply[i], float(reply[i + 1])) for i in range(0, len(reply), 2))
        return _stream(reply, digester)

    def expiries(self, keys: Sequence[bytes], left: Sequence[int]) -> list[int | None]:
        """Absolute expiry in ms, NEVER without one, None when the key is gone."""
        if self.modern:
            return [None if e == -2 else e for e in left]
        return [
            exact_expiry(self.wire, k) if ttl >= 0 else (None if ttl == -2 else NEVER)
            for k, ttl in zip(keys, left, strict=True)
        ]

    def field_expiry(self, key: bytes, fields: list[bytes]) -> dict[bytes, int]:
        times = self.wire.call("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
        return {f: t for f, t in zip(fields, times, strict=True) if t is not None and t >= 0}


def _granted(command: str, reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        raise Refused(command, str(reply))
    return reply


def _stream(reply: Sequence[Any], digester: Digester) -> Value:
    facts = pairs(reply)
    groups = []
    for flat in facts[b"groups"]:
        group = pairs(flat)
        listed = group[b"pel"] if b"pel" in group else group[b"pending"]
        pending = [(entry_id(p[0]), p[1], int(p[2]), int(p[3])) for p in listed]
        consumers = [pairs(c)[b"name"] for c in group[b"consumers"]]
        groups.append(Group(group[b"name"], entry_id(group[b"last-delivered-id"]), consumers, pending))
    entries = [(entry_id(entry), fields) for entry, fields in facts[b"entries"]]
    return digester.stream(entries, entry_id(facts[b"last-generated-id"]), groups)
