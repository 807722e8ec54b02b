"""Every check of every Redis backup, as a test each (docs/checks.md lists them)."""

import pytest


@pytest.mark.backups_of("redis")
def test_redis(proof):
    """What the check proves holds for the restored Redis."""
    proof.demand()
