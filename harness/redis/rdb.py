"""A streaming walker for RDB files (Redis 1 to 12, Valkey 80): the witness independent of any server.

Memory stays flat but for one key at a time. What the walker does not know, it says (`unknown`): a newer
format is never read as damage, nor as nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from . import rdb_values as read
from .crc64 import crc64
from .digest import NEVER, Digester, Value
from .rdb_skip import PLAIN, skip
from .rdb_types import SINCE
from .rdb_types import value as read_value
from .rdb_values import Damaged, Short, Source, TooMany, Unknown

NEWEST_REDIS: Final = 12
NEWEST_VALKEY: Final = 80
_BELIEVABLE: Final = 99
_FIELD_EXPIRY: Final = 22  # from here on, when a hash ends stands in its fields: read in full
_MOST_AUX: Final = 100  # servers write fewer than ten
_MOST_DATABASES: Final = 1 << 16
_CHUNK: Final = 1 << 20
_LARGEST_KEY: Final = 2 << 30
_HEADER: Final = 9
OnKey = Callable[[int, bytes, Value, int], None]


@dataclass
class RdbFacts:
    """What an RDB file says. `end` is the offset behind its checksum; `damage` or `unknown` tell why the
    walk stopped early. Counts are of what was read until then."""

    vendor: str = "redis"
    version: int = 0
    size: int = 0
    aux: dict[str, str] = field(default_factory=dict)
    keys: Counter[int] = field(default_factory=Counter)  # per database
    expires: Counter[int] = field(default_factory=Counter)
    hints: dict[int, tuple[int, int]] = field(default_factory=dict)  # database -> keys, keys with expiry
    libraries: dict[str, str] = field(default_factory=dict)  # function library -> digest of its source
    modules: dict[str, int] = field(default_factory=dict)  # module type -> keys of it
    module_aux: set[str] = field(default_factory=set)
    canaries: dict[str, str] = field(default_factory=dict)  # keys of ours: name -> digest of the value
    needs_version: int = 0  # the newest form used in the file demands this RDB version
    end: int = 0
    stated_crc: int | None = None
    computed_crc: int | None = None
    damage: str | None = None
    unknown: str | None = None

    @property
    def source_version(self) -> str | None:
        """Version of the server that wrote it, as it says itself."""
        return self.aux.get("redis-ver") or self.aux.get("valkey-ver")

    @property
    def ctime(self) -> int | None:
        """When the file was begun, Unix seconds, by the writing server's clock."""
        text = self.aux.get("ctime", "")
        return int(text) if text.isdecimal() else None

    @property
    def held(self) -> dict[int, int]:
        """Keys per database, without our own, which lie in database 0."""
        return {db: left for db, n in self.keys.items() if (left := n - (0 if db else len(self.canaries)))}

    @property
    def total(self) -> int:
        """Keys in all databases, without our own."""
        return sum(self.keys.values()) - len(self.canaries)


def walk(
    file: Source,
    size: int,
    digester: Digester,
    on_key: OnKey,
    *,
    deadline: float,
    progress: Callable[[int], None] = lambda done: None,
    keys_only: bool = False,
) -> RdbFacts:
    """Read an RDB from the file's start; every key goes to `on_key(db, name, value, expiry ms or NEVER)`.

    `size` is the file's. With `keys_only` values are stepped over: they have their type, but no digest, and
    memory stays flat whatever their size. Raises TimeoutError past `deadline` (`time.monotonic()` seconds).
    """
    facts = RdbFacts(size=size)
    walker = _Walker(file, size, digester, on_key, facts, deadline, progress, keys_only=keys_only)
    try:
        walker.header()
        walker.records()
        walker.checksum()
    except Damaged as problem:
        what = f"is damaged: {problem}" if str(problem).startswith(("a ", "an ", "the ")) else problem
        facts.damage = f"{what} (at byte {walker.base + walker.pos:,}, after {facts.total:,} keys)"
    except Unknown as problem:
        impossible = isinstance(problem, TooMany) and problem.elements > size
        if not impossible and walker.intact():
            facts.unknown = str(problem)
        else:
            why = "and it has fewer bytes" if impossible else "and the checksum does not hold"
            facts.damage = f"{problem}, {why} (after {facts.total:,} keys)"
    return facts


def hidden_keys(file: IO[bytes], start: int, size: int) -> bool:
    """Whether keys can be read behind a file's end mark: an end mark set too early hides them.

    Three keys with names in a row, or one and a proper end, are no accident; padding is none of these.
    """
    deadline = time.monotonic() + 20
    for offset in range(min(256, size - start)):
        file.seek(start + offset)
        facts = RdbFacts(version=NEWEST_REDIS, size=size - start - offset)
        named: list[bytes] = []

        def count(db: int, key: bytes, value: Value, expiry: int, named: list[bytes] = named) -> None:
            if not key:
                raise Damaged("a key without a name")
            named.append(key)
            if len(named) == 3:
                raise _Enough

        walker = _Walker(file, facts.size, Digester(), count, facts, deadline, lambda done: None, skip=0)
        try:
            walker.records()
        except _Enough:
            return True
        except (Damaged, Unknown, TimeoutError):
            continue
        if named and walker.base + walker.pos + 8 == facts.size:
            return True
    return False


class _Enough(Exception):
    pass


class _Walker:
    def __init__(
        self,
        file: Source,
        size: int,
        digester: Digester,
        on_key: OnKey,
        facts: RdbFacts,
        deadline: float,
        progress: Callable[[int], None],
        skip: int = _HEADER,
        *,
        keys_only: bool = False,
    ) -> None:
        self.keys_only = keys_only
        self.file, self.size, self.digester, self.on_key, self.facts = file, size, digester, on_key, facts
        self.deadline, self.progress = deadline, progress
        self.buf, self.pos, self.base, self.crc = file.read(_CHUNK), skip, 0, 0
        self.last: bytes | None = None  # key before, of the same database

    def header(self) -> None:
        facts, head = self.facts, self.buf[:_HEADER]
        vendors = (("redis", b"REDIS", NEWEST_REDIS), ("valkey", b"VALKEY", NEWEST_VALKEY))
        for vendor, magic, newest in vendors:
            digits = head[len(magic) :]
            if head.startswith(magic) and len(head) == _HEADER and digits.isdigit():
                facts.vendor, facts.version = vendor, int(digits)
                if facts.version > newest:
                    raise Unknown(f"RDB version {vendor} {facts.version} is newer than this program knows")
                if facts.version == 0 or (vendor == "valkey" and facts.version < NEWEST_VALKEY):
                    raise Damaged("the header states a version that does not exist")
                return
        self.pos = 0
        raise Damaged("does not begin with REDIS or VALKEY and a version: it is no RDB file")

    def refill(self, start: int, end: int) -> None:
        """Drop what lies before `start`, read on until at least `end` (both are positions in the buffer)."""
        if self.base + end > self.size or self.base + len(self.buf) >= self.size:
            raise Damaged("ends in the middle of a key: the file was cut, or a length is wrong")
        if end - start > _LARGEST_KEY or len(self.buf) - start > _LARGEST_KEY:
            raise Unknown("holds one key of more than 2 GiB, more than this program reads at once")
        if time.monotonic() > self.deadline:
            raise TimeoutError("reading the RDB file did not finish in time")
        self.crc = crc64(self.buf[:start], self.crc)
        rest = self.buf[start:]
        self.base += start
        self.pos = 0
        more = self.file.read(max(_CHUNK, end - start - len(rest), len(rest)))
        if not more:
            raise Damaged("ends in the middle of a key: the file was cut")
        self.buf = rest + more
        self.progress(self.base)

    def records(self) -> None:
        """Everything between header and end mark; afterwards `pos` is behind the end mark."""
        self.db, self.expiry = 0, NEVER
        while True:
            try:
                self.record()
                return
            except (IndexError, Short) as short:
                self.refill(self.pos, getattr(short, "end", 0))

    def record(self) -> None:
        """Read records until the end mark; `self.pos` only ever moves past whole ones."""
        buf, keys, expires, on_key = self.buf, self.facts.keys, self.facts.expires, self.on_key
        make_string, string = (lambda text: PLAIN) if self.keys_only else self.digester.string, read.string
        while True:
            pos = self.pos
            opcode = buf[pos]
            if opcode == 0 and (size := buf[pos + 1]) < 64 and buf[pos + 2 + size] < 64:
                middle = pos + 2 + size  # both short and plain: most keys of most files
                key, end = buf[pos + 2 : middle], middle + 1 + buf[middle]
                if end > len(buf):
                    raise Short(end)
                value = make_string(buf[middle + 1 : end])
                pos = end
            elif self.keys_only and opcode < _FIELD_EXPIRY and opcode != 8:
                key, self.pos = string(buf, pos + 1)
                value = self.stepped_over(opcode)
                buf, pos = self.buf, self.pos
            elif opcode == 0:
                key, pos = string(buf, pos + 1)
                text, pos = string(buf, pos)
                value = make_string(text)
            elif opcode < 26 and opcode != 8:
                key, pos = string(buf, pos + 1)
                value, pos = read_value(opcode, buf, pos, self.facts, self.digester)
            elif opcode == 0xFF:
                self.pos = pos + 1
                return
            else:
                self.pos = self.operation(opcode, buf, pos + 1)
                continue
            if key == self.last:
                raise Damaged("holds a key twice in a row")
            self.last = key
            on_key(self.db, key, value, self.expiry)
            keys[self.db] += 1
            if self.expiry != NEVER:
                expires[self.db] += 1
                self.expiry = NEVER
            self.pos = pos

    def stepped_over(self, opcode: int) -> Value:
        value, module = skip(opcode, self)
        self.facts.needs_version = max(self.facts.needs_version, SINCE.get(opcode, 1))
        if module:
            self.facts.modules[module] = self.facts.modules.get(module, 0) + 1
        return value

    def operation(self, opcode: int, buf: bytes, pos: int) -> int:
        facts = self.facts
        if opcode == 0xFE:
            self.db, pos = read.length(buf, pos)
            self.last = None
            if self.db >= 1 << 31:
                raise Damaged("selects a database that cannot exist")
            facts.keys.setdefault(self.db, 0)  # servers begin no database that holds nothing
            if len(facts.keys) > _MOST_DATABASES:
                raise Unknown(
                    f"holds more than {_MOST_DATABASES:,} databases, which this program does not count"
                )
        elif opcode == 0xFD:
            if pos + 4 > len(buf):
                raise Short(pos + 4)
            self.expiry, pos = int.from_bytes(buf[pos : pos + 4], "little") * 1000, pos + 4
        elif opcode == 0xFC:
            self.expiry, pos = read.milliseconds(buf, pos)
        elif opcode == 0xFB:
            total, pos = read.length(buf, pos)
            expiring, pos = read.length(buf, pos)
            facts.hints[self.db] = (total, expiring)
        elif opcode == 0xFA:
            name, pos = read.string(buf, pos)
            value, pos = read.string(buf, pos)
            if len(facts.aux) < _MOST_AUX:
                facts.aux[name[:64].decode("utf-8", "replace")] = value[:256].decode("utf-8", "replace")
        elif opcode == 0xF9:
            _, pos = buf[pos], pos + 1
        elif opcode == 0xF8:
            _, pos = read.length(buf, pos)
        elif opcode == 0xF7:
            number, pos = read.length(buf, pos)
            if number != 0:
                facts.module_aux.add(read.module_name(number)[0])
            _, pos = read.length(buf, pos)
            _, pos = read.length(buf, pos)
            _, pos = read.module_parts(buf, pos)
        elif opcode == 0xF5:
            code, pos = read.string(buf, pos)
            facts.needs_version = max(facts.needs_version, 10)
            facts.libraries[library_name(code)] = self.digester.library(code)
        elif opcode == 0xF4 and facts.version >= NEWEST_REDIS:
            for _ in range(3):  # a cluster slot's number and sizes: hints only
                _, pos = read.length(buf, pos)
        elif opcode == 0xF6 or facts.version >= NEWEST_REDIS:
            raise Unknown(f"holds a record of type {opcode}, which this program does not know")
        else:
            raise Damaged(f"holds a record of type {opcode}, which does not exist in its version")
        return pos

    def checksum(self) -> None:
        facts = self.facts
        end = self.base + self.pos
        if facts.version < 5:
            facts.end = end
            return
        tail = self.buf[self.pos : self.pos + 8]
        tail += self.file.read(8 - len(tail))
        if len(tail) < 8:
            raise Damaged("ends without its checksum: the last bytes were cut off")
        facts.end = end + 8
        facts.stated_crc = int.from_bytes(tail, "little")
        facts.computed_crc = crc64(self.buf[: self.pos], self.crc)

    def intact(self) -> bool:
        """Whether the checksum at the very end of the file holds, whatever lies before it."""
        crc, held = self.crc, self.buf
        while more := self.file.read(_CHUNK):
            held += more
            crc = crc64(held[:-8], crc)
            held = held[-8:]
        crc = crc64(held[:-8], crc)
        if held[-8:] == bytes(8):  # written without a checksum: believable in a version soon to come
            return self.facts.version <= _BELIEVABLE
        return len(held) >= 8 and held[-8:] == crc.to_bytes(8, "little")


def library_name(code: bytes) -> str:
    """Name of a function library from the first line of its source (`#!lua name=...`)."""
    first = code.split(b"\n", 1)[0].decode("utf-8", "replace")
    return next((w[5:] for w in first.split() if w.startswith("name=")), "(no name)")[:64]


def peek(path: Path) -> RdbFacts:
    """Header and AUX fields only, of newer versions too; what is wrong behind them is for `walk` to find."""
    facts = RdbFacts(size=path.stat().st_size)

    def stop(db: int, key: bytes, value: Value, expiry: int) -> None:
        raise _Enough

    with path.open("rb") as file:
        walker = _Walker(file, facts.size, Digester(), stop, facts, time.monotonic() + 60, lambda done: None)
        with contextlib.suppress(_Enough, Damaged, Unknown, TimeoutError):
            with contextlib.suppress(Unknown):
                walker.header()
            walker.records()
    return facts
