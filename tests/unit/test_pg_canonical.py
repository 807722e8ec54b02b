"""Expressions made equal where only a restore changes their text, and left alone otherwise."""

from __future__ import annotations

import pytest

from harness.postgres.canonical import canonical, unqualified


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "CHECK (((s)::text = ANY ((ARRAY['a'::varchar, 'b, c]'::varchar])::text[])))",
            "CHECK (((s)::text = ANY (ARRAY[('a'::varchar)::text, ('b, c]'::varchar)::text])))",
        ),
        ("((ARRAY[1, 2])::bigint[])", "(ARRAY[(1)::bigint, (2)::bigint])"),
        (
            "(ARRAY[f(1, 2)])::character varying(5)[]",
            "ARRAY[(f(1, 2))::character varying(5)]",
        ),
        ('(ARRAY[x])::z."My Type"[]', 'ARRAY[(x)::z."My Type"]'),
        ("(ARRAY[ARRAY['a'::name]])::text[]", "ARRAY[ARRAY[('a'::name)::text]]"),
        ("((((a) AND (b)) AND (c)) AND (d))", "((a) AND (b) AND (c) AND (d))"),
        ("(((a OR b) OR c) OR d)", "(a OR b OR c OR d)"),
    ],
)
def test_what_a_restore_changes(before: str, after: str) -> None:
    assert canonical(before) == canonical(after) == after


@pytest.mark.parametrize(
    "text",
    [
        "((a OR b) AND c)",
        "(a AND (b AND c))",
        "(a AND (b OR c))",
        "(ARRAY[1, 2])::bigint",
        "(x)::text[]",
        "'((ARRAY[1])::text[] AND b) AND c'",
        "((",
        "('unclosed AND ((b AND c) AND d)",
        "f(((a)) )",
        "(" * 3000 + "a" + ")" * 3000,
    ],
)
def test_the_rest_stays(text: str) -> None:
    assert canonical(text) == text


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("SELECT a.b, a.* FROM s.a", "SELECT b, * FROM a"),
        ("""SELECT "x y"."Z" WHERE t.v = 'a.b'""", """SELECT "Z" WHERE v = 'a.b'"""),
        ("SELECT 1.5, 'it''s x.y'", "SELECT 1.5, 'it''s x.y'"),
    ],
)
def test_unqualified(text: str, bare: str) -> None:
    assert unqualified(text) == bare
