"""One pass over a dump: what it learns, and what it notices."""

import xxhash

from harness.model import Severity
from harness.postgres.facts import read_facts

HEAD = (
    "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18 (Debian 15.18-1)\n"
    "-- Dumped by pg_dump version 17.2\n\n-- Started on 2026-11-24 02:00:00 UTC\n\n"
    "SET client_encoding = 'UTF8';\n"
)
TABLE = (
    "--\n-- Name: t; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE TABLE public.t (a int);\n\n"
    "--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    "COPY public.t (a) FROM stdin;\n1\n2\n\\.\n\n"
)
END = "--\n-- PostgreSQL database dump complete\n--\n"


def facts(text):
    return read_facts([text if isinstance(text, bytes) else text.encode()])


def test_header_tables_and_rows():
    found = facts(HEAD + TABLE + END)
    assert (found.major, found.dump_major, found.rows, found.create_tables) == (15, 17, 2, 1)
    assert found.taken_at is not None
    assert found.taken_at.isoformat() == "2026-11-24T02:00:00+00:00"
    (table,) = found.tables
    assert (table.name, table.columns, table.rows, table.whole) == ("public.t", ("a",), 2, True)
    assert table.digest == xxhash.xxh3_128(b"1\n2\n").hexdigest()
    assert (found.problem, found.truncated, found.hollow, found.dangers) == (None, None, [], [])


def test_entries_that_nothing_follows_are_hollow():
    text = (
        HEAD
        + "-- Name: public; Type: SCHEMA; Schema: -; Owner: -\n\n-- *not* creating schema\n"
        + "-- Name: s; Type: SEQUENCE SET; Schema: public; Owner: -\n\n"
        + TABLE
        + "-- Data for Name: u; Type: TABLE DATA; Schema: public; Owner: -\n"
        + END
    )
    assert [(e.type, e.name) for e in facts(text).hollow] == [("SEQUENCE SET", "s"), ("TABLE DATA", "u")]


def test_databases_that_the_backup_does_not_make():
    text = HEAD + "DROP DATABASE postgres;\n\\connect other\nCREATE DATABASE own;\nDROP DATABASE own;\n"
    assert [(line, d.message, d.severity) for line, d in facts(text).dangers] == [
        (11, "drops the database postgres, which this backup does not create", Severity.HIGH),
        (12, "connects to the database other, which this backup does not create", Severity.HIGH),
    ]


def test_a_cluster_dump_may_connect_to_what_every_cluster_has():
    text = "--\n-- PostgreSQL database cluster dump\n--\n\\connect template1\n" + HEAD + TABLE + END
    found = facts(text)
    assert found.dangers == []
    assert found.tables[0].database == "template1"


def test_large_objects_are_digested():
    text = (
        "SELECT pg_catalog.lo_create('7');\nBEGIN;\nSELECT pg_catalog.lo_open('7', 131072);\n"
        "SELECT pg_catalog.lowrite(0, '\\x00ff');\nSELECT pg_catalog.lowrite(0, '\\x41');\n"
        "SELECT pg_catalog.lo_close(0);\nCOMMIT;\nSELECT pg_catalog.lo_create('8');\n"
    )
    assert facts(text).large_objects == {
        ("", 7): xxhash.xxh3_128(b"\x00\xffA").hexdigest(),
        ("", 8): xxhash.xxh3_128(b"").hexdigest(),
    }


def test_sequences_extensions_inserts_and_icu():
    text = (
        "SELECT pg_catalog.setval('public.s', 5, false);\nCREATE EXTENSION IF NOT EXISTS hstore;\n"
        "CREATE COLLATION public.c (provider = icu, locale = 'de');\n"
        "INSERT INTO public.t VALUES (1);\nINSERT INTO public.t VALUES (2);\n"
    )
    found = facts(text)
    assert found.sequences == {("", "public.s"): (5, False)}
    assert (found.extensions, found.features) == ({"hstore"}, {"ICU collations"})
    assert found.inserts == {("", "public.t"): 2}


def test_what_needs_xml():
    table = "CREATE TABLE public.t (\n    a integer,\n    %s\n);\n"
    for column in ("d xml", '"my doc" xml NOT NULL', "d xml[]"):
        assert facts(table % column).features == {"XML"}
    assert facts("CREATE DOMAIN public.doc AS xml;\n").features == {"XML"}
    for column in ("xml text", "d public.xml_id", "d text DEFAULT ' xml'::text"):
        assert facts(table % column).features == set()
    assert facts(TABLE + "INSERT INTO public.t VALUES ('\n    d xml');\n").features == set()


def test_indexes_are_planned_only_where_order_does_not_matter():
    index = "CREATE INDEX i ON public.t USING btree (a);\n"
    assert len(facts(TABLE + index).indexes["", "public.t"]) == 1
    assert facts("SET default_tablespace = fast;\n" + TABLE + index).indexes == {}
    assert facts("SET ROLE bob;\n" + TABLE + index).indexes == {}


def test_names_and_rows_of_another_encoding():
    text = (HEAD.replace("UTF8", "LATIN1") + TABLE.replace("public.t", 'public."é"') + END).encode("latin-1")
    (table,) = facts(text).tables
    assert (table.table, table.encoding) == ("é", "LATIN1")


def test_damage_is_kept_and_not_raised():
    def blocks():
        yield HEAD.encode() + b"COPY public.t (a) FROM stdin;\n1\n"

    found = read_facts(blocks())
    assert found.truncated is not None
    assert found.truncated.startswith("between two rows of COPY public.t")


def test_csv_rows_are_not_taken_for_rows():
    (table,) = facts('COPY t FROM stdin WITH (FORMAT csv);\n"a\nb"\n\\.\n').tables
    assert table.text is False
