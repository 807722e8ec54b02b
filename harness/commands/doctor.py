"""`provado doctor`: what this machine can verify, and what to install for the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from .options import config_option, overrides, sandbox_options

if TYPE_CHECKING:
    from ..sandbox import Provider

_TOOLS: Final = {  # program -> what is lost without it
    "pg_restore": "custom, directory and tar dumps cannot be read",
    "pg_dump": "`provado backup postgres` cannot run",
}
_REMEDIES: Final = {
    "postgres": "pip install 'provado[embedded]', apt install postgresql, or a container engine",
    "redis": "pip install 'provado[embedded]', apt install redis-server, or a container engine",
}


@click.command()
@config_option
@sandbox_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config: Path | None, as_json: bool, **flags: Any) -> int:
    """Show which servers and tools this machine can restore with, and how to get what is missing.

    Ends with 3 when PostgreSQL or Redis backups cannot be verified here.
    """
    from ..run.suites import suites
    from ..sandbox import find_tool, providers
    from ..settings import load_settings

    settings = load_settings(config, overrides(flags))
    found = providers(settings.sandbox)
    tools = {name: find_tool(name, settings.sandbox) for name in _TOOLS}
    lacking = {kind: remedy for kind, remedy in _REMEDIES.items() if not _serves(kind, found)}
    if as_json:
        report = {
            "servers": [asdict(p) for p in found],
            "tools": {name: str(path) if path else None for name, path in tools.items()},
            "missing": lacking,
            "suites": str(suites()),
        }
        click.echo(json.dumps(report, indent=1))
        return 3 if lacking else 0
    click.echo("Servers, in the order they are tried")
    for p in found:
        click.echo(f"  {p.engine:9} {p.version or '-':10} {p.kind:10} {p.name:18} {p.location}")
    click.echo("Tools")
    for name, path in tools.items():
        click.echo(f"  {name:16} {path or f'missing: {_TOOLS[name]}'}")
    click.echo(f"Suites for pytest\n  {suites()}")
    for kind, remedy in lacking.items():
        click.echo(f"No server for {kind} backups. Remedy: {remedy}")
    if not lacking:
        click.echo("PostgreSQL, Redis and configuration backups can be verified here.")
    return 3 if lacking else 0


def _serves(kind: str, found: Sequence[Provider]) -> bool:
    return any(p.engine == kind or (kind == "redis" and p.engine == "valkey") for p in found)
