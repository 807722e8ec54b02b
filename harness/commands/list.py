"""`provado list`: which backups there are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..policy.monitor import utc
from ..policy.state import State
from ..settings import load_settings
from .places import survey


@click.command("list")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Configuration (default: ./provado.yaml).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(paths: tuple[Path, ...], config: Path | None, as_json: bool) -> None:
    """List backups with their kind, own time, size and last restore test."""
    state = survey(paths, load_settings(config))
    rows = [_row(state, i) for i in range(len(state.backups))]
    if as_json:
        click.echo(json.dumps({"schema": "provado/list/1", "backups": rows}, indent=1, ensure_ascii=False))
        return
    for row in rows:
        taken = row["taken_at"] or "unknown time       "
        drilled = row["last_drill"] or "never tested"
        click.echo(
            f"{row['component']:9} {row['kind'] or '-':9} {taken:20} {row['bytes']:>15,}  {drilled:12} "
            f"{row['path']}"
        )
    if not rows:
        click.echo("no backup found", err=True)


def _row(state: State, index: int) -> dict[str, str | int | None]:
    b = state.backups[index]
    drills = [d for d in state.drills if (d.lineage, d.name) == (b.lineage, b.name)]
    return {
        "path": str(b.artifact.path),
        "component": b.artifact.component,
        "format": b.artifact.format,
        "kind": b.kind,
        "taken_at": utc(b.taken_at),
        "bytes": b.artifact.bytes,
        "manifest": str(b.artifact.manifest) if b.artifact.manifest else None,
        "last_drill": drills[-1].verdict if drills else None,
    }
