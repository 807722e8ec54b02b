"""Read a PostgreSQL backup without a server: the facts that everything else is compared with."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Final

from .. import process
from ..component import DrillContext, Inspection
from ..errors import ArtifactError
from ..model import Artifact
from ..stream import Stream, open_file
from .apart import Apart, in_parts, split
from .contents import listed
from .dump import Copy, Item, read_dump
from .facts import DumpFacts, noted, read_facts
from .physical import inspect_physical
from .reading import Reading
from .source import ARCHIVES, counted, entries_text, pg_restore_for, sha256_of, sql_text

BY_LOAD_BYTES: Final = 16 << 20  # a backup smaller than that is read within half a second
_CREATED: Final = re.compile(r"^; Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.M)


def inspect(artifact: Artifact, ctx: DrillContext) -> Inspection:
    """One pass over the whole backup. Damage is kept in the facts, not raised.

    Of a large backup only what comes before the rows; the restore reads on (`rest`).
    Raises ToolError when an archive needs a pg_restore that is not here.
    """
    if artifact.format == "physical":
        return inspect_physical(artifact, ctx)
    if artifact.bytes >= BY_LOAD_BYTES:
        # a cluster's databases may each need something else of the server: read it whole first
        if artifact.format == "plain":
            return _plain_by_load(artifact, ctx)
        if artifact.format in ARCHIVES and (schema := _schema(artifact, ctx)):
            sha256 = _aside(lambda: sha256_of(artifact.path))
            return _begun(
                artifact,
                Reading(
                    schema,
                    True,
                    lambda: _archive_items(artifact, ctx),
                    lambda facts: _inspection(artifact, ctx, facts, sha256.result()),
                    lambda: _read(artifact, ctx),
                ),
            )
    return _read(artifact, ctx)


def _begun(artifact: Artifact, reading: Reading) -> Inspection:
    return Inspection(artifact, sha256="", restorable=True, facts=reading.facts, rest=reading)


def _plain_by_load(artifact: Artifact, ctx: DrillContext) -> Inspection:
    """A plain dump up to its first rows; whole where it has none."""
    head = DumpFacts()
    with open_file(artifact.path) as file, contextlib.suppress(ArtifactError):  # kept in the facts
        stream = Stream(file, artifact.path, artifact.packing)
        for item in noted(read_dump(counted(stream, artifact, ctx, "inspect")), head):
            if isinstance(item, Copy):
                break
        else:
            head.trailing = stream.trailing_bytes
            return _inspection(artifact, ctx, head, stream.sha256)
    if head.problem:
        return _inspection(artifact, ctx, head, "")
    streams: list[Stream] = []

    def items() -> Generator[Item, None, None]:
        with open_file(artifact.path) as file:
            streams[:] = [Stream(file, artifact.path, artifact.packing)]
            yield from read_dump(counted(streams[0], artifact, ctx, "restore"))

    def whole(facts: DumpFacts) -> Inspection:
        facts.trailing = streams[0].trailing_bytes
        return _inspection(artifact, ctx, facts, streams[0].sha256)

    @contextlib.contextmanager
    def text() -> Iterator[Iterator[bytes]]:
        with open_file(artifact.path) as file:
            yield iter(Stream(file, artifact.path, artifact.packing, hashed=False))

    return _begun(artifact, Reading(head, False, items, whole, lambda: _read(artifact, ctx), text))


def _archive_items(artifact: Artifact, ctx: DrillContext) -> Generator[Item | Apart, None, None]:
    """The items of an archive: by several readers where it holds several large tables."""
    parts = split(listed(artifact, ctx.scratch)) if artifact.format != "tar" else None
    if parts:
        yield from in_parts(parts, entries_text(artifact, ctx, "restore"))
        return
    with sql_text(artifact, ctx, "restore") as text:
        yield from read_dump(text)


def _schema(artifact: Artifact, ctx: DrillContext) -> DumpFacts | None:
    """What an archive says besides its rows; None where that is damaged already, or nothing."""
    try:
        with sql_text(artifact, ctx, "inspect", rows=False) as text:
            schema = read_facts(text)
    except ArtifactError:
        return None
    whole = schema.problem is None and schema.truncated is None
    return schema if whole and schema.statements else None


def _aside(work: Callable[[], str]) -> Future[str]:
    """The result of work in a thread that nothing waits for at exit."""
    done: Future[str] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="provado-sha256", daemon=True).start()
    return done


def _read(artifact: Artifact, ctx: DrillContext) -> Inspection:
    facts, sha256 = DumpFacts(), ""
    if artifact.format in ARCHIVES:
        digest = _aside(lambda: sha256_of(artifact.path))
        try:
            with sql_text(artifact, ctx, "inspect") as text:
                facts = read_facts(text)
        except ArtifactError as problem:
            facts.problem = problem
        sha256 = digest.result()
    elif artifact.format in ("plain", "pg_dumpall"):
        with open_file(artifact.path) as file:
            stream = Stream(file, artifact.path, artifact.packing)
            facts = read_facts(counted(stream, artifact, ctx, "inspect"))
            facts.trailing, sha256 = stream.trailing_bytes, stream.sha256
    return _inspection(artifact, ctx, facts, sha256)


def _inspection(artifact: Artifact, ctx: DrillContext, facts: DumpFacts, sha256: str) -> Inspection:
    sha256 = sha256 or sha256_of(artifact.path)  # damage ends the reading before the end of the file
    whole = facts.problem is None and facts.truncated is None
    taken_at, basis = facts.taken_at, "dump-header"
    if taken_at is None and artifact.format in ARCHIVES and artifact.taken_at_basis == "mtime" and whole:
        taken_at = _archive_time(artifact, ctx)
    return Inspection(
        artifact=artifact,
        sha256=sha256,
        restorable=whole and facts.statements > 0,
        facts=facts,
        source_version=facts.server_version,
        taken_at=taken_at,
        taken_at_basis=basis if taken_at else None,
    )


def _archive_time(artifact: Artifact, ctx: DrillContext) -> datetime | None:
    """When an archive was made; pg_dump stores the wall clock of its machine without a zone: taken as UTC."""
    if artifact.packing:
        return None
    tool = pg_restore_for(artifact.path, ctx.settings.sandbox)
    listed = process.run([tool, "-l", artifact.path], timeout_s=60, env={"TZ": "UTC"})
    found = _CREATED.search(listed.stdout[:4096].decode("utf-8", "replace"))
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
