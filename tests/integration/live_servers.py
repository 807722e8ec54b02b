"""Servers that stand for a user's own, with a small system's data in them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from harness.postgres.live import Live
from harness.redis.wire import Address
from harness.sandbox import PostgresRequest, RedisRequest, Server, postgres_sandbox, redis_sandbox
from harness.settings import SandboxSettings, Settings

Kind = Literal["auto", "local", "container"]
SETTINGS = Settings.model_validate({"policy": {"timezone": "UTC"}})
SHOP = """
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE TABLE companies (id serial PRIMARY KEY, name text NOT NULL UNIQUE, key text);
CREATE TABLE outbox (id text PRIMARY KEY, company int NOT NULL REFERENCES companies, state state, body jsonb);
CREATE INDEX outbox_state ON outbox (state, company);
CREATE TABLE log (line text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO log VALUES ('touched'); RETURN NEW; END $$;
CREATE TRIGGER touched AFTER INSERT ON companies FOR EACH ROW EXECUTE FUNCTION touch();
CREATE VIEW paid AS SELECT * FROM outbox WHERE state = 'paid';
INSERT INTO companies (name, key) SELECT 'company ' || n, md5(n::text) FROM generate_series(1, 200) n;
INSERT INTO outbox SELECT 'c' || n, n % 200 + 1, CASE n % 2 WHEN 0 THEN 'new' ELSE 'paid' END::state,
  jsonb_build_object('n', n) FROM generate_series(1, 3000) n;
GRANT SELECT ON companies TO reader;
"""


@contextmanager
def postgres(kind: Kind = "auto") -> Iterator[Server]:
    """A throwaway PostgreSQL 15."""
    settings = SandboxSettings(kind=kind)
    with postgres_sandbox(PostgresRequest(15), settings, deadline=time.monotonic() + 600) as server:
        yield server


@contextmanager
def redis_server(kind: Kind = "auto", **options: str) -> Iterator[Server]:
    """A throwaway Redis with these directives."""
    settings = SandboxSettings(kind=kind)
    request = RedisRequest(10, options=tuple((k.replace("_", "-"), v) for k, v in options.items()))
    with redis_sandbox(request, settings, deadline=time.monotonic() + 600) as server:
        yield server


def live(server: Server, database: str) -> Live:
    """How our commands reach a database of the server."""
    parameters = {"host": server.host, "port": str(server.port), "user": server.user, "dbname": database}
    return Live(parameters, server.password)


def url(server: Server, database: str) -> str:
    """The address as a user types it, without the password."""
    return f"postgresql://{server.user}@/{database}?host={server.host}&port={server.port}"


def query(server: Server, database: str, text: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of one query (or nothing for other statements)."""
    with live(server, database).connect() as conn:
        cursor = conn.execute(text.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def make_shop(server: Server, database: str) -> None:
    """A small database of its own name: enums, jsonb, sequence, foreign key, trigger, view, rights."""
    roles = query(server, "postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'reader'")
    if not roles:
        query(server, "postgres", "CREATE ROLE reader LOGIN PASSWORD 'not-a-secret-either'")
    query(server, "postgres", f'CREATE DATABASE "{database}" TEMPLATE template0')
    with live(server, database).connect() as conn:
        conn.execute(SHOP)
        conn.execute(f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC')
        conn.execute(f"ALTER DATABASE \"{database}\" SET statement_timeout = '9min'")


def digest(server: Server, database: str) -> dict[str, Any]:
    """What must be equal before and after: rows, objects, sequence, rights, settings of a database."""
    with live(server, database).connect() as conn:
        one = {
            name: conn.execute(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} t"
            ).fetchone()
            for name in ("companies", "outbox", "log", "paid")
        }
        one["objects"] = conn.execute(
            "SELECT relname, relkind::text, relacl::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
        one["constraints"] = conn.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
        one["triggers"] = conn.execute(
            "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        ).fetchall()
        one["sequence"] = conn.execute("SELECT last_value, is_called FROM companies_id_seq").fetchone()
        one["database"] = conn.execute(
            "SELECT array(SELECT unnest(datacl)::text ORDER BY 1),"
            " array(SELECT unnest(setconfig) FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)"
            " FROM pg_database d WHERE datname = current_database()"
        ).fetchone()
    return one


def damage(server: Server, database: str) -> None:
    """What a recovery must undo."""
    with live(server, database).connect() as conn:
        conn.execute("UPDATE companies SET name = 'wrong ' || id; DELETE FROM outbox WHERE state = 'new'")
        conn.execute("DROP INDEX outbox_state; CREATE TABLE not_in_backup (a int)")


def redis_address(server: Server) -> Address:
    """How our commands reach a Redis server."""
    user = server.user if server.user != "default" else None
    return Address(server.unix_socket, server.host, server.port, user, server.password)
