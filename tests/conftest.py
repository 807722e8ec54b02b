"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import redact


@pytest.fixture(autouse=True)
def forgotten_secrets() -> Iterator[None]:
    """Secrets that a test makes up are masked in its own output, not in that of the tests after it."""
    before = set(redact._KNOWN)
    yield
    redact._KNOWN.intersection_update(before)
