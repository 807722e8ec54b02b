"""Physical backups from pg_basebackup of a real server, whole and broken, and those of the shared corpus."""

import io
import json
import os
import shutil
import tarfile
import time
from pathlib import Path

import psycopg
import pytest

from harness import catalog, components, process
from harness.drill import drill, open_drill
from harness.evidence.record import judge
from harness.manifest import write_manifest
from harness.model import Verdict
from harness.postgres.capture import capture
from harness.redact import Secret
from harness.sandbox import PostgresRequest, find_tools, postgres_sandbox
from harness.settings import SandboxSettings, Settings

pytestmark = pytest.mark.slow
SETTINGS = Settings.model_validate({"sandbox": {"kind": "local", "timeout": "3m"}})
CORPUS = Path(__file__).parents[3] / "shared/corpus/postgres"
REPLICA = (("wal_level", "replica"), ("max_wal_senders", "4"))
SOURCE = """
CREATE TABLE people (id int PRIMARY KEY, name text, note text);
INSERT INTO people SELECT n, 'name ' || n, repeat(md5(n::text), 20) FROM generate_series(1, 2000) n;
CREATE INDEX people_name ON people (name);
CREATE SEQUENCE counter;
SELECT setval('counter', 7240000111222333444);
CREATE UNLOGGED TABLE cache (a int);
INSERT INTO cache VALUES (1);
"""


@pytest.fixture(scope="module")
def backups(tmp_path_factory):
    """`plain` and `tar` folders of one server, whose superuser is not called postgres."""
    folder = tmp_path_factory.mktemp("base")
    tool = next((t for t in find_tools("pg_basebackup", SandboxSettings()) if "/15/" in str(t)), None)
    if tool is None:
        pytest.skip("no PostgreSQL 15 here: its base backups are NOT tested")
    deadline = time.monotonic() + 120
    with postgres_sandbox(
        PostgresRequest(15, options=REPLICA), SandboxSettings(), deadline=deadline
    ) as server:
        space, owner = server.shared / "fast", next(server.shared.parent.glob("data-*")).stat()
        space.mkdir()
        os.chown(space, owner.st_uid, owner.st_gid)
        where = {"host": server.host, "password": server.password.reveal(), "autocommit": True}
        with psycopg.connect(**where, user="postgres", dbname="postgres") as conn:
            conn.execute("CREATE DATABASE app TEMPLATE template0")
            conn.execute(f"CREATE TABLESPACE fast LOCATION '{server.shared_inside}/fast'")
            conn.execute("CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'x'")
        with psycopg.connect(**where, user="postgres", dbname="app") as conn:
            conn.execute(SOURCE)
            conn.execute("CREATE TABLE far (a int) TABLESPACE fast")
            conn.execute("INSERT INTO far SELECT generate_series(1, 500)")
            conn.execute("CHECKPOINT")
        with psycopg.connect(**{**where, "password": "x"}, user="boss", dbname="app") as conn:
            conn.execute("ALTER ROLE postgres RENAME TO gateway")
        common = ["-h", server.host, "-U", "boss", "-c", "fast", "--no-sync"]
        for name, options in {
            "plain": ["-Fp", "-R", "-T", f"{space}={folder}/fast"],
            "tar": ["-Ft", "-z"],
        }.items():
            done = process.run(
                [tool, *common, *options, "-D", folder / name], timeout_s=60, env={"PGPASSWORD": "x"}
            )
            assert done.code == 0, done.error_text()
    return folder


@pytest.fixture
def plain(backups, tmp_path):
    """A copy to break."""
    copy = tmp_path / "copy"
    shutil.copytree(backups / "plain", copy, copy_function=os.link, symlinks=True)
    return copy


def judged(path, **claims):
    found = catalog.identify(path, components.recognisers(), **claims)
    assert found is not None
    assert found.format == "physical"
    evidence = drill(found, SETTINGS)
    return evidence, judge(evidence).verdict


def found(evidence, severity="critical"):
    return {f.check for f in evidence.findings if f.severity == severity}


def damage(path, at, put):
    """Change a file that is hard-linked elsewhere."""
    data = bytearray(path.read_bytes())
    data[at : at + len(put)] = put
    path.unlink()
    path.write_bytes(data)


def heap(folder, database="app", table="people"):
    """File of a relation: found by its content, since no server runs on the copy."""
    counter = (7240000111222333444).to_bytes(8, "little")
    wanted = {"people": b"name 1999", "people_name": b"name 1999", "counter": counter}
    wanted["pg_proc"] = b"RI_FKey_cascade_del"
    inside = [p for p in (folder / "base").rglob("*") if p.is_file() and p.parent.name not in ("1", "4", "5")]
    names = [p for p in inside if wanted[table] in p.read_bytes()]
    by_size = sorted(names, key=lambda p: p.stat().st_size)
    return by_size[0] if table == "people_name" else by_size[-1]


def test_a_good_one_passes_and_brings_none_of_its_settings(plain, tmp_path):
    canary = tmp_path / "canary"
    auto = plain / "postgresql.auto.conf"
    auto.unlink()
    auto.write_text(
        f"restore_command = 'touch {canary}'\narchive_mode = on\narchive_command = 'touch {canary}'\n"
        f"archive_cleanup_command = 'touch {canary}'\nshared_preload_libraries = 'no_such_library'\n"
        "ssl = on\nport = 1\nlisten_addresses = '*'\n"
    )
    assert (plain / "standby.signal").exists()
    evidence, verdict = judged(plain)
    assert verdict is Verdict.PASS, evidence.findings
    assert evidence.source_version == "15"
    assert evidence.artifact.taken_at_basis == "backup-label"
    assert evidence.teardown is not None
    assert evidence.teardown.complete
    assert not canary.exists()


def test_tar_with_tablespace_wal_and_manifest(backups):
    assert len(list((backups / "tar").glob("*.tar.gz"))) == 3
    drilled = open_drill(catalog.identify(backups / "tar", components.recognisers()), SETTINGS)
    try:
        with drilled.subject.connect("app") as conn:
            counted = conn.execute(
                "SELECT (SELECT count(*) FROM public.far), (SELECT count(*) FROM public.people)"
            ).fetchone()
        assert counted == (500, 2000)
    finally:
        evidence = drilled.close()
    assert judge(evidence).verdict is Verdict.PASS, evidence.findings


def test_one_tar_of_a_data_directory_some_way_down(backups, tmp_path):
    path = tmp_path / "nightly.tar"
    with tarfile.open(path, "w", dereference=True) as tar:
        tar.add(backups / "plain", "main")
    evidence, verdict = judged(path)
    assert verdict is Verdict.PASS, evidence.findings


def test_a_lost_and_an_added_file(plain):
    heap(plain).unlink()
    (plain / "base" / "notes~").write_text("x")
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert {"pg.base-manifest", "pg.base-readable"} <= found(evidence)
    assert {f.object for f in evidence.findings if f.severity == "medium"} >= {"base/notes~"}


def test_a_changed_manifest_proves_nothing(plain):
    raw = (plain / "backup_manifest").read_bytes()
    damage(plain / "backup_manifest", raw.index(b'"Checksum": "') + 13, b"00")
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert "pg.base-manifest" in found(evidence, "high")


def test_damage_without_any_manifest_shows_in_structure(plain):
    (plain / "backup_manifest").unlink()
    damage(heap(plain, table="people_name"), 8192 + 600, b"\xff" * 3000)
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert "index public.people_name" in {
        f.object for f in evidence.findings if f.check == "pg.base-structure"
    }
    assert any("backup_manifest" in why for why in evidence.unproven)


def test_a_table_cut_at_a_page_shows_in_its_index(plain):
    (plain / "backup_manifest").unlink()
    file = heap(plain)
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[: len(data) // 2 // 8192 * 8192])
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert [f.object for f in evidence.findings if f.check == "pg.base-structure"] == ["table public.people"]


@pytest.mark.parametrize("page", [0, 5])
def test_a_page_of_zeros_shows_in_an_index(page, plain):
    """Nothing vacuumed the table, so that even an index's count asks the table."""
    (plain / "backup_manifest").unlink()
    damage(heap(plain), page * 8192, bytes(8192))
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert [f.object for f in evidence.findings if f.check == "pg.base-structure"] == ["table public.people"]


def test_an_incremental_backup_copied_over_a_full_one(plain):
    (plain / "backup_manifest").unlink()
    file = heap(plain)
    shutil.copy(file, file.with_name(f"INCREMENTAL.{file.name}"))
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert [f.observed for f in evidence.findings if f.check == "pg.base-complete"] == ["1 pieces"]


def test_catalogs_that_cannot_be_read_are_damage(plain):
    """Functions that the server's own queries call are gone: the check itself must not break on it."""
    (plain / "backup_manifest").unlink()
    proc = heap(plain, table="pg_proc")
    damage(proc, 3 * 8192, bytes(8192))
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL, (evidence.findings, evidence.blocked)


def test_a_page_of_zeros_to_grow_into_is_no_loss(plain):
    (plain / "backup_manifest").unlink()
    with heap(plain).open("ab") as file:
        file.write(bytes(8192 * 3))
    evidence, verdict = judged(plain)
    assert verdict is Verdict.PASS, evidence.findings


def test_a_sequence_of_zeros(plain):
    (plain / "backup_manifest").unlink()
    damage(heap(plain, table="counter"), 0, bytes(8192))
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert [f.object for f in evidence.findings if f.check == "pg.base-readable"] == [
        "sequence public.counter"
    ]


def test_without_its_wal_it_cannot_become_consistent(plain):
    for segment in (plain / "pg_wal").iterdir():
        if segment.is_file():
            segment.unlink()
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert {"pg.base-complete", "pg.base-starts"} <= found(evidence)


@pytest.mark.parametrize("name", ["global/pg_control", "PG_VERSION"])
def test_without_what_every_server_needs(plain, name):
    (plain / name).unlink()
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert "pg.base-complete" in found(evidence)


def test_another_major_is_needed(plain):
    (plain / "PG_VERSION").unlink()
    (plain / "PG_VERSION").write_text("14\n")
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL  # the manifest knows better; and no server was tried:
    assert evidence.blocked is not None
    assert "PostgreSQL 14" in evidence.blocked
    (plain / "backup_manifest").unlink()
    assert judged(plain)[1] is Verdict.INCONCLUSIVE


def test_a_catalog_that_lets_nobody_in(plain):
    (plain / "backup_manifest").unlink()
    for path in (plain / "base" / "1").iterdir():
        if path.name.isdigit():
            path.unlink()
    evidence, verdict = judged(plain)
    assert verdict is Verdict.FAIL
    assert "pg.base-starts" in found(evidence)


def test_a_hostile_archive_is_refused(tmp_path):
    path = tmp_path / "base.tar"
    outside = tmp_path / "outside"
    with tarfile.open(path, "w") as tar:
        for name, text in {"PG_VERSION": b"15\n", "../outside": b"x"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, fileobj=io.BytesIO(text))
    assert judged(path)[1] is Verdict.FAIL
    assert not outside.exists()


_CASES = [*sorted(p.name for p in CORPUS.glob("cases/p_*")), "c_phys_cold"]


@pytest.fixture(scope="module")
def source_manifest(tmp_path_factory):
    """The manifest of the corpus' source, captured from its good base backup."""
    path = tmp_path_factory.mktemp("manifest") / "m.json"
    good = catalog.identify(CORPUS / "good/basebackup_tar", components.recognisers())
    assert good is not None
    drilled = open_drill(good, SETTINGS)
    try:
        host = drilled.subject.server.host
        write_manifest(path, capture(Secret(f"postgresql://postgres@/email_gateway?host={host}")))
    finally:
        evidence = drilled.close()
    assert judge(evidence).verdict is Verdict.PASS, evidence.findings
    return path


@pytest.mark.skipif(
    not CORPUS.is_dir(), reason="../shared/corpus is not here: its physical backups go untested"
)
@pytest.mark.parametrize("name", _CASES)
def test_corpus(name, source_manifest):
    folder = CORPUS / "cases" / name
    case = json.loads((folder / "case.json").read_text())
    evidence, verdict = judged(folder, manifest=source_manifest)
    wanted = {
        "good": {Verdict.PASS},
        "bad": {Verdict.FAIL},
        "warn": {Verdict.PASS, Verdict.FAIL},
        "cannot-verify-here": {Verdict.INCONCLUSIVE, Verdict.FAIL},
    }[case["verdict"]]
    assert verdict in wanted, evidence.findings
    if case["verdict"] == "warn":
        assert any(f.check.startswith("pg.base-") for f in evidence.findings)
