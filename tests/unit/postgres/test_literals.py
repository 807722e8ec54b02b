"""Rows of INSERT statements read as COPY text: what pg_dump writes, and what is left unread."""

import pytest

from harness.postgres.literals import NEGATIVE_ZERO, Values, columns, rows


def read(text, codec="utf-8", **more):
    found = rows(text.encode(codec), codec, **more)
    return None if found is None else list(found)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("NULL", b"\\N"),
        ("'\\N'", b"\\\\N"),
        ("''", b""),
        ("'it''s'", b"it's"),
        ("''''", b"'"),
        ("'tab\there'", b"tab\\there"),
        ("'line\nnext\r'", b"line\\nnext\\r"),
        ("'a), (b'", b"a), (b"),
        ("E'it\\'s \\\\ ''x'' \\n'", b"it's \\\\ 'x' \\n"),
        ("E'\\x41\\101'", b"AA"),
        ("-12.50", b"-12.50"),
        ("0", b"0"),
        ("true", b"t"),
        ("B'0101'", b"0101"),
        ("'São'", "São".encode()),
    ],
)
def test_one_value(value, field):
    [row] = read(f"INSERT INTO s.t VALUES (1, {value}, 2)")
    assert row.fields == (b"1", field, b"2")


def test_what_depends_on_the_column_is_marked():
    [row] = read("INSERT INTO t VALUES (true, B'1', 1e+20, 007, DEFAULT, -0, 1.5)")
    assert row.kinds == (
        (0, "boolean"),
        (1, "bits"),
        (2, "number"),
        (3, "number"),
        (4, "default"),
        (5, NEGATIVE_ZERO),
    )
    assert row.fields[4:6] == (None, b"0")


def test_many_rows_and_what_pg_dump_writes_around_them():
    wanted = [Values((b"1", b"a"), ()), Values((b"2", b"\\N"), ())]
    for text in (
        "INSERT INTO public.t VALUES\n\t(1, 'a'),\n\t(2, NULL)",
        'INSERT INTO "odd ""na(me"."t" (id, "s p") OVERRIDING SYSTEM VALUE VALUES (1, \'a\'), (2, NULL)',
        "INSERT INTO t VALUES (1,'a'),(2,NULL) ON CONFLICT DO NOTHING",
    ):
        assert read(text) == wanted


def test_the_columns():
    assert columns(b"INSERT INTO t VALUES (1)") == ()
    assert columns(b'INSERT INTO s.t (id, "a ""b"", c", Plain) VALUES (1, 2, 3)') == (
        "id",
        'a "b", c',
        "plain",
    )
    assert columns(b"INSERT INTO t SELECT 1") is None
    assert columns(b"INSERT INTO t DEFAULT VALUES") is None


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (now())",
        "INSERT INTO t VALUES (1 + 1)",
        "INSERT INTO t VALUES ('1'::int)",
        "INSERT INTO t VALUES (ARRAY[1])",
        "INSERT INTO t VALUES (E'\\u00e9')",
        "INSERT INTO t VALUES (U&'\\00e9')",
        "INSERT INTO t VALUES ('a' 'b')",
        "INSERT INTO t VALUES (1) RETURNING id",
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
        "INSERT INTO t VALUES ()",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t VALUES",
    ],
)
def test_what_the_server_computes_is_not_read(text):
    assert read(text) is None


def test_backslashes_and_letters_that_cannot_be_told():
    assert read("INSERT INTO t VALUES ('a\\b')", backslashes=True) is None
    assert read("INSERT INTO t VALUES ('ab')", backslashes=True) is not None
    assert read("INSERT INTO t VALUES ('表')", codec="shift_jis") is None
