"""What a recovery into a user's own servers and folders says: before it, its plan; after it, what it did."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .backups import Taken
from .errors import ArtifactError, ConfigError, RestoreError, ToolError
from .model import Stage


@dataclass(frozen=True)
class Plan:
    """What a recovery would do; `refusal` says why it will not (None: it will)."""

    steps: tuple[str, ...]
    refusal: str | None


@dataclass
class Recovered:
    """What a recovery did. `arrived` counts what came back (rows by table, keys, files); `left` tells in
    plain words what is still there and how to remove it; `safety` is the backup of the state before."""

    target: str
    arrived: dict[str, int] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    safety: Path | None = None

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of the work."""
        began = time.monotonic()
        yield
        self.stages.append(Stage(name, round(time.monotonic() - began, 3)))

    def save(self, state: str, backup: Callable[[], Taken]) -> None:
        """Take the backup of the state before. Raises RestoreError: without it nothing is changed."""
        with self.stage("safety"):
            try:
                self.safety = backup().path
            except (ToolError, ArtifactError, ConfigError) as error:
                raise RestoreError(
                    f"the safety backup failed: {error}",
                    remedy="nothing was changed; say --no-safety when the current state is not worth keeping",
                ) from None
        self.left.append(f"{state}, as a backup: {self.safety}")
