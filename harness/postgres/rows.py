"""Rows compared one by one as a multiset, for tables whose text is not the same byte by byte.

Good dumps whose text differs from what the server writes now: rows loaded through a partition root come
back in another order; servers before 12 wrote floats with 17 digits; `bytea_output` may have been `escape`.
"""

from __future__ import annotations

import datetime
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import xxhash

from .pool import Connection

_KEEP: Final = 2_000_000  # rows whose hashes are kept to say how many differ; about 200 MB
_MASK: Final = (1 << 128) - 1
_LONG: Final = 1 << 20  # a row that long is not kept in memory
_BACKSLASH: Final = 0x5C


@dataclass
class Multiset:
    """Rows seen so far: how many, the sum of their 128-bit hashes, and the hashes while they are few."""

    rows: int = 0
    total: int = 0
    hashes: Counter[int] | None = None

    def add(self, blocks: Iterable[bytes], normal: Callable[[bytes], bytes] | None) -> None:
        """Add the lines of COPY text."""
        if self.hashes is None and self.rows == 0:
            self.hashes = Counter()
        for line in lines(blocks):
            key = xxhash.xxh3_128_intdigest(normal(line) if normal else line)
            self.rows += 1
            self.total = (self.total + key) & _MASK
            if self.hashes is not None:
                self.hashes[key] += 1
                if self.rows > _KEEP:
                    self.hashes = None

    def same(self, other: Multiset) -> bool:
        """True when both hold the same rows, in whatever order."""
        return self.rows == other.rows and self.total == other.total

    def missing(self, other: Multiset) -> int | None:
        """How many rows of this one the other lacks; None when there are too many to tell."""
        if self.hashes is None or other.hashes is None:
            return None
        return (self.hashes - other.hashes).total()


@dataclass
class Unordered:
    """Rows whatever their order: how many, and the sum of the 64-bit hashes of their COPY text."""

    rows: int = 0
    total: int = 0
    _begun: xxhash.xxh3_64 | None = field(default=None, compare=False, repr=False)

    def add(self, text: bytes) -> None:
        """Add COPY text, wherever it is cut."""
        *found, rest = text.split(b"\n")
        if found and self._begun is not None:
            self._begun.update(found.pop(0))
            self.end()
        self.rows += len(found)
        self.total += sum(map(xxhash.xxh3_64_intdigest, found))
        if rest:
            self._begun = self._begun or xxhash.xxh3_64()
            self._begun.update(rest)

    def end(self) -> None:
        """No more text comes: the last row may lack its newline."""
        if self._begun is not None:
            self.rows += 1
            self.total += self._begun.intdigest()
            self._begun = None


def unordered(blocks: Iterable[bytes]) -> Unordered:
    """The rows of COPY text that comes in blocks."""
    held = Unordered()
    for block in blocks:
        held.add(block)
    held.end()
    return held


def whole_rows(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """COPY text that comes in blocks, cut where rows end; False with the first parts of a very long row.

    A newline behind a backslash is a value's.
    """
    left, odd, whole = b"", False, True
    for block in blocks:
        end = len(block)
        while (end := block.rfind(b"\n", 0, end)) >= 0 and _escaped(block, end, odd):
            pass
        odd = _escaped(block, len(block), odd)
        if end >= 0:
            yield b"".join((left, memoryview(block)[: end + 1])), True
            left, whole = block[end + 1 :], True
        else:
            left += block
        if len(left) > _LONG:
            yield left, False
            left, whole = b"", False
    if left or not whole:
        yield left, True


def _escaped(block: bytes, end: int, odd: bool) -> bool:
    """Whether an odd number of backslashes stands before `end`; `odd` tells the same of the text before."""
    begin = end
    while begin and block[begin - 1] == _BACKSLASH:
        begin -= 1
    return bool((end - begin) % 2) != (odd and not begin)


def lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of text that comes in blocks."""
    rest = b""
    for block in blocks:
        parts = (rest + block).split(b"\n")
        rest = parts.pop()
        yield from parts
    if rest:
        yield rest


def normaliser(conn: Connection, table: str, columns: Sequence[str]) -> Callable[[bytes], bytes] | None:
    """How to bring a row's COPY text into one form whatever server wrote it; None when it is so already.

    `table` is a quoted, qualified name; without `columns` all of the table's are meant, in its order.
    """
    kinds: dict[str, str] = dict(
        conn.execute(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_catalog.pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
            " ORDER BY attnum",
            (table,),
        ).fetchall()
    )
    ways = [_way(kinds.get(c, "")) for c in (columns or kinds)]
    if not any(ways):
        return None

    def normal(line: bytes) -> bytes:
        fields = line.split(b"\t")
        if len(fields) != len(ways):
            return line
        return b"\t".join(
            field if way is None or field == b"\\N" else way(field)
            for field, way in zip(fields, ways, strict=True)
        )

    return normal


def _double(text: bytes) -> bytes:
    try:
        return struct.pack(">d", float(text)).hex().encode()
    except ValueError:
        return text


def _single(text: bytes) -> bytes:
    try:
        return struct.pack(">f", float(text)).hex().encode()
    except (ValueError, OverflowError):
        return text


def _bytes(text: bytes) -> bytes:
    """`\\\\x..` as it is; the escape form (`\\\\ooo`, and `\\\\` doubled by COPY) as hex."""
    raw = text.replace(b"\\\\", b"\\")
    if raw.startswith(b"\\x"):
        return raw
    out, at = bytearray(), 0
    while at < len(raw):
        if raw[at : at + 2] == b"\\\\":
            out.append(0x5C)
            at += 2
        elif raw[at : at + 1] == b"\\" and raw[at + 1 : at + 4].isdigit():
            out.append(int(raw[at + 1 : at + 4], 8) & 0xFF)
            at += 4
        else:
            out.append(raw[at])
            at += 1
    return b"\\x" + out.hex().encode()


def _instants(text: bytes) -> bytes:
    """Every time with a zone inside `text` (also in ranges, arrays, composites) as UTC."""
    return _INSTANT.sub(_utc, text)


def _utc(found: re.Match[bytes]) -> bytes:
    date, clock, fraction, sign, hours, minutes, seconds, era = found.groups(default=b"")
    year, month, day = (int(n) for n in date.split(b"-"))
    hour, minute, second = (int(n) for n in clock.split(b":"))
    if era:
        year = 1 - year
    shift = int(hours) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    try:  # the proleptic Gregorian calendar repeats every 400 years = 146097 days
        days = datetime.date(year % 400 + 400, month, day).toordinal() + year // 400 * 146097
    except ValueError:
        return found[0]
    total = days * 86400 + hour * 3600 + minute * 60 + second + (-shift if sign == b"+" else shift)
    return b"@%d%s" % (total, fraction)


def _way(kind: str) -> Callable[[bytes], bytes] | None:
    if kind in _WAYS:
        return _WAYS[kind]
    if kind.startswith("reg"):  # regclass and the like: `--quote-all-identifiers` quotes them
        return lambda text: text.translate(None, b'"\\')
    return None if kind in _PLAIN or kind.startswith(("character", "numeric")) else _instants


_INSTANT: Final = re.compile(
    rb"(\d{4,6}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?( BC)?"
)
_PLAIN: Final = frozenset(  # types whose text cannot hold such a time, or is the user's own
    {"text", "smallint", "integer", "bigint", "boolean", "json", "jsonb", "uuid", "date", "name", "xml",
     "inet", "timestamp without time zone", "interval", "time without time zone", "time with time zone",
     "text[]"}
)  # fmt: skip
_WAYS: Final = {"double precision": _double, "real": _single, "bytea": _bytes}
