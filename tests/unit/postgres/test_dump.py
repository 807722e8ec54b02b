"""The reader of SQL text: where statements end, what belongs to COPY, what psql would act upon."""

import pytest

from harness.errors import ArtifactError
from harness.postgres import text as text_module
from harness.postgres.dump import Copy, Entry, Header, Meta, Statement, read_dump


def read(text, chunk=None):
    data = text if isinstance(text, bytes) else text.encode()
    blocks = [data] if chunk is None else [data[i : i + chunk] for i in range(0, len(data), chunk)]
    found = []
    for item in read_dump(blocks):
        found.append((item, b"".join(item.data)) if isinstance(item, Copy) else item)
    return found


def statements(text):
    return [i.sql.decode() for i in read(text) if isinstance(i, Statement)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT ';' AS a",
        "SELECT 'it''s ; here'",
        r"SELECT E'a\';b'",
        "SELECT 'a\\' AS b",
        'CREATE TABLE "a;""b" (c int)',
        "CREATE FUNCTION f() RETURNS int AS $$ BEGIN; RETURN 1; END $$ LANGUAGE plpgsql",
        "CREATE FUNCTION f() RETURNS int AS $a_1$ SELECT '$$;'; $a_1$ LANGUAGE sql",
        "SELECT a$b$c",
        "SELECT 1 /* ; /* nested ; */ ' */ + 1",
        "SELECT 1 -- ; '\n + 1",
        "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
        "CREATE FUNCTION f(a int) RETURNS int BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 1 END; SELECT 2; END",
        "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); END",
        'CREATE TABLE beginning ("end" int, begin_at int)',
        "INSERT INTO t VALUES ('a;b', E'c\\';d', $$;$$)",
        "INSERT INTO t VALUES (1 - 2, 4 / 2, 'x''y')",
    ],
)
def test_a_statement_ends_where_psql_ends_it(sql):
    assert statements(f"{sql};\nSELECT 'next';") == [sql, "SELECT 'next'"]


def test_backslashes_count_in_plain_strings_once_standard_strings_are_off():
    off = "SET standard_conforming_strings = off;\nSELECT 'a\\';b';\nSET standard_conforming_strings = on;\n"
    assert statements(off + "SELECT 'a\\';")[1:] == [
        "SELECT 'a\\';b'",
        "SET standard_conforming_strings = on",
        "SELECT 'a\\'",
    ]


def test_copy_rows_are_taken_as_they_stand():
    rows = "1\t\\N\n\\.x\n\\\\.\n;\n\n"
    (copy, data), after = read(f'COPY "S"."t ""x" (id, "b,(1)") FROM stdin;\n{rows}\\.\nSELECT 1;')
    assert (copy.schema, copy.table, copy.columns) == ("S", 't "x', ("id", "b,(1)"))
    assert data == rows.encode()
    assert (copy.data.rows, copy.data.bytes, copy.data.ended) == (5, len(rows), True)
    assert after.sql == b"SELECT 1"
    assert after.line == 8


@pytest.mark.parametrize("rows", [b"\\.x", b"a\n\\.\\N", b"a\n\\.x\n\\.yz\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_rows_like_a_terminator_are_kept_to_the_texts_last_byte(rows, step, monkeypatch):
    monkeypatch.setattr(text_module, "_CHUNK", 1)
    text = b"COPY t FROM stdin;\n" + rows
    copy = next(read_dump(text[i : i + step] for i in range(0, len(text), step)))
    assert b"".join(copy.data) == rows
    assert copy.data.bytes == len(rows)


def test_rows_nobody_reads_are_skipped():
    items = list(read_dump([b"COPY t FROM stdin;\n1\n2;\n\\.\nSELECT 1;"]))
    assert [type(i) for i in items] == [Copy, Statement]


def test_windows_line_ends_and_byte_order_mark():
    text = b"\xef\xbb\xbfSELECT 1;\r\nCOPY t FROM stdin;\r\na\r\nb\r\n\\.\r\nSELECT 2;\r\n"
    first, (copy, data), last = read(text)
    assert (first.sql, data, copy.data.rows, last.sql) == (b"SELECT 1", b"a\nb\n", 2, b"SELECT 2")


def test_an_empty_block_and_a_table_without_columns():
    (copy, data), (none, rows) = read("COPY t (a) FROM stdin;\n\\.\nCOPY u  FROM stdin;\n\n\n\\.\n")
    assert (copy.data.rows, data, copy.data.ended) == (0, b"", True)
    assert (none.columns, none.data.rows, rows) == ((), 2, b"\n\n")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("COPY t FROM stdin;\n1\n", "between two rows of COPY t"),
        ("COPY t FROM stdin;\n1\n2", "inside a row of COPY t"),
        ("SELECT 'abc", "inside a statement"),
        ("SELECT 1", "inside a statement"),
        ("SELECT $a$ ; $b$", "inside a statement"),
        ("/* comment", "inside a comment"),
        ("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;", "inside a statement"),
    ],
)
def test_text_that_ends_too_early_says_where(text, where):
    last = read(text)[-1]
    assert isinstance(last, Header)
    assert (last.kind, last.value) == ("truncated", where)


def test_what_psql_would_act_upon_is_told_wherever_it_stands():
    text = "\\! one\nSELECT 1 \\! two ; three\n;\n  \\connect x\nSELECT '\\! no' -- \\! no\n;"
    assert [i.text for i in read(text) if isinstance(i, Meta)] == [
        "\\! one",
        "\\! two ; three",
        "\\connect x",
    ]
    assert len(statements(text)) == 2


def test_comment_headers():
    text = (
        "--\n-- PostgreSQL database dump\n--\n-- Dumped from database version 15.18 (Debian)\n"
        "-- Name: a; Type: b; Type: TABLE; Schema: public; Owner: bob; Tablespace: fast\n"
        "CREATE TABLE x (a int);\n"
        "-- Data for Name: x; Type: TABLE DATA; Schema: -; Owner: -\nCOPY x FROM stdin;\n\\.\n"
        "-- PostgreSQL database dump complete\nSELECT 1;\n"
    )
    items = read(text)
    assert [(h.kind, h.value) for h in items if isinstance(h, Header)] == [
        ("dump", ""),
        ("server-version", "15.18 (Debian)"),
        ("complete", ""),
    ]
    table, data = (e for e in items if isinstance(e, Entry))
    assert (table.type, table.name, table.schema, table.owner) == ("TABLE", "a; Type: b", "public", "bob")
    assert (data.data, data.schema, data.owner) == (True, None, None)
    made, last = (s for s in items if isinstance(s, Statement))
    assert made.entry is table
    assert last.entry is None  # nothing belongs to an entry behind the dump's end


def test_names_are_read_in_the_encoding_that_the_text_sets():
    text = (
        "SET client_encoding = 'LATIN1';\n-- Name: né; Type: TABLE; Schema: public; Owner: -\nSELECT 'é';\n"
    )
    items = read((text + 'COPY "né" ("ç") FROM stdin;\nçé\n\\.\n').encode("latin-1"))
    entry = next(i for i in items if isinstance(i, Entry))
    copy, data = items[-1]
    assert (entry.name, copy.table, copy.columns, copy.encoding) == ("né", "né", ("ç",), "LATIN1")
    assert data == "çé\n".encode("latin-1")
    assert items[2].utf8.decode() == "SELECT 'é'"


@pytest.mark.parametrize(
    ("name", "codec"),
    [("UTF8", "utf-8"), ("WIN1252", "cp1252"), ("EUC_JP", "euc_jp"), ("MULE_INTERNAL", "utf-8")],
)
def test_encodings_by_postgres_name(name, codec):
    assert text_module.codec_of(name) == codec


def test_a_routine_is_known_even_where_blocks_meet(monkeypatch):
    monkeypatch.setattr(text_module, "_CHUNK", 1)
    sql = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END"
    data = f"{sql};SELECT 3;".encode()
    found = [i.sql.decode() for i in read_dump(data[i : i + 1] for i in range(len(data)))]
    assert found == [sql, "SELECT 3"]


def test_a_statement_without_end_is_refused_before_memory_is(monkeypatch):
    monkeypatch.setattr(text_module, "MAX_STATEMENT", 1 << 20)
    endless = (b"SELECT 'x" + b"y" * (1 << 16) for _ in range(1 << 20))
    with pytest.raises(ArtifactError, match="larger than 1 MiB"):
        list(read_dump(endless))
