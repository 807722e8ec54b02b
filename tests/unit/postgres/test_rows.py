"""Rows as a multiset: order does not count, everything else does."""

import pytest

from harness.postgres import rows
from harness.postgres.rows import Multiset, lines


def of(*text, normal=None):
    held = Multiset()
    held.add([t.encode() for t in text], normal)
    return held


def test_order_does_not_count():
    assert of("a\nb\nc\n").same(of("c\na\n", "b\n"))


@pytest.mark.parametrize("other", ["a\nb\n", "a\nb\nb\n", "a\nb\nd\n", "a\nb\nc\nc\n", ""])
def test_everything_else_does(other):
    held = of("a\nb\nc\n")
    assert not held.same(of(other))


def test_how_many_rows_are_missing():
    assert of("a\na\nb\n").missing(of("a\nc\n")) == 2


def test_too_many_rows_to_keep(monkeypatch):
    monkeypatch.setattr(rows, "_KEEP", 2)
    many = of("a\nb\nc\n")
    assert many.missing(of("a\n")) is None
    assert many.same(of("b\nc\na\n"))


def test_lines_across_blocks():
    assert list(lines([b"a", b"b\nc\n", b"\n", b"d"])) == [b"ab", b"c", b"", b"d"]


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("double precision", "0.30000000000000004", "0.300000000000000044"),
        ("double precision", "NaN", "NaN"),
        ("real", "0.1", "0.100000001"),
        ("bytea", "\\\\x41ff5c", "A\\\\377\\\\\\\\"),
        ("timestamp with time zone", "2026-03-29 00:30:00+00", "2026-03-29 01:30:00+01"),
        ("timestamp with time zone", "0044-03-15 12:00:00+00 BC", "0044-03-15 11:23:15-00:36:45 BC"),
        ("timestamp with time zone", "2026-01-01 00:00:00.5+00", "2025-12-31 21:00:00.5-03"),
        ("tstzrange", '["2026-01-01 00:00:00+00",)', '["2026-01-01 05:30:00+05:30",)'),
    ],
)
def test_one_value_in_two_writings(kind, one, other):
    way = rows._way(kind)
    assert way is not None
    assert way(one.encode()) == way(other.encode())


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("double precision", "0.30000000000000004", "0.3"),
        ("double precision", "0", "-0"),
        ("real", "0.1", "0.2"),
        ("bytea", "\\\\x41", "\\\\x42"),
        ("bytea", "\\\\x", "\\\\x00"),
        ("timestamp with time zone", "2026-03-29 00:30:00+00", "2026-03-29 00:30:00+01"),
        ("timestamp with time zone", "2026-03-29 00:30:00.1+00", "2026-03-29 00:30:00.2+00"),
        ("timestamp with time zone", "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00"),
        ("timestamp with time zone", "infinity", "-infinity"),
    ],
)
def test_two_values_stay_two(kind, one, other):
    way = rows._way(kind)
    assert way is not None
    assert way(one.encode()) != way(other.encode())


@pytest.mark.parametrize("kind", ["text", "jsonb", "character varying", "numeric", "integer"])
def test_text_is_taken_as_it_is(kind):
    assert rows._way(kind) is None
