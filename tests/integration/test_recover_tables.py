"""`provado restore postgres --table`: rows, indexes, constraints, sequences, foreign keys; all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_servers import SETTINGS, digest, live, make_shop, postgres, query, url

from harness import process
from harness.backups import order
from harness.catalog import identify
from harness.errors import ConfigError, RestoreError
from harness.model import Artifact
from harness.postgres.backup import Choice, backup
from harness.postgres.recover import Wish
from harness.postgres.recover_tables import recover_tables
from harness.postgres.source import recognise
from harness.sandbox import Server, find_tools

SHOP = "email_shop"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as started:
        make_shop(started, "template_shop")
        query(
            started,
            "template_shop",
            "CREATE TABLE parts (at date NOT NULL, n int) PARTITION BY RANGE (at);"
            "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');"
            "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');"
            "INSERT INTO parts SELECT '2026-01-01'::date + n, n FROM generate_series(0, 300) n;"
            'CREATE SCHEMA "Odd";'
            'CREATE TABLE "Odd"."a ""b" (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);'
            'INSERT INTO "Odd"."a ""b" SELECT FROM generate_series(1, 7)',
        )
        yield started


@pytest.fixture
def good(server: Server, tmp_path: Path) -> Artifact:
    """A fresh copy of the shop, and its backup."""
    query(server, "postgres", f"DROP DATABASE IF EXISTS {SHOP} WITH (FORCE)")
    query(server, "postgres", f"CREATE DATABASE {SHOP} TEMPLATE template_shop")
    made = order(tmp_path, "daily", SETTINGS.policy.zone)
    found = identify(backup(live(server, SHOP), made, Choice(), SETTINGS).path, {"postgres": recognise})
    assert found is not None
    return found


def restore(
    server: Server, good: Artifact, folder: Path, *tables: str, replace: bool = True
) -> dict[str, int]:
    wish = Wish(replace=replace, safety=folder / "recovery", tables=tables)
    return recover_tables(good, live(server, SHOP), wish, SETTINGS, folder).arrived


def test_damaged_rows_come_back_and_everything_else_stays(
    server: Server, good: Artifact, tmp_path: Path
) -> None:
    before = digest(server, SHOP)
    query(server, SHOP, "UPDATE companies SET name = 'wrong ' || id; DROP INDEX outbox_state")
    query(server, SHOP, "ALTER TABLE companies DROP CONSTRAINT companies_name_key")
    assert restore(server, good, tmp_path, "companies") == {"public.companies": 200}
    assert restore(server, good, tmp_path, "public.outbox") == {"public.outbox": 3000}
    assert digest(server, SHOP) == before


def test_a_dropped_table_comes_back_with_all_that_hangs_on_it(
    server: Server, good: Artifact, tmp_path: Path
) -> None:
    before = digest(server, SHOP)
    query(server, SHOP, "DROP TABLE companies CASCADE")
    assert restore(server, good, tmp_path, "companies") == {"public.companies": 200}
    assert digest(server, SHOP) == before
    query(server, SHOP, "INSERT INTO companies (name) VALUES ('next')")
    assert query(server, SHOP, "SELECT id FROM companies WHERE name = 'next'") == [(201,)]


def test_rows_that_would_be_orphans_undo_everything(server: Server, good: Artifact, tmp_path: Path) -> None:
    query(server, SHOP, "INSERT INTO companies (name) VALUES ('new'); UPDATE companies SET key = 'x'")
    query(server, SHOP, "INSERT INTO outbox SELECT 'later', max(id) FROM companies")
    before = digest(server, SHOP)
    with pytest.raises(RestoreError, match="outbox_company_fkey") as stopped:
        restore(server, good, tmp_path, "companies")
    assert "later" not in str(stopped.value)
    assert digest(server, SHOP) == before


def test_refusals(server: Server, good: Artifact, tmp_path: Path) -> None:
    before = digest(server, SHOP)
    with pytest.raises(RestoreError, match=r"public\.companies .* hold rows"):
        restore(server, good, tmp_path, "companies", replace=False)
    with pytest.raises(ConfigError, match="no table api_keys"):
        restore(server, good, tmp_path, "companies", "api_keys")
    assert digest(server, SHOP) == before


def test_partitions_and_odd_names(server: Server, good: Artifact, tmp_path: Path) -> None:
    query(server, SHOP, 'DELETE FROM parts WHERE n % 2 = 0; DROP TABLE "Odd"."a ""b"')
    assert restore(server, good, tmp_path, "parts") == {"public.parts_1": 181, "public.parts_2": 120}
    assert restore(server, good, tmp_path, 'a "b') == {'Odd.a "b': 7}
    query(server, SHOP, 'INSERT INTO "Odd"."a ""b" DEFAULT VALUES')
    assert query(server, SHOP, 'SELECT max(id) FROM "Odd"."a ""b"') == [(8,)]
    query(server, SHOP, "DROP TABLE parts")
    assert sum(restore(server, good, tmp_path, "parts", replace=False).values()) == 301
    assert query(server, SHOP, "SELECT count(*) FROM parts") == [(301,)]


def dumped(server: Server, folder: Path, *options: str) -> Artifact:
    """The shop as pg_dump writes it with these options."""
    [tool, *_] = find_tools("pg_dump", SETTINGS.sandbox)
    path = folder / "shop.sql"
    env = {"PGPASSWORD": server.password.reveal()}
    done = process.run([tool, *options, "-d", url(server, SHOP), "-f", path], timeout_s=60, env=env)
    assert done.code == 0, done.error_text()
    found = identify(path, {"postgres": recognise})
    assert found is not None
    return found


def test_parts_whose_rows_stand_under_the_whole(server: Server, good: Artifact, tmp_path: Path) -> None:
    through = dumped(server, tmp_path, "--load-via-partition-root")
    with pytest.raises(RestoreError, match=r"all parts of public\.parts in one"):
        restore(server, through, tmp_path, "parts_1")  # its own rows would be none
    assert query(server, SHOP, "SELECT count(*) FROM parts_1") == [(181,)]
    query(server, SHOP, "DELETE FROM parts WHERE n % 2 = 0")
    assert restore(server, through, tmp_path, "parts")["public.parts"] == 301
    assert query(server, SHOP, "SELECT count(*) FROM parts_1") == [(181,)]


def test_several_rows_in_an_insert(server: Server, good: Artifact, tmp_path: Path) -> None:
    inserts = dumped(server, tmp_path, "--rows-per-insert=7")
    query(server, SHOP, "DELETE FROM outbox; DELETE FROM parts WHERE n < 100")
    assert restore(server, inserts, tmp_path, "outbox") == {"public.outbox": 3000}
    assert restore(server, inserts, tmp_path, "parts") == {"public.parts_1": 181, "public.parts_2": 120}
