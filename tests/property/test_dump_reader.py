"""The reader of dumps, for any text in any pieces."""

import contextlib
import itertools
import re
from collections.abc import Iterator
from unittest import mock

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.errors import ArtifactError
from harness.postgres import text as text_module
from harness.postgres.dump import Copy, Header, Statement, read_dump
from harness.postgres.facts import read_facts

_PLAIN = st.text("abcxyz019 ,=+\n", min_size=1, max_size=12)
_INSIDE = st.text("ab;'\"$\\-/* \n()é", max_size=12)


def _string(body: str) -> str:
    return "'" + body.replace("'", "''") + "'"


def _escaped(body: str) -> str:
    return " E'" + body.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _name(body: str) -> str:
    return '"' + body.replace('"', '""') + '"'


def _dollar(body: str) -> str:
    return f" $q_1${body.replace('$', '')}$q_1$ "


def _comment(body: str) -> str:
    inner = re.sub(r"[/*]", "", body)
    return f"/* {inner} /* {inner} */ ; */"


def _line_comment(body: str) -> str:
    return "--" + body.replace("\n", "") + "\n"


_PIECE = st.one_of(
    _PLAIN,
    *(_INSIDE.map(f) for f in (_string, _escaped, _name, _dollar, _comment, _line_comment)),
    _INSIDE.map(lambda b: "(" + _string(b) + ";)"),
)
_SQL = st.lists(_PIECE, min_size=1, max_size=6).map(lambda parts: "ALTER x " + "".join(parts) + " z")
_ROW = st.text("ab\t;'$.N-", max_size=8).map(lambda r: r if r != "\\." else "x")
_ROWS = st.lists(
    st.one_of(_ROW, st.sampled_from(["\\\\.", "\\.x", "\\N", "-- Name: x; Type: TABLE"])), max_size=5
)
_BLOCK = _ROWS.map(lambda rows: "COPY t (a) FROM stdin;\n" + "".join(f"{r}\n" for r in rows) + "\\.\n")
_HEADER = st.sampled_from(
    [
        "-- PostgreSQL database dump\n",
        "-- Name: t; Type: TABLE; Schema: public; Owner: -\n",
        "\\connect x\n",
        "SET standard_conforming_strings = on;\n",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN 1 > 2 THEN 3 END; SELECT 4; END;\n",
        "INSERT INTO t VALUES ('a;''b', 2);\n",
    ]
)
_DUMP = st.lists(st.one_of(_SQL.map(lambda s: s + ";\n"), _BLOCK, _HEADER), max_size=6).map("".join)


def _read(data: bytes, cuts: list[int], damaged: bool = False) -> list[object]:
    """Everything in the text, read in blocks cut at these places, with damage behind it."""
    edges = [0, *sorted({c % (len(data) + 1) for c in cuts}), len(data)]

    def blocks() -> Iterator[bytes]:
        yield from (data[a:b] for a, b in itertools.pairwise(edges))
        if damaged:
            raise ArtifactError("damaged")

    found: list[object] = []
    chunk = 1 if cuts else len(data) + 1
    with mock.patch.object(text_module, "_CHUNK", chunk), contextlib.suppress(ArtifactError):
        for item in read_dump(blocks()):
            if isinstance(item, Copy):
                rows: list[bytes] = []
                try:
                    rows.extend(item.data)
                finally:
                    text = b"".join(rows)
                    found.append((item.sql, item.columns, item.line, text, item.data.rows, item.data.ended))
            else:
                found.append(item)
        assert not damaged
    return found


@given(_DUMP, st.lists(st.integers(0, 10_000), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_cutting_gives_the_same(text, cuts):
    data = text.encode()
    assert _read(data, cuts) == _read(data, [])


@given(_DUMP, st.lists(st.integers(0, 10_000), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_before_damage_any_cutting_gives_the_same(text, cuts):
    data = text.encode()
    assert _read(data, cuts, damaged=True) == _read(data, [], damaged=True)


@given(_DUMP)
@settings(max_examples=60, deadline=None)
def test_byte_by_byte_gives_the_same(text):
    data = text.encode()
    assert _read(data, list(range(len(data)))) == _read(data, [])


@given(st.lists(_SQL, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_statements_end_where_they_were_made_to_end(made):
    assume(not any("\\" in re.sub(r"'[^']*'|\"[^\"]*\"|\$q_1\$.*?\$q_1\$", "", s, flags=re.S) for s in made))
    found = list(read_dump([";\n".join([*made, ""]).encode()]))
    assert [i.sql.decode() for i in found if isinstance(i, Statement)] == made


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_never_break_it(data, cuts):
    assert _read(data, cuts) == _read(data, [])
    assert read_facts([data]).problem is None


@given(_DUMP, st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_damaged_dumps_never_break_it(text, at, put):
    data = text.encode()
    at %= len(data) + 1
    facts = read_facts([data[:at] + put + data[at + len(put) :]])
    assert facts.problem is None or isinstance(facts.problem, ArtifactError)


@given(_BLOCK, st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_a_cut_block_is_never_taken_for_a_whole_one(block, at):
    data = block.encode()
    cut = data[: at % (len(data) - 2)]
    assume(cut.strip() and not cut.endswith(b"\n\\."))  # a cut "\\.x" is an end, to psql too
    last = _read(cut, [])[-1]
    assert isinstance(last, Header)
    assert last.kind == "truncated"
