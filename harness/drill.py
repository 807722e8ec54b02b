"""One backup in, one Evidence out: inspect, restore into a sandbox, run the checks, tear down, record.

identify -> inspect (no server) -> restore (sandbox) -> checks -> teardown -> Evidence. A failed restore is
a result. What kept this machine from judging (no sandbox, a missing tool, the deadline) is `blocked`; the
checks that need no server still run then, so a bad file is bad even where nothing can be restored.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from . import objectives
from .check import broken_at, run_checks
from .component import Component, DrillContext, Inspection, Outcome
from .components import component
from .errors import ArtifactError, ConfigError, ProvadoError, SandboxError, ToolError
from .model import (
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
from .scratch import scratch_folder
from .settings import Settings
from .waivers import apply_waivers

Progress = Callable[[str, int, int], None]

_NOWHERE: Final = Outcome(SandboxInfo("none"), (), Measured(), (), None)


def _silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class Drill:
    """A drill in progress: checked, and its sandbox alive until `close`. Made by `open_drill`.

    `subject` is the component's restored subject (None when not even inspection worked); `restored` tells
    whether a server stands behind it. `extra` takes results of the user's own tests before `close`.
    """

    artifact: Artifact
    settings: Settings
    started_at: datetime
    component: Component
    inspection: Inspection | None = None
    subject: Any = None
    restored: bool = False
    results: tuple[CheckResult, ...] = ()
    blocked: str | None = None
    extra: list[CheckResult] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _closed: Evidence | None = None

    def evidence(self) -> Evidence:
        """The record as it stands: final after `close`, else without the proof of teardown."""
        return self._closed or self._record(self._outcome(), None)

    def close(self) -> Evidence:
        """Tear the sandbox down (once), and return the final record."""
        if self._closed is None:
            self._after_restore()
            began = time.perf_counter()
            trouble = None
            try:
                self._stack.close()
            except (SandboxError, ToolError) as error:
                trouble = str(error)
            except Exception as error:
                trouble = f"tearing the sandbox down broke with {broken_at(error)}; please report this"
            if trouble:
                self.blocked = self.blocked or trouble
            if self.restored:
                self.stages.append(Stage("teardown", round(time.perf_counter() - began, 4)))
            outcome = self._outcome()
            self._closed = self._record(outcome, outcome.teardown)
        return self._closed

    def abandon(self) -> None:
        """Tear down without a record, after an interrupt."""
        self._stack.close()

    def _after_restore(self) -> None:
        """The user's own steps, which may change the restored database: after everything looked at it."""
        if not (self.restored and self.settings.after_restore and self.component.name == "postgres"):
            return
        from .release import run_steps

        began = time.perf_counter()
        try:
            self.extra += run_steps(self.subject.server, self.subject.database, self.settings)
        except ProvadoError as error:
            self.blocked = self.blocked or str(error)
        self.stages.append(Stage("after restore", round(time.perf_counter() - began, 4)))

    def _outcome(self) -> Outcome:
        return _NOWHERE if self.subject is None else self.component.outcome(self.subject)

    def _record(self, outcome: Outcome, teardown: Teardown | None) -> Evidence:
        measured = outcome.measured
        if measured.rto_s is None and self.restored:
            measured = replace(measured, rto_s=round(sum(s.seconds for s in outcome.stages), 3))
        if self.artifact.taken_at_basis not in (None, "mtime"):
            measured = replace(measured, backup_age_s=objectives.age_s(self.artifact, self.started_at))
        policy = objectives.judge_objectives(
            self.artifact, measured, self.settings.objectives, self.started_at, self.settings.fail_on
        )
        results = apply_waivers(
            (*self.results, *policy, *self.extra),
            self.settings.waivers,
            self.started_at.date(),
            self.settings.fail_on,
        )
        reasons = [c.reason for c in results if c.status is Status.NOT_RUN and c.reason]
        if self.artifact.taken_at_basis == "mtime":
            reasons.append("age: neither the backup nor its name says when it was taken")
        before = [s for s in self.stages if s.name == "inspect"]
        after = [s for s in self.stages if s.name != "inspect"]
        return Evidence(
            artifact=self.artifact,
            sha256=self.inspection.sha256 if self.inspection else _sha256(self.artifact.path),
            source_version=self.inspection.source_version if self.inspection else None,
            sandbox=outcome.sandbox,
            started_at=self.started_at,
            finished_at=datetime.now(UTC),
            checks=results,
            stages=(*before, *outcome.stages, *after),
            measured=measured,
            unproven=tuple(dict.fromkeys([*outcome.unproven, *reasons])),
            blocked=self.blocked,
            teardown=teardown,
            facts=outcome.facts,
        )


def open_drill(
    artifact: Artifact,
    settings: Settings,
    *,
    last_good: Mapping[str, Any] | None = None,
    progress: Progress = _silent,
) -> Drill:
    """Inspect, restore and check one backup; the sandbox stays alive until the drill's `close`.

    Raises ConfigError (say, an unreadable manifest); nothing is left behind then, nor on an interrupt.
    """
    drill = Drill(artifact, settings, datetime.now(UTC), component(artifact.component))
    try:
        _perform(drill, last_good, progress)
    except BaseException:
        drill._stack.close()
        raise
    return drill


def drill(
    artifact: Artifact,
    settings: Settings,
    *,
    last_good: Mapping[str, Any] | None = None,
    progress: Progress = _silent,
) -> Evidence:
    """The whole drill of one backup; its sandbox is gone when this returns. Raises as `open_drill`."""
    return open_drill(artifact, settings, last_good=last_good, progress=progress).close()


def broken(artifact: Artifact, started_at: datetime, error: Exception) -> Evidence:
    """The record of a drill that broke where nothing should: inconclusive, never left out."""
    return Evidence(
        artifact=artifact,
        sha256=_sha256(artifact.path),
        source_version=None,
        sandbox=SandboxInfo("none"),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        checks=(_broken("drill.restore", error),),
        stages=(),
        measured=Measured(),
    )


def _perform(drill: Drill, last_good: Mapping[str, Any] | None, progress: Progress) -> None:
    settings, verbs = drill.settings, drill.component
    scratch = drill._stack.enter_context(scratch_folder())
    deadline = time.monotonic() + settings.sandbox.timeout
    ctx = DrillContext(settings, scratch, deadline, last_good, progress)
    trouble: CheckResult | None = None

    progress("inspect", 0, 0)
    began = time.perf_counter()
    try:
        drill.inspection = verbs.inspect(drill.artifact, ctx)
    except ConfigError:
        raise
    except ArtifactError as error:
        trouble = _unusable("drill.inspect", drill.artifact, error)
    except (SandboxError, ToolError, TimeoutError) as error:
        drill.blocked = str(error)
    except Exception as error:
        trouble = _broken("drill.inspect", error)
    drill.stages.append(Stage("inspect", round(time.perf_counter() - began, 4)))
    if drill.inspection is None:
        drill.results = (trouble,) if trouble else ()
        return
    if drill.inspection.rest:
        drill._stack.callback(drill.inspection.rest.stop)

    not_restored = "the file cannot be restored (see the findings about the file)"
    if drill.inspection.restorable:
        progress("restore", 0, 0)
        try:
            drill.subject = drill._stack.enter_context(verbs.restore(drill.inspection, ctx))
            drill.restored = bool(drill.subject.restored)
        except ConfigError:
            raise
        except ArtifactError as error:
            trouble = _unusable("drill.restore", drill.artifact, error)
            not_restored = "the restore stopped because the backup is damaged"
        except (SandboxError, ToolError, TimeoutError) as error:
            drill.blocked = str(error)
            not_restored = "nothing could be restored on this machine"
        except Exception as error:
            trouble = _broken("drill.restore", error)
            not_restored = "the restore broke"
    if drill.inspection.rest:
        try:
            drill.inspection = drill.inspection.rest.finish()
        except (SandboxError, ToolError, TimeoutError) as error:
            drill.blocked = drill.blocked or str(error)
            drill.inspection = None
            drill.results = (trouble,) if trouble else ()
            return
    drill.artifact = drill.inspection.dated
    if drill.subject is None:
        drill.subject = verbs.subject(drill.inspection, ctx)

    progress("checks", 0, 0)
    began = time.perf_counter()
    results, blocking = run_checks(
        verbs.checks, drill.subject, fail_on=settings.fail_on, not_restored=not_restored
    )
    drill.stages.append(Stage("checks", round(time.perf_counter() - began, 4)))
    drill.results = (*((trouble,) if trouble else ()), *results)
    drill.blocked = drill.blocked or ("; ".join(blocking) or None)


def _unusable(id: str, artifact: Artifact, error: ArtifactError) -> CheckResult:
    finding = Finding(
        id,
        Severity.CRITICAL,
        error.where or artifact.path.name,
        error.what,
        Origin.ARTIFACT,
        remedy=error.remedy or "use an older backup and take a new one",
    )
    return CheckResult(
        id,
        "The backup can be read and restored",
        Status.FAIL,
        Proves.FILE if id == "drill.inspect" else Proves.RESTORE,
        Origin.ARTIFACT,
        Severity.CRITICAL,
        findings=(finding,),
        controls=("ISO27001:A.8.13",),
    )


def _broken(id: str, error: Exception) -> CheckResult:
    reason = f"the drill itself broke with {broken_at(error)}; please report this"
    return CheckResult(
        id,
        "The backup can be read and restored",
        Status.ERROR,
        Proves.RESTORE,
        Origin.ARTIFACT,
        Severity.CRITICAL,
        reason=reason,
    )


def _sha256(path: Path) -> str:
    """Digest of a file that could not be inspected; empty for folders and what cannot be read."""
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
