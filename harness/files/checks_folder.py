"""The folder itself: readable, complete, copied whole, and the same as its source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ..check import Check, NotRun, check
from ..model import Finding, Origin, Severity
from .facts import Entry
from .layout import RUNBOOK, is_compose, is_env, is_nginx, is_redis
from .restore import RestoredFiles


@check(
    "files.readable",
    proves="file",
    severity="critical",
    remedy="back up the file itself (`cp -rL` follows links), as a user who may read it",
    needs_server=False,
)
def readable(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Everything in the backup is a regular file that can be read, and no known file is empty."""
    for entry in subject.facts.entries.values():
        if entry.kind == "refused":
            yield self.finding(entry.name, f"{entry.name} {entry.trouble}")
        elif entry.kind == "link" and subject.facts.resolve(entry) is None:
            yield self.finding(entry.name, f"{entry.name} is a link to something that is not in the backup")
    for file in subject.facts.files():
        known = is_nginx(file.name) or is_redis(file.name) or is_compose(file.name) or is_env(file.name)
        if not file.bytes and known:
            yield self.finding(
                file.name,
                f"{file.name} is empty",
                remedy="the copy failed (disk full?); take the backup again",
            )


@check(
    "files.present",
    proves="data",
    severity="critical",
    origin="declared",
    remedy="take the backup again with this file; if the system has none, say so in files.required",
    needs_server=False,
)
def present(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every file and folder that is declared, or that the runbook copies, is in the backup."""
    declared = subject.ctx.settings.files.required
    files = [file.name for file in subject.facts.files()]
    for wanted in RUNBOOK if declared is None else declared:
        folder = wanted.endswith("/")
        held = any(name.startswith(wanted) if folder else name == wanted for name in files)
        if not held:
            yield self.finding(
                wanted,
                f"the backup {'has no file in' if folder else 'does not hold'} {wanted}",
                severity=Severity.HIGH if declared is None else None,
                expected="present",
                observed="missing",
            )


@check(
    "files.restored",
    proves="restore",
    severity="critical",
    remedy="the backup changed or broke while it was read; run the drill again",
)
def restored(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every file of the backup was restored with the same content."""
    count = 0
    for file in subject.facts.files():
        count += 1
        place = subject.folder / file.name if subject.folder else None
        if place is None or not place.is_file():
            yield self.finding(file.name, f"{file.name} was not restored")
            continue
        with place.open("rb") as content:
            observed = hashlib.file_digest(content, "sha256").hexdigest()
        if observed != file.sha256:
            yield self.finding(
                file.name,
                f"{file.name} has another content after restoring",
                expected=f"sha256:{file.sha256}",
                observed=f"sha256:{observed}",
            )
    if not count:
        raise NotRun("the backup holds no file", blocking=True)


@check(
    "files.manifest",
    proves="data",
    severity="critical",
    origin="manifest",
    remedy="take the backup again; if the source changed on purpose, capture its manifest anew",
    needs_server=False,
)
def manifest(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """The backup holds the files that its source held, with the same content and run bits."""
    if subject.manifest is None:
        raise NotRun("no manifest: the files were not compared with their source")
    expected = subject.manifest.facts.get("files")
    if not isinstance(expected, dict) or not expected:
        raise NotRun("the manifest names no file", blocking=True)
    held = {file.name: file for file in subject.facts.files()}
    for name, facts in expected.items():
        file = held.pop(name, None)
        if file is None:
            yield self.finding(name, f"{name} was on the source and is not in the backup")
            continue
        yield from _same(self, file, facts)
    for name in held:
        yield self.finding(
            name, f"{name} is in the backup and was not on the source", severity=Severity.MEDIUM
        )


def _same(self: Check, file: Entry, facts: dict[str, object]) -> Iterator[Finding]:
    if file.sha256 != facts.get("sha256"):
        yield self.finding(
            file.name,
            f"{file.name} is not the file that the source had",
            expected=f"{facts.get('bytes')} bytes, sha256:{facts.get('sha256')}",
            observed=f"{file.bytes} bytes, sha256:{file.sha256}",
        )
    mode = int(str(facts.get("mode", "0")), 8)
    if (mode ^ file.mode) & 0o100:  # other bits change with every umask on the way; git keeps this one only
        yield self.finding(
            file.name,
            f"{file.name} {'lost' if mode & 0o100 else 'got'} its run bit",
            severity=Severity.HIGH if mode & 0o100 else Severity.MEDIUM,
            expected=f"{mode:04o}",
            observed=f"{file.mode:04o}",
            origin=Origin.MANIFEST,
        )
