"""`provado init`: a first provado.yaml, written by looking at the backups, the runbook and the databases."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import click
import yaml

from ..atomic import write_atomic
from ..catalog import RUNBOOK_LAYOUT, find
from ..component import DrillContext, inspected
from ..components import component, recognisers
from ..errors import ArtifactError, ConfigError, ProvadoError
from ..policy.state import Backup, as_backup
from ..runbook.parse import read_runbook
from ..runbook.suggest import suggest
from ..scratch import scratch_folder
from ..settings import Settings, load_settings
from ..settings.policy import WEEKDAYS

_KEEP: Final = {"daily": "7d", "weekly": "30d", "monthly": "90d"}
_EVERY: Final = {"daily": "day", "weekly": "week", "monthly": "month"}
_ROUND: Final = 0.5  # a table may lose half of its rows before that counts: a guess to be tightened
_MOST_TABLES: Final = 60
_HEAD: Final = """\
# What Provado expects of these backups. Written by `provado init`; `provado schema` lists every key.
# Numbers of rows are half of what was found: raise them to what you would miss.
"""


@click.command("init")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--runbook", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="In Markdown.")
@click.option("--postgres", "database", help="Live database to look at: URL, env:NAME or file:PATH.")
@click.option("--redis", "cache", help="Live Redis to look at: URL, env:NAME or file:PATH.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("provado.yaml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    paths: tuple[Path, ...],
    runbook: Path | None,
    database: str | None,
    cache: str | None,
    output: Path,
    force: bool,
) -> None:
    """Write a first provado.yaml. PATHS are folders of backups (default: the runbook's below here)."""
    if output.exists() and not force:
        raise ConfigError("is there already", where=str(output), remedy="say --force to replace it")
    base = output.absolute().parent
    data: dict[str, Any] = {}
    places = list(paths) or [Path(p) for p in RUNBOOK_LAYOUT if Path(p).is_dir()]
    found: list[Backup] = []
    sources = []
    for place in places:
        here = [as_backup(a, Settings().policy) for a in find(place, recognisers())]
        for name in dict.fromkeys(b.artifact.component for b in here):
            sources.append({"path": _relative(place, base), "component": name})
        found += here
    data["backups"] = sources
    text = runbook.read_text(encoding="utf-8") if runbook else ""
    data["objectives"] = {"rpo": _objective("RPO", text) or "24h", "rto": _objective("RTO", text) or "4h"}
    if kinds := _kinds(found):
        data["policy"] = {"timezone": "local", "kinds": kinds}
    components = list(dict.fromkeys(b.artifact.component for b in found))
    if tables := _tables(found, database):
        data["postgres"] = {"tables": tables}
    if keys := _keys(cache):
        data["redis"] = {"require": keys}
    if runbook:
        data["runbook"] = {
            "path": _relative(runbook, base),
            "sections": suggest(read_runbook(runbook), components),
        }
    body = _HEAD + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
    write_atomic(output, body)
    load_settings(output, environ={})
    click.echo(f"{output}: {len(found)} backups of {', '.join(components) or 'nothing yet'}")
    if not found:
        click.echo("no backup was found: list their places under `backups:`", err=True)


def _relative(path: Path, base: Path) -> str:
    try:
        return str(path.absolute().relative_to(base))
    except ValueError:
        return str(path.absolute())


def _objective(name: str, text: str) -> str | None:
    """`RPO (…): 24 horas` in a runbook -> `24h`."""
    found = re.search(
        rf"\b{name}\b[^\n]{{0,60}}?(\d+)\s*(h|horas?|hours?|min|minutos?|minutes?|dias?|days?)\b", text, re.I
    )
    return f"{found[1]}{found[2][0].lower()}" if found else None


def _kinds(backups: Iterable[Backup]) -> dict[str, Any]:
    """Rules for the kinds there are, with the time of day that most of each were taken at."""
    made: dict[str, Any] = {}
    for kind in ("daily", "weekly", "monthly"):
        times = [b.taken_at.astimezone() for b in backups if b.artifact.kind == kind and b.taken_at]
        if not times:
            continue
        rule: dict[str, Any] = {"keep": _KEEP[kind], "every": _EVERY[kind]}
        (at, often), *_ = Counter(f"{t:%H:%M}" for t in times).most_common(1)
        if often > len(times) / 2:
            rule["at"] = at
            if kind == "weekly":
                rule["day"] = WEEKDAYS[Counter(t.weekday() for t in times).most_common(1)[0][0]]
            if kind == "monthly" and times[-1].day <= 28:
                rule["day"] = Counter(t.day for t in times).most_common(1)[0][0]
        made[kind] = rule
    return made


def _tables(backups: Iterable[Backup], database: str | None) -> dict[str, Any]:
    """Tables with rows, largest first: of the live database, else of the newest backup that can be read."""
    rows: dict[str, int] = {}
    if database:
        from ..postgres.live import live

        with live(database).connect() as conn:
            counted = conn.execute(
                "SELECT relid::regclass::text, n_live_tup FROM pg_catalog.pg_stat_user_tables"
            ).fetchall()
        rows = {name if "." in name else f"public.{name}": int(n) for name, n in counted}
    else:
        mine = [b for b in backups if b.artifact.component == "postgres" and b.taken_at]
        for b in sorted(mine, key=lambda b: b.taken_at or 0, reverse=True)[:3]:
            with scratch_folder() as scratch:
                ctx = DrillContext(Settings(), scratch, time.monotonic() + 600)
                try:
                    facts = inspected(component("postgres"), b.artifact, ctx).facts
                except (ArtifactError, ProvadoError):
                    continue
                for table in getattr(facts, "tables", ()):
                    rows[table.name] = rows.get(table.name, 0) + table.rows
            break
    largest = sorted((n for n in rows if rows[n] >= 2), key=lambda n: -rows[n])[:_MOST_TABLES]
    return {name: {"min_rows": max(1, int(rows[name] * _ROUND))} for name in largest}


def _keys(cache: str | None) -> dict[str, int]:
    """Kinds of keys of a live server: what stands before the last colon, with half of how many there are."""
    if not cache:
        return {}
    from ..redis.backup import address
    from ..redis.wire import Wire

    counted: Counter[str] = Counter()
    with Wire(address(cache)) as wire:
        cursor: Any = 0
        while True:
            cursor, keys = wire.call("SCAN", cursor, "COUNT", 1000)
            for key in keys:
                head, colon, _ = key.decode("utf-8", "replace").rpartition(":")
                if colon and not re.search(r"[*?\[\\]|\d{3}|@", head):  # no ids, no addresses
                    counted[f"{head}:*"] += 1
            if cursor == b"0":
                break
    return {pattern: max(1, int(n * _ROUND)) for pattern, n in counted.most_common(20)}
