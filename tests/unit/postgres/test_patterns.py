"""What single statements say."""

from datetime import UTC, datetime

import pytest

from harness.postgres import patterns


@pytest.mark.parametrize(
    ("function", "sql", "wanted"),
    [
        (patterns.created_database, 'CREATE DATABASE "my ""db" WITH TEMPLATE = template0', 'my "db'),
        (patterns.created_database, "CREATE TABLE t ()", None),
        (patterns.dropped_database, "DROP DATABASE IF EXISTS x", "x"),
        (patterns.dropped_database, 'DROP DATABASE "X y"', "X y"),
        (patterns.dropped_database, "DROP TABLE x", None),
        (patterns.created_tablespace, "CREATE TABLESPACE fast OWNER \"b c\" LOCATION '/x'", "fast"),
        (patterns.created_tablespace, "CREATE TABLESPACE fast LOCATION '/x'", "fast"),
        (patterns.altered_role, "ALTER ROLE postgres WITH PASSWORD 'x'", "postgres"),
        (patterns.altered_role, 'ALTER USER "p" RENAME TO q', "p"),
        (patterns.altered_role, "ALTER ROLE postgres SET work_mem TO '1GB'", None),
        (patterns.altered_role, "ALTER ROLE postgres IN DATABASE x SET a TO 1", None),
        (
            patterns.created_extension,
            "CREATE EXTENSION IF NOT EXISTS uuid-ossp WITH SCHEMA public",
            "uuid-ossp",
        ),
        (patterns.created_extension, 'CREATE EXTENSION "uuid-ossp"', "uuid-ossp"),
        (patterns.insert_target, 'INSERT INTO public."a b" VALUES (1)', 'public."a b"'),
        (patterns.built, "CREATE UNIQUE INDEX i ON public.t USING btree (a)", ("public.t", "public.i")),
        (patterns.built, 'CREATE INDEX "i" ON ONLY public.t USING btree (a)', None),
        (patterns.built, "CREATE INDEX i ON t USING btree (a)", None),
        (
            patterns.built,
            'ALTER TABLE ONLY "a.b".t\n    ADD CONSTRAINT "k" PRIMARY KEY (a)',
            ('"a.b".t', '"a.b"."k"'),
        ),
        (patterns.built, "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT k FOREIGN KEY (a)", None),
        (
            patterns.set_sequence,
            "SELECT pg_catalog.setval('public.\"a''b\"', -3, false)",
            ('public."a\'b"', -3, False),
        ),
        (patterns.set_sequence, "SELECT setval('s', 3)", ("s", 3, True)),
        (patterns.keeps_order, "SET default_tablespace = ''", (b"default_tablespace", False)),
        (patterns.keeps_order, "SET default_tablespace = fast", (b"default_tablespace", True)),
        (patterns.keeps_order, "SET client_encoding = 'UTF8'", (b"client_encoding", False)),
        (patterns.keeps_order, "SET SESSION client_encoding TO LATIN1", (b"client_encoding", True)),
        (
            patterns.keeps_order,
            "SET standard_conforming_strings = off",
            (b"standard_conforming_strings", True),
        ),
        (patterns.client_encoding, "SET client_encoding to 'latin1'", "LATIN1"),
        (patterns.client_encoding, "SET standard_conforming_strings = off", None),
        (patterns.keeps_order, "SET SESSION AUTHORIZATION bob", (b"session authorization", True)),
        (patterns.keeps_order, "SET work_mem = 1", None),
        (patterns.client_encoding, "SET client_encoding = 'latin1'", "LATIN1"),
    ],
)
def test_statements(function, sql, wanted):
    assert function(sql.encode()) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("\\connect x", "x"),
        ('\\connect "a ""b"', 'a "b'),
        ("\\connect -reuse-previous=on \"dbname='it\\'s'\"", "it's"),
        ("\\c - bob", None),
        ("\\! x", None),
    ],
)
def test_connect(text, wanted):
    assert patterns.connect_target(text) == wanted


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        (
            "CREATE DATABASE x ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'pt_BR.utf8'",
            "CREATE DATABASE x ENCODING = 'UTF8'",
        ),
        (
            "CREATE DATABASE x ENCODING = 'LATIN1' LC_COLLATE = 'de_DE' LC_CTYPE = 'de_DE'",
            "CREATE DATABASE x ENCODING = 'LATIN1' LOCALE = 'C'",
        ),
    ],
)
def test_a_locale_that_the_sandbox_lacks(sql, wanted):
    assert patterns.without_locale(sql.encode()) == wanted.encode()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-24 00:28:38 UTC", datetime(2026, 11, 24, 0, 28, 38, tzinfo=UTC)),
        ("2026-11-24 00:28:38 -0330", datetime(2026, 11, 24, 3, 58, 38, tzinfo=UTC)),
        ("2026-11-24 00:28:38 BRT", datetime(2026, 11, 24, 3, 28, 38, tzinfo=UTC)),
        ("2026-11-24 00:28:38 IST", None),  # India, Israel or Ireland
        ("2026-13-24 00:28:38 UTC", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_the_time_a_dump_began(text, wanted):
    assert patterns.parse_time(text) == wanted
