"""provado.yaml, section `redis`."""

from __future__ import annotations

from .types import Section


class RedisSettings(Section):
    """What people expect of Redis backups."""
