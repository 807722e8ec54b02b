"""A component of a few lines, for tests of the drill itself: a backup is a text file ending in END.

Words in the file make things happen: NOSANDBOX, DAMAGED (while restoring), CLOSED (inspect refuses),
BROKEN (a check raises), BLOCKED (a check cannot run), LOST (a finding), MEDIUM, SLEEP, LEFTOVER.
`install()` puts it in the place of the configuration component, in this process only.
"""

import contextlib
import hashlib
import os
import sys
import time
import types
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import components
from harness.check import NotRun, check
from harness.component import Component, Inspection, Outcome
from harness.errors import ArtifactError, SandboxError
from harness.model import Measured, SandboxInfo, Severity, Stage, Teardown


@dataclass
class Note:
    text: str
    restored: bool = False
    folder: str = ""
    teardown: Teardown | None = None


@check("note.whole", proves="file", severity="critical", remedy="take it again", needs_server=False)
def whole(self, note):
    """The note ends with END."""
    if not note.text.rstrip().endswith("END"):
        yield self.finding("note", "the note was cut", expected="END", observed="nothing")


@check("note.content", proves="data", severity="critical", remedy="take it again")
def content(self, note):
    """Every word came back."""
    if "BROKEN" in note.text:
        raise ZeroDivisionError("secret row value 4711")
    if "BLOCKED" in note.text:
        raise NotRun("this machine lacks a dictionary; install one", blocking=True)
    if "LOST" in note.text:
        yield self.finding("public.words", "2 words are lost", expected=5, observed=3)
    if "MEDIUM" in note.text:
        yield self.finding("public.words", "a word is faint", severity=Severity.MEDIUM)


@check("note.source", proves="data", severity="high", origin="manifest", remedy="capture a manifest")
def source(self, note):
    """The note says what its source said."""
    raise NotRun("no manifest: the file was not compared with its source")
    yield


def inspect(artifact, ctx):
    data = artifact.path.read_bytes()
    if b"CLOSED" in data:
        raise ArtifactError("is locked", where=artifact.path.name, remedy="unlock it")
    taken = (datetime(2026, 11, 23, 2, tzinfo=UTC), "dump-header") if b"DATED" in data else (None, None)
    return Inspection(artifact, hashlib.sha256(data).hexdigest(), bool(data), data.decode(), "1.0", *taken)


@contextlib.contextmanager
def restore(inspection, ctx):
    if "NOSANDBOX" in inspection.facts:
        raise SandboxError("no shelf is free", remedy="Clear one")
    if "DAMAGED" in inspection.facts:
        raise ArtifactError("is damaged at word 3", where="note")
    (ctx.scratch / "note").write_text(inspection.facts)
    if log := os.environ.get("TOY_LOG"):
        with Path(log).open("a") as file:
            file.write(f"restore {inspection.artifact.path.name} {ctx.scratch}\n")
    if "SLEEP" in inspection.facts:
        for _ in range(600):
            ctx.progress("sleeping", 0, 0)
            time.sleep(0.05)
    note = Note(inspection.facts, True, str(ctx.scratch))
    try:
        yield note
    finally:
        note.restored = False
        note.teardown = Teardown(True, True, "LEFTOVER" not in inspection.facts)


def outcome(note):
    return Outcome(
        SandboxInfo("local", "1.1", "shelf"),
        (Stage("write", 0.5),) if note.folder else (),
        Measured(rows=len(note.text.split())),
        ("the ink was not tested",),
        note.teardown,
        {"words": len(note.text.split())},
    )


COMPONENT = Component(
    "files",
    lambda path, head: "note" if path.suffix == ".note" else None,
    inspect,
    restore,
    lambda inspection, ctx: Note(inspection.facts),
    outcome,
    (whole, content, source),
)


def install(monkeypatch=None):
    """Make `files` mean notes; with `monkeypatch` until the end of the test, else for this process."""
    modules = {"files": COMPONENT, "postgres": None, "redis": None}
    for name, made in modules.items():
        module = types.ModuleType(f"harness.{name}")
        module.COMPONENT = made or Component(
            name, lambda path, head: None, inspect, restore, lambda i, c: None, outcome, ()
        )
        if monkeypatch:
            monkeypatch.setitem(sys.modules, f"harness.{name}", module)
        else:
            sys.modules[f"harness.{name}"] = module
    components.component.cache_clear()
