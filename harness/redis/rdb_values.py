"""The values inside an RDB file: lengths, strings and every compact encoding, read without a server.

Top-level readers take the buffer and a position and return what they read and the position behind it; they
raise `Short` when the buffer ends first. What lies inside one string (ziplist, listpack, intset, zipmap)
is whole or damaged. Layouts as the servers' public format descriptions give them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Protocol

from . import lzf

MAX_STRING: Final = 512 << 20  # what a server accepts unless told otherwise (proto-max-bulk-len)
MAX_ELEMENTS: Final = 20_000_000
_F64: Final = struct.Struct("<d")


class Source(Protocol):
    """Bytes to be read once and in order."""

    def read(self, count: int, /) -> bytes:
        """The next bytes, at most `count`; none at the end."""
        ...


class Short(Exception):
    """The buffer ends before the value does; `end` is how far it would have to reach at least."""

    def __init__(self, end: int = 0) -> None:
        self.end = end


class Damaged(Exception):
    """The bytes cannot be what a server wrote; the text says what is wrong, without quoting them."""


class Unknown(Exception):
    """A format newer or stranger than this reader: nothing can be said about the file."""


class TooMany(Unknown):
    """A key with more elements than are read at once; or than the file has bytes, which is damage."""

    def __init__(self, elements: int) -> None:
        super().__init__(f"holds a key of {elements:,} elements, more than this program reads at once")
        self.elements = elements


def length(buf: bytes, pos: int) -> tuple[int, int]:
    """A plain length: 6, 14, 32 or 64 bits."""
    first = buf[pos]
    kind = first >> 6
    if kind == 0:
        return first & 63, pos + 1
    if kind == 1:
        return (first & 63) << 8 | buf[pos + 1], pos + 2
    if first == 0x80:
        end = pos + 5
    elif first == 0x81:
        end = pos + 9
    else:
        raise Damaged("a length is expected where another encoding stands")
    if end > len(buf):
        raise Short(end)
    return int.from_bytes(buf[pos + 1 : end], "big"), end


def count(buf: bytes, pos: int) -> tuple[int, int]:
    """The number of a key's elements; more than fit into memory are not begun with."""
    found, end = length(buf, pos)
    if found > MAX_ELEMENTS:
        raise TooMany(found)
    return found, end


def string(buf: bytes, pos: int) -> tuple[bytes, int]:
    """A string: plain, an integer in binary, or LZF-compressed."""
    first = buf[pos]
    if first < 0xC0:
        size, pos = length(buf, pos)
        end = pos + size
        if end > len(buf):
            raise Short(end)
        return buf[pos:end], end
    if first < 0xC3:
        end = pos + 1 + (1 << (first & 3))
        if end > len(buf):
            raise Short(end)
        return b"%d" % int.from_bytes(buf[pos + 1 : end], "little", signed=True), end
    if first != 0xC3:
        raise Damaged("a string has an encoding that does not exist")
    packed, pos = length(buf, pos + 1)
    size, pos = length(buf, pos)
    end = pos + packed
    if end > len(buf):
        raise Short(end)
    if MAX_STRING < size <= lzf.DENSEST * (packed + 1):
        raise Unknown(
            "holds a string that unpacks to more than 512 MiB, more than this program reads at once"
        )
    try:
        return lzf.unpack(buf[pos:end], size), end
    except lzf.LzfError as error:
        raise Damaged(f"a compressed string {error}") from None


def milliseconds(buf: bytes, pos: int) -> tuple[int, int]:
    """A signed 64-bit time in ms, little endian."""
    if pos + 8 > len(buf):
        raise Short(pos + 8)
    return int.from_bytes(buf[pos : pos + 8], "little", signed=True), pos + 8


def text_score(buf: bytes, pos: int) -> tuple[float, int]:
    """A score as the oldest sorted sets hold it: a byte of length and decimal text."""
    size = buf[pos]
    if size >= 253:
        return (math.nan, math.inf, -math.inf)[size - 253], pos + 1
    end = pos + 1 + size
    if end > len(buf):
        raise Short(end)
    return number(buf[pos + 1 : end]), end


def binary_score(buf: bytes, pos: int) -> tuple[float, int]:
    """A score as IEEE double, little endian."""
    if pos + 8 > len(buf):
        raise Short(pos + 8)
    value: float = _F64.unpack_from(buf, pos)[0]
    if value != value:
        raise Damaged("a score is not a number")
    return value, pos + 8


def number(text: bytes) -> float:
    """A score written as text."""
    try:
        value = float(text)
    except ValueError:
        raise Damaged("a score is not a number") from None
    if value != value or b"_" in text:
        raise Damaged("a score is not a number")
    return value


def pairs(items: Sequence[bytes]) -> dict[bytes, bytes]:
    """Field, value, field, value ... as a dictionary."""
    if len(items) % 2:
        raise Damaged("a hash has a field without a value")
    made = dict(zip(items[::2], items[1::2], strict=True))
    if len(made) * 2 != len(items):
        raise Damaged("a hash holds a field twice")
    return made


def scored(items: Sequence[bytes]) -> list[tuple[bytes, float]]:
    """Member, score, member, score ... as pairs."""
    if len(items) % 2:
        raise Damaged("a sorted set has a member without a score")
    return unique([(items[i], number(items[i + 1])) for i in range(0, len(items), 2)])


def unique(scored: list[tuple[bytes, float]]) -> list[tuple[bytes, float]]:
    """Members with their scores, each once: servers refuse anything else, some of them only when asked to."""
    members([member for member, _ in scored], "a sorted set")
    return scored


def members(items: list[bytes], what: str = "a set") -> list[bytes]:
    """Members, each once."""
    if len(set(items)) != len(items):
        raise Damaged(f"{what} holds a member twice")
    return items


def intset(blob: bytes) -> list[bytes]:
    """A set of integers: width, count, then the sorted numbers."""
    if len(blob) < 8:
        raise Damaged("an intset is too short")
    width, count = int.from_bytes(blob[:4], "little"), int.from_bytes(blob[4:8], "little")
    if width not in (2, 4, 8) or len(blob) != 8 + width * count:
        raise Damaged("an intset has a wrong size")
    code = {2: "h", 4: "i", 8: "q"}[width]
    numbers = struct.unpack(f"<{count}{code}", blob[8:])
    if any(a >= b for a, b in pairwise(numbers)):
        raise Damaged("an intset is out of order: servers do not find its members")
    return [b"%d" % n for n in numbers]


def zipmap(blob: bytes) -> dict[bytes, bytes]:
    """The small hash of Redis before 2.6."""
    items: list[bytes] = []
    pos = 1
    try:
        while blob[pos] != 0xFF:
            size = blob[pos]
            pos += 1
            if size == 254:
                size, pos = int.from_bytes(blob[pos : pos + 4], "little"), pos + 4
            free = 0
            if len(items) % 2:
                free, pos = blob[pos], pos + 1
            if pos + size > len(blob):
                raise Damaged("a zipmap ends inside an entry")
            items.append(blob[pos : pos + size])
            pos += size + free
    except IndexError:
        raise Damaged("a zipmap has no end") from None
    return pairs(items)


def ziplist(blob: bytes) -> list[bytes]:
    """A ziplist: header of 10 bytes, entries with the previous one's length, 0xFF."""
    if len(blob) < 11 or int.from_bytes(blob[:4], "little") != len(blob):
        raise Damaged("a ziplist states another size than it has")
    items: list[bytes] = []
    pos, previous = 10, 0
    try:
        while blob[pos] != 0xFF:
            start = pos
            if blob[pos] < 254:
                before, pos = blob[pos], pos + 1
            else:
                before, pos = int.from_bytes(blob[pos + 1 : pos + 5], "little"), pos + 5
            if before != previous:
                raise Damaged("a ziplist's entries do not chain")
            item, pos = _ziplist_entry(blob, pos)
            items.append(item)
            previous = pos - start
    except IndexError:
        raise Damaged("a ziplist has no end") from None
    if int.from_bytes(blob[4:8], "little") != pos - previous:
        raise Damaged("a ziplist's last entry is elsewhere than it states")
    stated = int.from_bytes(blob[8:10], "little")
    if pos != len(blob) - 1 or (stated != 0xFFFF and stated != len(items)):
        raise Damaged("a ziplist states another count than it has")
    return items


def _ziplist_entry(blob: bytes, pos: int) -> tuple[bytes, int]:
    head = blob[pos]
    if head < 0xC0:
        if head < 0x40:
            size, pos = head, pos + 1
        elif head < 0x80:
            size, pos = (head & 63) << 8 | blob[pos + 1], pos + 2
        else:
            size, pos = int.from_bytes(blob[pos + 1 : pos + 5], "big"), pos + 5
        if pos + size >= len(blob):
            raise Damaged("a ziplist ends inside an entry")
        return blob[pos : pos + size], pos + size
    width = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}.get(head)
    if width:
        if pos + 1 + width >= len(blob):
            raise Damaged("a ziplist ends inside an entry")
        return b"%d" % int.from_bytes(blob[pos + 1 : pos + 1 + width], "little", signed=True), pos + 1 + width
    if 0xF1 <= head <= 0xFD:
        return b"%d" % (head - 0xF1), pos + 1
    raise Damaged("a ziplist entry has an encoding that does not exist")


_BACK: Final = (16383, 2097151, 268435455)  # largest entry whose length fits 2, 3, 4 bytes


def listpack(blob: bytes) -> list[bytes]:
    """A listpack: header of 6 bytes, entries each followed by their own length, 0xFF."""
    end = len(blob) - 1
    if end < 6 or int.from_bytes(blob[:4], "little") != end + 1 or blob[end] != 0xFF:
        raise Damaged("a listpack states another size than it has")
    items: list[bytes] = []
    append = items.append
    pos = 6
    while pos < end:
        head = blob[pos]
        if head < 0x80:
            append(b"%d" % head)
            size = 1
        elif head < 0xC0:
            size = 1 + (head & 63)
            append(blob[pos + 1 : pos + size])
        elif head < 0xE0:
            raw = (head & 31) << 8 | blob[pos + 1]
            append(b"%d" % (raw - 8192 if raw >= 4096 else raw))
            size = 2
        elif head < 0xF0:
            size = 2 + ((head & 15) << 8 | blob[pos + 1])
            append(blob[pos + 2 : pos + size])
        elif head == 0xF0:
            size = 5 + int.from_bytes(blob[pos + 1 : pos + 5], "little")
            append(blob[pos + 5 : pos + size])
        elif head < 0xF5:
            size = (3, 4, 5, 9)[head - 0xF1]
            append(b"%d" % int.from_bytes(blob[pos + 1 : pos + size], "little", signed=True))
        else:
            raise Damaged("a listpack entry has an encoding that does not exist")
        pos += size
        if size < 128:  # its length, read backwards, is one byte: the usual case
            if pos >= end or blob[pos] != size:
                raise Damaged("a listpack's entries do not chain")
            pos += 1
            continue
        back = 2 + sum(size > limit for limit in _BACK)
        if pos + back > end:
            raise Damaged("a listpack ends inside an entry")
        told = 0
        for i in range(back):
            told = told << 7 | blob[pos + i] & 127
        if told != size:
            raise Damaged("a listpack's entries do not chain")
        pos += back
    stated = int.from_bytes(blob[4:6], "little")
    if stated not in (0xFFFF, len(items)):
        raise Damaged("a listpack states another count than it has")
    return items


def module_parts(buf: bytes, pos: int) -> tuple[list[bytes], int]:
    """What a module wrote, part by part as its own opcodes tell: numbers, floats and strings.

    What the parts mean only the module knows.
    """
    parts: list[bytes] = []
    while True:
        opcode, pos = length(buf, pos)
        if opcode == 0:
            return parts, pos
        if opcode in (1, 2):
            number_, pos = length(buf, pos)
            part = b"%d" % number_
        elif opcode in (3, 4):
            end = pos + (4 if opcode == 3 else 8)
            if end > len(buf):
                raise Short(end)
            part, pos = buf[pos:end], end
        elif opcode == 5:
            part, pos = string(buf, pos)
        else:
            raise Damaged("a module's value has an opcode that does not exist")
        parts += (b"%d" % opcode, part)


_MODULE_CHARS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def module_name(number: int) -> tuple[str, int]:
    """Name (9 characters) and encoding version of a module type from its 64-bit id."""
    name = "".join(_MODULE_CHARS[number >> shift & 63] for shift in range(58, 9, -6))
    return name, number & 1023
