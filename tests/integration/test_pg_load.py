"""Dumps restored for real: every check has a backup it catches, and good ones that it leaves alone."""

import gzip
import os
import resource
import time

import pytest
from live_servers import SETTINGS, live, query

from harness import catalog, components, process
from harness.drill import drill
from harness.evidence.record import judge
from harness.model import Verdict
from harness.sandbox import PostgresRequest, find_tools, postgres_sandbox
from harness.settings import SandboxSettings, Settings

HEAD = (
    "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n"
    "-- Dumped by pg_dump version 15.18\n\nSET client_encoding = 'UTF8';\n"
    "SET standard_conforming_strings = on;\n"
    "SELECT pg_catalog.set_config('search_path', '', false);\n\n"
)
T = (
    "--\n-- Name: t; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE TABLE public.t (id int, s text);\n\n"
    "--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    "COPY public.t (id, s) FROM stdin;\n1\ta\n2\tb\n\\.\n\n"
)
END = "--\n-- PostgreSQL database dump complete\n--\n\n"


def toc(name, kind, text):
    return f"--\n-- Name: {name}; Type: {kind}; Schema: public; Owner: -\n--\n\n{text}\n\n"


@pytest.fixture
def judged(tmp_path):
    def run(text, name="x.sql", settings=SETTINGS, **claims):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found = catalog.identify(path, components.recognisers(), **claims)
        assert found is not None
        evidence = drill(found, settings)
        return evidence, judge(evidence).verdict

    return run


def failing(evidence, at_least=("high", "critical")):
    return {f.check for f in evidence.findings if f.severity in at_least}


U = toc("u", "TABLE", "CREATE TABLE public.u (a int CHECK (a < 5), b text UNIQUE);")
BROKEN = {
    "pg.statements": U + toc("i", "INDEX", "CREATE INDEX i ON public.u (nope);"),
    "pg.objects": U + toc("gone", "VIEW", "CREATE VIEW public.other AS SELECT 1 AS one;"),
    "pg.nothing-besides": "CREATE TABLE public.evil (a int);\n",
    "pg.roles": toc("t", "ACL", "GRANT SELECT ON public.t TO nobody_made_me;"),
    "pg.row-counts": "DELETE FROM public.t WHERE id = 1;\n",
    "pg.row-content": "UPDATE public.t SET s = 'x' WHERE id = 1;\n",
    "pg.row-content ": "ALTER TABLE public.t DROP COLUMN s;\n",
    "pg.sequences": toc("q", "SEQUENCE", "CREATE SEQUENCE public.q;")
    + "SELECT pg_catalog.setval('public.q', 7, true);\nALTER SEQUENCE public.q RESTART;\n",
    "pg.large-objects": "SELECT pg_catalog.lo_create('77');\nSELECT pg_catalog.lo_unlink('77');\n",
    "pg.hostile": "\\! id\n",
    "pg.contents": "--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -\n--\n",
    "pg.one-dump": HEAD + T + END,
}


@pytest.mark.parametrize("check", BROKEN)
def test_each_check_catches_what_it_is_for(check, judged):
    evidence, verdict = judged(HEAD + T + BROKEN[check] + END)
    assert verdict is Verdict.FAIL
    assert check.strip() in failing(evidence), evidence.findings


@pytest.mark.parametrize(
    ("text", "check"),
    [
        (HEAD + T, "pg.dump-complete"),
        (T + END, "pg.dump-complete"),
        (HEAD + T.split("2\tb")[0], "pg.dump-complete"),
        (HEAD + END, "pg.has-content"),
        (HEAD + toc("t", "TABLE", "CREATE TABLE public.t (a int);") + END, "pg.has-content"),
        ("", "pg.file-kind"),
        (b"\x1f\x8b\x08\x00damaged", "pg.file-whole"),
    ],
)
def test_files_that_are_no_whole_dump(text, check, judged):
    name = "x.sql.gz" if isinstance(text, bytes) else "x.sql"
    evidence, verdict = judged(text, name)
    assert verdict is Verdict.FAIL
    assert failing(evidence) & {check, "pg.file-whole", "pg.file-kind"}, evidence.findings


def test_what_the_file_is_instead(judged):
    for text, words in (("", "is empty"), ("x,y\n1,2\n", "something else")):
        [finding] = [f for f in judged(text)[0].findings if f.check == "pg.file-kind"]
        assert words in finding.message
    evidence, verdict = judged("\ufeff".encode("utf-16-le") + (HEAD + T + END).encode("utf-16-le"))
    assert verdict is Verdict.FAIL
    [finding] = [f for f in evidence.findings if f.check == "pg.file-kind"]
    assert "UTF-16" in finding.message and "iconv" in finding.remedy


def test_what_stands_in_the_contents_without_its_rows(judged):
    data = "--\n-- Data for Name: {0}; Type: {1}; Schema: public; Owner: -\n--\n\n"
    q = toc("q", "SEQUENCE", "CREATE SEQUENCE public.q;") + toc("r", "SEQUENCE", "CREATE SEQUENCE public.r;")
    q += "--\n-- Name: r; Type: SEQUENCE SET; Schema: public; Owner: -\n--\n\n"
    q += "SELECT pg_catalog.setval('public.r', 7, true);\n\n"
    evidence, verdict = judged(HEAD + U + T + q + END)
    assert verdict is Verdict.FAIL
    told = {f.object: f.severity for f in evidence.findings if f.check == "pg.row-counts"}
    assert told == {"public.u": "high", "public.q": "high"}
    whole = U + data.format("u", "TABLE DATA") + "COPY public.u (a, b) FROM stdin;\n\\.\n\n"
    unlogged = toc("w", "TABLE", "CREATE UNLOGGED TABLE public.w (a int);")
    evidence, verdict = judged(HEAD + whole + unlogged + T + END)
    assert verdict is Verdict.PASS, evidence.findings


GOOD = {
    "as it is": HEAD + T + END,
    "old dump with a search_path": HEAD.replace("15.18", "9.6.24")
    + "CREATE SCHEMA app;\nSET search_path = app, pg_catalog;\nSET default_with_oids = false;\n"
    + T.replace("public", "app").replace("app.t", "t")
    + "CREATE SEQUENCE q;\nSELECT pg_catalog.setval('q', 7, true);\n"
    + "ALTER TABLE ONLY t ADD CONSTRAINT t_pkey PRIMARY KEY (id);\n"
    + END,
    "a tablespace that is not here": HEAD + "SET default_tablespace = fast;\n" + T + END,
    "a tablespace it makes": HEAD + "CREATE TABLESPACE far LOCATION '/srv/far';\n" + T + END,
    "its own superuser's password": HEAD
    + "ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'md5x' VALID UNTIL '2001-01-01';\n"
    + "ALTER ROLE postgres WITH NOSUPERUSER NOLOGIN;\n"
    + T
    + END,
    "settings that would stop us": HEAD
    + "ALTER DATABASE provado SET statement_timeout = '1ms';\n"
    + "ALTER DATABASE provado SET default_transaction_read_only = on;\n"
    + "ALTER DATABASE provado SET session_preload_libraries = 'no_such_library';\n"
    + "ALTER DATABASE provado SET role = 'pg_monitor';\n"
    + T
    + END,
    "LATIN1 with a locale that is not here": (
        HEAD.replace("UTF8", "LATIN1")
        + "CREATE DATABASE l1 WITH TEMPLATE = template0 ENCODING = 'LATIN1' LOCALE = 'pt_BR.ISO-8859-1';\n"
        + "\\connect l1\nSET client_encoding = 'LATIN1';\n"
        + T.replace("public.t", 'public."né"').replace("Name: t", "Name: né").replace("\ta\n", "\tção\n")
        + toc("ü", "TABLE", 'CREATE TABLE public."ü" (a text);')
        + "INSERT INTO public.\"ü\" VALUES ('ã');\n"
        + END
    ).encode("latin-1"),
    "SQL_ASCII": HEAD.replace("UTF8", "SQL_ASCII")
    + "CREATE DATABASE raw WITH TEMPLATE = template0 ENCODING = 'SQL_ASCII' LOCALE = 'C';\n"
    + "\\connect raw\nSET client_encoding = 'SQL_ASCII';\n"
    + T
    + toc("é", "TABLE", 'CREATE TABLE public."é" (a text);')
    + "INSERT INTO public.\"é\" VALUES ('ção');\n"
    + END,
    "without pg_dump's comments": "\n".join(
        line for line in (HEAD + T + END).splitlines() if not line.startswith("--")
    )
    + "\n",
    "a trigger at login": HEAD.replace("version 15.18", "version 17.5")
    + T
    + toc(
        "stop()",
        "FUNCTION",
        "CREATE FUNCTION public.stop() RETURNS event_trigger LANGUAGE plpgsql AS\n"
        "  $$ BEGIN RAISE EXCEPTION 'stop'; END $$;",
    )
    + toc("stop", "EVENT TRIGGER", "CREATE EVENT TRIGGER stop ON login EXECUTE FUNCTION public.stop();")
    + END,
    "partitions with their columns in another order, by way of the root": HEAD
    + toc("p", "TABLE", "CREATE TABLE public.p (id int, s text, t text) PARTITION BY LIST (id);")
    + toc("p1", "TABLE", "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES IN (1);")
    + toc("p2", "TABLE", "CREATE TABLE public.p2 PARTITION OF public.p FOR VALUES IN (2);")
    + "COPY public.p (id, s, t) FROM stdin;\n1\ta\t\\N\n\\.\n"
    + "COPY public.p (t, s, id) FROM stdin;\nx\tb\t2\n\\.\n"
    + END,
    "two tables in a file of two dumps": HEAD
    + T
    + END
    + HEAD
    + T.replace("t;", "u;").replace(".t ", ".u ")
    + END,
    "names quoted by --quote-all-identifiers": HEAD
    + T
    + toc("r", "TABLE", "CREATE TABLE public.r (r regclass, a regtype[]);")
    + 'COPY public.r (r, a) FROM stdin;\n"public"."t"\t{"\\\\"public\\\\".\\\\"t\\\\""}\n\\.\n'
    + END,
    "inside a transaction": HEAD + "BEGIN;\n" + T + "COMMIT;\n" + END,
}


@pytest.mark.parametrize("what", GOOD)
def test_odd_and_good(what, judged):
    evidence, verdict = judged(GOOD[what])
    assert verdict is Verdict.PASS, evidence.findings


SECRET = "SECRETVALUE77"
LEAKS = (
    U
    + f"COPY public.u FROM stdin;\n1\t{SECRET}\n99\t{SECRET}\n\\.\n"
    + f"INSERT INTO public.u VALUES (77001, '{SECRET}');\nCOPY public.u FROM stdin;\n{SECRET}\tx\n\\.\n"
    + f"INSERT INTO public.u VALUES (1, '{SECRET}'), (2, '{SECRET}');\n"
    + f"INSERT INTO public.u VALUES ('{SECRET}', 'x');\n"
    + f"ALTER TABLE public.t ADD CONSTRAINT k CHECK (s <> 'b');\nSELECT '{SECRET}'::date;\n"
    + "CREATE TYPE public.e AS ENUM ('x');\n"
    + f"SELECT '{SECRET}'::public.e;\nCREATE UNIQUE INDEX d ON public.t ((s = s));\n"
    + f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}'; END $$;\n"
)


def test_no_value_of_a_failing_row_gets_out(judged, caplog, capfd):
    evidence, verdict = judged(HEAD + T + LEAKS + END)
    assert verdict is Verdict.FAIL
    assert "pg.statements" in failing(evidence)
    for text in (repr(evidence), caplog.text, *capfd.readouterr()):
        assert SECRET not in text
        assert "77001" not in text


HOSTILE = (
    "COPY public.t TO PROGRAM 'touch {canary}';\n\\! touch {canary}\n\\copy public.t to '{canary}'\n"
    "\\o {canary}\nSELECT 1 \\g {canary}\n;\n\\set x `touch {canary}`\n"
    "ALTER /**/ SYSTEM SET archive_command = 'touch {canary}';\nLOAD '{canary}';\n"
    "SELECT pg_catalog.lo_export(1, '{canary}');\nSELECT \"pg_read_file\"('/etc/passwd');\n"
    "DROP DATABASE postgres;\n\\connect postgres nobody evil.example.com 5432\n\\connect provado\n"
    "CREATE FUNCTION public.evil(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN\n"
    "  EXECUTE 'COPY public.t TO ' || 'PROG' || 'RAM ''touch {canary}'''; RETURN true; END $$;\n"
    "ALTER TABLE public.t ADD CHECK (public.evil(id));\n"
    "CREATE FUNCTION public.ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN\n"
    "  EXECUTE 'COPY public.t TO ' || 'PROG' || 'RAM ''touch {canary}'''; END $$;\n"
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.ddl();\n"
    "CREATE TABLE public.z (a int);\n"
    "DO $$ BEGIN EXECUTE 'COPY public.t TO ' || 'PROGRAM ''touch {canary}'''; END $$;\n"
    "UPDATE pg_catalog.pg_authid SET rolpassword = NULL;\n"
)


def test_a_hostile_dump_reaches_nothing(judged, tmp_path):
    canary = tmp_path / "canary"
    tmp_path.chmod(0o777)
    evidence, verdict = judged(HEAD + T + HOSTILE.format(canary=canary) + END)
    assert verdict is Verdict.FAIL
    assert not canary.exists()
    told = [f for f in evidence.findings if f.check == "pg.hostile" and f.severity in ("high", "critical")]
    assert len({f.object for f in told}) >= 13, told
    assert evidence.teardown is not None
    assert evidence.teardown.complete


def test_a_statement_without_end_and_a_flood(judged):
    quick = Settings.model_validate({"sandbox": {"timeout": "5s"}})
    began = time.monotonic()
    evidence, verdict = judged(
        HEAD + T + "SELECT count(*) FROM generate_series(1, 1e12);\n" + END, settings=quick
    )
    assert verdict is Verdict.INCONCLUSIVE
    assert time.monotonic() - began < 30
    bomb = gzip.compress(b"-- x\n" * (1 << 18)) * 1000
    began = time.monotonic()
    _, verdict = judged(gzip.compress((HEAD + T).encode()) + bomb, "x.sql.gz", settings=quick)
    assert verdict is Verdict.INCONCLUSIVE
    assert time.monotonic() - began < 30
    flood = "SELECT 1;\n" * 2000
    evidence, verdict = judged(HEAD + T + flood + END)
    assert len(evidence.findings) < 40


def test_an_archive_bomb_is_read_with_a_flat_memory(judged, tmp_path):
    body = (HEAD + T).encode() + b"-- " + b"x" * (1 << 20) + b"\n"
    data = gzip.compress(body) + gzip.compress(b"\n" * (1 << 20)) * 200 + gzip.compress(END.encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, verdict = judged(data, "x.sql.gz")
    assert verdict is Verdict.PASS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10  # KiB


ZOO = r"""
CREATE TABLE none (); INSERT INTO none DEFAULT VALUES; INSERT INTO none DEFAULT VALUES;
CREATE TABLE gen (a int, b int GENERATED ALWAYS AS (a * 2) STORED, id int GENERATED ALWAYS AS IDENTITY);
INSERT INTO gen (a) SELECT generate_series(1, 50);
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."a ""quoted"" t" ("col ,(1)" text, "né" int);
INSERT INTO "Odd Schema"."a ""quoted"" t" VALUES
  ('\.x', 1), (E'\\.', 2), (E'a\tb\nc', 3), (E'x\r\ny', NULL), ('', 5);
CREATE TABLE parent (a int, b text); CREATE TABLE child (c int) INHERITS (parent);
ALTER TABLE parent ADD d int;
INSERT INTO parent VALUES (1, 'p', 9); INSERT INTO child VALUES (2, 'c', 3, 4);
CREATE UNLOGGED TABLE unl (a int);
INSERT INTO unl SELECT generate_series(1, 10); CREATE TABLE empty (a int);
CREATE TABLE part (id int, t timestamptz) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (100);
CREATE TABLE rest PARTITION OF part DEFAULT;
INSERT INTO part SELECT n,
  '2026-03-29 00:00:00+00'::timestamptz + n * interval '1 hour' FROM generate_series(0, 300) n;
CREATE TABLE times (t timestamptz, r tstzrange, a timestamptz[], i interval, f float8, by bytea);
INSERT INTO times VALUES
  ('infinity', tstzrange('2020-10-25 00:00+00', NULL), ARRAY['2020-06-01 00:00+00'::timestamptz],
  '1 year -3 days', 0.1 + 0.2, '\xdeadbeef00ff5c'),
  ('0044-03-15 12:00:00+00 BC', NULL, '{}', '-1.5 s', '-0', '');
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree); INSERT INTO tree VALUES (2, NULL), (1, 2);
CREATE FUNCTION pick(a int) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC
  SELECT CASE WHEN a > 1 THEN 1 END; SELECT a; END;
CREATE INDEX picked ON gen (pick(a));
CREATE FUNCTION ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION ddl();
SELECT lo_from_bytea(4242, decode(repeat('00ff27', 20000), 'hex')); SELECT lo_create(4243);
COMMENT ON TABLE gen IS
  E'; "x'' -- Name: evil; Type: TABLE; Schema: public; Owner: -\n-- Name: evil; Type: TABLE;';
CREATE TABLE loud (a int); CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO empty VALUES (1); RETURN NEW; END';
  CREATE TRIGGER "t r" AFTER INSERT ON loud FOR EACH ROW
  EXECUTE FUNCTION shout(); ALTER TABLE loud DISABLE TRIGGER "t r"; INSERT INTO loud VALUES (1);
  ALTER TABLE loud ENABLE TRIGGER "t r";
"""
WAYS = {
    "plain": [],
    "create": ["--create", "--clean"],
    "clean": ["--clean"],
    "inserts": ["--inserts"],
    "rows-per-insert": ["--rows-per-insert=7", "--on-conflict-do-nothing"],
    "partition-root": ["--load-via-partition-root", "--disable-triggers", "--quote-all-identifiers"],
    "session-auth": ["--use-set-session-authorization", "--no-comments", "-E", "LATIN1"],
    "custom": ["-Fc"],
}


@pytest.fixture(scope="module")
def zoo():
    with postgres_sandbox(PostgresRequest(15), SandboxSettings(), deadline=time.monotonic() + 120) as server:
        query(server, "postgres", "CREATE DATABASE zoo TEMPLATE template0")
        with live(server, "zoo").connect() as conn:
            conn.execute(ZOO)
        for setting in ("bytea_output = escape", "timezone = 'Europe/Lisbon'", "intervalstyle = 'iso_8601'"):
            query(server, "postgres", f"ALTER DATABASE zoo SET {setting}")
        yield server


def dump(server, tool, *options):
    program = next((t for t in find_tools(tool, SandboxSettings()) if "/15/" in str(t)), None)
    if program is None:
        pytest.skip("no PostgreSQL 15 here: its dumps are NOT tested")
    env = {"PGHOST": server.host, "PGUSER": "postgres", "PGPASSWORD": server.password.reveal()}
    done = process.run([program, *options], timeout_s=60, env=env)
    assert done.code == 0, done.error_text()
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_good_dumps_of_a_zoo(way, zoo, judged):
    evidence, verdict = judged(
        dump(zoo, "pg_dump", "-d", "zoo", *WAYS[way]), "zoo.dump" if way == "custom" else "zoo.sql"
    )
    assert verdict is Verdict.PASS, evidence.findings
    # pg_dump writes a float's -0 without quotes in INSERTs, and SQL reads 0
    told = {"pg.row-content"} if "insert" in way or "insert" in str(WAYS[way]) else set()
    assert failing(evidence, ("medium", "high", "critical")) == told, evidence.findings
    assert not any("INSERT" in reason for reason in evidence.unproven)


@pytest.mark.slow
def test_a_cluster_dump_with_passwords(zoo, judged):
    evidence, verdict = judged(dump(zoo, "pg_dumpall", "--clean"), "all.sql")
    assert verdict is Verdict.PASS, evidence.findings
    assert evidence.artifact.format == "pg_dumpall"


@pytest.mark.slow
def test_windows_line_ends_and_a_byte_order_mark(zoo, judged):
    text = dump(zoo, "pg_dump", "-d", "zoo").replace(b"\n", b"\r\n")
    evidence, verdict = judged(b"\xef\xbb\xbf" + text)
    assert verdict is Verdict.PASS, evidence.findings


def test_a_fifo_under_the_name_of_a_backup_is_judged_and_never_opened(tmp_path):
    for name in ("a.sql.gz", "dump.rdb", "config-backup-1.tar"):
        os.mkfifo(tmp_path / name)
        artifact = catalog.identify(tmp_path / name, components.recognisers())
        assert artifact is not None
        assert judge(drill(artifact, SETTINGS)).verdict is Verdict.FAIL


def test_a_compressed_archive_of_zeros_is_a_bomb(tmp_path):
    path = tmp_path / "a.dump.gz"
    path.write_bytes(gzip.compress(b"PGDMP\x01\x0e\x00" + bytes(80 << 20)))
    artifact = catalog.identify(path, components.recognisers())
    evidence = drill(artifact, SETTINGS)
    assert judge(evidence).verdict is Verdict.FAIL
    assert any("bomb" in f.message for f in evidence.findings)
