"""Defects of the customer's procedures, each rehearsed in the original way on throwaway servers, and what is
done instead. Numbers are those of the report about them."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from live_servers import SETTINGS, digest, live, make_shop, postgres, query, redis_address

from harness import process
from harness.backups import order
from harness.catalog import find, identify
from harness.component import DrillContext
from harness.components import component, recognisers
from harness.errors import ArtifactError, RestoreError, ToolError
from harness.files.backup import template
from harness.model import Artifact
from harness.policy.monitor import look
from harness.policy.retention import plan
from harness.policy.state import gather
from harness.postgres.backup import Choice, backup
from harness.postgres.recover import Wish, recover
from harness.postgres.recover_tables import recover_tables
from harness.redis import recover as redis_recover
from harness.redis.backup import backup as redis_backup
from harness.redis.wire import Wire
from harness.sandbox import RedisRequest, Server, redis_sandbox

BIN = "/usr/lib/postgresql/15/bin"
SCRIPTS_DUMP = "pg_dump --format=plain --no-owner --no-privileges --clean --if-exists --create"
pytestmark = pytest.mark.skipif(not Path(BIN).is_dir(), reason="the original way needs PostgreSQL 15's psql")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as started:
        make_shop(started, "template_shop")
        query(started, "template_shop", "CREATE TABLE audit_logs AS SELECT n FROM generate_series(1, 1500) n")
        query(
            started,
            "template_shop",
            "CREATE FUNCTION secret_rows() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
            "REVOKE EXECUTE ON FUNCTION secret_rows() FROM PUBLIC",
        )
        yield started


@pytest.fixture
def production(server: Server) -> str:
    """The database of that name, fresh for every test."""
    for name in ("email_gateway", "email_gateway_test"):
        query(server, "postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    query(server, "postgres", "CREATE DATABASE email_gateway TEMPLATE template_shop")
    query(server, "postgres", "REVOKE CONNECT ON DATABASE email_gateway FROM PUBLIC")
    return "email_gateway"


def sh(
    server: Server, script: str, cwd: Path, *, user: str | None = None, password: str = ""
) -> process.Completed:
    """Run a snippet as the scripts and people do: bash, psql, pg_dump."""
    env = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": user or server.user,
        "PGPASSWORD": password or server.password.reveal(),
    }
    return process.run(["bash", "-c", script], timeout_s=60, env=env, cwd=cwd)


def oid(server: Server) -> int:
    return int(query(server, "postgres", "SELECT oid FROM pg_database WHERE datname = 'email_gateway'")[0][0])


def tables(server: Server, database: str) -> int:
    return int(query(server, database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")[0][0])


def artifact(path: Path, name: str = "postgres") -> Artifact:
    found = identify(path, recognisers(), component=name)
    assert found is not None
    return found


def dumped(server: Server, folder: Path) -> Path:
    done = sh(
        server, f"{SCRIPTS_DUMP} email_gateway | gzip > email-gateway-daily-20261123-020000.sql.gz", folder
    )
    assert done.code == 0
    return folder / "email-gateway-daily-20261123-020000.sql.gz"


def test_01_and_16_the_restore_test_replaces_production(
    server: Server, production: str, tmp_path: Path
) -> None:
    path, before = dumped(server, tmp_path), oid(server)
    query(server, production, "INSERT INTO log VALUES ('written after the backup')")
    done = sh(server, f"createdb email_gateway_test; gunzip -c {path} | psql -d email_gateway_test", tmp_path)
    assert done.code == 0
    assert tables(server, "email_gateway_test") == 0  # where the runbook looks for relations: none
    assert oid(server) != before  # production was dropped and made anew
    assert query(server, production, "SELECT count(*) FROM log WHERE line LIKE 'written%%'") == [(0,)]
    acl = query(server, "postgres", "SELECT datacl FROM pg_database WHERE datname = 'email_gateway'")
    assert acl == [(None,)]  # its REVOKE is lost
    after = oid(server)
    recover(artifact(path), live(server, "email_gateway_test2"), Wish(), SETTINGS, tmp_path)
    assert oid(server) == after and tables(server, "email_gateway_test2") == 4
    query(server, "postgres", "DROP DATABASE email_gateway_test2")


def test_02_the_daily_cleanup_deletes_weekly_and_monthly(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for kind, age in (("daily", 1), ("daily", 9), ("weekly", 9), ("monthly", 40)):
        path = tmp_path / f"email-gateway-{kind}-{now - timedelta(days=age):%Y%m%d-%H%M%S}.sql.gz"
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age * 86400,) * 2)
    state = gather(find(tmp_path, recognisers()), SETTINGS, now=now)
    kept = sorted(d.backup.kind or "" for d in plan(state.backups, SETTINGS.policy, now) if d.keep)
    assert kept == ["daily", "monthly", "weekly"]
    cleanup = "find . -name 'email-gateway-*.sql.gz' -mtime +7 -delete"
    assert process.run(["bash", "-c", cleanup], timeout_s=10, cwd=tmp_path).code == 0
    assert [p.name.split("-")[2] for p in tmp_path.iterdir()] == ["daily"]


def test_03_psql_says_nothing_of_a_cut_dump(server: Server, production: str, tmp_path: Path) -> None:
    path = dumped(server, tmp_path)
    text = gzip.decompress(path.read_bytes())
    cut = tmp_path / "email-gateway-daily-20261124-020000.sql.gz"
    cut.write_bytes(gzip.compress(text[: text.index(b"\nc1500\t")]))
    done = sh(server, f"gunzip -c {cut} | psql -d postgres && gzip -t {cut}", tmp_path)
    assert done.code == 0
    assert query(server, production, "SELECT count(*) FROM outbox") == [(1499,)]  # half of the rows are gone
    with pytest.raises(ArtifactError, match="the dump ends"):
        recover(artifact(cut), live(server, production), Wish(replace=True), SETTINGS, tmp_path)


@contextlib.contextmanager
def keyed(data: Path | None = None, **options: str) -> Iterator[tuple[Server, Wire, str]]:
    """A Redis with these directives; also the beginning of a redis-cli command for it."""
    request = RedisRequest(10, data=data, options=tuple((k.replace("_", "-"), v) for k, v in options.items()))
    with (
        redis_sandbox(request, SETTINGS.sandbox, deadline=time.monotonic() + 120) as started,
        Wire(redis_address(started)) as wire,
    ):
        yield started, wire, f"redis-cli -s {started.unix_socket}"


def cli(server: Server, script: str, cwd: Path, timeout_s: float = 20) -> process.Completed:
    env = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": server.password.reveal()}
    return process.run(["bash", "-c", script], timeout_s=timeout_s, env=env, cwd=cwd)


def data_dir(wire: Wire) -> Path:
    return Path(wire.call("CONFIG", "GET", "dir")[1].decode())


def drilled(path: Path, folder: Path) -> Any:
    """What our reader says of a Redis archive."""
    (folder / "look").mkdir()
    return component("redis").inspect(
        artifact(path, "redis"), DrillContext(SETTINGS, folder / "look", time.monotonic() + 60)
    )


def packed(server: Server, command: str, tmp_path: Path) -> Path:
    """The script's archive, with its way of asking for the server's folder."""
    script = f"""
        mkdir redis-backup-20261123-021500 && cd redis-backup-20261123-021500
        dir=$({command} | tail -1)
        cp "$dir"/dump.rdb . 2>/dev/null; cp "$dir"/*.aof . 2>/dev/null
        echo ok > backup-metadata.txt; cd ..
        tar -czf redis-backup-20261123-021500.tar.gz redis-backup-20261123-021500
        tar -tzf redis-backup-20261123-021500.tar.gz > /dev/null"""
    done = cli(server, script, tmp_path)
    assert done.code == 0
    return tmp_path / "redis-backup-20261123-021500.tar.gz"


def test_04_the_redis_archive_holds_no_data(tmp_path: Path) -> None:
    with keyed(appendonly="yes") as (server, wire, command):
        wire.call("SET", "job", "1")
        wire.call("SAVE")
        asked = cli(server, f'{command} "CONFIG GET dir"', tmp_path)
        assert asked.code == 0 and b"ERR" in asked.stdout  # an error, and exit 0
        path = packed(server, f'{command} "CONFIG GET dir"', tmp_path)
        with tarfile.open(path) as tar:
            assert [m.name.split("/")[-1] for m in tar if m.isfile()] == ["backup-metadata.txt"]
        assert not drilled(path, tmp_path).restorable
        ours = redis_backup(redis_address(server), order(tmp_path, "daily", SETTINGS.policy.zone), SETTINGS)
        with tarfile.open(ours.path) as tar:
            assert any(name.endswith("dump.rdb") for name in tar.getnames())


def test_05_the_multi_part_aof_is_never_archived(tmp_path: Path) -> None:
    with keyed(appendonly="yes") as (server, wire, command):
        wire.call("SET", "job", "1")
        path = packed(server, f"{command} CONFIG GET dir", tmp_path)
        assert (data_dir(wire) / "appendonlydir").is_dir()
        with tarfile.open(path) as tar:
            assert not [m.name for m in tar if "aof" in m.name or m.name.endswith(".rdb")]
        where = order(tmp_path, "daily", SETTINGS.policy.zone)
        ours = redis_backup(redis_address(server), where, SETTINGS, data_dir(wire))
        with tarfile.open(ours.path) as tar:
            parts = [m.name for m in tar if "/appendonlydir/" in m.name]
        assert any(p.endswith(".manifest") for p in parts) and any(".incr." in p for p in parts)
        assert drilled(ours.path, tmp_path).facts.layout.aof is not None


def saved(folder: Path, value: str, *, aof: bool = False) -> Path:
    """A server's folder with one key in its RDB (and AOF)."""
    with keyed(appendonly="yes" if aof else "no") as (_, wire, _):
        wire.call("SET", "key", value)
        wire.call("SAVE")
        shutil.copytree(data_dir(wire), folder, ignore=shutil.ignore_patterns("*.log", "*.conf", "run"))
    return folder


def test_06_an_rdb_beside_appendonly_yes_starts_empty(tmp_path: Path) -> None:
    folder = saved(tmp_path / "volume", "backed up")
    with keyed(folder, appendonly="yes") as (_, wire, _):
        assert wire.call("PING") == b"PONG" and wire.call("DBSIZE") == 0
        wire.call("SAVE")  # as at shutdown
        assert (data_dir(wire) / "dump.rdb").stat().st_size < (folder / "dump.rdb").stat().st_size
        good = artifact(folder / "dump.rdb", "redis")
        done = redis_recover.recover(good, redis_address_of(wire), redis_recover.Wish(), SETTINGS, tmp_path)
        assert done.arrived["keys"] == 1 and wire.call("GET", "key") == b"backed up"


def redis_address_of(wire: Wire) -> Any:
    return wire.address


def test_07_an_aof_in_the_volume_wins_over_the_restored_rdb(tmp_path: Path) -> None:
    volume, good = saved(tmp_path / "volume", "damaged", aof=True), saved(tmp_path / "good", "backed up")
    shutil.copy(good / "dump.rdb", volume / "dump.rdb")  # the runbook's step 4
    with keyed(volume, appendonly="yes") as (_, wire, _):
        assert wire.call("GET", "key") == b"damaged"
        wish = redis_recover.Wish(replace=True, safety=None)
        redis_recover.recover(artifact(good / "dump.rdb", "redis"), wire.address, wish, SETTINGS, tmp_path)
        assert wire.call("GET", "key") == b"backed up"


def test_08_waiting_for_lastsave_hangs(tmp_path: Path) -> None:
    with keyed() as (server, wire, command):
        wire.call("SET", "key", "1")
        loop = f"last=$({command} LASTSAVE); {command} BGSAVE; "
        loop += f'while [ "$({command} LASTSAVE)" = "$last" ]; do sleep 0.1; done'
        env_wrong = loop.replace("redis-cli", "REDISCLI_AUTH=wrong redis-cli")
        with pytest.raises(ToolError, match="did not finish"):
            cli(server, env_wrong, tmp_path, timeout_s=3)
        ours = redis_backup(redis_address(server), order(tmp_path, "daily", SETTINGS.policy.zone), SETTINGS)
        assert ours.seconds < 20


def test_09_the_shipped_redis_conf_does_not_start(tmp_path: Path) -> None:
    conf = "save 900 1      # after 15 minutes if one key changed\nappendonly yes\n"
    (tmp_path / "redis.conf").write_text(conf)
    done = process.run(["redis-server", tmp_path / "redis.conf", "--port", "0"], timeout_s=10)
    assert done.code != 0
    folder = tmp_path / "config-backups/20261123"
    folder.mkdir(parents=True)
    (tmp_path / "redis.conf").rename(folder / "redis.conf")
    files = component("files")
    (tmp_path / "scratch").mkdir()
    ctx = DrillContext(SETTINGS, tmp_path / "scratch", time.monotonic() + 60)
    with files.restore(files.inspect(artifact(folder, "files"), ctx), ctx) as subject:
        assert [s.refused for s in subject.redis_starts] == [True]


def test_10_the_safety_backup_needs_the_server_that_was_stopped(tmp_path: Path) -> None:
    with keyed(appendonly="yes") as (server, wire, command):
        wire.call("SET", "key", "now")
        stopped = cli(
            server, "redis-cli -p 1 --rdb dump.rdb", tmp_path
        )  # step 1 stopped it, step 2 backs it up
        assert stopped.code != 0 and not (tmp_path / "dump.rdb").exists()
        good = artifact(saved(tmp_path / "good", "backed up") / "dump.rdb", "redis")
        wish = redis_recover.Wish(replace=True, safety=tmp_path / "safety")
        done = redis_recover.recover(good, wire.address, wish, SETTINGS, tmp_path)
        assert done.safety is not None and wire.call("GET", "key") == b"backed up"
        assert command


def test_11_grep_restores_a_table_without_its_rows(server: Server, production: str, tmp_path: Path) -> None:
    path = dumped(server, tmp_path)
    before = digest(server, production)
    query(server, production, "DROP TABLE companies CASCADE")
    done = sh(
        server,
        f"gunzip -c {path} | grep -A 1000 'CREATE TABLE public.companies' | psql -d email_gateway",
        tmp_path,
    )
    assert done.code == 0
    assert query(server, production, "SELECT count(*) FROM companies") == [(0,)]
    lost = query(
        server, production, "SELECT count(*) FROM pg_constraint WHERE conrelid = 'companies'::regclass"
    )
    assert lost == [(0,)]
    wish = Wish(replace=True, safety=None, tables=("companies",))
    query(server, production, "DROP TABLE companies")
    recover_tables(artifact(path), live(server, production), wish, SETTINGS, tmp_path)
    after = digest(server, production)
    for part in ("companies", "constraints", "triggers", "sequence", "outbox"):
        assert after[part] == before[part]


def test_12_the_template_forgets_the_encryption_key(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\nENCRYPTION_KEY=abcdefgh\n")
    command = 'grep -v "PASSWORD\\|SECRET\\|KEY" .env'
    out = process.run(["bash", "-c", command], timeout_s=5, cwd=tmp_path).stdout
    assert b"ENCRYPTION_KEY" not in out
    assert template((tmp_path / ".env").read_text()) == "PORT=1\nENCRYPTION_KEY=\n"


def test_13_roles_are_never_backed_up(server: Server, production: str, tmp_path: Path) -> None:
    text = gzip.decompress(dumped(server, tmp_path).read_bytes())
    assert b"reader" not in text
    taken = backup(
        live(server, production), order(tmp_path, "daily", SETTINGS.policy.zone), Choice(), SETTINGS
    )
    assert taken.globals is not None and "CREATE ROLE reader" in taken.globals.read_text()


def test_14_allkeys_lru_evicts_what_is_being_restored(tmp_path: Path) -> None:
    with keyed() as (_, wire, _):
        list(wire.pipeline(("SET", f"key:{n}", "v" * 500) for n in range(6000)))
        wire.call("SAVE")
        (tmp_path / "volume").mkdir()
        shutil.copy(data_dir(wire) / "dump.rdb", tmp_path / "volume/dump.rdb")
    small = {"maxmemory": "3mb", "maxmemory_policy": "allkeys-lru"}
    with keyed(tmp_path / "volume", **small) as (_, wire, _):
        wire.call("SET", "one", "more")
        assert wire.call("DBSIZE") < 6000
    with keyed(**small) as (_, wire, _):
        good = artifact(tmp_path / "volume/dump.rdb", "redis")
        with pytest.raises(RestoreError, match="maxmemory"):
            redis_recover.recover(good, wire.address, redis_recover.Wish(), SETTINGS, tmp_path)
        assert wire.call("DBSIZE") == 0


def test_15_full_recovery_leaves_the_damage_and_doubles_rows(
    server: Server, production: str, tmp_path: Path
) -> None:
    path, before = dumped(server, tmp_path), digest(server, production)
    query(server, production, "UPDATE companies SET name = 'wrong ' || id")
    done = sh(server, f"gunzip -c {path} | psql -d email_gateway", tmp_path)
    assert done.code == 0 and done.stderr.count(b"ERROR") > 10
    assert query(server, production, "SELECT count(*) FROM companies WHERE name LIKE 'wrong%%'") == [(200,)]
    assert query(server, production, "SELECT count(*) FROM log") == [(400,)]  # no key: twice
    wish = Wish(replace=True, safety=None, drop_old=True)
    recover(artifact(path), live(server, production), wish, SETTINGS, tmp_path)
    after = digest(server, production)
    assert (after["companies"], after["log"]) == (before["companies"], before["log"])


def test_17_half_a_dump_passes_as_a_backup(server: Server, production: str, tmp_path: Path) -> None:
    query(server, production, "ALTER TABLE outbox ENABLE ROW LEVEL SECURITY")
    roles = query(server, "postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'dumper'")
    if not roles:
        query(server, "postgres", "CREATE ROLE dumper LOGIN PASSWORD 'dumper-pw' IN ROLE pg_read_all_data")
    query(server, "postgres", "GRANT CONNECT ON DATABASE email_gateway TO dumper")
    name = f"email-gateway-daily-{datetime.now(UTC):%Y%m%d-%H%M%S}.sql.gz"
    done = sh(
        server,
        f"{SCRIPTS_DUMP} email_gateway | gzip > {name}; gzip -t {name}",
        tmp_path,
        user="dumper",
        password="dumper-pw",
    )
    assert (
        done.code == 0 and b"row-level security" in done.stderr
    )  # the file has its final name, gzip is happy
    state = gather(find(tmp_path, recognisers()), SETTINGS, now=datetime.now(UTC))
    assert any(f.check == "policy.integrity" for f in look(state).findings)
    with pytest.raises(ArtifactError):
        recover(artifact(tmp_path / name), live(server, "email_gateway_test"), Wish(), SETTINGS, tmp_path)


def test_18_the_fortnight_is_counted_in_octal(tmp_path: Path) -> None:
    for day in ("08", "09"):
        script = f"if [ $(({day} % 15)) -eq 0 ]; then echo test; else echo no test; fi"
        done = process.run(["bash", "-c", script], timeout_s=5)
        assert b"value too great for base" in done.stderr and done.stdout == b""
    ninth = datetime(2026, 11, 9, 6, tzinfo=UTC)
    (tmp_path / f"shop-daily-{ninth:%Y%m%d}-020000.sql.gz").write_bytes(b"x")
    report = look(gather(find(tmp_path, recognisers()), SETTINGS, now=ninth, evidence=tmp_path, deep=False))
    assert any(f.check == "policy.tested" for f in report.findings)  # by the record of drills, not by the day


def test_19_revokes_are_lost(server: Server, production: str, tmp_path: Path) -> None:
    may = "SELECT has_function_privilege('reader', 'secret_rows()', 'EXECUTE')"
    assert query(server, production, may) == [(False,)]
    path = dumped(server, tmp_path)
    ours = backup(
        live(server, production), order(tmp_path, "daily", SETTINGS.policy.zone), Choice(), SETTINGS
    )
    assert sh(server, f"gunzip -c {path} | psql -d postgres", tmp_path).code == 0
    assert query(server, production, may) == [(True,)]
    wish = Wish(replace=True, safety=None, drop_old=True)
    recover(artifact(ours.path), live(server, production), wish, SETTINGS, tmp_path)
    assert query(server, production, may) == [(False,)]


def test_20_a_copy_of_an_old_file_looks_fresh(tmp_path: Path) -> None:
    old = tmp_path / "email-gateway-daily-20211123-020000.sql.gz"
    old.write_bytes(gzip.compress(b"x"))
    fresh = process.run(
        ["bash", "-c", "find . -name '*.sql.gz' -mtime -1 | wc -l"], timeout_s=5, cwd=tmp_path
    )
    assert fresh.stdout.strip() == b"1"
    state = gather(find(tmp_path, recognisers()), SETTINGS, now=datetime.now(UTC), evidence=tmp_path)
    assert any(f.check == "policy.freshness" for f in look(state).findings)


def test_21_the_log_counts_after_deleting(tmp_path: Path) -> None:
    old = tmp_path / "email-gateway-daily-20260101-020000.sql.gz"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    script = """find . -name '*.sql.gz' -mtime +7 -delete
        removed=$(find . -name '*.sql.gz' -mtime +7 | wc -l); echo "Removidos $removed" """
    out = process.run(["bash", "-c", script], timeout_s=5, cwd=tmp_path).stdout
    assert out.strip() == b"Removidos 0" and not old.exists()
