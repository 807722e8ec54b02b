"""What provado.yaml declares beyond single backups, and so which suites are collected."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from ..errors import ProvadoError
from ..redact import mask
from ..settings import Settings, load_settings
from .stash import STATE

_SETTINGS: Final[pytest.StashKey[Settings]] = pytest.StashKey()


def settings_of(config: pytest.Config) -> Settings:
    """Settings of this session's drills, else provado.yaml; a usage error of pytest's when it is wrong."""
    if state := config.stash.get(STATE, None):
        return state.session.plan.settings
    if _SETTINGS not in config.stash:
        option = getattr(config.option, "provado_config", None)
        output = getattr(config.option, "provado_output", None)
        try:
            config.stash[_SETTINGS] = load_settings(Path(option) if option else None, {("output",): output})
        except ProvadoError as error:
            raise pytest.UsageError(mask(str(error))) from None
    return config.stash[_SETTINGS]


def declared(config: pytest.Config, suite: str) -> bool:
    """Whether provado.yaml asks for what a suite (`test_policy.py` ...) is about."""
    settings = settings_of(config)
    return {
        "test_policy.py": "policy" in settings.model_fields_set,
        "test_runbook.py": settings.runbook is not None,
        "test_consistency.py": bool(settings.consistency.rules or settings.consistency.window),
    }.get(suite, True)
