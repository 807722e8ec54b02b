"""Every check of every PostgreSQL backup, as a test each (docs/checks.md lists them)."""

import pytest


@pytest.mark.backups_of("postgres")
def test_postgres(proof):
    """What the check proves holds for the restored database."""
    proof.demand()
