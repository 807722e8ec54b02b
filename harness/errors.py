"""What stops a drill from judging. A failed restore is a result (`model.Finding`), not one of these.

Every message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations


class ProvadoError(Exception):
    """Base of all errors that reach the user; `exit_code` is what the command ends with (CONTRACT)."""

    exit_code = 3

    def __init__(self, what: str, *, where: str | None = None, remedy: str | None = None) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}. {remedy}" if remedy else text)


class ConfigError(ProvadoError):
    """The command line, the environment or provado.yaml is wrong."""

    exit_code = 2


class ArtifactError(ProvadoError):
    """The backup's own bytes are unusable: damaged, hostile, of another kind, or missing."""

    exit_code = 1


class SandboxError(ProvadoError):
    """No throwaway server can be had here, or it died of its own accord: nothing is said of the backup."""


class ToolError(ProvadoError):
    """A program the drill needs (say pg_restore) is missing or broken here."""


class RestoreError(ProvadoError):
    """A recovery into a user's own server stopped; the message says what is left there."""

    exit_code = 1
