"""LZF, the compression of strings inside RDB files. Output never grows beyond what the file states."""

from __future__ import annotations

from typing import Final

DENSEST: Final = 264  # bytes that three give at most


class LzfError(ValueError):
    """The compressed bytes cannot be what a server wrote."""


def unpack(data: bytes, size: int) -> bytes:
    """Decompress `data` to exactly `size` bytes; LzfError when it gives fewer or more, or points outside.

    A control byte below 32 announces that many literal bytes (plus one); any other one a copy of earlier
    output: three bits of length (7: one more byte follows) and thirteen of distance.
    """
    if size > DENSEST * (len(data) + 1):  # a larger claim only takes memory
        raise LzfError("claims more than LZF can give")
    out = bytearray()
    pos, end = 0, len(data)
    try:
        while pos < end:
            control = data[pos]
            pos += 1
            if control < 32:
                stop = pos + control + 1
                if stop > end:
                    raise LzfError("ends inside a literal")
                out += data[pos:stop]
                pos = stop
            else:
                length = control >> 5
                if length == 7:
                    length += data[pos]
                    pos += 1
                start = len(out) - ((control & 31) << 8) - data[pos] - 1
                pos += 1
                length += 2
                if start < 0:
                    raise LzfError("refers to bytes before its start")
                distance = len(out) - start
                if distance >= length:
                    out += out[start : start + length]
                else:  # overlapping: the copied piece repeats itself
                    piece = bytes(out[start:])
                    out += (piece * (length // distance + 1))[:length]
            if len(out) > size:
                raise LzfError("gives more than it states")
    except IndexError:
        raise LzfError("ends inside a reference") from None
    if len(out) != size:
        raise LzfError("gives less than it states")
    return bytes(out)
