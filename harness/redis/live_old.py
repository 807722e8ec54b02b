"""What older servers tell only in relative terms: expiry before 7.0, streams as a whole before 6.0.

A time that is left becomes a moment by adding the server's clock, asked before and after: exact when the
clock stood still meanwhile, which within a few tries it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .digest import NEVER, Digester, Group, Value
from .wire import Wire

_TRIES: Final = 50
_PAGE: Final = 1000


def pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    """Name, value, name, value ... as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def entry_id(text: bytes) -> tuple[int, int]:
    """`1700000000000-1` as two numbers."""
    high, _, low = text.partition(b"-")
    return int(high), int(low)


def exact_expiry(wire: Wire, key: bytes) -> int | None:
    """Absolute expiry in ms, NEVER without one, None when the key is gone."""
    best = None
    for _ in range(_TRIES):
        before, ttl, after = wire.pipeline([("TIME",), ("PTTL", key), ("TIME",)])
        if ttl < 0:
            return None if ttl == -2 else NEVER
        best = _ms(before) + int(ttl)
        if _ms(before) == _ms(after):
            return best
    return best


def old_stream(wire: Wire, digester: Digester, key: bytes) -> Value | None:
    """A stream read in parts; None when it is gone. Raises Refused as the server does."""
    if wire.call("TYPE", key) != b"stream":
        return None
    facts = pairs(wire.call("XINFO", "STREAM", key))
    entries = [(entry_id(name), fields) for name, fields in wire.call("XRANGE", key, "-", "+")]
    groups = []
    for flat in wire.call("XINFO", "GROUPS", key):
        group = pairs(flat)
        name = group[b"name"]
        consumers = [pairs(c)[b"name"] for c in wire.call("XINFO", "CONSUMERS", key, name)]
        pending = _pending(wire, key, name, int(group[b"pending"]))
        groups.append(Group(name, entry_id(group[b"last-delivered-id"]), consumers, pending))
    return digester.stream(entries, entry_id(facts[b"last-generated-id"]), groups)


def _pending(
    wire: Wire, key: bytes, group: bytes, count: int
) -> list[tuple[tuple[int, int], bytes, int, int]]:
    listed: list[tuple[tuple[int, int], bytes, int, int]] = []
    start = b"-"
    while len(listed) < count:
        page = _page(wire, key, group, start)
        if not page:
            break
        listed += page
        high, low = page[-1][0]
        start = b"%d-%d" % (high, low + 1)
    return listed


def _page(
    wire: Wire, key: bytes, group: bytes, start: bytes
) -> list[tuple[tuple[int, int], bytes, int, int]]:
    page: list[tuple[tuple[int, int], bytes, int, int]] = []
    for _ in range(_TRIES):
        question = ("XPENDING", key, group, start, "+", _PAGE)
        before, rows, after = wire.pipeline([("TIME",), question, ("TIME",)])
        page = [(entry_id(r[0]), r[1], _ms(before) - int(r[2]), int(r[3])) for r in rows]
        if _ms(before) == _ms(after):
            break
    return page


def _ms(time: list[bytes]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000
