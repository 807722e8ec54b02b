"""The walker on files whose every byte is known: what it reads, and what it must not take for whole."""

from __future__ import annotations

import io
import time

import pytest
from rdb_files import SAMPLE, key, listpack, rdb, string, ziplist

from harness.redis import lzf, rdb_values
from harness.redis.crc64 import crc64
from harness.redis.digest import NEVER, Digester, Value
from harness.redis.rdb import RdbFacts, hidden_keys, walk

Keys = dict[tuple[int, bytes], tuple[Value, int]]
D = Digester(b"salt")


def read(data: bytes) -> tuple[RdbFacts, Keys]:
    found: Keys = {}

    def on_key(db: int, name: bytes, value: Value, expiry: int) -> None:
        found[db, name] = value, expiry

    return walk(io.BytesIO(data), len(data), D, on_key, deadline=time.monotonic() + 20), found


def test_a_whole_file() -> None:
    facts, keys = read(SAMPLE)
    assert facts.damage is None and facts.unknown is None
    assert facts.stated_crc == facts.computed_crc != 0
    assert (facts.source_version, facts.ctime, facts.version) == ("7.0.15", 1_700_000_000, 10)
    assert keys == {
        (0, b"session:1"): (D.string(b"value one"), 1_900_000_000_123),
        (0, b"number"): (D.string(b"17"), NEVER),
        (0, b"hash"): (D.hash({b"other": b"x", b"field": b"value"}, {}), NEVER),
        (0, b"list"): (D.list([b"a", b"b", b"c"]), NEVER),
        (0, b"ints"): (D.set([b"5", b"1"]), NEVER),
        (2, b"elsewhere"): (D.string(b"!"), NEVER),
    }
    assert facts.hints == {0: (5, 1), 2: (1, 0)}
    assert dict(facts.keys) == {0: 5, 2: 1}


def test_crc_is_the_one_of_the_format() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert crc64(b"56789", crc64(b"1234")) == crc64(b"123456789")


def test_a_key_larger_than_the_buffer() -> None:
    large = b"x" * (3 << 20)
    facts, keys = read(rdb(b"\xfe\x00" + key(b"a", b"1") + key(b"large", large) + key(b"z", b"2")))
    assert facts.damage is None and facts.stated_crc == facts.computed_crc
    assert keys[0, b"large"] == (D.string(large), NEVER)
    assert facts.total == 3


@pytest.mark.parametrize("cut", [0, 4, 9, 30, 60, len(SAMPLE) - 9, len(SAMPLE) - 8, len(SAMPLE) - 1])
def test_a_cut_file_is_damaged(cut: int) -> None:
    facts, _ = read(SAMPLE[:cut])
    assert facts.damage


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x00" + b"\x80\x7f\xff\xff\xff", "cut, or a length"),
        (b"\x00" + string(b"k") + b"\xc3\x02\x10\x00\x00", "compressed"),
        (b"\x10" + string(b"k") + string(listpack(b"only a field")), "without a value"),
        (b"\x10" + string(b"k") + string(listpack(b"a", b"b")[:-1]), "another size"),
        (b"\x0d" + string(b"k") + string(ziplist(b"a", b"b").replace(b"\x03\x01b", b"\x04\x01b")), "chain"),
        (b"\x0b" + string(b"k") + string(b"\x03\x00\x00\x00\x01\x00\x00\x00abc"), "intset"),
        (b"\x05" + string(b"k") + b"\x01" + string(b"m") + b"\x00" * 6 + b"\xf8\x7f", "not a number"),
        (  # a stream's node whose counts lead in circles
            b"\x0f"
            + string(b"k")
            + b"\x01"
            + string(bytes(16))
            + string(listpack(b"%d" % (2**62 + 2), b"0", b"-4", b"-1")),
            "inconsistent",
        ),
        (b"\x19" + string(b"k") + bytes(8) + string(listpack(b"f", b"v", b"soon")), "no number"),
        (b"\x19" + string(b"k") + bytes(8) + string(listpack(*(b"f", b"v", b"0") * 2)), "twice"),
        (b"\x7b", "does not exist"),
    ],
)
def test_nonsense_is_named(body: bytes, words: str) -> None:
    facts, _ = read(rdb(b"\xfe\x00" + body))
    assert facts.damage and words in facts.damage


def test_a_newer_version_is_unknown_not_damaged() -> None:
    for magic in (b"REDIS0013", b"VALKEY081"):
        facts, _ = read(rdb(b"\xfe\x00" + key(b"k", b"v"), magic))
        assert facts.unknown and not facts.damage
        facts, _ = read(rdb(b"\xfe\x00" + key(b"k", b"v"), magic, checksum=False))
        assert facts.unknown and not facts.damage
        broken = bytearray(rdb(b"\xfe\x00" + key(b"k", b"v"), magic))
        broken[-12] ^= 1
        facts, _ = read(bytes(broken))
        assert facts.damage and not facts.unknown


def test_an_unknown_record_in_a_known_version() -> None:
    facts, _ = read(rdb(b"\xfe\x00\xf0" + key(b"k", b"v"), b"REDIS0012"))
    assert facts.unknown and not facts.damage
    facts, _ = read(rdb(b"\xfe\x00\xf0" + key(b"k", b"v"), b"REDIS0010"))
    assert facts.damage and not facts.unknown


def test_functions_modules_and_their_names() -> None:
    # Module id of "MBbloom--" with encoding version 3: 9 characters of 6 bits, then 10 bits.
    chars = rdb_values._MODULE_CHARS
    number = 0
    for char in "MBbloom--":
        number = number << 6 | chars.index(char)
    number = number << 10 | 3
    module = b"\x81" + number.to_bytes(8, "big")
    value = b"\x02\x05" + b"\x05" + string(b"data") + b"\x04" + bytes(8) + b"\x03" + bytes(4) + b"\x00"
    code = b"#!lua name=mylib engine=x\nreturn 1"
    body = b"\xf5" + string(code) + b"\xf7" + module + b"\x02\x02" + b"\x05" + string(b"aux") + b"\x00"
    body += b"\xfe\x00" + b"\x07" + string(b"filter") + module + value + key(b"after", b"1")
    facts, keys = read(rdb(body))
    assert facts.damage is None
    assert facts.libraries == {"mylib": D.library(code)}
    assert facts.modules == {"MBbloom--": 1} and facts.module_aux == {"MBbloom--"}
    parts = [b"2", b"5", b"5", b"data", b"4", bytes(8), b"3", bytes(4)]
    assert keys[0, b"filter"][0] == D.module(b"MBbloom--", parts)
    assert (0, b"after") in keys


def test_field_expiry_of_redis_and_valkey() -> None:
    soon = 1_900_000_000_000
    fields = b"\x02" + b"\x01" + string(b"f") + string(b"1") + b"\x00" + string(b"g") + string(b"2")
    redis = b"\x18" + string(b"h") + soon.to_bytes(8, "little") + fields
    valkey = b"\x16" + string(b"h") + b"\x02" + string(b"f") + string(b"1") + soon.to_bytes(8, "little")
    valkey += string(b"g") + string(b"2") + b"\xff" * 8
    wanted = D.hash({b"f": b"1", b"g": b"2"}, {b"f": soon})
    for body, magic in ((redis, b"REDIS0012"), (valkey, b"VALKEY080")):
        facts, keys = read(rdb(b"\xfe\x00" + body, magic))
        assert facts.damage is None
        assert keys[0, b"h"][0] == wanted
    assert wanted.field_expiry == soon and wanted.death == NEVER
    assert D.hash({b"f": b"1"}, {b"f": soon}).death == soon


def test_keys_behind_the_end_mark() -> None:
    hidden = b"\xff" + bytes(8) + b"".join(key(b"lost:%d" % n, b"v") for n in range(5))
    data = rdb(b"\xfe\x00" + key(b"k", b"v") + hidden)
    facts, keys = read(data)
    assert set(keys) == {(0, b"k")} and facts.end < facts.size
    assert hidden_keys(io.BytesIO(data), facts.end, facts.size)
    for padding in (bytes(64), b"\n", b"eof mark of forty bytes: " + b"f" * 40, b"\xff" * 300):
        padded = SAMPLE + padding
        facts, _ = read(padded)
        assert not hidden_keys(io.BytesIO(padded), facts.end, len(padded)), padding


def test_old_small_encodings() -> None:
    zipmap = b"\x02" + b"\x01a" + b"\x01\x00b" + b"\x01c" + b"\x02\x01de\x00" + b"\xff"
    assert rdb_values.zipmap(zipmap) == {b"a": b"b", b"c": b"de"}
    assert rdb_values.ziplist(ziplist(b"a", b"bc", b"")) == [b"a", b"bc", b""]
    numbers = bytes((0, 0xF1 + 12)) + bytes((2, 0xFE, 0xFF)) + bytes((3, 0xF0, 0, 0, 0x80))
    blob = (
        (10 + len(numbers) + 1).to_bytes(4, "little")
        + (15).to_bytes(4, "little")
        + b"\x03\x00"
        + numbers
        + b"\xff"
    )
    assert rdb_values.ziplist(blob) == [b"12", b"-1", b"-8388608"]
    with pytest.raises(rdb_values.Damaged, match="elsewhere"):  # read backwards it would lead astray
        rdb_values.ziplist(blob[:4] + bytes(4) + blob[8:])


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x02abc", b"abc"),
        (b"\x00a\xe0\x00\x00", b"a" * 10),
        (b"\x02abc\x20\x02", b"abcabc"),
    ],
)
def test_lzf(packed: bytes, plain: bytes) -> None:
    assert lzf.unpack(packed, len(plain)) == plain
    for wrong in (len(plain) - 1, len(plain) + 1, 1 << 40):
        with pytest.raises(lzf.LzfError):
            lzf.unpack(packed, wrong)


def test_lzf_never_looks_before_its_start() -> None:
    with pytest.raises(lzf.LzfError):
        lzf.unpack(b"\x20\x05", 3)
    with pytest.raises(lzf.LzfError):
        lzf.unpack(b"\x05ab", 6)


def test_how_a_module_s_strings_are_packed_makes_no_difference() -> None:
    module = b"\x81" + (1 << 10).to_bytes(8, "big")
    seen = []
    for text in (string(b"a" * 30), b"\x80" + (30).to_bytes(4, "big") + b"a" * 30, string(b"b" * 30)):
        seen.append(read(rdb(b"\x07" + string(b"k") + module + b"\x05" + text + b"\x00"))[1])
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    "value",
    [
        b"\x02\x01k\x02" + string(b"a") + string(b"a"),
        b"\x14\x01k" + string(listpack(b"a", b"b", b"a")),
        b"\x05\x01k\x02" + (string(b"a") + bytes(8)) * 2,
        b"\x11\x01k" + string(listpack(b"a", b"1", b"a", b"2")),
        b"\x0b\x01k" + string(bytes((2, 0, 0, 0, 2, 0, 0, 0)) + b"\x05\x00\x01\x00"),
        b"\x0b\x01k" + string(bytes((2, 0, 0, 0, 2, 0, 0, 0)) + b"\x05\x00\x05\x00"),
    ],
    ids=["set", "set listpack", "zset", "zset listpack", "intset order", "intset twice"],
)
def test_what_no_server_writes_under_a_right_checksum(value: bytes) -> None:
    facts, _ = read(rdb(b"\xfe\x00" + value, b"REDIS0011"))
    assert facts.damage and ("twice" in facts.damage or "out of order" in facts.damage)


def test_databases_without_end_take_no_memory() -> None:
    body = b"".join(b"\xfe\x80" + n.to_bytes(4, "big") for n in range(70_000))
    facts, _ = read(rdb(body))
    assert facts.unknown and "databases" in facts.unknown


def test_a_string_larger_than_servers_take_by_default() -> None:
    """proto-max-bulk-len may be raised: no damage where so few bytes can give so many, and steps over it."""
    packed = bytes((0xE0, 0xFF, 0)) * 700_000
    for size, plausible in ((529 << 20, False), (520 << 20, True)):
        big = (
            b"\x00\x01k\xc3\x80" + len(packed).to_bytes(4, "big") + b"\x80" + size.to_bytes(4, "big") + packed
        )
        data = rdb(b"\xfe\x00" + big)
        facts, _ = read(data)
        assert (bool(facts.unknown), bool(facts.damage)) == (plausible, not plausible)
        quick = walk(
            io.BytesIO(data), len(data), D, lambda *_: None, deadline=time.monotonic() + 20, keys_only=True
        )
        assert (quick.damage is None) is plausible and quick.total == plausible
