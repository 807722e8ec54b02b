"""Usability checks: what a restored database betrays of itself, and good oddities they must not accuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from live_servers import live, postgres
from pg_subject import TAKEN, Restored, clone, dump_facts, findings, make_zoo, manifest_of, not_run

from harness.check import NotRun
from harness.model import Severity
from harness.postgres import checks_usability as checks
from harness.postgres.checks_usability import CHECKS
from harness.sandbox import Server
from harness.settings import Settings


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        make_zoo(made, "zoo")
        yield made


def subject(server: Server, name: str, *changes: str) -> Restored:
    return Restored(server, clone(server, "zoo", name, *changes), facts=dump_facts(name))


def told(found: Restored) -> dict[str, Severity]:
    result = {}
    for check in CHECKS:
        try:
            result |= {f.object: f.severity for f in findings(check, found)}
        except NotRun:
            continue
    return result


def test_a_good_database(server: Server) -> None:
    # NOT VALID is legal: a note, and only a note.
    assert told(subject(server, "good")) == {"constraint v_short on z.child": Severity.INFO}


def test_sequences(server: Server) -> None:
    found = subject(
        server,
        "sequences",
        "SELECT setval('z.child_id_seq', 2)",
        "CREATE TABLE z.down (id int PRIMARY KEY)",
        "CREATE SEQUENCE z.down_seq INCREMENT -1 OWNED BY z.down.id",
        "ALTER TABLE z.down ALTER id SET DEFAULT nextval('z.down_seq')",
        "INSERT INTO z.down VALUES (-5)",
        "CREATE TABLE z.plain (n bigserial)",
        "INSERT INTO z.plain VALUES (9)",
        "CREATE TABLE z.shared (n bigserial, at date, PRIMARY KEY (n, at))",
        "INSERT INTO z.shared VALUES (9, '2026-01-01')",
        "CREATE TABLE z.ahead (n bigserial PRIMARY KEY)",
        "SELECT setval('z.ahead_n_seq', 1000)",
        "CREATE TABLE z.round (n int PRIMARY KEY DEFAULT nextval('z.ticket'))",
        "INSERT INTO z.round VALUES (900)",
    )
    by_object = {f.object: f for f in findings(checks.sequence_behind, found)}
    assert {o: f.severity for o, f in by_object.items()} == {
        "z.child_id_seq": Severity.CRITICAL,
        "z.down_seq": Severity.CRITICAL,
        "z.shared_n_seq": Severity.HIGH,
        "z.plain_n_seq": Severity.MEDIUM,  # no key: numbers repeat, nothing fails
    }
    assert by_object["z.child_id_seq"].observed == "next value 3"
    # A source that stands so too is the source's fault: the backup is true to it.
    with_manifest = replace(found, manifest=manifest_of(server, "sequences"))
    assert {f.severity for f in findings(checks.sequence_behind, with_manifest)} == {Severity.MEDIUM}


def test_indexes_views_triggers_row_security(server: Server) -> None:
    found = subject(
        server,
        "broken",
        "SET allow_system_table_mods = on",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'z.child_v'::regclass",
        "REFRESH MATERIALIZED VIEW z.sums WITH NO DATA",
        "ALTER TABLE z.child DISABLE TRIGGER touched",
        "ALTER TABLE z.tenant DISABLE ROW LEVEL SECURITY",
        "SET check_function_bodies = off",
        "CREATE FUNCTION z.rows() RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT id FROM child'",
        "CREATE VIEW z.by_path AS SELECT * FROM z.rows() AS id",
        "CREATE VIEW z.far AS SELECT * FROM z.log",
    )
    expected = {
        "constraint v_short on z.child": Severity.INFO,
        "index z.child_v": Severity.HIGH,
        "materialized view z.sums": Severity.MEDIUM,
        "trigger touched on z.child": Severity.MEDIUM,
        "table z.tenant": Severity.MEDIUM,
        "view z.by_path": Severity.MEDIUM,
    }
    assert told(found) == expected
    with_manifest = replace(found, manifest=manifest_of(server, "broken"))
    assert told(with_manifest) == {
        "constraint v_short on z.child": Severity.INFO,
        "index z.child_v": Severity.INFO,
        "view z.by_path": Severity.MEDIUM,
    }


def test_a_role_that_a_lost_policy_shuts_out(server: Server) -> None:
    policy = "CREATE POLICY less ON z.tenant AS RESTRICTIVE FOR SELECT TO zoo_app, zoo_reader USING (id > 5)"
    found = subject(server, "restricted", policy, "DROP POLICY own_rows ON z.tenant")
    told_of = findings(checks.row_security, found)
    assert {f.object: f.severity for f in told_of} == {"table z.tenant": Severity.HIGH}
    assert len(told_of) == 2 and "zoo_app" in told_of[0].message
    assert findings(checks.row_security, replace(found, manifest=manifest_of(server, "restricted"))) == []
    # own_rows is for zoo_app, a member of zoo_reader; not the other way round
    kept = subject(server, "restricted_less", policy)
    assert ["zoo_reader" in f.message for f in findings(checks.row_security, kept)] == [True]
    assert (
        findings(checks.row_security, subject(server, "shown", "CREATE POLICY a ON z.tenant", policy)) == []
    )


def test_constraints_are_scanned_when_rows_may_have_come_later(server: Server) -> None:
    found = subject(
        server,
        "violated",
        "SET session_replication_role = replica",
        "INSERT INTO z.child (parent, v) VALUES (99, 'x'), (98, 'y')",
        "RESET session_replication_role",
        "ALTER TABLE z.parent DROP CONSTRAINT amount_positive",
        "INSERT INTO z.parent (name, amount) VALUES ('n', -1)",
        "ALTER TABLE z.parent ADD CONSTRAINT amount_positive CHECK (amount > 0) NOT VALID",
    )

    def seen() -> dict[str, tuple[Severity, str | None]]:
        return {f.object: (f.severity, f.observed) for f in findings(checks.constraints_hold, found)}

    check = {"constraint amount_positive on z.parent": (Severity.MEDIUM, "1")}
    key = {"constraint child_parent on z.child": (Severity.CRITICAL, "2")}
    assert seen().items() >= check.items()
    assert "constraint child_parent on z.child" not in seen()  # pg_dump makes keys after the rows
    found.facts.headers = {}  # a file of unknown making
    assert seen().items() >= {**check, **key}.items()
    found.facts = dump_facts("violated")
    with live(server, "violated").connect() as conn:
        conn.execute("ALTER TABLE z.child DISABLE TRIGGER ALL")
    assert seen()["constraint child_parent on z.child"][0] is Severity.CRITICAL


def test_large_object_references(server: Server) -> None:
    found = subject(
        server,
        "blobs",
        "CREATE TABLE z.files (id int, blob_oid oid, other oid)",
        "INSERT INTO z.files VALUES (1, 4711, 1), (2, 4712, 2), (3, NULL, 0)",
    )
    [finding] = findings(checks.large_object_references, found)
    assert (finding.object, finding.observed, finding.severity) == ("z.files.blob_oid", "1", Severity.HIGH)
    found.manifest = manifest_of(server, "blobs")
    [finding] = findings(checks.large_object_references, found)
    assert finding.severity is Severity.MEDIUM


def test_newest_row(server: Server) -> None:
    assert "no table records" in not_run(checks.newest_row, subject(server, "timeless"))
    found = subject(
        server,
        "aged",
        "CREATE TABLE z.log2 (at timestamptz DEFAULT now(), due timestamptz)",
        f"INSERT INTO z.log2 VALUES ('{TAKEN - timedelta(hours=50)}', '{TAKEN}'), ('infinity', NULL)",
    )
    [finding] = findings(checks.newest_row, found)
    assert (finding.severity, finding.observed) == (Severity.MEDIUM, "50 h")
    found.taken_at = TAKEN - timedelta(hours=40)
    assert findings(checks.newest_row, found) == []


def test_a_slow_query_ends(server: Server) -> None:
    found = subject(
        server,
        "slow",
        "CREATE FUNCTION z.dawdle(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE"
        " AS $$ BEGIN PERFORM pg_sleep(5); RETURN true; END $$",
        "ALTER TABLE z.child ADD CONSTRAINT slow CHECK (z.dawdle(id::int)) NOT VALID",
    )
    found.settings = Settings.model_validate({"postgres": {"statement_timeout": 1}})
    with pytest.raises(NotRun) as caught:
        findings(checks.constraints_hold, found)
    assert "longer than 1 s" in caught.value.reason and not caught.value.blocking
