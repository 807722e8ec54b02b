"""provado.yaml, section `postgres`."""

from __future__ import annotations

from .types import Section


class PostgresSettings(Section):
    """What people expect of PostgreSQL backups."""
