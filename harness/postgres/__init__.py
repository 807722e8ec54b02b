"""The PostgreSQL component: logical backups of every format, restored over the protocol and judged."""

from __future__ import annotations

from ..component import Component
from . import checks_artifact, checks_declared, checks_file, checks_manifest, checks_usability
from .inspect import inspect
from .restore import RestoredPostgres, outcome, restore
from .source import recognise

COMPONENT = Component(
    name="postgres",
    recognise=recognise,
    inspect=inspect,
    restore=restore,
    subject=RestoredPostgres,
    outcome=outcome,
    checks=(
        *checks_file.CHECKS,
        *checks_artifact.CHECKS,
        *checks_manifest.CHECKS,
        *checks_usability.CHECKS,
        *checks_declared.CHECKS,
    ),
)
