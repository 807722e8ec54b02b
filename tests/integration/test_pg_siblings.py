"""Siblings of the public cases, by class of loss: what a second pair of eyes made to fool the judgement."""

from __future__ import annotations

import pytest
from live_servers import live, postgres, query
from test_pg_load import END, HEAD, T, failing, judged, toc  # noqa: F401

from harness.model import Severity, Verdict
from harness.postgres.capture import capture_facts
from harness.postgres.compare import compare_objects
from harness.postgres.difference import Way
from harness.postgres.text import codec_of

STARTED = "-- Started on 2026-11-20 02:00:00 UTC\n"
CLOCKED = toc("seen", "TABLE", "CREATE TABLE public.seen (at timestamp with time zone DEFAULT now());") + (
    "--\n-- Data for Name: seen; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    "COPY public.seen (at) FROM stdin;\n{}\n\\.\n\n"
)


@pytest.mark.parametrize(
    ("name", "row", "hours"),
    [
        ("shop.sql", "2026-11-17 02:00:00+00", ["72 h"]),
        ("shop.sql", "2026-11-20 01:00:00+00", []),
        ("email-gateway-daily-20261120-020000.sql", "2026-11-20 01:00:00+00", []),
        ("email-gateway-daily-20261124-020000.sql", "2026-11-20 01:00:00+00", ["97 h"]),  # an old one renamed
    ],
)
def test_the_newest_row_is_held_against_header_and_name(name, row, hours, judged) -> None:  # noqa: F811
    evidence, _ = judged(HEAD + STARTED + CLOCKED.format(row) + END, name)
    assert [f.observed for f in evidence.findings if f.check == "pg.newest-row"] == hours
    assert failing(evidence, (Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)) <= {"pg.newest-row"}


# As pg_encoding_to_char writes them; Python has none for EUC_TW and MULE_INTERNAL.
ENCODINGS = (
    *(f"LATIN{n}" for n in range(1, 11)),
    *(f"WIN{n}" for n in (866, 874, *range(1250, 1259))),
    *("KOI8R", "KOI8U", "ISO_8859_5", "ISO_8859_6", "ISO_8859_7", "ISO_8859_8", "EUC_JP", "EUC_CN", "EUC_KR"),
    *("EUC_JIS_2004", "SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"),
)
SAMPLES = {
    "KOI8R": "имя",
    "KOI8U": "ім'я",
    "SJIS": "①",
    "EUC_JP": "名前",
    "WIN1251": "имя",
    "LATIN1": "número",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_has_its_codec(encoding) -> None:
    assert codec_of(encoding) != "utf-8"


@pytest.mark.parametrize("encoding", SAMPLES)
def test_names_of_columns_in_any_encoding(encoding, judged) -> None:  # noqa: F811
    name = SAMPLES[encoding]
    text = HEAD.replace("UTF8", encoding) + toc(
        "t", "TABLE", f'CREATE TABLE public.t ("{name}" text, b int);'
    )
    text += "--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    text += f'COPY public.t ("{name}", b) FROM stdin;\n{name}\t1\n\\.\n\n'
    codec = codec_of(encoding)
    good, spoiled = (
        judged((text + more + END).encode(codec)) for more in ("", "UPDATE public.t SET b = 2;\n")
    )
    assert good[1] is Verdict.PASS, good[0].findings
    assert "pg.row-content" in failing(spoiled[0])


def test_a_database_whose_name_has_more_than_letters(judged) -> None:  # noqa: F811
    """pg_dump 15.11 and later lets psql pass on such a name as it is."""
    name = '"email-gateway"'
    made = f"CREATE DATABASE {name} WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C.UTF-8';\n\n"
    connect = "\\encoding SQL_ASCII\n\\connect -reuse-previous=on \"dbname='email-gateway'\"\n\n"
    evidence, verdict = judged(HEAD + made + connect + HEAD.split("\n\n", 3)[-1] + T + END)
    assert verdict is Verdict.PASS, evidence.findings
    for edited in (connect + "\\encoding SQL_ASCII\n", "\\encoding SQL_ASCII\nSELECT 1;\n" + connect):
        evidence, verdict = judged(HEAD + made + edited + T + END)
        assert verdict is Verdict.FAIL and "pg.hostile" in failing(evidence)


def test_a_source_without_the_schema_public() -> None:
    with postgres() as server:
        query(server, "postgres", "CREATE DATABASE nopublic TEMPLATE template0")
        query(server, "nopublic", "DROP SCHEMA public")
        query(server, "nopublic", "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS a")
        query(server, "nopublic", "COMMENT ON TABLE app.t IS 'there'")
        with live(server, "nopublic").connect() as conn:
            facts = capture_facts(conn)
        query(server, "postgres", "CREATE DATABASE anew TEMPLATE template0")
        query(server, "anew", "CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS a")
        query(server, "anew", "COMMENT ON TABLE app.t IS 'there'")
        with live(server, "anew").connect() as conn:
            anew = capture_facts(conn, key=facts["key"])
        query(server, "anew", "CREATE TABLE public.evil (a int)")
        with live(server, "anew").connect() as conn:
            more = capture_facts(conn, key=facts["key"])
    assert set(facts["objects"]["comment"]) == {"table app.t"}
    assert facts["tables"]["app.t"]["rows"] == 1
    assert compare_objects(facts, anew, Way()).differences == []
    assert {d.object for d in compare_objects(facts, more, Way()).differences} == {"public"}


def test_roles_made_mighty_by_a_dump_of_one_database(judged) -> None:  # noqa: F811
    power = "CREATE ROLE evil SUPERUSER;\nGRANT pg_execute_server_program TO evil;\n"
    evidence, verdict = judged(HEAD + T + power + END)
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.hostile"}
    cluster = (
        "--\n-- PostgreSQL database cluster dump\n--\n\n" + power + "\\connect template1\n\n" + HEAD + T + END
    )
    evidence, verdict = judged(cluster + "--\n-- PostgreSQL database cluster dump complete\n--\n\n")
    assert verdict is Verdict.PASS, evidence.findings


def test_what_the_text_leaves_open_at_its_end_is_undone(judged) -> None:  # noqa: F811
    more = T.replace("Name: t;", "Name: u;").replace("public.t ", "public.u ")
    evidence, verdict = judged(HEAD + T + "BEGIN;\n" + more + END)
    assert verdict is Verdict.FAIL, evidence.findings
    evidence, verdict = judged(HEAD + T + "BEGIN;\n" + more + "COMMIT;\n" + END)
    assert verdict is Verdict.PASS, evidence.findings


def test_a_constraint_of_a_domain_that_was_added_not_valid(judged) -> None:  # noqa: F811
    domain = toc("d", "DOMAIN", "CREATE DOMAIN public.d AS text;") + toc(
        "d longer",
        "CHECK CONSTRAINT",
        "ALTER DOMAIN public.d\n    ADD CONSTRAINT longer CHECK (length(VALUE) > 5) NOT VALID;",
    )
    evidence, verdict = judged(HEAD + domain + T + END)
    assert verdict is Verdict.PASS, evidence.findings
    evidence, verdict = judged(HEAD + domain + T + "ALTER DOMAIN public.d DROP CONSTRAINT longer;\n" + END)
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.objects"}


def test_row_security_that_the_dump_turns_on_is_on(judged) -> None:  # noqa: F811
    on = toc("t", "ROW SECURITY", "ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;")
    evidence, verdict = judged(HEAD + T + on + END)
    assert verdict is Verdict.PASS, evidence.findings
    evidence, verdict = judged(HEAD + T + on + "ALTER TABLE public.t DISABLE ROW LEVEL SECURITY;\n" + END)
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.objects"}


def test_a_condition_on_the_rows_of_the_file(judged) -> None:  # noqa: F811
    evidence, verdict = judged(HEAD + T.replace("FROM stdin;", "FROM stdin WHERE id > 1;") + END)
    assert verdict is Verdict.FAIL and failing(evidence) == {"pg.hostile"}
    named = T.replace("(id, s) FROM", '(id, "FROM stdin WHERE") FROM').replace(
        "s text", '"FROM stdin WHERE" text'
    )
    assert judged(HEAD + named + END)[1] is Verdict.PASS
