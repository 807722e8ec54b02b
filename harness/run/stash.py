"""Where a pytest session keeps its drills: apart, so that the plugin need not import what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from .pytest_state import State

STATE: Final[pytest.StashKey[State]] = pytest.StashKey()
