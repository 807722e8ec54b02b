"""Values of an RDB file stepped over by their lengths alone, in memory that does not grow with any of them.

Names, types and expiry are as in a full walk; what lies inside a value is not looked at, so damage there
shows in the file's checksum only.
"""

from __future__ import annotations

from typing import Final, Protocol

from . import lzf
from . import rdb_values as read
from .digest import HASH, LIST, MODULE, NEVER, NO_DIGEST, SET, STREAM, STRING, ZSET, Value
from .rdb_values import Damaged, Short, TooMany, Unknown

PLAIN: Final = Value(STRING, NO_DIGEST)
_TYPES: Final = {
    **dict.fromkeys((0,), STRING),
    **dict.fromkeys((1, 10, 14, 18), LIST),
    **dict.fromkeys((2, 11, 20), SET),
    **dict.fromkeys((3, 5, 12, 17), ZSET),
    **dict.fromkeys((4, 9, 13, 16), HASH),
    **dict.fromkeys((15, 19, 21), STREAM),
    7: MODULE,
}
_OF_ONE_PIECE: Final = frozenset((0, 9, 10, 11, 12, 13, 16, 17, 20))


class Window(Protocol):
    """The walker's buffer: `refill` drops what lies before `start` and reads on to at least `end`."""

    buf: bytes
    pos: int
    base: int
    size: int

    def refill(self, start: int, end: int) -> None:
        """As `rdb` does it."""


def skip(kind: int, window: Window) -> tuple[Value, str | None]:
    """Step over the value of type `kind` at the window's position: its type, and the module's name."""
    if kind not in _TYPES:
        raise Unknown("holds a module value in the oldest form, which cannot be skipped")
    name = None
    if kind in _OF_ONE_PIECE:
        _string(window)
    elif kind in (1, 2, 14):
        for _ in range(_count(window)):
            _string(window)
    elif kind == 4:
        for _ in range(2 * _count(window)):
            _string(window)
    elif kind in (3, 5):
        for _ in range(_count(window)):
            _string(window)
            size = 8 if kind == 5 else _byte(window)
            _bytes(window, size if size < 253 else 0)
    elif kind == 18:
        for _ in range(_count(window)):
            if _length(window) not in (1, 2):
                raise Damaged("a list's node is of a kind that does not exist")
            _string(window)
    elif kind == 7:
        name = read.module_name(_length(window))[0]
        _module(window)
    else:
        _stream(window, {15: 1, 19: 2, 21: 3}[kind])
    return Value(_TYPES[kind], NO_DIGEST, b"", NEVER, NEVER), name


def _stream(window: Window, form: int) -> None:
    for _ in range(_count(window)):
        _string(window)
        _string(window)
    for _ in range(3 if form == 1 else 8):  # entries, last id; since 7.0 first and deleted id, ever added
        _length(window)
    for _ in range(_count(window)):
        _string(window)
        for _ in range(2 if form == 1 else 3):
            _length(window)
        for _ in range(_count(window)):
            _bytes(window, 24)
            _length(window)
        for _ in range(_count(window)):
            _string(window)
            _bytes(window, 16 if form == 3 else 8)
            _bytes(window, 16 * _length(window))


def _module(window: Window) -> None:
    while opcode := _length(window):
        if opcode in (1, 2):
            _length(window)
        elif opcode in (3, 4):
            _bytes(window, 4 if opcode == 3 else 8)
        elif opcode == 5:
            _string(window)
        else:
            raise Damaged("a module's value has an opcode that does not exist")


def _byte(window: Window) -> int:
    while window.pos >= len(window.buf):
        window.refill(window.pos, window.pos + 1)
    window.pos += 1
    return window.buf[window.pos - 1]


def _length(window: Window) -> int:
    while True:
        try:
            found, window.pos = read.length(window.buf, window.pos)
            return found
        except (IndexError, Short) as short:
            window.refill(window.pos, getattr(short, "end", 0))


def _count(window: Window) -> int:
    found = _length(window)
    if found > read.MAX_ELEMENTS:
        raise TooMany(found)
    return found


def _string(window: Window) -> None:
    first = _byte(window)
    if first < 0xC0:
        window.pos -= 1
        _bytes(window, _length(window))
    elif first < 0xC3:
        _bytes(window, 1 << (first & 3))
    elif first == 0xC3:
        packed = _length(window)
        if _length(window) > lzf.DENSEST * (packed + 1):
            raise Damaged("a compressed string claims more than LZF can give")
        _bytes(window, packed)
    else:
        raise Damaged("a string has an encoding that does not exist")


def _bytes(window: Window, count: int) -> None:
    if window.base + window.pos + count > window.size:
        raise Damaged("ends in the middle of a key: the file was cut, or a length is wrong")
    while (there := len(window.buf) - window.pos) < count:
        count -= there
        window.pos = len(window.buf)
        window.refill(window.pos, window.pos + 1)
    window.pos += count
