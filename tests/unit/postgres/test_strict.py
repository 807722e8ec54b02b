"""What of a dump is sent to a user's own server: only what is about the one database that is recovered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import ArtifactError
from harness.postgres.dump import Statement
from harness.postgres.strict import items_of, left_out, mapped


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE ROLE app",
        "ALTER ROLE postgres WITH SUPERUSER PASSWORD 'SCRAM-SHA-256$x'",
        "ALTER ROLE app SET search_path = x",
        "DROP USER IF EXISTS app",
        'GRANT admins TO "app" WITH INHERIT TRUE GRANTED BY postgres',
        "CREATE TABLESPACE fast LOCATION '/x'",
        "COMMENT ON ROLE app IS 'x'",
        "ALTER ROLE app SET application_name TO 'x IN DATABASE shop'",
        'GRANT "reads ON all" TO app',
        "GRANT SET ON PARAMETER log_min_messages TO app",
        "GRANT CREATE ON TABLESPACE fast TO app",
        "SECURITY LABEL FOR 'x' ON ROLE app IS 'y'",
        "UPDATE pg_catalog.pg_database SET datistemplate = false WHERE datname = 'template1'",
    ],
)
def test_the_cluster_is_left_alone(statement: str) -> None:
    assert left_out(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT SELECT ON TABLE public.t TO app",
        "REVOKE ALL ON FUNCTION public.f() FROM PUBLIC",
        "CREATE USER MAPPING FOR app SERVER s",
        "ALTER ROLE app IN DATABASE shop SET work_mem = '1MB'",
        "ALTER TABLE public.role OWNER TO app",
        "CREATE TABLE public.t (a int)",
        "COMMENT ON TABLE public.t IS 'about a ROLE'",
        'GRANT SELECT ON TABLE public.t TO "a ON PARAMETER b"',
        "SECURITY LABEL FOR x ON TABLE public.t IS 'ON ROLE app'",
        "CREATE RULE r AS ON UPDATE TO public.t DO INSTEAD NOTHING",
        "UPDATE public.t SET a = 1",
    ],
)
def test_the_database_is_not(statement: str) -> None:
    assert not left_out(statement.encode())


@pytest.mark.parametrize(
    ("statement", "becomes"),
    [
        ("ALTER DATABASE shop OWNER TO app", 'ALTER DATABASE "new one" OWNER TO app'),
        ('GRANT CONNECT ON DATABASE "shop" TO app', 'GRANT CONNECT ON DATABASE "new one" TO app'),
        ("COMMENT ON DATABASE shop IS 'shop'", "COMMENT ON DATABASE \"new one\" IS 'shop'"),
        ("ALTER ROLE a IN DATABASE shop SET x = 1", 'ALTER ROLE a IN DATABASE "new one" SET x = 1'),
        (
            "SECURITY LABEL FOR p ON DATABASE shop IS 'x'",
            "SECURITY LABEL FOR p ON DATABASE \"new one\" IS 'x'",
        ),
        (
            "SECURITY LABEL ON TABLE t IS 'ON DATABASE other'",
            "SECURITY LABEL ON TABLE t IS 'ON DATABASE other'",
        ),
        ("ALTER DATABASE other SET x = 1", None),
        ("DROP DATABASE IF EXISTS shop", None),
        ("CREATE DATABASE shop WITH TEMPLATE = template0", None),
        ("CREATE TABLE public.database (shop int)", "CREATE TABLE public.database (shop int)"),
    ],
)
def test_the_database_gets_its_new_name(statement: str, becomes: str | None) -> None:
    made = mapped(statement.encode(), "shop", "new one")
    assert (made.decode() if made is not None else None) == becomes


def statements(text: str, database: str | None) -> Iterator[str]:
    for item in items_of([text.encode()], database):
        if isinstance(item, Statement):
            yield item.sql.decode()


def test_one_database_of_a_cluster() -> None:
    text = "SELECT 0;\n\\connect one\nSELECT 1;\n\\connect two\nSELECT 2;\n"
    assert list(statements(text, "two")) == ["SELECT 0", "SELECT 2"]


def test_what_is_said_of_a_database_before_the_text_connects_to_it() -> None:
    text = "\\connect one\nSELECT 1;\nALTER DATABASE two OWNER TO app;\nALTER DATABASE one SET x = 1;\n"
    assert list(statements(text, "two")) == ["ALTER DATABASE two OWNER TO app"]


@pytest.mark.parametrize(
    "text", ["SELECT 1;\n\\! id\n", "COPY t FROM stdin;\n1\n", "SELECT 'x", "\\copy t from program 'id'\n"]
)
def test_what_psql_would_run_or_what_is_cut_stops_it(text: str) -> None:
    with pytest.raises(ArtifactError):
        list(statements(text, None))
