"""A restored copy against the manifest: each class of loss with its severity; good copies are not accused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from live_servers import live, postgres, query
from pg_subject import Restored, clone, dump_facts, findings, make_zoo, manifest_of, not_run

from harness.manifest import Manifest
from harness.model import Severity
from harness.postgres import checks_manifest as checks
from harness.postgres.checks_manifest import CHECKS
from harness.sandbox import Server
from harness.settings import Settings

ALL = ("ACL", "COMMENT", "DATABASE", "PUBLICATION", "SUBSCRIPTION")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        make_zoo(made, "zoo")
        yield made


@pytest.fixture(scope="module")
def manifest(server: Server) -> Manifest:
    return manifest_of(server, "zoo")


def told(subject: Restored) -> dict[str, Severity]:
    """Object -> severity of everything the checks of this module find."""
    return {f.object: f.severity for check in CHECKS for f in findings(check, subject)}


def copy(
    server: Server, manifest: Manifest, name: str, *changes: str, types: tuple[str, ...] = ALL
) -> Restored:
    return Restored(
        server, clone(server, "zoo", name, *changes), manifest=manifest, facts=dump_facts(name, *types)
    )


def test_an_equal_copy_has_no_finding(server: Server, manifest: Manifest) -> None:
    subject = copy(server, manifest, "equal")
    # Another name is told (a restore elsewhere would have it too), and it has no consequence.
    assert told(subject) == {"zoo.sql": Severity.MEDIUM}


def test_without_manifest_nothing_is_claimed(server: Server) -> None:
    subject = Restored(server, "zoo")
    for check in CHECKS:
        assert not_run(check, subject) == "no manifest: the file was not compared with its source"


def test_objects_rows_sequences_large_objects(server: Server, manifest: Manifest) -> None:
    subject = copy(
        server,
        manifest,
        "broken",
        "DROP INDEX z.child_v",
        "ALTER TABLE z.parent ALTER n DROP DEFAULT",
        "CREATE OR REPLACE FUNCTION z.secret() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 2'",
        "DELETE FROM z.child WHERE v = 'one'",
        "UPDATE z.parent SET name = 'c' WHERE name = 'a'",
        "SELECT setval('z.parent_id_seq', 1)",
        "SELECT setval('z.ticket', 500)",
        "SELECT lo_put(4711, 0, '\\x01')",
        "ALTER ROLE zoo_app IN DATABASE broken SET lock_timeout = '1s'",
        "REVOKE INSERT ON z.parent FROM zoo_app",
        "COMMENT ON TABLE z.parent IS NULL",
    )
    found = told(subject)
    del found["zoo.sql"]
    assert found == {
        "index z.child_v": Severity.CRITICAL,
        "column z.parent.n": Severity.CRITICAL,
        "function z.secret()": Severity.CRITICAL,
        "comment table z.parent": Severity.MEDIUM,
        "privileges table z.parent": Severity.HIGH,
        "setting role zoo_app in this database": Severity.HIGH,
        "z.child": Severity.CRITICAL,
        "z.parent": Severity.CRITICAL,
        "z.parent_id_seq": Severity.CRITICAL,
        "large object 4711": Severity.CRITICAL,
    }
    rows = {f.object: f for f in findings(checks.rows, subject)}
    assert rows["z.child"].message == "1 of the source's 3 rows are lost"
    assert "as many rows" in rows["z.parent"].message
    text = repr([f for check in CHECKS for f in findings(check, subject)])
    assert "SELECT 2" not in text and "'one'" not in text


def test_settings_of_all_roles_are_in_no_dump(server: Server) -> None:
    query(server, "postgres", "ALTER ROLE ALL SET log_min_duration_statement = '1min'")
    try:
        clone(server, "zoo", "for_all", "ALTER DATABASE for_all SET lock_timeout = '1min'")
        manifest = manifest_of(server, "for_all")
    finally:
        query(server, "postgres", "ALTER ROLE ALL RESET ALL")
    assert set(manifest.facts["objects"]["setting"]) >= {"all roles", "this database"}
    subject = copy(server, manifest, "restored")
    assert told(subject) == {
        "settings of all roles": Severity.MEDIUM,
        "setting this database": Severity.HIGH,
        "zoo.sql": Severity.MEDIUM,
    }
    [lost] = [f for f in findings(checks.database, subject) if f.object == "setting this database"]
    assert (lost.expected, lost.observed) == ("setting lock_timeout: 1min", "missing")


def test_a_missing_table_is_said_once(server: Server, manifest: Manifest) -> None:
    subject = copy(server, manifest, "lost_table", "DROP TABLE z.child CASCADE")
    found = told(subject)
    assert found.pop("zoo.sql") is Severity.MEDIUM
    # What hangs on the table is not said again; what only used it is.
    assert set(found) == {
        "table z.child",
        "view z.joined",
        "materialized view z.sums",
        "publication pub",
    }


def test_an_empty_schema_is_one_finding(server: Server, manifest: Manifest) -> None:
    subject = copy(server, manifest, "emptied", "TRUNCATE z.parent, z.child")
    [finding] = findings(checks.rows, subject)
    assert (finding.object, finding.severity) == ("all tables", Severity.CRITICAL)


def drop_rights(server: Server, name: str) -> None:
    with live(server, name).connect() as conn:
        conn.execute("ALTER TABLE z.base OWNER TO postgres")
        conn.execute("REVOKE ALL ON ALL TABLES IN SCHEMA z FROM zoo_app, zoo_reader")
        conn.execute("REVOKE ALL (name) ON z.parent FROM zoo_reader")
        conn.execute("REVOKE USAGE ON SCHEMA z FROM zoo_app")
        conn.execute("GRANT EXECUTE ON FUNCTION z.secret(), pg_catalog.pg_sleep(float8) TO PUBLIC")
        conn.execute(
            "ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA z REVOKE SELECT ON TABLES FROM zoo_reader"
        )


def test_what_options_leave_out_is_one_finding_each(server: Server, manifest: Manifest) -> None:
    subject = copy(
        server,
        manifest,
        "plain",
        "DROP PUBLICATION pub",
        "DROP SUBSCRIPTION sub",
        "COMMENT ON TABLE z.parent IS NULL",
        "COMMENT ON COLUMN z.parent.name IS NULL",
        "COMMENT ON PROCEDURE z.work() IS NULL",
        types=("DATABASE",),
    )
    drop_rights(server, "plain")
    subject.facts = dump_facts("plain", "DATABASE", owner=None)
    found = told(subject)
    del found["zoo.sql"]
    classes = {"ownership", "privileges", "comments", "publications", "subscriptions"}
    assert found == dict.fromkeys(classes, Severity.MEDIUM)

    required = Settings.model_validate({"postgres": {"require": ["privileges"], "leaves_out": ["ownership"]}})
    severities = {
        f.object: f.severity for f in findings(checks.left_out, replace(subject, settings=required))
    }
    assert severities["privileges"] is Severity.HIGH
    assert severities["ownership"] is Severity.INFO

    # The same losses in a file that holds grants and owners are losses.
    found = told(replace(subject, facts=dump_facts("plain", *ALL)))
    assert found["privileges table z.parent"] is Severity.HIGH
    assert found["owner table z.base"] is Severity.HIGH


def test_one_class_gone_may_be_a_loss(server: Server, manifest: Manifest) -> None:
    subject = copy(
        server, manifest, "nosub", "DROP SUBSCRIPTION sub", types=("ACL", "COMMENT", "PUBLICATION")
    )
    [finding] = findings(checks.left_out, subject)
    assert (finding.object, finding.severity) == ("subscriptions", Severity.HIGH)
    subject.facts.headers["dump-version"] = ["17.1"]  # whose subscriptions the old server would not take
    [finding] = findings(checks.left_out, replace(subject))
    assert finding.severity is Severity.MEDIUM


def test_without_globals_and_without_create(server: Server, manifest: Manifest) -> None:
    subject = copy(server, manifest, "bare")
    query(server, "postgres", "ALTER ROLE zoo_app CONNECTION LIMIT 7")
    query(server, "postgres", "ALTER DATABASE bare SET work_mem = '9MB'")
    try:
        assert told(subject)["role zoo_app"] is Severity.HIGH
        assert told(subject)["setting this database"] is Severity.HIGH
        subject.globals = None
        subject.facts.created = {}
        assert {f.object: f.severity for f in findings(checks.left_out, Restored(**vars(subject)))} == {
            "database": Severity.MEDIUM,
            "roles": Severity.MEDIUM,
        }
        assert "no globals" in not_run(checks.roles, subject)
    finally:
        query(server, "postgres", "ALTER ROLE zoo_app CONNECTION LIMIT 5")


def test_ignore_rules(server: Server, manifest: Manifest) -> None:
    rules = [
        {"object": "z.child_*", "kind": "index", "reason": "built after recovery"},
        {"object": "z.parent.n", "property": "default", "reason": "another default here"},
    ]
    subject = copy(
        server, manifest, "ignored", "DROP INDEX z.child_v", "ALTER TABLE z.parent ALTER n DROP DEFAULT"
    )
    assert len(findings(checks.objects, subject)) == 2
    settings = Settings.model_validate({"postgres": {"ignore": rules}})
    assert findings(checks.objects, replace(subject, settings=settings)) == []


def test_unlogged_rows_are_not_a_loss(server: Server) -> None:
    clone(server, "zoo", "warm", "INSERT INTO z.cache VALUES ('k')")
    subject = copy(server, manifest_of(server, "warm"), "cold")
    assert findings(checks.rows, subject) == []
    assert [f.object for f in findings(checks.left_out, subject)] == ["unlogged rows"]


def test_identity(server: Server, manifest: Manifest) -> None:
    subject = copy(
        server, manifest, "older", "DELETE FROM z.child WHERE id = 1", "DELETE FROM z.child WHERE id = 2"
    )
    subject.manifest = replace(
        manifest,
        artifact={"sha256": "1" * 64, "bytes": 1},
        captured_at=subject.taken_at + timedelta(days=3),
    )
    subject.facts = dump_facts("other", *ALL)
    subject.facts.headers["server-version"] = ["14.9"]
    text = [f.message for f in findings(checks.identity, subject)]
    assert len(text) == 3  # bytes, name, major; one table with fewer rows is no sign of age
    with live(server, "older").connect() as conn:
        conn.execute("DELETE FROM z.parent WHERE name = 'a'")
    subject = Restored(**vars(subject))
    [age] = [f for f in findings(checks.identity, subject) if "days older" in f.message]
    assert age.severity is Severity.HIGH and "3.0 days" in age.message


def test_no_digest_and_deadline(server: Server, manifest: Manifest) -> None:
    facts = {**manifest.facts, "digests": False}
    facts["tables"] = {
        n: {k: v for k, v in t.items() if k != "digest"} for n, t in manifest.facts["tables"].items()
    }
    subject = copy(
        server, replace(manifest, facts=facts), "counted", "UPDATE z.parent SET name = 'q' WHERE id = 1"
    )
    assert "--no-digest" in not_run(checks.rows, subject)
    subject = Restored(server, "counted", manifest=manifest, deadline=time.monotonic() + 300)
    assert [f.object for f in findings(checks.rows, subject)] == ["z.parent"]
