"""`provado monitor`: are the backups as they should be, and who must be told when not?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..atomic import write_atomic
from ..model import Verdict
from ..policy.monitor import look, prometheus, report_json, screen
from ..policy.webhook import message, send
from ..redact import read_secret
from ..settings import load_settings
from .places import survey


@click.command("monitor")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path), help="Configuration (default: ./provado.yaml).")
@click.option("--rpo", help="Oldest age the newest backup may have (default: as configured, else 25h).")
@click.option("--output", type=click.Path(path_type=Path), help="Folder with the drills' evidence.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a screen.")
@click.option("--prom", type=click.Path(path_type=Path), help="Also write a Prometheus textfile.")
@click.option("--webhook", help="Tell this URL when something is wrong: env:NAME or file:PATH.")
@click.option("--quick", is_flag=True, help="Do not read the newest backups to their end.")
@click.option("--declare-incident", "declared", metavar="REASON", help="Escalate to level 4.")
def command(
    paths: tuple[Path, ...],
    config: Path | None,
    rpo: str | None,
    output: Path | None,
    as_json: bool,
    prom: Path | None,
    webhook: str | None,
    quick: bool,
    declared: str | None,
) -> None:
    """Check freshness, schedule, retention, integrity, sizes, room and restore tests of backups.

    PATHS are folders of backups; a last PATH that is a number of hours is the objective, as in
    `monitor-backups.sh DIR [HOURS]`. Exit code 0 all is well, 1 something is wrong, 3 it could not be judged.
    """
    if len(paths) > 1 and str(paths[-1]).isdecimal() and not paths[-1].exists():
        rpo, paths = rpo or f"{paths[-1]}h", paths[:-1]
    overrides: dict[tuple[str, ...], Any] = {
        ("objectives", "rpo"): rpo,
        ("output",): str(output) if output else None,
    }
    settings = load_settings(config, overrides)
    report = look(survey(paths, settings, deep=not quick), declared=declared)
    if prom:
        write_atomic(prom, prometheus(report))
    if as_json:
        click.echo(json.dumps(report_json(report), indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(screen(report)))
    target = webhook or settings.policy.webhook
    if target and (report.verdict is not Verdict.PASS or report.escalation.level):
        send(read_secret(target), message(report))
    if report.verdict is not Verdict.PASS:
        raise click.exceptions.Exit(report.verdict.exit_code)
