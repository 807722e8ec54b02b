"""Evidence for tests of reports and records: plausible drills, hostile names, and a very large one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.evidence.record import Run, evidence_json
from harness.model import (
    Artifact,
    CheckResult,
    Evidence,
    Finding,
    Measured,
    Origin,
    Proves,
    SandboxInfo,
    Severity,
    Stage,
    Status,
    Teardown,
)

SECTION = {
    "section": "backup-do-postgresql",
    "title": "Backup do PostgreSQL > Backup Automático",
    "line": 40,
    "target": "postgres-backup",
    "results": {"postgres-backup": {"status": "pass", "seconds": 1.0, "reason": None, "findings": []}},
}
KEPT = CheckResult(
    "policy.retention",
    "Backups are kept as long as their kind asks for",
    Status.PASS,
    Proves.OBJECTIVE,
    Origin.DECLARED,
    Severity.HIGH,
)
NOW = datetime(2026, 11, 24, 5, 0, 7, tzinfo=UTC)
HOSTILE = (
    "public.<img src=x onerror=document.title='owned'>",
    "public.\u202egnp.exe",
    "public.a\x00b\x1b[31m\x07",
    "public.\u2066zero\u200bwidth\u2069",
    "public.\"'><script>document.title='owned'</script>",
    "public.&lt;b&gt;{{ 7 * 7 }}",
)
_CHECKS = (
    ("pg.file-complete", "The file is complete to its last line", "file", "artifact"),
    ("pg.restore-errors", "The restore raised no error", "restore", "artifact"),
    ("pg.objects", "Every object of the file is in the server", "schema", "artifact"),
    ("pg.row-counts", "Every table holds the rows of the file", "data", "artifact"),
    ("pg.rows-same", "The restored rows are those of the file", "data", "artifact"),
    ("pg.rows-of-source", "The restored rows are those of the source", "data", "manifest"),
    ("pg.sequences", "No sequence is behind its column", "usability", "artifact"),
    ("pg.constraints", "Every constraint is valid and holds", "usability", "artifact"),
    ("pg.hostile", "The file tries nothing beyond restoring", "security", "artifact"),
    ("pg.identity", "The file is of the time that its name claims", "identity", "artifact"),
    ("policy.rpo", "The backup is no older than the recovery point objective", "objective", "declared"),
    ("policy.rto", "The restore took no longer than the recovery time objective", "objective", "declared"),
)
TABLES = {
    "public.companies": 42,
    "public.email_logs": 499990,
    "public.email_outbox": 81234,
    "public.email_events": 1204411,
    "public.recipients": 190004,
    "public.webhooks": 17,
    "public.audit_logs": 88120,
}


def checks(**changed: CheckResult) -> tuple[CheckResult, ...]:
    """The usual checks, all passing but for those given by id (with `_` for `.` and `-`)."""
    made = []
    for ident, title, proves, origin in _CHECKS:
        result = CheckResult(
            ident,
            title,
            Status.PASS,
            Proves(proves),
            Origin(origin),
            Severity.CRITICAL,
            0.12,
            controls=("ISO27001:A.8.13",),
        )
        made.append(changed.get(ident.replace(".", "_").replace("-", "_"), result))
    return tuple(made)


def postgres(**changes: Any) -> Evidence:
    """A passing PostgreSQL drill; fields may be changed."""
    drill = Evidence(
        artifact=Artifact(
            Path("backups/email-gateway-daily-20261124-020000.sql.gz"),
            "postgres",
            "plain",
            ("gzip",),
            204_800_123,
            "daily",
            datetime(2026, 11, 24, 2, 0, 0, tzinfo=UTC),
            "dump-header",
            Path("backups/email-gateway-daily-20261124-020000.sql.gz.manifest.json"),
        ),
        sha256="5f2c" * 16,
        source_version="15.18",
        sandbox=SandboxInfo(
            "local",
            "15.18",
            "system",
            containment=("unprivileged user", "network namespace of its own", "memory limit"),
            settings={"fsync": "off", "full_page_writes": "off", "maintenance_work_mem": "1GB"},
        ),
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=31),
        checks=checks(),
        stages=(
            Stage("inspect", 2.1),
            Stage("sandbox", 0.45),
            Stage("restore", 17.9),
            Stage("checks", 9.8),
            Stage("teardown", 0.3),
        ),
        measured=Measured(10807.0, 18.35, sum(TABLES.values())),
        teardown=Teardown(True, True, True),
        facts={"tables": dict(TABLES)},
    )
    return replace(drill, **changes)


def redis() -> Evidence:
    """A passing Redis drill."""
    ok = CheckResult(
        "redis.keys",
        "Every key of the file is in the server",
        Status.PASS,
        Proves.DATA,
        Origin.ARTIFACT,
        Severity.CRITICAL,
        0.4,
    )
    load = replace(ok, id="redis.load", title="A server loads the file", proves=Proves.RESTORE)
    return postgres(
        artifact=Artifact(
            Path("redis-backups/redis-backup-20261124-021500.tar.gz"),
            "redis",
            "rdb",
            ("gzip", "tar"),
            1_204_551,
            "daily",
            datetime(2026, 11, 24, 2, 15, tzinfo=UTC),
            "rdb-aux",
        ),
        sha256="9a01" * 16,
        source_version="7.0.15",
        checks=(load, ok),
        stages=(Stage("inspect", 0.2), Stage("sandbox", 0.1), Stage("restore", 0.4), Stage("checks", 0.6)),
        measured=Measured(9907.0, 0.5, None, 18_230),
        unproven=("no manifest: the file was not compared with its source",),
        facts={"keys_per_database": {"0": 18_000, "1": 230}},
    )


def failing() -> Evidence:
    """A drill whose backup lost rows, and whose roles are missing."""
    lost = Finding(
        "pg.row-counts",
        Severity.CRITICAL,
        "public.email_logs",
        "10 rows of the source are not in the backup; recovering from it would lose them",
        Origin.MANIFEST,
        "500000",
        "499990",
        "take a new backup now, and keep this one for the inquiry",
    )
    role = Finding(
        "pg.roles",
        Severity.HIGH,
        "gateway_app",
        "the role owns objects and is in no globals file: it must be made by hand",
        Origin.ARTIFACT,
        "role present",
        "absent",
        "run provado backup postgres, which saves the roles too",
    )
    result = CheckResult(
        "pg.row-counts",
        "Every table holds the rows of the source",
        Status.FAIL,
        Proves.DATA,
        Origin.MANIFEST,
        Severity.CRITICAL,
        0.2,
        (lost,),
    )
    roles = CheckResult(
        "pg.roles",
        "Every role that the objects need can be made",
        Status.FAIL,
        Proves.USABILITY,
        Origin.ARTIFACT,
        Severity.HIGH,
        0.1,
        (role,),
    )
    return postgres(checks=(*checks(pg_row_counts=result), roles))


def blocked() -> Evidence:
    """A drill that this machine could not judge."""
    only = tuple(
        c if c.proves is Proves.FILE else replace(c, status=Status.NOT_RUN, reason="there is no server")
        for c in checks()[:9]
    )
    return postgres(
        checks=only,
        sandbox=SandboxInfo("none"),
        stages=(Stage("inspect", 2.0),),
        measured=Measured(10807.0),
        teardown=None,
        facts={},
        blocked="no PostgreSQL 15 was found (looked in PATH, /usr/lib/postgresql, Docker); "
        "install postgresql-15 or give --postgres-bin",
        unproven=("no server could be started: nothing was restored",),
    )


def evidence(
    *drills: Evidence,
    drill: int = 12,
    wider: tuple[CheckResult, ...] = (),
    runbook: tuple[dict[str, Any], ...] = (),
    **changes: Any,
) -> dict[str, Any]:
    """evidence.json of a run over these drills, in a signed ledger, with a past."""
    run = Run(
        "20261124T050007Z-a1b2c3",
        NOW,
        NOW + timedelta(seconds=33),
        "reports",
        drills,
        objectives={"rpo_s": 86400.0, "rto_s": 14400.0},
        tools={"provado": "0.1.0", "python": "3.11.7", "system": "Linux"},
        plan={"policy": {"timezone": "America/Sao_Paulo"}},
        wider=wider,
        runbook=runbook,
    )
    data = evidence_json(run)
    data["ledger"] = {
        "id": "5f0d7a52-8a51-4a2c-b1b0-0d7b0a1c2d3e",
        "drill": drill,
        "record": 2 * drill,
        "record_sha256": "c0de" * 16,
        "signed": True,
        "keyid": "4b7e" * 16,
    }
    data["history"] = past(drill - 1)
    return {**data, **changes}


def past(count: int) -> list[dict[str, Any]]:
    """`count` daily drills before NOW: one aborted, one failed, one after a long gap."""
    made: list[dict[str, Any]] = []
    for n in range(1, count + 1):
        days = count + 1 - n + (20 if n == 1 else 0)
        at = NOW - timedelta(days=days)
        stamp = at.isoformat().replace("+00:00", "Z")
        verdict = "aborted" if n == 4 else "fail" if n == 7 else "pass"
        entry = {
            "name": f"email-gateway-daily-{at:%Y%m%d}-020000.sql.gz",
            "component": "postgres",
            "kind": "daily",
            "sha256": "",
            "bytes": 1,
            "taken_at": f"{at:%Y-%m-%d}T02:00:00Z",
            "verdict": verdict,
            "backup_age_s": 10800.0 + 900 * n,
            "rto_s": 16.0 + n / 5,
            "rows": 2_000_000 + 1000 * n,
            "keys": None,
            "files": None,
        }
        made.append(
            {
                "at": stamp,
                "drill": n,
                "run_id": f"run-{n}",
                "verdict": verdict,
                "backups": [] if verdict == "aborted" else [entry],
            }
        )
    return made


def hostile() -> Evidence:
    """A drill of a database whose names attack whoever reads the report."""
    found = tuple(
        Finding(
            "pg.row-counts",
            Severity.CRITICAL,
            name,
            f"rows of {name} are missing",
            Origin.ARTIFACT,
            "2",
            "1",
            f"look at {name}",
        )
        for name in HOSTILE
    )
    result = CheckResult(
        "pg.row-counts",
        "Every table holds its rows",
        Status.FAIL,
        Proves.DATA,
        Origin.ARTIFACT,
        Severity.CRITICAL,
        0.2,
        found,
    )
    bad = Artifact(Path("backups/<b>\u202e.sql"), "postgres", "plain", (), 1, None, NOW, "name")
    return postgres(
        artifact=bad,
        checks=checks(pg_row_counts=result),
        facts={"tables": dict.fromkeys(HOSTILE, 2)},
        unproven=(f"{HOSTILE[0]} was not compared",),
    )


def huge(tables: int = 1000, kinds: int = 10) -> Evidence:
    """`tables` tables x `kinds` checks, a tenth of them with findings for every table."""
    names = [f"warehouse_{n % 7}.orders_partition_{n:04d}" for n in range(tables)]
    results = []
    for k in range(kinds):
        for n, name in enumerate(names):
            found = (
                Finding(
                    f"pg.check-{k}",
                    Severity.CRITICAL,
                    name,
                    f"{n} rows of {name} are missing: recovering would lose them",
                    Origin.ARTIFACT,
                    "1",
                    "0",
                    "take a new backup",
                ),
            )
            results.append(
                CheckResult(
                    f"pg.check-{k}",
                    f"Check number {k} of every table",
                    Status.FAIL if k < 3 else Status.PASS,
                    Proves.DATA,
                    Origin.ARTIFACT,
                    Severity.CRITICAL,
                    0.01,
                    found if k < 3 else (),
                )
            )
    return postgres(checks=tuple(results), facts={"tables": dict.fromkeys(names, 1000)})
