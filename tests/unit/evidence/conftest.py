from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a power cut is not asked here, and disks are slow; tests/integration syncs for real."""
    monkeypatch.setattr("os.fsync", lambda handle: None)
