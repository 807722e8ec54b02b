"""Every type of value an RDB file can hold, as canonical digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import rdb_values as read
from .digest import NEVER, Digester, Value
from .rdb_stream import stream
from .rdb_values import Damaged, Unknown

if TYPE_CHECKING:
    from .rdb import RdbFacts

# Smallest RDB version that has a type (Redis numbering); types below 9 are as old as the format.
SINCE: Final = {14: 7, 15: 9, 16: 10, 17: 10, 18: 10, 19: 10, 20: 11, 21: 11, 22: 12, 23: 12, 24: 12, 25: 12}


def value(kind: int, buf: bytes, pos: int, facts: RdbFacts, digester: Digester) -> tuple[Value, int]:
    """The value of type `kind` at `pos`, and the position behind it."""
    since = SINCE.get(kind, 1)
    if since > facts.needs_version:
        facts.needs_version = since
    if kind in (1, 2, 4):
        count, pos = read.count(buf, pos)
        items: list[bytes] = []
        for _ in range(count * 2 if kind == 4 else count):
            item, pos = read.string(buf, pos)
            items.append(item)
        if kind == 4:
            return digester.hash(read.pairs(items), {}), pos
        return digester.list(items) if kind == 1 else digester.set(read.members(items)), pos
    if kind in (3, 5):
        count, pos = read.count(buf, pos)
        scored = []
        for _ in range(count):
            item, pos = read.string(buf, pos)
            score, pos = (read.text_score if kind == 3 else read.binary_score)(buf, pos)
            scored.append((item, score))
        return digester.zset(read.unique(scored)), pos
    if kind in (14, 18):
        return _quicklist(kind, buf, pos, digester)
    if kind in (15, 19, 21):
        return stream(buf, pos, {15: 1, 19: 2, 21: 3}[kind], digester)
    if kind == 7:
        number, pos = read.length(buf, pos)
        name, _ = read.module_name(number)
        parts, pos = read.module_parts(buf, pos)
        facts.modules[name] = facts.modules.get(name, 0) + 1
        return digester.module(name.encode(), parts), pos
    if kind in (22, 24):
        return _field_expiry(kind, buf, pos, facts, digester)
    if kind == 6 and facts.version > 8:
        raise Damaged("holds a module value in a form that servers gave up before this version")
    if kind == 6:
        raise Unknown("holds a module value in the oldest form, which cannot be skipped")
    if kind == 25:
        _, pos = read.milliseconds(buf, pos)
    blob, pos = read.string(buf, pos)
    return _compact(kind, blob, digester), pos


def _compact(kind: int, blob: bytes, digester: Digester) -> Value:
    if kind == 9:
        return digester.hash(read.zipmap(blob), {})
    if kind == 10:
        return digester.list(read.ziplist(blob))
    if kind == 11:
        return digester.set(read.intset(blob))
    if kind in (12, 17):
        return digester.zset(read.scored((read.ziplist if kind == 12 else read.listpack)(blob)))
    if kind in (13, 16):
        return digester.hash(read.pairs((read.ziplist if kind == 13 else read.listpack)(blob)), {})
    items = read.listpack(blob)
    if kind == 20:
        return digester.set(read.members(items))
    if len(items) % 3:
        raise Damaged("a hash with field expiry is not made of triples")
    try:
        expiry = {f: int(t) for f, t in zip(items[::3], items[2::3], strict=True) if t != b"0"}
    except ValueError:
        raise Damaged("a hash field expires at a time that is no number") from None
    fields = read.members(items[::3], "a hash with field expiry")
    return digester.hash(dict(zip(fields, items[1::3], strict=True)), expiry)


def _quicklist(kind: int, buf: bytes, pos: int, digester: Digester) -> tuple[Value, int]:
    count, pos = read.count(buf, pos)
    items: list[bytes] = []
    for _ in range(count):
        packed = 2
        if kind == 18:
            packed, pos = read.length(buf, pos)
            if packed not in (1, 2):
                raise Damaged("a list's node is of a kind that does not exist")
        blob, pos = read.string(buf, pos)
        if packed == 1:
            items.append(blob)
        else:
            items += read.ziplist(blob) if kind == 14 else read.listpack(blob)
    return digester.list(items), pos


def _field_expiry(kind: int, buf: bytes, pos: int, facts: RdbFacts, digester: Digester) -> tuple[Value, int]:
    """Hashes whose fields may expire: Redis 7.4 (24; 22 before its release), Valkey 9 (22)."""
    valkey = facts.vendor == "valkey"
    if valkey and kind == 24:
        raise Damaged("holds a Redis 7.4 hash in a Valkey file")
    earliest = 0
    if kind == 24:
        earliest, pos = read.milliseconds(buf, pos)
    count, pos = read.count(buf, pos)
    pairs: dict[bytes, bytes] = {}
    expiry: dict[bytes, int] = {}
    for _ in range(count):
        when = 0
        if not valkey:
            when, pos = read.length(buf, pos)
        name, pos = read.string(buf, pos)
        pairs[name], pos = read.string(buf, pos)
        if valkey:
            when, pos = read.milliseconds(buf, pos)
            if when != NEVER:
                expiry[name] = when
        elif when:
            expiry[name] = when + earliest - 1 if kind == 24 else when
    if len(pairs) != count:
        raise Damaged("a hash holds a field twice")
    return digester.hash(pairs, expiry), pos
