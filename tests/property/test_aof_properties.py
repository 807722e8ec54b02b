"""The AOF reader under any commands and any bytes."""

from __future__ import annotations

import io
import time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.redis.aof import AofFacts, read
from harness.redis.digest import Digester

BITS = [b"#" * 130, b"#TS:", b"*", b"$", b"1", b"0", b"99999999", b"\r\n", b"\0", b"MULTI", b"SET"]
WORDS = st.lists(st.binary(max_size=30), min_size=1, max_size=6)


def facts_of(data: bytes) -> AofFacts:
    return read(io.BytesIO(data), Digester(), AofFacts(), deadline=time.monotonic() + 10)


def packed(words: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


@settings(max_examples=150, deadline=None)
@given(commands=st.lists(WORDS, max_size=20))
@example(commands=[[b"#TS:"]])  # a command by its frame, whatever it is called
def test_any_commands(commands: list[list[bytes]]) -> None:
    plain = [words for words in commands if words[0].upper() not in (b"MULTI", b"EXEC")]
    facts = facts_of(b"".join(map(packed, plain)))
    assert facts.damage is None and facts.commands == len(plain)


@settings(max_examples=150, deadline=None)
@given(commands=st.lists(WORDS, min_size=1, max_size=6), data=st.data())
def test_a_cut_inside_a_command_is_seen(commands: list[list[bytes]], data: st.DataObject) -> None:
    pieces = [packed(words) for words in commands]
    whole = b"".join(pieces)
    ends = {0}
    for piece in pieces:
        ends.add(max(ends) + len(piece))
    cut = data.draw(st.integers(0, len(whole)).filter(lambda n: n not in ends)) if len(whole) > 1 else 1
    assert facts_of(whole[:cut]).damage


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300) | st.lists(st.sampled_from(BITS), max_size=60).map(b"".join))
def test_any_bytes(data: bytes) -> None:
    facts = facts_of(b"*1\r\n$4\r\nPING\r\n" + data)
    assert facts.commands >= 1
