"""The PostgreSQL component: logical backups of every format, restored over the protocol and judged."""

from __future__ import annotations

from dataclasses import replace

from ..component import Component
from . import (
    checks_artifact,
    checks_declared,
    checks_file,
    checks_manifest,
    checks_physical,
    checks_secrets,
    checks_target,
    checks_usability,
)
from .inspect import inspect
from .outcome import outcome
from .restore import RestoredPostgres, restore
from .source import recognise

_OF_EVERY_KIND = {"pg.file-kind", "pg.file-whole", "pg.server-alive"}
_OF_TEXT = frozenset(("plain", "pg_dumpall", "custom", "directory", "tar", "unknown", "encrypted"))

COMPONENT = Component(
    name="postgres",
    recognise=recognise,
    inspect=inspect,
    restore=restore,
    subject=RestoredPostgres,
    outcome=outcome,
    checks=(
        *(
            c if c.id in _OF_EVERY_KIND else replace(c, formats=_OF_TEXT)
            for c in (*checks_file.CHECKS, *checks_artifact.CHECKS)
        ),
        *(replace(c, formats=frozenset(("physical",))) for c in checks_physical.CHECKS),
        *checks_manifest.CHECKS,
        *checks_usability.CHECKS,
        *checks_declared.CHECKS,
        *checks_secrets.CHECKS,
        *checks_target.CHECKS,
    ),
)
