"""`provado restore`: recovery into a user's own servers and folders."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from .. import process
from ..catalog import find, identify
from ..component import DrillContext, inspected
from ..components import component as component_of
from ..components import recognisers
from ..errors import ConfigError, RestoreError
from ..model import Artifact
from ..recovery import Recovered
from ..scratch import scratch_folder
from ..settings import Settings, load_settings
from .options import config_option
from .places import given_address, survey

_HEALTH_S: Final = 120.0


def _common(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        config_option,
        click.option("--into", required=True, help="Target: URL (or env:NAME, file:PATH), or a folder."),
        click.option("--replace", is_flag=True, help="Allow a target that holds data or is in use."),
        click.option(
            "--dry-run", is_flag=True, help="Show the plan and what would be refused; change nothing."
        ),
        click.option(
            "--safety",
            type=click.Path(path_type=Path),
            default=Path("recovery-backups"),
            show_default=True,
            help="Where the current state is backed up first.",
        ),
        click.option("--no-safety", is_flag=True, help="Take no backup of the current state."),
        click.option("--health", help="Command or http(s) URL that must succeed afterwards."),
        click.option("--health-timeout", type=float, default=_HEALTH_S, show_default=True, help="Seconds."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        function = option(function)
    return function


@click.group("restore")
def command() -> None:
    """Bring a backup into a running server or a folder.

    BACKUP is a file, a folder of backups (its newest is taken), or `emergency`: the newest backup that
    passed its drill. The current state is backed up first; the target is changed in one step at the end.
    """


@command.command("postgres")
@click.argument("backup", metavar="BACKUP")
@_common
@click.option("--password", help="env:NAME or file:PATH (default: PGPASSWORD or the password file).")
@click.option("--table", "tables", multiple=True, help="Only this table (repeatable).")
@click.option("--globals", "roles", type=click.Path(path_type=Path), help="Roles to create where missing.")
@click.option("--even-if-cut", is_flag=True, help="Take a dump that may lack its end, or was changed.")
@click.option("--drop-old", is_flag=True, help="Drop the replaced database instead of keeping it.")
def postgres(
    backup: str,
    password: str | None,
    tables: tuple[str, ...],
    roles: Path | None,
    drop_old: bool,
    even_if_cut: bool,
    **common: Any,
) -> None:
    """Restore a PostgreSQL backup: the whole database, or some tables in one transaction."""
    from ..postgres import recover
    from ..postgres.live import live
    from ..postgres.recover_tables import recover_tables

    settings = load_settings(common["config"])
    artifact, target = _choose(backup, "postgres", settings), live(given_address(common["into"]), password)
    wish = recover.Wish(common["replace"], _safety(common), drop_old, tables, roles, even_if_cut)
    with scratch_folder() as scratch:
        if common["dry_run"]:
            ctx = DrillContext(settings, scratch, time.monotonic() + wish.timeout_s)
            facts = recover.read(artifact, ctx, even_if_cut=even_if_cut)
            made = recover.plan(artifact, facts, target, recover.inspect_target(target), wish)
            _show_plan(list(made.steps), made.refusal, common)
            return
        work = recover_tables if tables else recover.recover
        done = work(artifact, target, wish, settings, scratch, _teller(common))
    _finish("rows", done, common)


@command.command("redis")
@click.argument("backup", metavar="BACKUP")
@_common
@click.option("--password", help="env:NAME or file:PATH (default: the one in the URL).")
@click.option("--key", "keys", multiple=True, help="Only this key (repeatable).")
@click.option("--prefix", "prefixes", multiple=True, help="Only keys that begin so (repeatable).")
@click.option("--db", "databases", multiple=True, type=int, help="Only this database (repeatable).")
def redis(
    backup: str,
    password: str | None,
    keys: tuple[str, ...],
    prefixes: tuple[str, ...],
    databases: tuple[int, ...],
    **common: Any,
) -> None:
    """Restore a Redis backup into a running server, with or without an AOF: all of it, or some keys."""
    from ..redis import recover
    from ..redis.backup import address

    settings = load_settings(common["config"])
    artifact, target = _choose(backup, "redis", settings), address(given_address(common["into"]), password)
    wish = recover.Wish(common["replace"], _safety(common), keys, prefixes, databases)
    with scratch_folder() as scratch:
        if common["dry_run"]:
            made = recover.plan(artifact, target, wish, settings, scratch)
            _show_plan(list(made.steps), made.refusal, common)
            return
        done = recover.recover(artifact, target, wish, settings, scratch, _teller(common))
    _finish("keys", done, common)


@command.command("files")
@click.argument("backup", metavar="BACKUP")
@_common
@click.option("--path", "paths", multiple=True, help="Only this file or folder of the backup (repeatable).")
def files(backup: str, paths: tuple[str, ...], **common: Any) -> None:
    """Restore configuration into a folder."""
    from ..files import recover

    settings = load_settings(common["config"])
    artifact = _choose(backup, "files", settings)
    wish = recover.Wish(common["replace"], _safety(common), paths)
    with scratch_folder() as scratch:
        made = recover.plan(artifact, Path(common["into"]), wish, settings, scratch)
        if common["dry_run"]:
            _show_plan(list(made.steps), made.refusal, common)
            return
        done = recover.recover(made, settings)
    _finish("files", done, common)


def _choose(backup: str, component: str, settings: Settings) -> Artifact:
    """The artifact that BACKUP names. Raises ConfigError when there is none."""
    if backup == "emergency":
        return emergency(component, settings)
    path = Path(backup)
    found = find(path, recognisers(), component=component) if path.is_dir() else []
    artifact = (
        found[-1] if found else identify(path, recognisers(), component=component) if path.exists() else None
    )
    if artifact is None:
        raise ConfigError(f"there is no {component} backup", where=backup)
    return artifact


def emergency(component: str, settings: Settings) -> Artifact:
    """The newest backup of the configured places that passed its drill and has not changed since.

    Raises ConfigError when none did: then the choice is a person's, by naming a backup.
    """
    state = survey((), settings)
    passed = {(d.lineage, d.name): d.sha256 for d in state.drills if d.verdict == "pass"}
    mine = [b for b in state.backups if b.artifact.component == component and (b.lineage, b.name) in passed]
    for b in sorted(
        mine, key=lambda b: (b.taken_at or datetime.min.replace(tzinfo=UTC), b.name), reverse=True
    ):
        with scratch_folder() as scratch:
            ctx = DrillContext(settings, scratch, time.monotonic() + settings.sandbox.timeout)
            if inspected(component_of(component), b.artifact, ctx).sha256 != passed[b.lineage, b.name]:
                click.echo(f"{b.name} changed since its drill", err=True)
                continue
        click.echo(f"newest backup that passed its drill: {b.artifact.path}", err=True)
        return b.artifact
    raise ConfigError(
        f"no {component} backup here has passed a drill unchanged",
        remedy="run `provado verify`, or name a backup yourself",
    )


def _safety(common: dict[str, Any]) -> Path | None:
    return None if common["no_safety"] else common["safety"]


def _teller(common: dict[str, Any]) -> Callable[[str], None]:
    return lambda text: None if common["as_json"] else click.echo(f"  {text}", err=True)


def _show_plan(steps: list[str], refusal: str | None, common: dict[str, Any]) -> None:
    if common["as_json"]:
        data = {"schema": "provado/restore-plan/1", "steps": steps, "refusal": refusal}
        click.echo(json.dumps(data, indent=1, ensure_ascii=False))
    else:
        for number, step in enumerate(steps, 1):
            click.echo(f"{number}. {step}")
    if refusal:
        raise RestoreError(refusal, remedy="nothing was changed; say --replace to replace it")


def _finish(unit: str, done: Recovered, common: dict[str, Any]) -> None:
    health, amount = None, sum(done.arrived.values())
    if common["health"]:
        began = time.monotonic()
        health_check(common["health"], common["health_timeout"])
        health = round(time.monotonic() - began, 3)
    if common["as_json"]:
        data = {
            "schema": "provado/restore/1",
            "target": done.target,
            unit: amount,
            "stages": [{"name": s.name, "seconds": s.seconds} for s in done.stages],
            "left": done.left,
            "notes": done.notes,
            "safety": str(done.safety) if done.safety else None,
            "health_s": health,
        }
        click.echo(json.dumps(data, indent=1, ensure_ascii=False))
        return
    seconds = sum(s.seconds for s in done.stages)
    click.echo(f"restored {amount:,} {unit} into {done.target} in {seconds:.1f} s")
    for line in (*done.notes, *(f"left: {line}" for line in done.left)):
        click.echo(f"  {line}")
    if health is not None:
        click.echo(f"  healthy after {health:.1f} s")


def health_check(what: str, timeout_s: float) -> None:
    """Try a command or an http(s) URL until it succeeds. Raises RestoreError past the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = max(1.0, deadline - time.monotonic())
        if re.match(r"https?://", what):
            problem = _get(what, min(left, 10.0))
        else:
            done = process.run(["/bin/sh", "-c", what], timeout_s=left)
            problem = f"exit code {done.code}" if done.code else None
        if problem is None:
            return
        if time.monotonic() >= deadline:
            raise RestoreError(
                f"restored, but the health check did not succeed within {timeout_s:g} s ({problem})",
                remedy="look at the services' logs; the state before was kept, see above",
            )
        time.sleep(min(1.0, max(0.05, deadline - time.monotonic())))


def _get(url: str, timeout_s: float) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - http(s) was asked for
            return None if 200 <= answer.status < 300 else f"status {answer.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return type(error).__name__
