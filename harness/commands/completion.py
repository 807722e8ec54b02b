"""`provado completion`: completion scripts for shells."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(provado completion bash)"."""
    from click.shell_completion import get_completion_class

    from ..cli import group

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    # BashComplete.source() would first run `bash --version`; the template alone needs no program.
    complete = made(group, {}, "provado", "_PROVADO_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
