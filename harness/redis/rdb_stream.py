"""Streams inside an RDB file, forms 1 to 3: entries, last id, consumer groups with pending entries."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from .digest import Digester, Group, Value
from .rdb_values import Damaged, Short, count, length, listpack, milliseconds, string

_DELETED: Final = 1
_SAME_FIELDS: Final = 2
_Id = tuple[int, int]


def stream(buf: bytes, pos: int, form: int, digester: Digester) -> tuple[Value, int]:
    """Read a stream of form 1 (5.0), 2 (7.0) or 3 (7.2)."""
    nodes, pos = count(buf, pos)
    entries: list[tuple[_Id, list[bytes]]] = []
    for _ in range(nodes):
        key, pos = string(buf, pos)
        blob, pos = string(buf, pos)
        if len(key) != 16:
            raise Damaged("a stream's node has no id")
        entries += _entries(_id(key), listpack(blob))
    stated, pos = length(buf, pos)
    if stated != len(entries):
        raise Damaged("a stream states another number of entries than it has")
    last, pos = _id_pair(buf, pos)
    if form >= 2:  # first id, highest deleted id, entries ever added: servers recompute or drop these
        for _ in range(5):
            _, pos = length(buf, pos)
    if any(a[0] >= b[0] for a, b in pairwise(entries)):
        raise Damaged("a stream's entries are out of order")
    size, pos = count(buf, pos)
    groups: list[Group] = []
    for _ in range(size):
        group, pos = _group(buf, pos, form)
        groups.append(group)
    return digester.stream(entries, last, groups), pos


def _group(buf: bytes, pos: int, form: int) -> tuple[Group, int]:
    name, pos = string(buf, pos)
    last, pos = _id_pair(buf, pos)
    if form >= 2:  # entries read: only an estimate after a load
        _, pos = length(buf, pos)
    size, pos = count(buf, pos)
    delivered: dict[bytes, tuple[int, int]] = {}
    for _ in range(size):
        raw, pos = _raw_id(buf, pos)
        when, pos = milliseconds(buf, pos)
        times, pos = length(buf, pos)
        delivered[raw] = (when, times)
    pending: list[tuple[_Id, bytes, int, int]] = []
    consumers: list[bytes] = []
    size, pos = count(buf, pos)
    for _ in range(size):
        consumer, pos = string(buf, pos)
        consumers.append(consumer)
        for _ in range(2 if form >= 3 else 1):  # last seen, last active: not part of what must survive
            _, pos = milliseconds(buf, pos)
        owned, pos = length(buf, pos)
        for _ in range(owned):
            raw, pos = _raw_id(buf, pos)
            if raw not in delivered:
                raise Damaged("a consumer owns an entry that its group does not know")
            pending.append((_id(raw), consumer, *delivered[raw]))
    if len(pending) != len(delivered):
        raise Damaged("a group's pending entries do not match its consumers'")
    return Group(name, last, consumers, pending), pos


def _entries(base: _Id, items: list[bytes]) -> list[tuple[_Id, list[bytes]]]:
    """Entries of one node. The first is a template: valid and deleted counts, field names, 0."""
    found: list[tuple[_Id, list[bytes]]] = []
    try:
        valid, deleted, width = int(items[0]), int(items[1]), int(items[2])
        if min(valid, deleted, width) < 0:  # else what follows could go in circles
            raise IndexError
        names = items[3 : 3 + width]
        at = 3 + width + 1
        for _ in range(valid + deleted):
            start, flags = at, int(items[at])
            entry_id = (base[0] + int(items[at + 1]), base[1] + int(items[at + 2]))
            at += 3
            if flags & _SAME_FIELDS:
                fields = [part for pair in zip(names, items[at : at + width], strict=True) for part in pair]
                at += width
            else:
                own = int(items[at])
                fields = items[at + 1 : at + 1 + 2 * own]
                if len(fields) != 2 * own:
                    raise IndexError
                at += 1 + 2 * own
            if int(items[at]) != at - start:  # the number of parts, for reading backwards
                raise IndexError
            at += 1
            if not flags & _DELETED:
                found.append((entry_id, fields))
    except (IndexError, ValueError):
        raise Damaged("a stream's node is inconsistent") from None
    if len(found) != valid or at != len(items):
        raise Damaged("a stream's node states another number of entries than it has")
    return found


def _id(raw: bytes) -> _Id:
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")


def _raw_id(buf: bytes, pos: int) -> tuple[bytes, int]:
    if pos + 16 > len(buf):
        raise Short(pos + 16)
    return buf[pos : pos + 16], pos + 16


def _id_pair(buf: bytes, pos: int) -> tuple[_Id, int]:
    high, pos = length(buf, pos)
    low, pos = length(buf, pos)
    return (high, low), pos
