"""Where a pytest session keeps its drills: apart, so that the plugin need not import what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from ..model import CheckResult
    from .pytest_state import State

STATE: Final[pytest.StashKey[State]] = pytest.StashKey()
WIDER: Final[pytest.StashKey[list[CheckResult]]] = pytest.StashKey()  # results beyond single backups
RUNBOOK: Final[pytest.StashKey[list[dict[str, Any]]]] = (
    pytest.StashKey()
)  # its sections, what stands for them
