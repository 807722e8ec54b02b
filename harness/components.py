"""The components there are. A new one is a folder and a line in `NAMES`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .component import Component

NAMES: Final = ("postgres", "redis", "files")


@cache
def component(name: str) -> Component:
    """The component called `name`. Imported on first use: a Redis drill needs no PostgreSQL driver."""
    made: Component = importlib.import_module(f"{__package__}.{name}").COMPONENT
    return made


def recognisers() -> dict[str, Callable[[Path, bytes], str | None]]:
    """How to ask every component whether a file is one of its backups; loads a component when asked."""
    return {name: partial(_recognise, name) for name in NAMES}


def _recognise(name: str, path: Path, head: bytes) -> str | None:
    return component(name).recognise(path, head)
