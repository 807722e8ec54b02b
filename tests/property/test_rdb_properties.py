"""The walker under any bytes: no crash, no hang, no unbounded memory, and nothing damaged taken for whole."""

from __future__ import annotations

import io
import sys
import time
import tracemalloc
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit/redis"))
from rdb_files import SAMPLE, key, rdb

from harness.redis import lzf
from harness.redis.digest import Digester
from harness.redis.rdb import RdbFacts, walk


def read(data: bytes) -> RdbFacts:
    return walk(io.BytesIO(data), len(data), Digester(), lambda *_: None, deadline=time.monotonic() + 20)


def whole(facts: RdbFacts) -> bool:
    return facts.damage is None and facts.unknown is None and facts.stated_crc == facts.computed_crc


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=400), magic=st.sampled_from([b"", b"REDIS0010", b"REDIS0012", b"VALKEY080"]))
@example(data=b"\x0e\x01k\x81" + b"\xff" * 8, magic=b"REDIS0010")
@example(data=b"\x00\xc3\x01\x81" + b"\x7f" * 8 + b"\x00", magic=b"REDIS0010")
def test_any_bytes(data: bytes, magic: bytes) -> None:
    facts = read(magic + data)
    assert facts.damage is not None or facts.unknown is not None or facts.stated_crc is not None


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(SAMPLE) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_seen(place: int, bit: int) -> None:
    changed = bytearray(SAMPLE)
    changed[place] ^= 1 << bit
    assert not whole(read(bytes(changed)))


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, len(SAMPLE) - 1))
def test_any_cut_is_seen(cut: int) -> None:
    assert read(SAMPLE[:cut]).damage


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_body_under_a_right_checksum(body: bytes) -> None:
    """A forged checksum does not make nonsense crash the walker, nor take memory it does not have."""
    read(rdb(b"\xfe\x00" + body, b"REDIS0012"))


@settings(max_examples=200, deadline=None)
@given(packed=st.binary(max_size=100), size=st.integers(0, 30_000))
def test_lzf_gives_what_it_states_or_nothing(packed: bytes, size: int) -> None:
    try:
        assert len(lzf.unpack(packed, size)) == size
    except lzf.LzfError:
        return


def test_a_claimed_length_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        for claim in (
            b"\x00\x01k\x81\x00\x00\x00\x40" + bytes(4),
            b"\x01\x01k\x81\x00\x00\x00\x40" + bytes(4),
        ):
            assert read(rdb(b"\xfe\x00" + claim)).damage
        assert read(rdb(b"\xfe\x00\x00\x01k\xc3\x41\x00\x80\x10\x00\x00\x00" + bytes(256))).damage
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_memory_stays_flat() -> None:
    data = rdb(b"\xfe\x00" + b"".join(key(b"key:%d" % n, b"v" * 100) for n in range(40_000)))
    file = io.BytesIO(data)
    tracemalloc.start()
    try:
        facts = walk(file, len(data), Digester(), lambda *_: None, deadline=time.monotonic() + 60)
        assert facts.total == 40_000 and whole(facts)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


Listed = list[tuple[int, bytes, int, int, int]]


def listed(data: bytes, *, keys_only: bool) -> tuple[RdbFacts, Listed]:
    keys: Listed = []
    facts = walk(
        io.BytesIO(data),
        len(data),
        Digester(),
        lambda db, key, value, expiry: keys.append((db, key, value.type, expiry, value.death)),
        deadline=time.monotonic() + 20,
        keys_only=keys_only,
    )
    return facts, keys


def told(facts: RdbFacts) -> dict[str, object]:
    return {
        name: getattr(facts, name) for name in vars(facts) if name not in ("libraries", "damage", "unknown")
    }


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(max_size=120),
    magic=st.sampled_from([b"REDIS0003", b"REDIS0010", b"REDIS0012", b"VALKEY080"]),
)
def test_keys_alone_are_the_keys_of_the_whole(body: bytes, magic: bytes) -> None:
    """Whatever a full walk can read, a walk of the keys reads alike; what it rejects is rejected by both."""
    data = rdb(b"\xfe\x00" + body, magic)
    full, keys = listed(data, keys_only=False)
    quick, names = listed(data, keys_only=True)
    if whole(full):
        assert names == keys and told(quick) == told(full)
    elif quick.damage or quick.unknown:  # else the damage lies inside a value, which only the full walk sees
        assert full.damage or full.unknown


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(SAMPLE) - 1), bit=st.integers(0, 7), cut=st.integers(1, len(SAMPLE)))
def test_a_walk_of_the_keys_sees_damage_too(place: int, bit: int, cut: int) -> None:
    changed = bytearray(SAMPLE)
    changed[place] ^= 1 << bit
    assert not whole(listed(bytes(changed), keys_only=True)[0])
    assert listed(SAMPLE[:cut], keys_only=True)[0].damage or cut == len(SAMPLE)


def test_memory_of_a_key_walk_does_not_grow_with_a_value() -> None:
    item = b"\x80\x00\x00\x10\x00" + bytes(4096)
    huge = b"\x01\x04huge\x80" + (10_000).to_bytes(4, "big") + item * 10_000  # a list of 41 MB
    data = rdb(b"\xfe\x00" + huge + key(b"after", b"x") + b"\x00\x01k\x80\x01\x00\x00\x00" + bytes(1 << 24))
    file = io.BytesIO(data)
    names: list[bytes] = []
    tracemalloc.start()
    try:
        facts = walk(
            file,
            len(data),
            Digester(),
            lambda db, key, value, expiry: names.append(key),
            deadline=time.monotonic() + 60,
            keys_only=True,
        )
        assert whole(facts) and names == [b"huge", b"after", b"k"]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
