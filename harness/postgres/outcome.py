"""What is known of a drill of a PostgreSQL backup, and what stays unproven."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from ..component import Outcome
from ..errors import ArtifactError
from ..model import Artifact, Measured, SandboxInfo
from ..stream import open_file
from . import inserted
from .restore import RestoredPostgres
from .source import ARCHIVES

_ALGORITHMS: Final = {0: None, 1: "gzip", 2: "lz4", 3: "zstd"}  # pg_dump's compress_io.h
_HEADER: Final = 16  # of an archive: PGDMP, version (3), sizes (2), format, then the compression
_COMPRESSION: Final = 11
_ALGORITHM_SINCE: Final = (1, 15)  # a byte of its own; before, the level as an integer with its sign first
_FLAGS: Final = {"zstd": 0x04, "lz4": 0x14}  # fifth byte of a frame: content checksum, block checksums


def outcome(subject: RestoredPostgres) -> Outcome:
    """What is known of the drill now; after teardown with its proof."""
    facts = subject.facts_of_file
    server = subject.server
    rows = sum(r.rows for r in subject.rows.values()) + sum(subject.loaded.inserted.values())
    return Outcome(
        sandbox=server.info if server else SandboxInfo("none"),
        stages=tuple(subject.stages),
        measured=Measured(
            rows=rows if server and facts.base is None else None,
            rto_s=round(
                sum(s.seconds for s in subject.stages if s.name in ("sandbox", "globals", "restore")), 3
            )
            if server
            else None,
        ),
        unproven=tuple(_unproven(subject)),
        teardown=subject.teardown,
        facts={
            "databases": list(subject.databases),
            "tables": {t.name: t.rows for t in facts.tables},
            "dump_version": facts.dump_version,
            "statements": facts.statements,
        },
    )


def _unproven(subject: RestoredPostgres) -> Iterator[str]:
    """What stays unproven for reasons that no check tells."""
    facts = subject.facts_of_file
    if subject.artifact.manifest is None:
        yield "no manifest: the file was not compared with its source"
        if facts.base is None:
            yield from _unchecked(subject.artifact, bool(facts.large_objects))
    yield from inserted.unproven(subject)
    if untold := sorted({t.name for t in facts.tables if not t.text}):
        yield f"rows of {', '.join(untold[:5])}: written as CSV or with options, so they were not compared"
    if subject.server and (major := facts.major) and major != subject.sandbox_major:
        yield f"the source runs PostgreSQL {major}; it was restored into {subject.sandbox_major}"
    if facts.headers.get("server-version") is None:
        yield "the file does not say which version of PostgreSQL it comes from"
    for name in subject.loaded.mapped_locales:
        yield f"{name}: created with the sandbox's own locale, which has another sort order"


def _unchecked(artifact: Artifact, large_objects: bool) -> Iterator[str]:
    """A file without checksums: a letter changed in a stored value restores without an error."""
    if set(artifact.packing) & {"gzip", "xz", "bzip2"}:
        return
    way: str | None = None
    path = artifact.path / "toc.dat" if artifact.path.is_dir() else artifact.path
    with contextlib.suppress(OSError, ArtifactError), open_file(path) as file:  # a check says why it cannot
        head = file.read(_HEADER)
        if artifact.packing:
            way = artifact.packing[0]
            if len(head) > 4 and head[4] & _FLAGS.get(way, 0):
                return
        elif artifact.format in ARCHIVES - {"tar"} and head.startswith(b"PGDMP"):
            way = _compression(head)
    if artifact.format in ARCHIVES:  # which even gzip's archives hold as it is
        yield (
            "no checksum covers the archive's table of contents: a letter changed inside a definition, or a"
            " digit of where a sequence stands, might not show"
        )
    if way == "gzip":
        return
    if artifact.format == "directory" and large_objects:
        yield "nothing tells how long the archive's large objects are: one cut or emptied might not show"
    if way is None:
        yield (
            "the file is not compressed, so no checksum covers its rows: a letter changed inside a value"
            " would not show"
        )
    else:
        yield (
            f"the file's compression ({way}) carries no checksum here: a letter changed inside a value might"
            " not show"
        )


def _compression(head: bytes) -> str | None:
    """How pg_dump compressed an archive's data, by the archive's header; None for not at all."""
    if len(head) < _HEADER or not head.startswith(b"PGDMP"):
        return None
    if (head[5], head[6]) >= _ALGORITHM_SINCE:
        return _ALGORITHMS.get(head[_COMPRESSION], "unknown")
    return "gzip" if any(head[_COMPRESSION + 1 : _COMPRESSION + 1 + head[8]]) else None
