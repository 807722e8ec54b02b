"""`provado capture`: the manifest of a live source, for backups that other tools take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ..manifest import write_manifest
from ..redact import Secret, read_secret


@click.command("capture")
@click.argument("component", type=click.Choice(["postgres", "redis"]))
@click.argument("url", metavar="URL|env:NAME|file:PATH")
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Manifest to write.")
@click.option("--no-digest", is_flag=True, help="Count rows only; their content stays unproven.")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Tables at a time.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(component: str, url: str, output: Path, no_digest: bool, jobs: int, quiet: bool) -> None:
    """Capture what a live PostgreSQL database or Redis server holds, to compare restored backups with.

    The source is only read. PostgreSQL needs a role with pg_read_all_data (and BYPASSRLS where row security
    is on). Give the URL as env:NAME or file:PATH to keep its password out of the process list.
    """
    source = source_url(url)
    with _Teller(quiet) as tell:
        if component == "postgres":
            from ..postgres.capture import capture

            manifest = capture(source, digests=not no_digest, jobs=jobs, progress=tell)
        else:
            from ..redis.capture import capture as capture_redis

            manifest = capture_redis(source)
    write_manifest(output, manifest)
    if not quiet:
        click.echo(f"{output}: {component} {manifest.source.get('version', '')}", err=True)


def source_url(text: str) -> Secret:
    """A source's URL, as it is or named as env:NAME or file:PATH; masked from now on."""
    if text.partition(":")[0] in ("env", "file"):
        return read_secret(text)
    return Secret(text)


class _Teller:
    """Progress on stderr, when somebody is looking."""

    def __init__(self, quiet: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> Callable[[int, int, str], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, done: int, total: int, name: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=name[:40])
