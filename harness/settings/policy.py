"""provado.yaml, section `policy`."""

from __future__ import annotations

from .types import Section


class PolicySettings(Section):
    """Schedule, retention, monitoring, escalation."""
