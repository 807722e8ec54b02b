"""`provado restore postgres` on a real server: round trips, refusals, a target never half restored."""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from live_servers import SETTINGS, damage, digest, live, make_shop, postgres, query, url

from harness import process
from harness.backups import order
from harness.catalog import identify
from harness.errors import ArtifactError, RestoreError
from harness.model import Artifact
from harness.postgres.backup import Choice, backup
from harness.postgres.recover import Wish, recover
from harness.postgres.source import recognise
from harness.sandbox import Server, find_tools

UTC = SETTINGS.policy.zone


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as started:
        make_shop(started, "email_shop")
        yield started


@pytest.fixture
def shop(server: Server) -> Iterator[str]:
    """A database of its own for every test, a copy of the same one."""
    name = f"shop_{time.monotonic_ns()}"
    query(server, "postgres", f'CREATE DATABASE "{name}" TEMPLATE email_shop')
    query(server, "postgres", f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
    query(server, "postgres", f"ALTER DATABASE \"{name}\" SET statement_timeout = '9min'")
    yield name
    for (left,) in query(
        server, "postgres", "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", name
    ):
        query(server, "postgres", f'DROP DATABASE "{left}" WITH (FORCE)')


def artifact(path: Path) -> Artifact:
    found = identify(path, {"postgres": recognise})
    assert found is not None
    return found


def saved(server: Server, database: str, folder: Path, choice: Choice | None = None) -> Artifact:
    order_ = order(folder, "daily", UTC)
    return artifact(backup(live(server, database), order_, choice or Choice(), SETTINGS).path)


def wish(folder: Path, **more: object) -> Wish:
    return Wish(**{"replace": True, "safety": folder / "recovery", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("choice", [Choice(), Choice("custom")], ids=["plain", "custom"])
def test_damage_and_recovery_of_the_whole(server: Server, shop: str, tmp_path: Path, choice: Choice) -> None:
    before = digest(server, shop)
    good = saved(server, shop, tmp_path, choice)
    damage(server, shop)
    with live(server, shop).connect() as session:  # somebody is connected, as services are
        done = recover(good, live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert digest(server, shop) == before
    assert done.arrived["public.outbox"] == 3000
    assert done.safety is not None
    assert "not_in_backup" in gzip.decompress(done.safety.read_bytes()).decode()
    (kept,) = query(
        server, "postgres", "SELECT datname FROM pg_database WHERE datname ~ %s", f"^{shop}_before_"
    )
    assert any(kept[0] in line for line in done.left)


def test_a_target_with_data_is_refused_and_a_new_one_is_made(
    server: Server, shop: str, tmp_path: Path
) -> None:
    good = saved(server, shop, tmp_path)
    before = digest(server, shop)
    with pytest.raises(RestoreError, match="3 tables"):
        recover(good, live(server, shop), Wish(), SETTINGS, tmp_path)
    assert digest(server, shop) == before
    done = recover(good, live(server, shop + "_copy"), Wish(), SETTINGS, tmp_path)
    assert done.left == [] and done.safety is None
    copy = digest(server, shop + "_copy")
    assert copy == before


def break_row(text: bytes) -> bytes:
    """An unknown enum value in the last COPY block that has them: the server refuses it."""
    return re.sub(rb"(c2999\t\d+\t)paid", rb"\1gone", text)


def cut(text: bytes) -> bytes:
    return text[: text.index(b"c1500\t")]


def shell(text: bytes) -> bytes:
    return text.replace(b"COPY public.outbox", b"\\! touch /tmp/provado-was-here\nCOPY public.outbox", 1)


def unknown_role(text: bytes) -> bytes:
    return text.replace(b"TO reader;", b"TO nobody_here;")


def without_its_end(text: bytes) -> bytes:
    """Cut between two tables: every statement is whole, and outbox is missing."""
    return text[: text.index(b"-- Data for Name: outbox")]


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (without_its_end, ArtifactError, "as pg_dump ends"),
        (break_row, RestoreError, "outbox"),
        (cut, ArtifactError, "the dump ends"),
        (shell, ArtifactError, "meta-command"),
        (unknown_role, RestoreError, "nobody_here"),
    ],
)
def test_a_bad_backup_leaves_the_target_as_it_was(
    server: Server,
    shop: str,
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    error: type[Exception],
    says: str,
) -> None:
    good = saved(server, shop, tmp_path)
    text = gzip.decompress(good.path.read_bytes())
    bad = tmp_path / "bad.sql.gz"
    bad.write_bytes(gzip.compress(change(text)))
    assert change(text) != text
    before = digest(server, shop)
    with pytest.raises(error, match=says) as stopped:
        recover(artifact(bad), live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
    assert "gone" not in str(stopped.value)  # no row values
    assert digest(server, shop) == before
    databases = query(
        server, "postgres", "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", shop
    )
    assert databases == [(shop,)]


def test_roles_that_are_missing_come_from_the_globals(server: Server, shop: str, tmp_path: Path) -> None:
    query(server, shop, "CREATE ROLE seller; GRANT SELECT ON outbox TO seller")
    good = saved(server, shop, tmp_path)
    query(server, shop, "DROP OWNED BY seller; DROP ROLE seller")
    done = recover(good, live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
    assert "created role seller" in done.notes
    rights = query(server, shop, "SELECT has_table_privilege('seller', 'outbox', 'SELECT')")
    assert rights == [(True,)]


def test_a_dump_without_create_keeps_the_targets_own_rights(
    server: Server, shop: str, tmp_path: Path
) -> None:
    before = digest(server, shop)
    good = saved(server, shop, tmp_path)
    text = gzip.decompress(good.path.read_bytes())
    start = text.index(b"CREATE DATABASE")
    end = text.index(b"SET statement_timeout = 0;", start)
    bare = tmp_path / "bare.sql"
    bare.write_bytes(text[:start] + text[end:].replace(b"REVOKE CONNECT", b"-- REVOKE CONNECT"))
    damage(server, shop)
    recover(artifact(bare), live(server, shop), wish(tmp_path, drop_old=True), SETTINGS, tmp_path)
    assert digest(server, shop) == before


def test_services_that_keep_connecting_do_not_stop_it(server: Server, shop: str, tmp_path: Path) -> None:
    good = saved(server, shop, tmp_path)
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            try:
                with live(server, shop).connect() as conn:
                    conn.execute("SELECT pg_sleep(0.05)")
            except Exception:
                time.sleep(0.01)

    workers = [threading.Thread(target=busy) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        recover(good, live(server, shop), wish(tmp_path, safety=None, drop_old=True), SETTINGS, tmp_path)
    finally:
        over.set()
        for worker in workers:
            worker.join()
    assert query(server, shop, "SELECT count(*) FROM outbox") == [(3000,)]


GOOD = Path(__file__).parents[3] / "shared/corpus/postgres/good"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["email_gateway.dir", "pg_dumpall.sql.gz"])
def test_every_logical_format(server: Server, tmp_path: Path, name: str) -> None:
    """A rich database of the customer's, in every format; roles that exist are not changed by any of them."""
    before = query(server, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'")
    target = "email_gateway" if name.startswith("pg_dumpall") else "copy_of_it"
    wish_ = Wish(replace=True, safety=None, roles=GOOD / "globals.sql")
    done = recover(artifact(GOOD / name), live(server, target), wish_, SETTINGS, tmp_path)
    assert sum(done.arrived.values()) == 7247
    own = (
        "SELECT count(*) FROM pg_db_role_setting s, pg_database d WHERE d.oid = setdatabase AND datname = %s"
    )
    assert query(server, "postgres", own, target) != [(0,)]  # ALTER ROLE ... IN DATABASE, under the new name
    assert query(server, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'") == before


def test_a_file_that_is_not_its_manifests(server: Server, shop: str, tmp_path: Path) -> None:
    good = saved(server, shop, tmp_path)
    text = gzip.decompress(good.path.read_bytes())
    good.path.write_bytes(gzip.compress(text.replace(b"\nc7\t", b"\nc7x\t")))
    with pytest.raises(ArtifactError, match="manifest"):
        recover(good, live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
    recover(good, live(server, shop), wish(tmp_path, safety=None, even_if_cut=True), SETTINGS, tmp_path)
    assert query(server, shop, "SELECT count(*) FROM outbox WHERE id = 'c7x'") == [(1,)]


def test_one_database_of_a_cluster_and_nothing_else(server: Server, shop: str, tmp_path: Path) -> None:
    """Its owner comes with it; roles, parameters and template1, which pg_dumpall writes too, stay alone."""
    query(server, "postgres", "CREATE ROLE shop_owner; CREATE ROLE bystander")
    try:
        query(server, "postgres", f'ALTER DATABASE "{shop}" OWNER TO shop_owner')
        query(server, "postgres", "GRANT SET ON PARAMETER log_min_messages TO bystander")
        query(server, "postgres", "ALTER ROLE bystander SET application_name = 'x IN DATABASE y'")
        path = tmp_path / "all.sql"
        [tool, *_] = find_tools("pg_dumpall", SETTINGS.sandbox)
        args = [tool, "--clean", "-d", url(server, "postgres"), "-f", path]
        made = process.run(args, timeout_s=120, env={"PGPASSWORD": server.password.reveal()})
        assert made.code == 0, made.error_text()
        before = digest(server, shop)
        damage(server, shop)
        query(server, "postgres", f'ALTER DATABASE "{shop}" OWNER TO bystander')
        query(server, "postgres", "REVOKE ALL ON PARAMETER log_min_messages FROM bystander")
        query(server, "postgres", "ALTER ROLE bystander RESET ALL")
        recover(artifact(path), live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
        assert digest(server, shop) == before
        asked = "SELECT datistemplate, datdba::regrole::text FROM pg_database WHERE datname IN (%s, %s)"
        [template, ours] = query(server, "postgres", asked + " ORDER BY 1 DESC", "template1", shop)
        assert (template[0], ours[1]) == (True, "shop_owner")
        cluster = (
            "SELECT (SELECT count(*) FROM pg_parameter_acl), count(*) FROM pg_db_role_setting"
            " WHERE setdatabase = 0 AND setrole = 'bystander'::regrole"
        )
        assert query(server, "postgres", cluster) == [(0, 0)]
    finally:
        query(server, "postgres", f'ALTER DATABASE "{shop}" OWNER TO CURRENT_USER')
        for (name,) in query(server, "postgres", "SELECT datname FROM pg_database WHERE datdba >= 16384"):
            query(server, "postgres", f'DROP DATABASE "{name}" WITH (FORCE)')
        query(server, "postgres", "DROP ROLE shop_owner; DROP ROLE bystander")


def test_rows_of_inserts_are_counted_and_none_is_lost(server: Server, shop: str, tmp_path: Path) -> None:
    text = "CREATE TABLE public.t (a int PRIMARY KEY);\nINSERT INTO public.t VALUES (1), (2);\n"
    path = tmp_path / "inserts.sql"
    path.write_text(text + "INSERT INTO public.t VALUES (3);\n")
    done = recover(artifact(path), live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
    assert done.arrived == {"public.t": 3}
    path.write_text(text + "INSERT INTO public.t VALUES (2) ON CONFLICT DO NOTHING;\n")
    with pytest.raises(RestoreError, match="stored no row"):
        recover(artifact(path), live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
    assert query(server, shop, "SELECT count(*) FROM t") == [(3,)]


def test_statistics_for_another_server_are_not_needed(server: Server, shop: str, tmp_path: Path) -> None:
    path = tmp_path / "newer.sql"
    call = "SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'relname', 't'\n);\n"
    path.write_text("CREATE TABLE public.t (a int);\n" + call + "CREATE TABLE public.u (a int);\n")
    done = recover(artifact(path), live(server, shop), wish(tmp_path), SETTINGS, tmp_path)
    assert any("not needed here" in note for note in done.notes)
    assert query(server, shop, "SELECT count(*) FROM u") == [(0,)]
