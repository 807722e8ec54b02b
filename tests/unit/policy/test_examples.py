"""Examples that people copy, in docs/operations.md and deploy/, are valid configuration and commands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml

from harness.cli import group
from harness.commands import COMMANDS
from harness.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"\bprovado ((?:[a-z]+)(?: (?:postgres|redis|files))?)\b([^\n|`]*)")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_configuration_in_the_documents_is_valid(block: str) -> None:
    assert Settings.model_validate(yaml.safe_load(block))


@pytest.mark.parametrize(
    "name",
    ["docs/operations.md", *(f"deploy/{p.name}" for p in (ROOT / "deploy").iterdir() if p.suffix != ".md")],
)
def test_commands_and_options_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for words, rest in COMMAND.findall(text):
        first, *sub = words.split()
        if first not in COMMANDS:
            continue  # prose
        command = group.get_command(click.Context(group), first)
        if sub and isinstance(command, click.Group):
            command = command.get_command(click.Context(command), sub[0])
        assert command is not None, words
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known | {"--help"}, (words, rest)
