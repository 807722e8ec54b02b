"""Compose files and environment templates: valid, and complete together."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from ..check import Check, NotRun, check
from ..model import Finding, Severity
from . import compose, env
from .layout import is_compose, is_env
from .restore import RestoredFiles


def _compose_files(subject: RestoredFiles) -> list[compose.ComposeFile]:
    names = subject.named(is_compose)
    if not names:
        raise NotRun("the backup holds no compose file")
    return [compose.read(name, subject.text(name)) for name in names]


@check(
    "files.compose",
    proves="usability",
    severity="critical",
    remedy="correct the file on the source system (`docker compose config` shows the same) and back up again",
)
def compose_files(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Compose accepts the compose files, each alone and laid over one another."""
    files = _compose_files(subject)
    for file in files:
        if not _is_unicode(subject.data(file.name)):
            yield self.finding(
                file.name, f"Compose does not accept {file.name}: it is not UTF-8, which YAML has to be"
            )
        for place, message in file.troubles:
            yield self.finding(
                place, f"Compose does not accept {file.name}: {place.partition(' ')[2]} {message}"
            )
    beside = defaultdict(list)
    for file in files:
        if not file.troubles:
            beside[PurePosixPath(file.name).parent].append(file)
    for group in beside.values():
        for place, message in compose.together(group):
            yield self.finding(
                place, f"the service {place.rsplit('.', 1)[-1]} {message}", severity=Severity.HIGH
            )


def _is_unicode(data: bytes) -> bool:
    try:
        data.decode("utf-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8")
    except UnicodeDecodeError:
        return False
    return True


@check(
    "files.env-complete",
    proves="usability",
    severity="high",
    remedy="add the variable to .env.example on the source system, without its value if that is secret",
)
def env_complete(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """The environment template is valid, and names every variable that the compose files need."""
    files = _compose_files(subject)
    templates = subject.named(is_env)
    if not templates:
        raise NotRun("the backup holds no environment template")
    held: set[str] = set()
    for name in templates:
        text = subject.text(name)
        held |= set(env.names(text))
        for line, trouble in env.troubles(text).items():
            yield self.finding(
                f"{name}:{line}",
                f"line {line} of {name} {trouble}: Compose refuses the file",
                remedy="correct the line on the source system and take the backup again",
            )
    for file in files:
        for variable, needed in sorted(file.variables.items()):
            if variable not in held:
                yield self.finding(
                    variable,
                    f"{file.name} uses {variable}, which no environment template in the backup names:"
                    + (" it will be empty after a recovery" if needed else " its default will count"),
                    severity=None if needed else Severity.INFO,
                )
