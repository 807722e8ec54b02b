"""Every check of every configuration backup, as a test each (docs/checks.md lists them)."""

import pytest


@pytest.mark.backups_of("files")
def test_files(proof):
    """What the check proves holds for the unpacked configuration."""
    proof.demand()
