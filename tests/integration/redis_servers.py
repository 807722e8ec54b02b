"""Redis and Valkey servers of every version at hand, with every kind of data in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.redis.digest import Digester
from harness.redis.live import LiveFacts, read_all, server_version
from harness.redis.rdb import RdbFacts
from harness.redis.spool import Differences, Spool, compare
from harness.redis.walker import start
from harness.redis.wire import Address, Refused, Wire
from harness.sandbox import RedisRequest, Server, redis_sandbox
from harness.sandbox.binaries import redis_servers
from harness.settings import SandboxSettings

SERVERS = {f"{s.engine}-{s.version}": s.server.parent for s in redis_servers(None)}
SALT = b"salt of the tests"
LATER = 4_000_000_000_000


@dataclass
class Running:
    """A server with a connection to it; `dump` is the file that SAVE writes."""

    server: Server
    wire: Wire
    vendor: str
    version: tuple[int, ...]

    @property
    def dump(self) -> Path:
        assert self.server.shared is not None
        return self.server.shared / "dump.rdb"


@contextmanager
def running(folder: Path | None = None, data: Path | None = None, **options: str) -> Iterator[Running]:
    """A server (from `folder`, else whichever loads RDB version 10), with these directives."""
    request = RedisRequest(
        None if folder else 10, data=data, options=tuple((k.replace("_", "-"), v) for k, v in options.items())
    )
    settings = SandboxSettings(redis_bin=folder)
    with redis_sandbox(request, settings, deadline=time.monotonic() + 120) as server:
        address = Address(server.unix_socket, server.host, server.port, None, server.password)
        with Wire(address) as wire:
            wire.wait_loaded(time.monotonic() + 60)
            yield Running(server, wire, *server_version(wire.info()))


def fill(wire: Wire, vendor: str, version: tuple[int, ...]) -> None:
    """Every type in every encoding, expiry, several databases, groups, functions, field expiry."""
    call = wire.call
    for db in (0, 3, 15):
        call("SELECT", db)
        call("SET", "same", f"in {db}")
        call("SET", "later", "x")
        call("PEXPIREAT", "later", LATER + db)
    call("SELECT", 0)
    for n in (0, 1, -1, 127, 128, -129, 32767, -32769, 2147483647, -2147483649, 2**63 - 1):
        call("SET", f"int:{n}", n)
        call("RPUSH", "list:ints", n)
        call("SADD", "set:ints", n)
    call("SET", b"bin\x00\xff\r\n", bytes(range(256)))
    call("SET", "", "the empty name")
    call("SET", "long", "abc" * 5000)
    call("SET", "text", "x")
    call("SETBIT", "bits", 12345, 1)
    call("PFADD", "hll", *range(1000))
    for size in (3, 40, 2000):
        words = [f"word-{n}" * (1 + n % 3) for n in range(size)]
        call("RPUSH", f"list:{size}", *words, "x" * 70, "y" * 5000)
        call("SADD", f"set:{size}", *words)
        call("HSET", f"hash:{size}", *(w for n, word in enumerate(words) for w in (word, n - 50)))
        call("ZADD", f"zset:{size}", *(w for n, word in enumerate(words) for w in (n / 7 - 3, word)))
    call(
        "ZADD",
        "zset:odd",
        "inf",
        "a",
        "-inf",
        "b",
        "-0",
        "c",
        "1e-320",
        "d",
        "0.1",
        "e",
        "12345678901234567",
        "f",
    )
    call("GEOADD", "geo", "-9.13", "38.72", "lisboa", "-8.61", "41.15", "porto")
    for n in range(300):
        call(
            "XADD", "stream", f"{1000 + n // 10}-{n % 10 + 1}", "field", n, *(("more", "y") if n % 3 else ())
        )
    call("XDEL", "stream", "1003-2")
    call("XADD", "stream:empty", "5-5", "a", "b")
    call("XDEL", "stream:empty", "5-5")
    call("XGROUP", "CREATE", "stream", "workers", "0")
    call("XGROUP", "CREATE", "stream", "idle", "$")
    call("XREADGROUP", "GROUP", "workers", "ann", "COUNT", 5, "STREAMS", "stream", ">")
    call("XREADGROUP", "GROUP", "workers", "bob", "COUNT", 3, "STREAMS", "stream", ">")
    call("XACK", "stream", "workers", "1000-2")
    call("XGROUP", "CREATECONSUMER", "stream", "workers", "nobody")
    if version >= (7, 0):
        code = "#!lua name=mylib\nredis.register_function('f', function(k, a) return a[1] end)"
        call("FUNCTION", "LOAD", code)
    if has_field_expiry(vendor, version):
        for name, size in (("hfe:small", 4), ("hfe:large", 600)):
            call("HSET", name, *(w for n in range(size) for w in (f"f{n}", n)))
            call("HPEXPIREAT", name, LATER, "FIELDS", 2, "f0", "f2")
            call("HPEXPIREAT", name, LATER + 777, "FIELDS", 1, "f1")


def has_field_expiry(vendor: str, version: tuple[int, ...]) -> bool:
    return version >= ((9,) if vendor == "valkey" else (7, 4))


def read_live(wire: Wire, folder: Path) -> tuple[LiveFacts, Spool]:
    """All that the server holds."""
    spool = Spool(folder)
    return read_all(wire, Digester(SALT), spool, deadline=time.monotonic() + 60), spool


def read_file(path: Path, folder: Path) -> tuple[RdbFacts, Spool]:
    """All that the file holds."""
    return start(path, SALT, folder, time.monotonic() + 60, lambda done, total: None).result()


def difference(one: Running, folder: Path) -> tuple[Differences, RdbFacts, LiveFacts]:
    """The server's own dump, walked, against the server, read back."""
    one.wire.call("SAVE")
    facts, expected = read_file(one.dump, folder)
    live, observed = read_live(one.wire, folder)
    assert facts.damage is None and facts.unknown is None and facts.stated_crc == facts.computed_crc
    assert facts.total == sum(live.keys.values()) == expected.count == observed.count
    return compare(expected, observed, past_ms=0), facts, live


__all__ = ["Refused", "Running", "difference", "fill", "read_file", "read_live", "running"]
