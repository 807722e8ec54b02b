"""The walker, which sees only the file, and the live server agree on every key, in every version at hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis_servers import LATER, SALT, SERVERS, Running, difference, fill, read_live, running

from harness.redis.digest import Digester
from harness.redis.live import LiveFacts, _Reader, read_all
from harness.redis.rdb import RdbFacts, walk
from harness.redis.spool import Spool, compare


def keys_of(path: Path, *, keys_only: bool) -> tuple[RdbFacts, list[tuple[int, bytes, int, int, int]]]:
    keys: list[tuple[int, bytes, int, int, int]] = []
    with path.open("rb") as file:
        facts = walk(
            file,
            path.stat().st_size,
            Digester(SALT),
            lambda db, key, value, expiry: keys.append((db, key, value.type, expiry, value.death)),
            deadline=time.monotonic() + 60,
            keys_only=keys_only,
        )
    return facts, keys


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_a_walk_of_the_keys_alone_agrees(name: str, tmp_path: Path) -> None:
    """Database, name, type and expiry are those of the full walk, in the encodings of every version."""
    small = {"set-max-intset-entries": "1", "stream-node-max-entries": "2", "rdbcompression": "no"}
    for options in ({}, small):
        with running(SERVERS[name], **options) as one:
            fill(one.wire, one.vendor, one.version)
            one.wire.call("SAVE")
            full, quick = (keys_of(one.dump, keys_only=keys_only) for keys_only in (False, True))
            assert full == quick
            assert len(full[1]) > 40 and quick[0].stated_crc == quick[0].computed_crc
            _, live = read_live(one.wire, tmp_path)
            observed = Spool(tmp_path)
            facts = read_all(one.wire, Digester(SALT), observed, deadline=time.monotonic() + 60, values=False)
            assert sum(facts.keys.values()) == live.count == observed.count
            assert not compare(live, observed, past_ms=0, values=False)


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_file_equals_server(name: str, tmp_path: Path) -> None:
    with running(SERVERS[name]) as one:
        fill(one.wire, one.vendor, one.version)
        found, facts, live = difference(one, tmp_path)
        assert not found
        assert found.compared == facts.total > 40
        assert set(live.types) == {"string", "list", "set", "zset", "hash", "stream"}
        assert (live.libraries or {}) == facts.libraries
        assert dict(facts.expires) == {db: n for db, n in live.expires.items() if n}


def test_a_newer_server_gives_the_same_digests(tmp_path: Path) -> None:
    """A dump of the oldest server, loaded by every newer one that can: not one key differs."""
    oldest = min(SERVERS, key=lambda n: [int(x) for x in n.split("-")[1].split(".")])
    if oldest.startswith("redis-8"):
        pytest.skip("no server here writes what others load")
    with running(SERVERS[oldest]) as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("SAVE")
        _, expected = read_live(one.wire, tmp_path)
        data = tmp_path / "data"
        data.mkdir()
        (data / "dump.rdb").write_bytes(one.dump.read_bytes())
    for name in sorted(SERVERS.keys() - {oldest}):
        with running(SERVERS[name], data) as other:
            _, observed = read_live(other.wire, tmp_path)
            assert not compare(expected, observed, past_ms=0), name
            assert observed.count == expected.count


@pytest.mark.parametrize(
    "options",
    [
        {"rdbcompression": "no", "rdbchecksum": "no"},
        {"list-max-listpack-size": "3", "hash-max-listpack-entries": "2", "zset-max-listpack-entries": "2"},
        {"set-max-intset-entries": "1", "stream-node-max-entries": "2"},
    ],
    ids=["plain", "small nodes", "hashtables"],
)
def test_encodings_make_no_difference(options: dict[str, str], tmp_path: Path) -> None:
    with running(None, **options) as one:
        fill(one.wire, one.vendor, one.version)
        one.wire.call("SAVE")
        _, other = read_live(one.wire, tmp_path)
        with running(None) as usual:
            fill(usual.wire, usual.vendor, usual.version)
            _, observed = read_live(usual.wire, tmp_path)
        found = compare(other, observed, past_ms=0)
        # Delivery times are those of two runs; everything else is equal.
        assert {label[1] for label in found.side} <= {"stream"}
        found.side.clear()
        assert not found


WORDS = st.binary(max_size=80)
SCORES = st.floats(allow_nan=False).map(lambda f: f + 0.0)
DATA = st.dictionaries(
    WORDS,
    st.one_of(
        WORDS,
        st.lists(WORDS, min_size=1, max_size=20),
        st.frozensets(WORDS, min_size=1, max_size=20),
        st.dictionaries(WORDS, WORDS, min_size=1, max_size=20),
        st.dictionaries(WORDS, SCORES, min_size=1, max_size=20).map(lambda d: tuple(d.items())),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def shared() -> object:
    with running(None) as one:
        yield one


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=DATA)
@example(data={b"provado:canary:": b"", b"provado:canary:0123": b"not one of ours"})
def test_any_data_set(
    shared: Running, data: dict[bytes, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared.wire.call("FLUSHALL")
    for key, value in data.items():
        if isinstance(value, bytes):
            shared.wire.call("SET", key, value)
        elif isinstance(value, list):
            shared.wire.call("RPUSH", key, *value)
        elif isinstance(value, frozenset):
            shared.wire.call("SADD", key, *value)
        elif isinstance(value, dict):
            shared.wire.call("HSET", key, *(w for pair in value.items() for w in pair))
        elif isinstance(value, tuple):
            shared.wire.call("ZADD", key, *(w for member, score in value for w in (repr(score), member)))
    found, facts, _ = difference(shared, tmp_path_factory.mktemp("spools"))
    assert not found
    assert facts.total == len(data)


def test_servers_that_tell_less(tmp_path: Path) -> None:
    """What servers before 6.0 and 7.0 tell, asked of a newer one, gives the same digests."""
    with running(None) as one:
        fill(one.wire, one.vendor, min(one.version, (7, 0)))  # without what those know nothing of
        one.wire.call("XADD", "stream:expiring", "1-1", "a", "b")
        one.wire.call("PEXPIREAT", "stream:expiring", LATER)
        _, expected = read_live(one.wire, tmp_path)
        observed = Spool(tmp_path)
        facts = LiveFacts()
        reader = _Reader(one.wire, Digester(SALT), facts, (5, 0, 14))
        take = observed.sink(Digester(SALT))
        for db in (0, 3, 15):
            one.wire.call("SELECT", db)
            for key, value, expiry in reader.database():
                take(db, key, value, expiry)
        assert not compare(expected, observed, past_ms=0)
        assert observed.count == expected.count and reader.counts[b"stream"] == 3
