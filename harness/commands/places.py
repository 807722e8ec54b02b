"""Which backups the commands about many backups (`list`, `monitor`, `prune`) look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from ..catalog import RUNBOOK_LAYOUT, find
from ..components import recognisers
from ..errors import ConfigError
from ..model import Artifact
from ..policy.state import State, gather
from ..settings import Settings


def given_address(text: str) -> str:
    """An address as typed; warns when its password can be seen by every user of this machine."""
    if "://" in text and urlsplit(text).password:
        click.echo(
            "warning: the address's password stands in the process list; give it as env:NAME or file:PATH",
            err=True,
        )
    return text


def survey(
    paths: Sequence[Path], settings: Settings, *, now: datetime | None = None, deep: bool = False
) -> State:
    """The backups below `paths`, else of `backups:` in the configuration, else of the runbook's folders.

    A declared place that holds nothing is part of the answer (`State.empty`). Raises ConfigError when
    there is no place to look at, or a path of `paths` does not exist.
    """
    wanted: list[tuple[Path, str | None]] = [(p, None) for p in paths]
    if not wanted:
        wanted = [(s.path, s.component) for s in settings.backups]
    if not wanted:
        wanted = [(Path(p), c) for p, c in RUNBOOK_LAYOUT.items() if Path(p).is_dir()]
    if not wanted:
        raise ConfigError(
            "there is no place to look at",
            remedy="name a folder of backups, or list places under `backups:` in provado.yaml",
        )
    artifacts: list[Artifact] = []
    empty: list[tuple[Path, str]] = []
    for path, component in wanted:
        found = find(path, recognisers(), component=component) if paths or path.exists() else []
        artifacts += found
        if not found:
            empty.append((path, component or "known"))
    return gather(
        artifacts,
        settings,
        now=now or datetime.now(UTC),
        folders=[p for p, _ in wanted if p.is_dir()],
        empty=empty,
        deep=deep,
    )
