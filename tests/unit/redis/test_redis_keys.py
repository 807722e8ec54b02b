"""Records of keys: what names show, how two sources compare, what a manifest keeps; addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.redis.digest import NEVER, OTHER, Digester, KeyClasses, Value, columns, records
from harness.redis.spool import Spool, compare
from harness.redis.wire import parse_url

D = Digester(b"salt")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (b"session:4711", "session:*"),
        (b"session:ann@example.org", "session:*"),
        (b"user:maria", "user:*"),
        (b"bull:email:send:wait", "bull:email:send:wait"),
        (b"bull:email:send:17", "bull:email:send:*"),
        (b"bull:email:send:17:logs", "bull:email:send:*:*"),
        (b"canary", "canary"),
        (b"123.456.789-09", "*"),
        (b"\xff\x00", "*"),
        (b"", "*"),
        (b"a:" * 20, "a:a:a:a:a:a:*"),
    ],
)
def test_kinds_of_keys_show_no_names(key: bytes, kind: str) -> None:
    classes = KeyClasses()
    assert classes.names[classes.of(key)] == kind
    assert classes.names[classes.of(key)] == kind


def test_kinds_are_bounded() -> None:
    classes = KeyClasses(limit=50)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for a in letters:
        for b in letters:
            classes.of(f"{a}{b}:x".encode())
    assert len(classes.names) == 50
    assert classes.names[classes.of(b"zz:x")] == OTHER


def spool(tmp_path: Path, *keys: tuple[int, bytes, Value, int]) -> Spool:
    made = Spool(tmp_path)
    take = made.sink(D)
    for key in keys:
        take(*key)
    return made


def test_equal_sources_in_another_order(tmp_path: Path) -> None:
    keys = [(n % 3, b"k:%d" % n, D.string(b"%d" % n), NEVER) for n in range(5000)]
    one, other = spool(tmp_path, *keys), spool(tmp_path, *reversed(keys), keys[0])
    found = compare(one, other, past_ms=0)
    assert not found and found.compared == 5000


def test_what_expired_is_no_loss(tmp_path: Path) -> None:
    dying = D.hash({b"f": b"1"}, {b"f": 500})
    one = spool(tmp_path, (0, b"gone", D.string(b"x"), 1000), (0, b"fields", dying, NEVER))
    assert not compare(one, spool(tmp_path), past_ms=1000)
    found = compare(one, spool(tmp_path), past_ms=499)
    assert found.missing.total() == 2
    assert not compare(spool(tmp_path), one, past_ms=1000)


def test_a_field_that_expired_does_not_accuse_its_hash(tmp_path: Path) -> None:
    before = D.hash({b"f": b"1", b"g": b"2"}, {b"f": 500})
    one, other = (
        spool(tmp_path, (0, b"h", before, NEVER)),
        spool(tmp_path, (0, b"h", D.hash({b"g": b"2"}, {}), NEVER)),
    )
    found = compare(one, other, past_ms=500)
    assert not found and found.untold.total() == 1  # and it is told that the rest of it was not compared
    assert compare(one, other, past_ms=499).value.total() == 1
    early = spool(tmp_path, (0, b"h", D.hash({b"f": b"1", b"g": b"2"}, {b"f": 400}), NEVER))
    assert compare(one, early, past_ms=450).side.total() == 1  # the field is there, and its time was changed


def test_a_moved_key_is_one_difference(tmp_path: Path) -> None:
    value = D.string(b"x")
    found = compare(
        spool(tmp_path, (0, b"k", value, NEVER)), spool(tmp_path, (5, b"k", value, NEVER)), past_ms=0
    )
    assert found.moved.total() == 1 and not found.missing and not found.extra


def test_a_manifest_keeps_every_record(tmp_path: Path) -> None:
    one = spool(tmp_path, *((0, b"k:%d" % n, D.set([b"%d" % n]), n) for n in range(300)))
    data = b"".join(one.buckets())
    packed = columns(data)
    shuffled = {name: packed[name] for name in sorted(packed, reverse=True)}
    assert records(shuffled, 300) == data
    with pytest.raises(ValueError, match="length"):
        records(packed, 299)
    with pytest.raises(ValueError, match="fewer bytes"):
        records(packed, 10**12)
    with pytest.raises(KeyError):
        records({}, 300)


def test_a_spool_on_disk_is_the_same(tmp_path: Path) -> None:
    with (tmp_path / "s").open("xb+") as file:
        one = Spool(file)
        take = one.sink(D)
        for n in range(3000):
            take(0, b"k%d" % n, D.string(b""), NEVER)
        one.save(tmp_path / "s.index")
    again = Spool.load(tmp_path / "s", one.classes)
    fresh = spool(tmp_path, *((0, b"k%d" % n, D.string(b""), NEVER) for n in range(3000)))
    assert again.count == 3000 and not compare(fresh, again, past_ms=0)
    assert json.loads((tmp_path / "s.index").read_text())["count"] == 3000


def test_digests_tell_what_looks_alike() -> None:
    values = [
        D.string(b"ab"), D.list([b"ab"]), D.set([b"ab"]), D.list([b"a", b"b"]), D.list([b"b", b"a"]),
        D.hash({b"a": b"b"}, {}), D.hash({b"b": b"a"}, {}),
        D.zset([(b"a", 1.0)]), D.zset([(b"a", 1.0000000000000002)]),
        D.stream([], (0, 0), []), D.stream([], (0, 1), []), D.stream([((0, 1), [b"a", b"b"])], (0, 1), []),
        D.list([b"ab", b""]), D.list([b"", b"ab"]), D.module(b"ab"),
    ]  # fmt: skip
    assert len({v.main for v in values}) == len(values)
    assert D.set([b"a", b"b"]) == D.set([b"b", b"a"])
    assert D.zset([(b"a", -0.0)]) == D.zset([(b"a", 0.0)])
    assert Digester(b"other").string(b"ab") != D.string(b"ab")


def test_addresses() -> None:
    found = parse_url("rediss://ann:p%40ss@cache.example:6380/3?ca=/etc/ca.pem")
    assert (found.host, found.port, found.user, found.database) == ("cache.example", 6380, "ann", 3)
    assert found.tls and found.ca_file == "/etc/ca.pem"
    assert found.password is not None and found.password.reveal() == "p@ss"
    assert "p@ss" not in repr(found)
    assert parse_url("unix:///run/redis.sock?db=2").unix_socket == "/run/redis.sock"
    assert parse_url("redis://").port == 6379
    for wrong in ("http://x", "redis://x:port", "redis://x/db", "redis.example"):
        with pytest.raises(ConfigError):
            parse_url(wrong)
