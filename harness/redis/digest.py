"""One digest per key, the same from a file and from a live server of any version that can hold it.

It covers database, name, type, absolute expiry in ms and the value in a canonical form: sets, hashes and
sorted sets in the order of their members, scores as IEEE bytes, integers as the text a client reads.
What servers recompute on loading (LRU and LFU data, encodings, a stream's counters for lag) is left out.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

TYPES: Final = ("string", "list", "set", "zset", "hash", "stream", "module")
STRING, LIST, SET, ZSET, HASH, STREAM, MODULE = range(7)
NEVER: Final = -1
NO_DIGEST: Final = bytes(10)  # of a value that was not looked at
CANARY: Final = b"provado:canary:"  # then 16 hexadecimal digits: the names of our own keys, see `canary`
_OURS: Final = re.compile(CANARY + b"[0-9a-f]{16}")
_SCORE: Final = struct.Struct("<d")
_TIME: Final = struct.Struct("<q")


class Value(NamedTuple):
    """The canonical value of one key. `main` is the digest of the content proper; `side` that of what a
    client sees only when it asks for it: expiry of hash fields, groups, consumers and pending entries of a
    stream, or what a module wrote (empty: there is none). `field_expiry` is the earliest expiry of a hash's
    fields, ms; `death` the latest where every field has one: then the hash itself is gone."""

    type: int
    main: bytes
    side: bytes = b""
    field_expiry: int = NEVER
    death: int = NEVER


def is_canary(name: bytes) -> bool:
    """Whether a key is one of ours; whatever else begins like it belongs to the application."""
    return name.startswith(CANARY) and _OURS.fullmatch(name) is not None


class Group(NamedTuple):
    """A stream's consumer group; `pending` holds (entry id, consumer, delivery time in ms, deliveries)."""

    name: bytes
    last_id: tuple[int, int]
    consumers: Sequence[bytes]
    pending: Sequence[tuple[tuple[int, int], bytes, int, int]]


class Digester:
    """Digests keyed with a salt, so that equal values of two systems do not show as such."""

    def __init__(self, salt: bytes = b"") -> None:
        self.salt = salt
        # A copy of a keyed state costs half of keying it again.
        self._name = blake2b(digest_size=10, key=salt, person=b"name").copy
        self._string = blake2b(digest_size=10, key=salt, person=b"string").copy
        self._kinds: dict[bytes, blake2b] = {}

    def name(self, key: bytes) -> bytes:
        """Digest of a key's name (10 bytes)."""
        digest = self._name()
        digest.update(key)
        return digest.digest()

    def string(self, value: bytes) -> Value:
        """A string, a bitmap or a HyperLogLog."""
        digest = self._string()
        digest.update(value)
        return Value(STRING, digest.digest())

    def list(self, items: Iterable[bytes]) -> Value:
        """A list, in its order."""
        return Value(LIST, self._parts(b"list", items))

    def set(self, members: Iterable[bytes]) -> Value:
        """A set."""
        return Value(SET, self._parts(b"set", sorted(members)))

    def zset(self, scored: Iterable[tuple[bytes, float]]) -> Value:
        """A sorted set. Minus zero counts as zero: compact encodings cannot tell them apart."""
        parts: list[bytes] = []
        for member, score in sorted(scored):
            parts += (member, _SCORE.pack(score + 0.0))
        return Value(ZSET, self._parts(b"zset", parts))

    def hash(self, pairs: dict[bytes, bytes], expiry: dict[bytes, int]) -> Value:
        """A hash, with the absolute expiry (ms) of the fields that have one."""
        parts: list[bytes] = []
        for field in sorted(pairs):
            parts += (field, pairs[field])
        main = self._parts(b"hash", parts)
        if not expiry:
            return Value(HASH, main)
        sides: list[bytes] = []
        for field in sorted(expiry):
            sides += (field, _TIME.pack(expiry[field]))
        death = max(expiry.values()) if len(expiry) == len(pairs) else NEVER
        return Value(HASH, main, self._parts(b"fields", sides), min(expiry.values()), death)

    def stream(
        self,
        entries: Iterable[tuple[tuple[int, int], Sequence[bytes]]],
        last_id: tuple[int, int],
        groups: Iterable[Group],
    ) -> Value:
        """A stream: entries in order with their fields and values, last id; groups apart."""
        parts: list[bytes] = [b"%d-%d" % last_id]
        for entry_id, fields in entries:
            parts += (b"%d-%d %d" % (*entry_id, len(fields)), *fields)
        sides: list[bytes] = []
        for group in sorted(groups):
            sides += (group.name, b"%d-%d" % group.last_id, b"%d" % len(group.consumers))
            sides += sorted(group.consumers)
            for entry_id, consumer, delivered, count in sorted(group.pending):
                sides += (b"%d-%d" % entry_id, consumer, b"%d %d" % (delivered, count))
        side = self._parts(b"groups", sides) if sides else b""
        return Value(STREAM, self._parts(b"stream", parts), side)

    def module(self, type_name: bytes, parts: Sequence[bytes] = ()) -> Value:
        """A value only its module can read: its type's name, and what the module wrote into the file.

        Where a live server does not tell the `parts` there is no `side`, and none is compared.
        """
        side = self._parts(b"parts", parts) if parts else b""
        return Value(MODULE, self._parts(b"module", (type_name,)), side)

    def library(self, code: bytes) -> str:
        """Digest of a function library's source text."""
        return blake2b(code, digest_size=16, key=self.salt, person=b"library").hexdigest()

    def _parts(self, kind: bytes, parts: Iterable[bytes]) -> bytes:
        base = self._kinds.get(kind)
        if base is None:
            base = self._kinds[kind] = blake2b(digest_size=10, key=self.salt, person=kind)
        digest = base.copy()
        pending: list[bytes] = []
        for part in parts:
            pending += (len(part).to_bytes(6, "little"), part)
            if len(pending) >= 4096:
                digest.update(b"".join(pending))
                pending.clear()
        digest.update(b"".join(pending))
        return digest.digest()


_WORD: Final = re.compile(rb"[A-Za-z_][A-Za-z_-]{0,31}")
_QUEUE_WORDS: Final = frozenset(
    b"wait active delayed completed failed paused prioritized waiting-children id meta events repeat "
    b"stalled limiter priority pc marker stalled-check".split()
)
OTHER: Final = "(other)"


class KeyClasses:
    """Names of kinds of keys, safe to show: a key's name may hold personal data, its kind does not.

    `session:4711` and `session:abc@example.org` are both `session:*`. Only plain words between colons
    stay, the last one only where it is a queue's well-known one; the number of kinds is bounded.
    """

    def __init__(self, names: Iterable[str] = (), limit: int = 2000) -> None:
        self.names: list[str] = list(names) or [OTHER]
        self._limit = limit
        self._index = {name: n for n, name in enumerate(self.names)}
        self._cache: dict[bytes, dict[bytes, int]] = {}

    def of(self, key: bytes) -> int:
        """Index into `names` of the kind that `key` is of."""
        head, colon, tail = key.rpartition(b":")
        if tail not in _QUEUE_WORDS:
            head, tail = (head, b"") if colon else (tail, b"?")
        known = self._cache.get(tail)
        if known is None:
            known = self._cache[tail] = {}
        cached = known.get(head)
        if cached is None:
            if len(known) > 20_000:
                known.clear()
            cached = known[head] = self._find(head, tail, bool(colon))
        return cached

    def _find(self, head: bytes, tail: bytes, compound: bool) -> int:
        words = [w.decode() if _WORD.fullmatch(w) else "*" for w in head.split(b":")[:6]]
        if tail == b"":
            words.append("*")
        elif tail != b"?":
            words = [*words, tail.decode()] if compound else [tail.decode()]
        name = ":".join(words)
        if name not in self._index:
            if len(self.names) >= self._limit:
                return self._index.setdefault(OTHER, 0)
            self._index[name] = len(self.names)
            self.names.append(name)
        return self._index[name]


RECORD: Final = struct.Struct(
    "<10siB10s6sqqqH"
)  # name, db, type, main, side, expiry, field expiry, death, kind
_DENSEST: Final = 1032  # what deflate can do at most
_COLUMNS: Final = {
    "name": 10,
    "db": 4,
    "type": 1,
    "main": 10,
    "side": 6,
    "expiry": 8,
    "field_expiry": 8,
    "death": 8,
    "kind": 2,
}


def columns(records: bytes) -> dict[str, bytes]:
    """Records column by column, packed: constant columns shrink to nothing, digests stay as they are."""
    packed, start, size = {}, 0, RECORD.size
    for column, width in _COLUMNS.items():
        pieces = b"".join(bytes(records[start + i :: size]) for i in range(width))
        packed[column] = zlib.compress(pieces, 6)
        start += width
    return packed


def records(packed: dict[str, bytes], count: int) -> bytearray:
    """The reverse of `columns`. Raises ValueError when the columns do not fit `count`."""
    if count * _COLUMNS["name"] > _DENSEST * (len(packed["name"]) + 1):
        raise ValueError("fewer bytes than so many keys could take")
    out = bytearray(count * RECORD.size)
    start = 0
    for column, width in _COLUMNS.items():
        opener = zlib.decompressobj()
        try:
            pieces = opener.decompress(packed[column], count * width + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(pieces) != count * width:
            raise ValueError("column of a wrong length")
        for i in range(width):
            out[start + i :: RECORD.size] = pieces[i * count : (i + 1) * count]
        start += width
    return out
