"""`provado prune`: let go what retention no longer asks for."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import click

from ..lock import folder_lock
from ..policy.retention import apply, plan
from ..settings import load_settings
from .places import survey


@click.command("prune")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Configuration (default: ./provado.yaml).")
@click.option(
    "--apply/--dry-run", "do_it", default=False, help="Really remove (default: only show the plan)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(paths: tuple[Path, ...], config: Path | None, do_it: bool, as_json: bool) -> None:
    """Show (or remove) backups older than their kind is kept.

    The newest of every kind, the newest that passed a restore test, and whatever tells no time or kind stay.
    """
    settings = load_settings(config)
    with contextlib.ExitStack() as locks:
        state = survey(paths, settings)
        if do_it:
            for folder in sorted({b.artifact.path.parent for b in state.backups}):
                locks.enter_context(folder_lock(folder))
            state = survey(paths, settings)  # once more, now that nobody else changes it
        decisions = plan(state.backups, settings.policy, state.now, drills=state.drills)
        removed = {str(p) for p in apply(decisions)} if do_it else set()
    rows = [
        {
            "path": str(d.backup.artifact.path),
            "keep": d.keep,
            "reason": d.reason,
            "bytes": d.backup.artifact.bytes,
            "removed": str(d.backup.artifact.path) in removed,
        }
        for d in decisions
    ]
    if as_json:
        click.echo(json.dumps({"schema": "provado/prune/1", "applied": do_it, "backups": rows}, indent=1))
        return
    for row in rows:
        verb = "keep" if row["keep"] else ("removed" if row["removed"] else "would remove")
        click.echo(f"{verb:12} {row['path']}  ({row['reason']})")
    gone = [d for d in decisions if not d.keep]
    size = sum(d.backup.artifact.bytes for d in gone)
    click.echo(
        f"{len(gone)} of {len(rows)} backups, {size:,} bytes{'' if do_it else '; --apply removes them'}"
    )
