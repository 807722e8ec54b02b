"""Append-only files read without a server: whole to the end, open transactions, which keys they touch.

Commands are not interpreted. What they do not touch must come out of the base file unchanged, which is
how far a replayed AOF can be judged without trusting the server that replays it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from .digest import Digester, is_canary
from .rdb_values import Damaged, Source

_CHUNK: Final = 1 << 20
_LARGEST: Final = 1 << 30
_WORDS: Final = 1 << 26
_REMEMBERED: Final = 2_000_000
_CANARIES: Final = 1000

# Where the written keys stand in a command as it lies in an AOF: first and step (0: only the first).
# Everything else is taken to touch the key behind its name; commands in _EVERYTHING touch any key.
_KEYS: Final = {
    b"DEL": (1, 1),
    b"UNLINK": (1, 1),
    b"MSET": (1, 2),
    b"MSETNX": (1, 2),
    b"MSETEX": (2, 2),
    b"BITOP": (2, 0),
    b"XGROUP": (2, 0),
    b"SINTERSTORE": (1, 0),
    b"PFMERGE": (1, 0),
}
_TWO: Final = frozenset(
    b"RENAME RENAMENX COPY SMOVE RPOPLPUSH BRPOPLPUSH LMOVE BLMOVE ZRANGESTORE GEOSEARCHSTORE".split()
)
_EVERYTHING: Final = frozenset(
    b"FLUSHALL FLUSHDB SWAPDB EVAL EVALSHA FCALL SORT GEORADIUS GEORADIUSBYMEMBER MIGRATE".split()
)
_NO_KEYS: Final = frozenset(b"SELECT MULTI EXEC PING FUNCTION SCRIPT PUBLISH SPUBLISH REPLCONF".split())


@dataclass
class AofFacts:
    """What an AOF says. `touched` holds digests of names its commands write (None: any key may be)."""

    commands: int = 0
    last_time: int | None = None  # of the last `#TS:` line, Unix seconds
    open_transaction: int = 0  # commands behind a MULTI that has no EXEC
    touched: set[bytes] | None = field(default_factory=set)
    functions: bool = False  # function libraries are changed by it
    canaries: dict[str, str] = field(default_factory=dict)  # keys of ours: name -> digest of the value
    damage: str | None = None


def read(file: Source, digester: Digester, facts: AofFacts, *, deadline: float) -> AofFacts:
    """Read commands from the file's position to its end into `facts` (several files may share one).

    Raises TimeoutError past `deadline` (`time.monotonic()` seconds).
    """
    buf, pos, base = b"", 0, 0
    ended = False
    transaction: int | None = None
    while True:
        found = None
        try:
            found = _command(buf, pos)
        except Damaged as problem:
            tail = buf[pos:]
            where = f" (at byte {base + pos:,}, after {facts.commands:,} commands)"
            nuls = not tail.strip(b"\0")
            facts.damage = (
                "goes on with NUL bytes where a command is expected" if nuls else str(problem)
            ) + where
            return facts
        if found is None:
            if ended:
                if pos < len(buf):
                    facts.damage = (
                        f"ends in the middle of a command (at byte {base + pos:,}, after {facts.commands:,})"
                    )
                break
            if time.monotonic() > deadline:
                raise TimeoutError("reading the append-only file did not finish in time")
            if len(buf) - pos > _LARGEST:
                raise TimeoutError("the append-only file holds a command too large to be read here")
            more = file.read(max(_CHUNK, len(buf) - pos))
            ended = not more
            base, buf, pos = base + pos, buf[pos:] + more, 0
            continue
        annotation = buf[pos] == 0x23
        words, pos = found
        if not words:
            continue
        name = words[0].upper()
        if annotation:
            told = name[4:] if name.startswith(b"#TS:") else b""
            facts.last_time = int(told) if told.isdigit() else facts.last_time
            continue
        facts.commands += 1
        if name == b"MULTI":
            transaction = 0
        elif name == b"EXEC":
            transaction = None
        elif transaction is not None:
            transaction += 1
        _touch(name, words, digester, facts)
    if transaction is not None:
        facts.open_transaction = transaction + 1
    return facts


def _command(buf: bytes, pos: int) -> tuple[list[bytes], int] | None:
    """The command at `pos` and the position behind it; None when the buffer ends first."""
    if pos >= len(buf):
        return None
    end = buf.find(b"\r\n", pos, pos + 128)
    if buf[pos] == 0x23:  # an annotation, `#TS:1700000000`
        if end < 0 and len(buf) - pos >= 128:
            raise Damaged("holds an annotation that does not end")
        return None if end < 0 else ([buf[pos:end]], end + 2)
    if buf[pos] != 0x2A:
        raise Damaged("holds something that is no command")
    if end < 0:
        if len(buf) - pos < 32:
            return None
        raise Damaged("holds a command without a count")
    count = _number(buf[pos + 1 : end], _WORDS)
    pos = end + 2
    words: list[bytes] = []
    for _ in range(count):
        if pos >= len(buf):
            return None
        end = buf.find(b"\r\n", pos, pos + 32)
        if buf[pos] != 0x24:
            raise Damaged("holds a command with a word that has no length")
        if end < 0:
            if len(buf) - pos < 32:
                return None
            raise Damaged("holds a command with a word that has no length")
        size = _number(buf[pos + 1 : end], 1 << 30)
        pos = end + 2 + size
        if pos + 2 > len(buf):
            return None
        if buf[pos : pos + 2] != b"\r\n":
            raise Damaged("holds a word whose length is wrong")
        words.append(buf[end + 2 : pos])
        pos += 2
    return words, pos


def _number(text: bytes, limit: int) -> int:
    if not text.isdigit() or len(text) > 12 or int(text) > limit:
        raise Damaged("holds a command with a count that cannot be")
    return int(text)


def _touch(name: bytes, words: list[bytes], digester: Digester, facts: AofFacts) -> None:
    if name in _NO_KEYS:
        facts.functions |= name == b"FUNCTION"
        return
    if len(words) > 1 and is_canary(words[1]) and (len(words) == 2 or name not in _KEYS):
        if name == b"SET" and len(words) > 2 and len(facts.canaries) < _CANARIES:
            facts.canaries[words[1].decode("ascii", "replace")] = digester.string(words[2]).main.hex()
        return
    touched = facts.touched
    if touched is None:
        return
    if name in _EVERYTHING or len(touched) > _REMEMBERED:
        facts.touched = None
        return
    first, step = _KEYS.get(name, (1, 0))
    last = len(words) if step else min(len(words), first + (2 if name in _TWO else 1))
    touched.update(digester.name(word) for word in words[first : last : step or 1])
