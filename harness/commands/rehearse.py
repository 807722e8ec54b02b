"""`provado rehearse`: the runbook's sections, each done for real on throwaway servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError
from ..model import Verdict
from ..runbook.trace import Trace, rehearsals, rehearse, table, trace, verdict, write_table
from ..scratch import scratch_folder
from ..settings import Settings, load_settings
from .options import config_option, overrides, sandbox_options


@click.command("rehearse")
@click.argument("sections", nargs=-1, metavar="[SECTION|REHEARSAL ...]")
@config_option
@sandbox_options
@click.option("--output", type=click.Path(path_type=Path), help="Folder for runbook.json and runbook.md.")
@click.option("--list", "only_list", is_flag=True, help="Only list rehearsals (and the runbook's sections).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    sections: tuple[str, ...],
    config: Path | None,
    output: Path | None,
    only_list: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Rehearse the runbook with the newest backups; servers are throwaway, production is never touched.

    A runbook is any Markdown file; `runbook:` in provado.yaml names it and what stands for each section.
    SECTION limits the run to sections (by slug) or rehearsals. Exit code 0 all hold, 1 one failed or a
    section has none, 3 one could not be performed.
    """
    settings = load_settings(config, overrides({**flags, "output": output}))
    if only_list and settings.runbook is None:
        for name, check in rehearsals().items():
            click.echo(f"{name:24} {check.title}")
        return
    traced = _trace(settings, sections)
    if only_list:
        for one in traced.sections:
            click.echo(f"{one.section.slug:50} {one.target or 'NOTHING'}")
        return
    names = [n for one in traced.sections for n in one.rehearsals]
    with scratch_folder() as scratch:
        results = rehearse(names, settings, scratch, lambda name: click.echo(f"rehearsing {name}", err=True))
    path = write_table(settings.output, traced, results)
    judged = verdict(traced, results)
    if as_json:
        data = {"schema": "provado/runbook/1", "verdict": judged.value, "exit_code": judged.exit_code}
        click.echo(json.dumps({**data, "sections": table(traced, results)}, indent=1, ensure_ascii=False))
    else:
        for name, result in results.items():
            click.echo(f"{result.status.value:8} {name:24} {result.title}")
            for finding in result.findings:
                click.echo(f"           {finding.object}: {finding.message}")
            if result.reason:
                click.echo(f"           {result.reason}")
        for one in traced.untested:
            click.echo(f"NOTHING  stands for section {one.section.slug} (line {one.section.line})")
        for slug in traced.astray:
            click.echo(f"ASTRAY   the mapping names a section that is not there: {slug}")
        click.echo(f"{judged.value.upper()}  {path}")
    if judged is not Verdict.PASS:
        raise click.exceptions.Exit(judged.exit_code)


def _trace(settings: Settings, wanted: tuple[str, ...]) -> Trace:
    if settings.runbook is None:
        raise ConfigError("provado.yaml names no runbook", remedy="write `runbook: {path: …, sections: {…}}`")
    whole = trace(settings.runbook)
    if not wanted:
        return whole
    chosen = tuple(
        one for one in whole.sections if one.section.slug in wanted or set(one.rehearsals) & set(wanted)
    )
    if not chosen:
        raise ConfigError(f"the runbook has no section {', '.join(wanted)}")
    return Trace(chosen, (), whole.unused)
