"""Rehearsals about configuration: backup and recovery of its files in throwaway folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..backups import order
from ..check import Check, NotRun, check
from ..files import recover
from ..files.backup import backup, template
from ..files.env import is_secret, names
from ..files.facts import capture_facts
from ..files.layout import is_env, is_script
from ..model import Finding, Severity
from .ground import Ground

_REMEDY: Final = "follow docs/operations.md for this section, and correct the runbook's text"


@check("runbook.files-backup", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def whole(self: Check, ground: Ground) -> Iterator[Finding]:
    """The configuration can be backed up again, every file with its content and run bit."""
    source = ground.files()
    taken = _take(ground, source)
    before, after = _files(source), _files(taken.path)
    for name in sorted(n for n in before if n in after and before[n] != after[n]):
        yield self.finding(name, "has another content in the backup")
    if not after:
        yield self.finding(taken.path.name, "the backup holds no file")


@check("runbook.files-scripts", proves="usability", severity="medium", origin="declared", remedy=_REMEDY)
def scripts(self: Check, ground: Ground) -> Iterator[Finding]:
    """Scripts are in the backup and can be run after recovery."""
    folder = ground.files()
    found = [p for p in folder.rglob("*") if p.is_file() and is_script(p.name, p.read_bytes()[:64])]
    if not found:
        raise NotRun("the newest configuration backup holds no script", blocking=True)
    for path in found:
        if not path.stat().st_mode & 0o100:
            yield self.finding(str(path.relative_to(folder)), "cannot be run: its run bit is lost")


@check("runbook.files-env", proves="security", severity="critical", origin="declared", remedy=_REMEDY)
def environment(self: Check, ground: Ground) -> Iterator[Finding]:
    """The environment's template names every variable, secret ones too, and holds no secret value."""
    artifact = ground.newest("files")
    folder = artifact.path
    held = (
        [p for p in folder.rglob("*") if p.is_file() and is_env(str(p.relative_to(folder)))]
        if folder.is_dir()
        else []
    )
    if not held:
        raise NotRun("the newest configuration backup holds no list of variables", blocking=True)
    for path in held:
        text = path.read_text(encoding="utf-8", errors="replace")
        if template(text) != template(template(text)) or set(names(text)) != set(names(template(text))):
            yield self.finding(path.name, "names are lost when the template is made")
        for line in text.splitlines():
            name, sign, value = line.partition("=")
            if sign and is_secret(name.split()[-1] if name.split() else "") and len(value.strip("'\" ")) > 7:
                yield self.finding(
                    path.name, "a secret variable has a value in the backup", severity=Severity.HIGH
                )
                break


@check("runbook.files-recover", proves="usability", severity="high", origin="declared", remedy=_REMEDY)
def recovery(self: Check, ground: Ground) -> Iterator[Finding]:
    """Damaged and missing files are recovered; what was there before is kept aside."""
    folder = ground.files()
    before = _files(folder)
    victims = sorted(before)[:2]
    if not victims:
        raise NotRun("the newest configuration backup holds no file", blocking=True)
    (folder / victims[0]).write_bytes(b"damaged")
    (folder / victims[-1]).unlink()
    wish = recover.Wish(replace=True, safety=ground.folder("safety"))
    made = recover.plan(ground.newest("files"), folder, wish, ground.settings, ground.folder("recover"))
    recover.recover(made, ground.settings)
    after = _files(folder)
    for name in before:
        if before[name] != after.get(name):
            yield self.finding(name, "was not recovered")


CHECKS: Final = (whole, scripts, environment, recovery)


def _take(ground: Ground, source: Path) -> Any:
    zone = ground.settings.policy.zone
    settings = ground.settings.model_copy(
        update={"files": ground.settings.files.model_copy(update={"required": None})}
    )
    return backup(source, order(ground.folder("config"), "daily", zone), settings)


def _files(folder: Path) -> dict[str, Any]:
    found = capture_facts(folder)["files"]
    return {n: f for n, f in found.items() if not n.startswith(".provado")}
