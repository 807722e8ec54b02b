"""`provado capture`: the manifest of a live source, for backups that other tools take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from ..manifest import Manifest, write_manifest
from ..redact import Secret, read_secret

_EVERY_S: Final = 5.0
Tell = Callable[[int, int, str], None]


@click.command("capture")
@click.argument("component", type=click.Choice(["postgres", "redis"]))
@click.argument("url", metavar="URL|env:NAME|file:PATH")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Manifest to write.")
@click.option("--no-digest", is_flag=True, help="Count rows or keys only; their content stays unproven.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Tables at a time.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option(
    "--rdb",
    type=click.Path(path_type=Path),
    help="Redis: have the server save now, and describe that very file (its dump.rdb, as seen from here).",
)
@click.option(
    "--no-canary", is_flag=True, help="With --rdb: write no key that proves the file's origin (else none is)."
)
def command(
    component: str,
    url: str,
    output: Path,
    no_digest: bool,
    jobs: int,
    quiet: bool,
    rdb: Path | None,
    no_canary: bool,
) -> None:
    """Capture what a live PostgreSQL database or Redis server holds, to compare restored backups with.

    The source is only read (with --rdb it saves, and holds a key of ours meanwhile). PostgreSQL needs a role
    with pg_read_all_data (and BYPASSRLS where row security is on). Give the URL as env:NAME or file:PATH to
    keep its password out of the process list.
    """
    if component == "postgres" and (rdb or no_canary):
        raise click.UsageError("--rdb and --no-canary are for redis")
    source = source_url(url)
    with _Teller(quiet, "B" if component == "postgres" or rdb else "keys") as tell:
        manifest, notes = _capture(component, source, not no_digest, jobs, rdb, not no_canary, tell)
    write_manifest(output, manifest)
    for note in notes:
        click.echo(f"  note: {note}", err=True)
    if not quiet:
        click.echo(f"{output}: {component} {manifest.source.get('version', '')}", err=True)


def _capture(
    component: str, source: Secret, digests: bool, jobs: int, rdb: Path | None, canary: bool, tell: Tell
) -> tuple[Manifest, list[str]]:
    """The manifest, and what to tell of how it was made."""
    if component == "postgres":
        from ..postgres.capture import capture

        return capture(source, digests=digests, jobs=jobs, progress=tell), []
    from ..redis.capture import capture as capture_redis
    from ..redis.capture import capture_saved

    if rdb:
        name = rdb.name
        watch: Callable[[int, int], None] = lambda done, total: tell(done, total, name)  # noqa: E731
        return capture_saved(source, rdb, canary=canary, digests=digests, progress=watch)
    watch = lambda done, total: tell(done, total, "keys")  # noqa: E731
    return capture_redis(source, digests=digests, progress=watch), []


def source_url(text: str) -> Secret:
    """A source's URL, as it is or named as env:NAME or file:PATH; masked from now on."""
    if text.partition(":")[0] in ("env", "file"):
        return read_secret(text)
    return Secret(text)


class _Teller:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere. `unit` is what is counted."""

    def __init__(self, quiet: bool, unit: str) -> None:
        self._quiet, self._unit, self._live = quiet, unit, sys.stderr.isatty()
        self._told = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn() if unit == "B" else MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not self._live,
        )
        self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> Tell:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, done: int, total: int, name: str) -> None:
        if self._live:
            self._bar.update(self._task, completed=done, total=total, description=name[:40])
        elif not self._quiet and time.monotonic() - self._told > _EVERY_S:
            self._told = time.monotonic()
            share = f"{done / total:4.0%}  " if total else ""
            click.echo(f"{share}{done:,} of {total:,} {self._unit}", err=True)
