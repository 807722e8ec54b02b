"""The small commands, and how errors become exit codes."""

import json
import sys

import click
import pytest

from harness import cli, commands
from harness.cli import run
from harness.errors import ArtifactError, ConfigError, SandboxError, ToolError
from harness.redact import Secret
from harness.settings import Settings


def test_schema_knows_every_section(capsys):
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(capsys, shell):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_PROVADO_COMPLETE" in script
    assert shell in script or "compdef" in script


def test_doctor_in_words_and_json_agree(capsys):
    code = run(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (3 if report["missing"] else 0)
    assert run(["doctor"]) == code
    words = capsys.readouterr().out
    assert all(server["location"] in words for server in report["servers"])
    assert all(remedy in words for remedy in report["missing"].values())


def test_closed_streams_take_nothing_from_the_exit_code(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert run(["schema"]) == 0
    assert run(["verify", "--nope"]) == 2
    sys.stdout.close()
    sys.stderr.close()


def test_what_the_system_refuses_is_told(monkeypatch, capsys):
    def refused(**flags):
        raise OSError(28, "No space left on device", "reports/x")

    monkeypatch.setitem(commands.COMMANDS, "schema", "schema:schema")
    monkeypatch.setattr("harness.commands.schema.schema.callback", refused)
    assert run(["schema"]) == 3
    assert capsys.readouterr().err == "provado: reports/x: the system says: No space left on device\n"


def test_every_listed_command_loads_and_has_help(capsys):
    for name in commands.COMMANDS:
        assert run([name, "--help"]) == 0
        assert "Usage: provado" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ConfigError("wrong"), 2),
        (ArtifactError("damaged"), 1),
        (SandboxError("none"), 3),
        (ToolError("missing"), 3),
        (KeyboardInterrupt(), 130),
        (click.UsageError("which?"), 2),
        (ZeroDivisionError("row value 4711"), 3),
    ],
)
def test_errors_become_exit_codes_and_never_tracebacks(monkeypatch, capsys, raised, code):
    def fail(**_):
        raise raised

    monkeypatch.setattr(cli, "group", click.Command("provado", callback=fail))
    assert run([]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip()
    assert "Traceback" not in said.err
    assert "4711" not in said.err


def test_secrets_in_errors_are_masked(monkeypatch, capsys):
    secret = Secret("c4nary-in-a-message")

    def fail(**_):
        raise ConfigError(f"cannot log in with {secret.reveal()}")

    monkeypatch.setattr(cli, "group", click.Command("provado", callback=fail))
    assert run([]) == 2
    assert secret.reveal() not in capsys.readouterr().err
