"""`provado backup`: take a backup with its manifest, under the names that the runbook uses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import click

from .. import process
from ..backups import KINDS, Log, Taken, order
from ..catalog import find
from ..components import recognisers
from ..errors import ConfigError, ProvadoError
from ..lock import folder_lock
from ..policy import retention
from ..policy.state import gather
from ..settings import Settings, load_settings
from ..settings.policy import KindRule
from .options import config_option
from .places import given_address

_FOLDERS: Final = {"postgres": "backups", "redis": "redis-backups", "files": "config-backups"}
_DAY_S: Final = 86400.0
_TEST_S: Final = 6 * 3600.0
_OUTCOMES: Final = {0: "pass", 1: "fail", 3: "inconclusive"}


def _common(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        config_option,
        click.option("--kind", default=None, help=f"One of {', '.join(KINDS)} (default: daily)."),
        click.option("--output", type=click.Path(path_type=Path), help="Folder (default: the runbook's)."),
        click.option("--prefix", help="How the file's name begins (default: from what is backed up)."),
        click.option("--keep-all", is_flag=True, help="Do not let go what retention no longer asks for."),
        click.option(
            "--test",
            type=click.Choice(["never", "due", "always"]),
            default="never",
            show_default=True,
            help="Restore it as a test afterwards; `due`: when policy.test_interval has passed.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    ):
        function = option(function)
    return function


@click.group("backup")
def command() -> None:
    """Take a backup: postgres URL, redis URL or files DIR.

    Written beside its final name and renamed once it is whole and was read back; one run at a time per
    folder; what happens stands in backup.log. Addresses may be given as env:NAME or file:PATH.
    """


@command.command("postgres")
@click.argument("where", nargs=-1, required=True, metavar="URL | KIND DAYS DIR")
@_common
@click.option("--password", help="env:NAME or file:PATH (default: PGPASSWORD or the password file).")
@click.option("--table", "tables", multiple=True, help="Only this table (repeatable); it must exist.")
@click.option("--format", "form", type=click.Choice(["plain", "custom"]), default="plain", show_default=True)
@click.option("--compress", type=click.IntRange(0, 9), default=6, show_default=True)
@click.option("--no-manifest", is_flag=True, help="Do not capture what the source holds.")
def postgres(
    where: tuple[str, ...],
    password: str | None,
    tables: tuple[str, ...],
    form: Any,
    compress: int,
    no_manifest: bool,
    **common: Any,
) -> None:
    """Back up a PostgreSQL database with its roles.

    The seed's arguments are understood too: KIND DAYS DIR with DB_HOST, DB_PORT, DB_USER, DB_NAME and
    DB_PASSWORD in the environment.
    """
    from ..postgres.backup import Choice, backup
    from ..postgres.live import live

    url, settings = where[0], load_settings(common["config"])
    if where[0].removesuffix("-backup") in KINDS:
        settings = _seed(settings, common, where[0], where[1:2], where[2:3])
        url = _seed_url()
        password = password or ("env:DB_PASSWORD" if os.environ.get("DB_PASSWORD") else None)
    elif len(where) > 1:
        raise click.UsageError("one URL, or KIND DAYS DIR")
    wanted = order(_folder("postgres", common), _kind(common), settings.policy.zone, prefix=common["prefix"])
    choice = Choice(form, compress, tables, not no_manifest)
    _done(backup(live(given_address(url), password), wanted, choice, settings), "postgres", settings, common)


@command.command("redis")
@click.argument("where", nargs=-1, required=True, metavar="URL | HOST PORT PASSWORD DIR DAYS")
@_common
@click.option("--password", help="env:NAME or file:PATH (default: the one in the URL).")
@click.option("--data-dir", type=click.Path(path_type=Path), help="The server's folder: copies its AOF too.")
@click.option("--no-canary", is_flag=True, help="Write no key of our own around the save.")
def redis(
    where: tuple[str, ...], password: str | None, data_dir: Path | None, no_canary: bool, **common: Any
) -> None:
    """Back up a Redis or Valkey server over its replication protocol; its files need not be reachable.

    The seed's arguments are understood too: HOST PORT PASSWORD DIR DAYS; give the password as env:NAME.
    """
    from ..redis.backup import address, backup

    settings = load_settings(common["config"])
    if no_canary:
        settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"canary": False})})
    if len(where) >= 4:
        host, port, secret, folder = where[:4]
        settings = _seed(settings, common, "daily", where[4:5], (folder,))
        password = password or secret or None
        if password and not password.startswith(("env:", "file:")):
            raise ConfigError(
                "a password in the arguments is seen by every user of this machine",
                remedy="give it as env:NAME or file:PATH",
            )
        where = (f"redis://{host}:{port}",)
    elif len(where) > 1:
        raise click.UsageError("one URL, or HOST PORT PASSWORD DIR DAYS")
    wanted = order(_folder("redis", common), _kind(common), settings.policy.zone, prefix=common["prefix"])
    _done(
        backup(address(given_address(where[0]), password), wanted, settings, data_dir),
        "redis",
        settings,
        common,
    )


@command.command("files")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@_common
@click.option("--include", multiple=True, help="Also this file or folder, relative to DIR (repeatable).")
def files(folder: Path, include: tuple[str, ...], **common: Any) -> None:
    """Back up configuration: nginx, redis, compose, certificates, scripts, env names without secrets."""
    from ..files.backup import backup

    settings = load_settings(common["config"])
    wanted = order(_folder("files", common), _kind(common), settings.policy.zone, prefix=common["prefix"])
    _done(backup(folder, wanted, settings, include), "files", settings, common)


def _folder(component: str, common: dict[str, Any]) -> Path:
    return common["output"] or Path(_FOLDERS[component])


def _kind(common: dict[str, Any]) -> str:
    return common["kind"] or "daily"


def _seed(
    settings: Settings, common: dict[str, Any], kind: str, keep: tuple[str, ...], folder: tuple[str, ...]
) -> Settings:
    """The seed's positional arguments: its days are how long this kind, and only this kind, is kept."""
    common["kind"] = common["kind"] or kind
    if folder:
        common["output"] = common["output"] or Path(folder[0])
    if not keep:
        return settings
    if not keep[0].isdecimal() or not int(keep[0]):
        raise click.UsageError(f"{keep[0]!r} is no number of days")
    name = kind.removesuffix("-backup")
    old = retention.rule_of(name, settings.policy)
    rule = KindRule.model_validate({**(old.model_dump() if old else {}), "keep": int(keep[0]) * _DAY_S})
    policy = settings.policy.model_copy(update={"kinds": {**settings.policy.kinds, name: rule}})
    return settings.model_copy(update={"policy": policy})


def _seed_url() -> str:
    missing = [n for n in ("DB_HOST", "DB_USER", "DB_NAME") if not os.environ.get(n)]
    if missing:
        raise ConfigError(f"the environment has no variable {', '.join(missing)}", remedy="export it")
    host, port, user, name = (
        quote(os.environ.get(n, "5432"), safe="") for n in ("DB_HOST", "DB_PORT", "DB_USER", "DB_NAME")
    )
    return f"postgresql://{user}@{host}:{port}/{name}"


def _done(taken: Taken, component: str, settings: Settings, common: dict[str, Any]) -> None:
    """Retention for this series only, the restore test if asked for, then what to tell."""
    removed: list[Path] = []
    found = find(taken.path.parent, recognisers(), component=component)
    state = gather(found, settings, now=_now())
    mine = next((b for b in state.backups if b.name == taken.path.name), None)
    log, tested = Log(taken.path.parent, settings.policy.zone), None
    if not common["keep_all"]:
        series = [b for b in state.backups if mine and b.series == mine.series]
        with folder_lock(taken.path.parent):
            removed = retention.apply(retention.plan(series, settings.policy, state.now, drills=state.drills))
    log.write(f"Removidos {len(removed)} backups antigos")
    last = [d.finished_at for d in state.drills if mine and d.lineage == mine.lineage and d.verdict == "pass"]
    age_s = (state.now - max(last)).total_seconds() if last else float("inf")
    if common["test"] == "always" or (common["test"] == "due" and age_s >= settings.policy.test_interval):
        tested = _restore_test(taken, log, common)
    if common["as_json"]:
        data = {
            "schema": "provado/backup/1",
            "path": str(taken.path),
            "manifest": str(taken.manifest) if taken.manifest else None,
            "globals": str(taken.globals) if taken.globals else None,
            "sha256": taken.sha256,
            "bytes": taken.bytes,
            "seconds": taken.seconds,
            "notes": list(taken.notes),
            "removed": [str(p) for p in removed],
            "restore_test": tested,
        }
        click.echo(json.dumps(data, indent=1))
    else:
        click.echo(f"{taken.path}  {taken.bytes:,} bytes in {taken.seconds:.1f} s")
        for note in taken.notes:
            click.echo(f"  note: {note}", err=True)
        for path in removed:
            click.echo(f"  let go: {path.name}", err=True)
        if tested is not None:
            click.echo(f"  restore test: {_OUTCOMES.get(tested, 'broke')}")
    if tested:
        raise click.exceptions.Exit(tested)


def _restore_test(taken: Taken, log: Log, common: dict[str, Any]) -> int:
    """`provado verify` of the new backup, in a process of its own; its exit code, also told in backup.log.

    It is our own program, and secrets may be configured as env:NAME: it gets our whole environment.
    """
    argv: list[str | Path] = [sys.executable, "-m", "harness", "verify", taken.path, "--quiet"]
    argv += ["--config", common["config"]] if common["config"] else []
    log.write(f"Iniciando teste de restauração de {taken.path.name}")
    try:
        code = process.run(argv, timeout_s=_TEST_S, env=os.environ).code
    except ProvadoError as error:
        log.write(f"Teste de restauração: {error}")
        return error.exit_code
    log.write(f"Teste de restauração: {_OUTCOMES.get(code, 'erro')} (código {code})")
    return code


def _now() -> datetime:
    return datetime.now(UTC)
