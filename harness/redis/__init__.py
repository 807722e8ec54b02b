"""Redis and Valkey backups: RDB files, append-only files and archives of them."""

from __future__ import annotations

from ..component import Component
from . import checks_beside, checks_declared, checks_file, checks_server, checks_source
from .inspect import inspect, recognise
from .restore import make_subject, outcome, restore

COMPONENT = Component(
    name="redis",
    recognise=recognise,
    inspect=inspect,
    restore=restore,
    subject=make_subject,
    outcome=outcome,
    checks=(
        *checks_file.CHECKS,
        *checks_beside.CHECKS,
        *checks_server.CHECKS,
        *checks_source.CHECKS,
        *checks_declared.CHECKS,
    ),
)
