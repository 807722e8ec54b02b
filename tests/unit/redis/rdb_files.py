"""RDB files made by hand, so that every byte of them is known."""

from __future__ import annotations

from harness.redis.crc64 import crc64


def string(text: bytes) -> bytes:
    """A plain string with its length."""
    size = len(text)
    if size < 64:
        return bytes((size,)) + text
    return b"\x80" + size.to_bytes(4, "big") + text


def rdb(body: bytes, magic: bytes = b"REDIS0010", *, checksum: bool = True, end: bytes = b"\xff") -> bytes:
    """Header, body, end mark and checksum."""
    whole = magic + body + end
    return whole + (crc64(whole).to_bytes(8, "little") if checksum else bytes(8))


def key(name: bytes, value: bytes) -> bytes:
    """A string key."""
    return b"\x00" + string(name) + string(value)


def listpack(*items: bytes) -> bytes:
    """A listpack of short strings."""
    body = b""
    for item in items:
        entry = bytes((0x80 | len(item),)) + item
        body += entry + bytes((len(entry),))
    total = 6 + len(body) + 1
    return total.to_bytes(4, "little") + len(items).to_bytes(2, "little") + body + b"\xff"


def ziplist(*items: bytes) -> bytes:
    """A ziplist of short strings."""
    body, previous = b"", 0
    for item in items:
        entry = bytes((previous, len(item))) + item
        body, previous = body + entry, len(entry)
    total = 10 + len(body) + 1
    last = total - 1 - previous
    return (
        total.to_bytes(4, "little")
        + last.to_bytes(4, "little")
        + len(items).to_bytes(2, "little")
        + body
        + b"\xff"
    )


SAMPLE = rdb(
    b"\xfa" + string(b"redis-ver") + string(b"7.0.15")
    + b"\xfa" + string(b"ctime") + b"\xc2" + (1_700_000_000).to_bytes(4, "little")
    + b"\xfe\x00\xfb\x05\x01"
    + b"\xfc" + (1_900_000_000_123).to_bytes(8, "little") + key(b"session:1", b"value one")
    + key(b"number", b"17")
    + b"\x10" + string(b"hash") + string(listpack(b"field", b"value", b"other", b"x"))
    + b"\x12" + string(b"list") + b"\x01\x02" + string(listpack(b"a", b"b", b"c"))
    + b"\x0b" + string(b"ints") + string(bytes((2, 0, 0, 0, 2, 0, 0, 0)) + b"\x01\x00\x05\x00")
    + b"\xfe\x02\xfb\x01\x00" + key(b"elsewhere", b"!")
)  # fmt: skip
