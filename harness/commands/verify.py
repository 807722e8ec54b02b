"""`provado verify`: the main job."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

import click

from ..components import NAMES
from ..errors import ProvadoError
from ..redact import mask
from .options import config_option, overrides, sandbox_options

if TYPE_CHECKING:
    from ..run.pytest_state import State

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("paths", nargs=-1, type=_PATH, metavar="[PATH ...]")
@config_option
@click.option(
    "--component",
    "components",
    multiple=True,
    type=click.Choice(["postgres", "redis", "files"]),
    help="Only backups of this component; with a single one, PATH is taken to be such a backup.",
)
@click.option("--select", "choice", metavar="newest|all|NAME", help="Which backups of a folder.")
@click.option("--manifest", type=_PATH, help="Manifest of the backup (default: <backup>.manifest.json).")
@click.option(
    "--globals",
    "globals_file",
    type=_PATH,
    help="Roles, as pg_dumpall --globals-only writes them (default: <backup>.globals.sql or globals.sql).",
)
@sandbox_options
@click.option("--output", type=_PATH, help="Folder for evidence and reports (default: reports).")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; nothing else on stdout.")
@click.option("--lang", type=click.Choice(["en", "pt-BR"]), help="Language of the report.")
@click.option("--jobs", metavar="N", help="Drills at once.")
@click.option("--rpo", metavar="24h", help="Recovery point objective: the age a backup may have.")
@click.option("--rto", metavar="4h", help="Recovery time objective: the time a restore may take.")
@click.option(
    "--fail-on",
    type=click.Choice(["info", "medium", "high", "critical"]),
    help="Severity from which a finding fails (default: high).",
)
@click.option("--signing-key", metavar="file:PATH|env:NAME", help="Ed25519 key that signs the evidence.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; the verdict only.")
@click.option("--no-color", is_flag=True, help="No colours (also NO_COLOR).")
def verify(
    paths: tuple[Path, ...],
    config: Path | None,
    components: tuple[str, ...],
    choice: str | None,
    manifest: Path | None,
    globals_file: Path | None,
    as_json: bool,
    quiet: bool,
    no_color: bool,
    **flags: Any,
) -> int:
    """Find backups, restore each into a throwaway server, judge it, and write evidence and reports.

    Each PATH is a backup or a folder of them. Without one: what provado.yaml lists, or else ./backups,
    ./redis-backups and ./config-backups.
    """
    from ..run.outputs import Outputs
    from ..run.plan import make_plan
    from ..run.progress import watcher
    from ..run.pytest_state import State
    from ..run.session import Session
    from ..settings import load_settings

    settings = load_settings(config, overrides(flags))
    plan = make_plan(
        settings,
        paths,
        components=components,
        choice=choice,
        manifest=manifest,
        globals_file=globals_file,
    )
    said = io.StringIO()
    with _interruptible() as interrupted, watcher(quiet=quiet) as watch:
        session = Session(plan, watch)
        outputs = Outputs(session)
        state = State(session, outputs)
        code = _run_pytest(state, outputs.folder, said)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if state.error:
        raise state.error
    if state.written is None:
        raise ProvadoError("pytest ended without a result", remedy=said.getvalue()[-2000:])
    if as_json:
        result = state.written.result() | {"ledger_head": str(outputs.head) if outputs.head else None}
        _say(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        from ..run.summary import summary_lines

        colour = sys.stdout.isatty() and not no_color and not os.environ.get("NO_COLOR")
        lines = summary_lines(state.written, colour=colour)
        if outputs.head:
            lines.append(f"Ledger head, to keep elsewhere: {outputs.head}")
        _say("\n".join(lines[:1] if quiet else lines), colour=colour)
    return code


def _say(text: str, *, colour: bool = False) -> None:
    """Print to stdout. A reader that went away (`| head -1`) takes nothing from the verdict."""
    try:
        click.echo(text, color=colour)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python flushes at its end


def _run_pytest(state: State, reports: Path, said: IO[str]) -> int:
    """pytest over the shipped suites, shut off from the configuration and plugins of the current folder.

    junit.xml and pytest.html go to `reports`, what pytest prints to `said`; returns its exit code.
    """
    import pytest

    from ..run.stash import STATE
    from ..run.suites import suites

    class Planned:
        """Hands the drills to the plugin."""

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(self, config: pytest.Config) -> None:
            config.stash[STATE] = state

    folder = str(suites())
    arguments = [str(suites() / f"test_{name}.py") for name in _suites(state)]
    arguments += ["-c", os.devnull, "--rootdir", folder, "--noconftest", "--assert=plain"]
    arguments += ["--tb=short", "--capture=no", "--strict-markers", "-o", "junit_suite_name=provado"]
    # About places and procedures, not about one backup: `provado monitor` and `provado rehearse`.
    arguments += [f"--ignore={folder}/{name}" for name in ("test_policy.py", "test_runbook.py")]
    if not state.session.plan.settings.consistency.rules:
        arguments.append(f"--ignore={folder}/test_consistency.py")
    arguments += ["--junitxml", str(reports / "junit.xml")]
    arguments += ["--html", str(reports / "pytest.html"), "--self-contained-html"]
    for name in ("no:cacheprovider", "no:logging", "pytest_metadata.plugin", "pytest_html.plugin"):
        arguments += ["-p", name]
    # These two collect garbage five times each at the end, for warnings that nobody would see.
    arguments += ["-p", "no:unraisableexception", "-p", "no:threadexception"]
    arguments += ["-p", "pytest_html.fixtures", "-p", "harness.plugin"]
    isolated = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
    before = {name: os.environ.get(name) for name in isolated}
    os.environ.update(isolated)
    try:
        with contextlib.redirect_stdout(said):
            return int(pytest.main(arguments, plugins=[Planned()]))
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _suites(state: State) -> list[str]:
    """What is about the drills of this run; schedule and runbook are for `monitor` and `pytest suites/`."""
    consistency = state.session.plan.settings.consistency
    return [*NAMES, *(["consistency"] if consistency.rules or consistency.window else []), "drill"]


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """SIGTERM and SIGINT unwind the drill once; further ones do not cut the tearing down short.

    The event yielded is set once one has come.
    """
    from ..sandbox import end_all, sweep
    from ..scratch import sweep_scratch

    told = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        if not told.is_set():
            told.set()
            raise KeyboardInterrupt

    for removed in (*sweep(), *sweep_scratch()):
        click.echo(mask(f"removed what a crashed run left: {removed}"), err=True)
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield told
    finally:
        end_all()
        for number, handler in before.items():
            signal.signal(number, handler)
