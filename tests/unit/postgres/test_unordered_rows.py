"""COPY text on its way into several connections: every row goes one way, whole, and is counted once."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.postgres import rows
from harness.postgres.rows import Unordered, whole_rows

TEXT = st.lists(st.sampled_from([b"\n", b"\\", b"\\\\", b"a", b"\t", b"bc", b"\\N"]), max_size=60).map(
    b"".join
)


def cut(text: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(text), *(n % (len(text) + 1) for n in at)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def plain(text: bytes) -> set[int]:
    """Places of bytes that no backslash stands before."""
    found, at = set(), 0
    while at < len(text):
        found.add(at)
        at += 2 if text[at : at + 1] == b"\\" else 1
    return found


@pytest.mark.parametrize("long", [0, 3, 1 << 20])
@given(text=TEXT, at=st.lists(st.integers(0, 1 << 16), max_size=12))
def test_pieces_are_the_text_and_end_where_rows_do(long: int, text: bytes, at: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_LONG", long)
        pieces = list(whole_rows(cut(text, at)))
    assert b"".join(piece for piece, _ in pieces) == text
    wanted, behind = plain(text), 0
    for piece, whole in pieces:
        behind += len(piece)
        if whole and behind < len(text):
            assert text[behind - 1 : behind] == b"\n"
            assert behind - 1 in wanted
    assert not pieces or pieces[-1][1]


@given(text=TEXT, at=st.lists(st.integers(0, 1 << 16), max_size=12))
def test_sums_do_not_depend_on_how_the_text_is_cut(text: bytes, at: list[int]) -> None:
    whole, parts = Unordered(), Unordered()
    whole.add(text)
    whole.end()
    for part in cut(text, at):
        parts.add(part)
    parts.end()
    assert parts == whole
    assert whole.rows == text.count(b"\n") + bool(text and not text.endswith(b"\n"))


@given(lines=st.lists(st.sampled_from([b"", b"a", b"b", b"\\\\"]), max_size=12), data=st.data())
def test_order_does_not_count_and_everything_else_does(lines: list[bytes], data: st.DataObject) -> None:
    def of(some: list[bytes]) -> Unordered:
        held = Unordered()
        held.add(b"".join(line + b"\n" for line in some))
        held.end()
        return held

    assert of(data.draw(st.permutations(lines))) == of(lines)
    assert of([*lines, b"a"]) != of(lines)
    assert of([*lines, b"a"]) != of([*lines, b"A"])


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (b"C:\\\\temp\\\\", 200_000),  # rows that end in a backslash of their own
        (b"\0" * (1 << 18), 200),  # no row ends at all
        (b"x" * (8 << 20), 8),
    ],
)
def test_no_text_is_held_whole(line: bytes, count: int) -> None:
    end = b"" if line.startswith(b"\0") else b"\n"

    def blocks() -> Iterator[bytes]:
        left = b""
        for _ in range(count):
            left += line + end
            while len(left) >= 1 << 18:
                yield left[: 1 << 18]
                left = left[1 << 18 :]
        yield left

    before, sums, size = Unordered(), Unordered(), 0
    tracemalloc.start()
    for piece, _ in whole_rows(blocks()):
        sums.add(piece)
        size = max(size, len(piece))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for block in blocks():
        before.add(block)
    assert sums == before
    assert size <= 2 << 20
    assert peak < 40 << 20
