"""What a component (postgres, redis, files) offers to the drill. A new component is a new folder plus a line.

`inspect` reads the artifact without any server; `restore` brings it into a sandbox and yields the subject
that the component's checks examine; leaving its context tears the sandbox down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from .check import Check
from .model import Artifact, Measured, SandboxInfo, Stage, Teardown
from .settings import Settings


@dataclass(frozen=True)
class DrillContext:
    """What a drill gives its component: settings, a private scratch folder, and a way to tell progress.

    `progress(stage, done, total)` may be called as often as one likes; amounts are bytes (0: unknown).
    `deadline` is in `time.monotonic()` seconds; past it the drill is inconclusive.
    """

    settings: Settings
    scratch: Path
    deadline: float
    last_good: Mapping[str, Any] | None = None  # evidence.json entry of the series' newest passing drill
    progress: Callable[[str, int, int], None] = field(default=lambda stage, done, total: None)


@dataclass(frozen=True)
class Inspection:
    """What the file itself says, read without a server. Components keep their own facts in `facts`.

    `restorable=False` when no server could make sense of it (empty, wrong kind, cut before anything);
    the component's static checks then say why. `taken_at` here comes from inside the file, if it tells.
    `rest` is set while the file is still being read: the restore goes on with it, `rest.finish()` gives
    the whole inspection afterwards.
    """

    artifact: Artifact
    sha256: str
    restorable: bool
    facts: Any
    source_version: str | None = None
    taken_at: datetime | None = None
    taken_at_basis: str | None = None
    rest: Rest | None = None

    @property
    def dated(self) -> Artifact:
        """The artifact with the time from inside the file, which knows better than its name."""
        if self.taken_at is None:
            return self.artifact
        return replace(self.artifact, taken_at=self.taken_at, taken_at_basis=self.taken_at_basis)


class Rest(Protocol):
    """The rest of an inspection. `finish()` waits for it (again and again with the same result, or the
    same error as `inspect` would raise); `stop()` ends it where it stands."""

    def finish(self) -> Inspection: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What is known once the checks are done and the sandbox is gone."""

    sandbox: SandboxInfo
    stages: tuple[Stage, ...]
    measured: Measured
    unproven: tuple[str, ...]
    teardown: Teardown | None
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Component:
    """The verbs of one component. `recognise(path, head)` names the format from the path and the first
    4 KiB after unpacking (None: not ours); `subject(inspection, ctx)` makes the subject for the static
    checks when nothing can be restored; `outcome(subject)` is asked again after teardown."""

    name: str
    recognise: Callable[[Path, bytes], str | None]
    inspect: Callable[[Artifact, DrillContext], Inspection]
    restore: Callable[[Inspection, DrillContext], AbstractContextManager[Any]]
    subject: Callable[[Inspection, DrillContext], Any]
    outcome: Callable[[Any], Outcome]
    checks: tuple[Check, ...]


def inspected(component: Component, artifact: Artifact, ctx: DrillContext) -> Inspection:
    """The whole inspection, for who does not restore. Raises what `inspect` raises."""
    begun = component.inspect(artifact, ctx)
    return begun.rest.finish() if begun.rest else begun
