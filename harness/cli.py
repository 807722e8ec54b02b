"""The `provado` command: finds the subcommand, and turns errors into exit codes. Nothing else."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from . import __version__
from .check import broken_at
from .commands import COMMANDS
from .errors import ProvadoError
from .redact import mask

INTERRUPTED = 130


class _Lazy(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command = getattr(importlib.import_module(f"{__package__}.commands.{module}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the list is ours
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="provado")
def group() -> None:
    """Proves that backups restore: PostgreSQL, Redis and configuration, in throwaway servers.

    Exit codes: 0 pass, 1 fail, 2 usage or configuration, 3 inconclusive, 130 interrupted.
    """


def run(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code. Prints errors to stderr, secrets masked."""
    for name in ("stdout", "stderr"):  # closed by the caller: what is said goes nowhere, the exit code counts
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the end
    try:
        code: Any = group.main(args=argv, prog_name="provado", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print("provado: interrupted", file=sys.stderr)  # noqa: T201 - the command's own words
        return INTERRUPTED
    except ProvadoError as error:
        print(f"provado: {mask(str(error))}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except OSError as error:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        print(f"provado: {mask(where)}the system says: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        return ProvadoError.exit_code
    except Exception as error:  # a traceback may quote data; its place is enough to find the mistake
        print(f"provado: broke with {broken_at(error)}; please report this", file=sys.stderr)  # noqa: T201
        return ProvadoError.exit_code


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())
