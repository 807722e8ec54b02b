"""Checks of what provado.yaml declares: what fails, what has no answer, what is out of scope."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from live_servers import postgres
from pg_subject import TAKEN, Restored, clone, dump_facts, findings, make_zoo, not_run
from pydantic import ValidationError

from harness.check import run_checks
from harness.errors import ConfigError
from harness.model import Severity, Status
from harness.postgres import checks_declared as checks
from harness.postgres.facts import TableData
from harness.sandbox import Server
from harness.settings import Settings


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        make_zoo(made, "zoo")
        clone(
            made,
            "zoo",
            "fresh",
            'CREATE TABLE public."Mixed Case" (a int, at timestamptz)',
            f"INSERT INTO public.\"Mixed Case\" VALUES (1, '{TAKEN - timedelta(hours=3)}'), (2, 'infinity')",
        )
        yield made


@pytest.fixture
def subject(server: Server) -> Restored:
    return Restored(server, "fresh", facts=dump_facts("fresh"))


def declare(subject: Restored, **postgres: Any) -> Restored:
    return replace(subject, settings=Settings.model_validate({"postgres": postgres}))


def test_nothing_declared(subject: Restored) -> None:
    for check in checks.CHECKS:
        assert "provado.yaml" in not_run(check, subject)


def test_tables(subject: Restored) -> None:
    tables = {
        "z.child": {"min_rows": 3, "max_rows": 3},
        "z.parent": {"min_rows": 3},
        "z.parted": {"min_rows": 0},
        "Mixed Case": {"max_rows": 1},
        "z.gone": {},
    }
    found = {
        f.object: (f.severity, f.observed)
        for f in findings(checks.declared_tables, declare(subject, tables=tables))
    }
    assert found == {
        "z.parent": (Severity.CRITICAL, "2"),
        "Mixed Case": (Severity.HIGH, "2"),
        "z.gone": (Severity.CRITICAL, "none"),
    }


def test_allowed_drop(subject: Restored) -> None:
    declared = declare(
        subject, allowed_drop="10%", tables={"z.log": {"allowed_drop": 1}, "z.exact": {"allowed_drop": 0}}
    )
    assert "no earlier passing drill" in not_run(checks.allowed_drop, declared)
    before = {"z.a": 100, "z.b": 100, "z.log": 100, "z.exact": 10, "z.dropped": 5, "z.empty": 0}
    declared.last_good = {"facts": {"tables": before}}
    now = {"z.a": 90, "z.b": 89, "z.log": 1, "z.exact": 9, "z.new": 1, "z.empty": 0}
    declared.facts.tables = [
        TableData("fresh", *name.split("."), ("a",), rows, 0, "", 1, True, True) for name, rows in now.items()
    ]
    assert {f.object for f in findings(checks.allowed_drop, declared)} == {"z.b", "z.exact", "z.dropped"}


def invariant(sql: str, **more: Any) -> dict[str, Any]:
    return {"name": sql[:40], "sql": sql, **more}


@pytest.mark.parametrize(
    ("declared", "holds"),
    [
        (invariant("SELECT count(*) = 3 FROM z.child"), True),
        (invariant("SELECT false"), False),
        (invariant("SELECT count(*) FROM z.child", equals=3), True),
        (invariant("SELECT count(*) FROM z.child", equals=4), False),
        (invariant("SELECT 2.50::numeric", equals=2.5), True),
        (invariant("SELECT 'x'", equals="x"), True),
        (invariant("SELECT 'x'", equals="y"), False),
        (invariant("SELECT 5", min=5, max=6), True),
        (invariant("SELECT 7.1", min=5, max=7), False),
        (invariant("SELECT 1 = 1", equals=True), True),
        (invariant('SELECT count(*) FROM "Mixed Case"', min=1), True),
    ],
)
def test_invariants(subject: Restored, declared: dict[str, Any], holds: bool) -> None:
    found = findings(checks.invariants, declare(subject, invariants=[declared]))
    assert [f.severity for f in found] == ([] if holds else [Severity.CRITICAL])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT NULL",
        "SELECT a FROM z.base",
        "SELECT 1, 2",
        "SELECT id FROM z.child",
        "SELECT nonsense",
        "SELECT 1; SELECT true",
        "DELETE FROM z.child RETURNING true",
        "SELECT 7",
        "SELECT 'secret value'::int = 1",
    ],
)
def test_an_invariant_without_answer_is_an_error(subject: Restored, sql: str) -> None:
    declared = declare(subject, invariants=[invariant(sql)])
    with pytest.raises(ConfigError) as caught:
        findings(checks.invariants, declared)
    assert "secret value'" not in str(caught.value).replace(sql[:40], "")
    [result], _ = run_checks([checks.invariants], declared, fail_on=Severity.HIGH, not_restored="")
    assert result.status is Status.ERROR
    # Beside one that fails, both are told.
    both = declare(subject, invariants=[invariant(sql), invariant("SELECT false")])
    assert len(findings(checks.invariants, both)) == 2


def test_an_invariant_changes_nothing(subject: Restored) -> None:
    # Large objects may be written in a read-only transaction before 16; it is rolled back.
    unlink = invariant("SELECT lo_unlink(4711) = 1")
    if int(subject.server.info.version.split(".")[0]) < 16:
        assert findings(checks.invariants, declare(subject, invariants=[unlink])) == []
    else:
        with pytest.raises(ConfigError, match="ReadOnly"):
            findings(checks.invariants, declare(subject, invariants=[unlink]))
    asked = [invariant("SELECT octet_length(lo_get(4711))", equals=3)]
    found = findings(checks.invariants, declare(subject, invariants=asked))
    assert "SELECT octet_length(lo_get(4711))" not in {f.object for f in found}


def test_extensions_and_roles(subject: Restored) -> None:
    subject.loaded.placeholder_roles.append("zoo_reader")
    declared = declare(subject, extensions=["citext", "postgis"], roles=["zoo_app", "zoo_reader"])
    assert {f.object for f in findings(checks.declared_extensions, declared)} == {
        "extension postgis",
        "role zoo_reader",
    }


def test_fresh(subject: Restored) -> None:
    place = "public.Mixed Case.at"
    assert findings(checks.fresh, declare(subject, fresh={place: "4h"})) == []
    [finding] = findings(checks.fresh, declare(subject, fresh={place: "2h"}))
    assert (finding.object, finding.observed) == (place, "3:00:00")
    [finding] = findings(checks.fresh, declare(subject, fresh={"z.parent.at": "2h"}))
    assert finding.observed == "missing"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tables": {"a": {"min_rows": 2, "max_rows": 1}}},
        {"tables": {"a": {"min_row": 2}}},
        {"allowed_drop": "ten percent"},
        {"invariants": [{"name": "a", "sql": "SELECT 1", "equals": 1, "min": 1}]},
        {"invariants": [{"name": "a", "sql": "SELECT 1"}, {"name": "a", "sql": "SELECT 2"}]},
        {"require": ["everything"]},
        {"require": ["roles"], "leaves_out": ["roles"]},
        {"ignore": [{"object": "a"}]},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"postgres": wrong})
