"""Checks of the file itself: they need no server, so they judge even what cannot be restored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from ..check import Check, NotRun, check
from ..errors import ArtifactError
from ..model import Artifact, Finding, Proves, Severity
from ..stream import Stream, open_file
from .contents import contents as archive_contents
from .facts import DumpFacts, table_entries
from .restore import RestoredPostgres
from .source import ARCHIVES

_SHOWN: Final = 20
_ARCHIVE: Final = (
    re.compile(  # PGDMP, version, sizes of integers and offsets, format, and how data are packed
        rb"PGDMP\x01[\x0a-\x14].\x04\x08\x01..", re.S
    )
)
_HEADER_BYTES: Final = 13
_LINE_END: Final = 2  # bytes that an editor or a text transfer adds
_ONCE: Final = frozenset({"TABLE", "SEQUENCE", "VIEW", "INDEX", "CONSTRAINT", "FK CONSTRAINT", "TRIGGER"})
_TAKE_NEW: Final = "use the newest older backup that passes, and take a new one"


@check("pg.file-kind", proves=Proves.FILE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False)
def file_kind(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The file is a PostgreSQL backup of a kind that can be restored."""
    artifact = subject.artifact
    if artifact.format == "encrypted":
        raise NotRun("the backup is encrypted; give the decrypted file to judge it", blocking=True)
    if artifact.format == "unknown":
        start = _start(artifact)
        if start == b"":
            message, remedy = "this is no PostgreSQL backup: the file is empty", None
        elif start.startswith((b"\xff\xfe", b"\xfe\xff")):
            message = "the file is UTF-16 text, as PowerShell's > writes it: psql cannot read it"
            remedy = "write with pg_dump --file; what is there may be saved with iconv -f UTF-16 -t UTF-8"
        else:
            message, remedy = "this is no PostgreSQL backup: the file is something else", None
        yield self.finding(
            artifact.path.name,
            message,
            expected="SQL text or a pg_dump archive",
            observed=f"{artifact.bytes:,} bytes",
            remedy=remedy,
        )
    if artifact.format in ("custom", "directory", "tar") and ".sql" in artifact.path.suffixes:
        yield self.finding(
            artifact.path.name,
            f"the name says SQL text, but this is a {artifact.format} archive: psql cannot read it",
            severity=Severity.MEDIUM,
            remedy="restore it with pg_restore (or `provado restore`), and give such files the ending .dump",
        )


@check("pg.file-whole", proves=Proves.FILE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False)
def file_whole(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Every byte can be read to the end: compression checksums, archive structure, every data block."""
    _readable(subject)
    problem = subject.facts_of_file.problem
    if subject.artifact.format != "physical":  # there it is pg.base-starts which tells
        problem = problem or subject.problem
    if problem:
        yield self.finding(problem.where or subject.artifact.path.name, problem.what, remedy=problem.remedy)
    if (behind := subject.facts_of_file.trailing) > _LINE_END:
        yield self.finding(
            subject.artifact.path.name,
            f"{behind:,} bytes follow the compressed data, and nobody reads them",
            severity=Severity.MEDIUM,
            remedy="find out what else writes to this file; gzip -t complains about it, gunzip does not",
        )


@check(
    "pg.dump-complete", proves=Proves.FILE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False
)
def dump_complete(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The dump goes to its end: pg_dump's closing line is there and nothing is cut.

    pg_dump writes `-- PostgreSQL database dump complete` last (source: pg_backup_archiver.c); a file without
    it was cut, however well it is compressed. Hand-edited text without pg_dump's header leaves a doubt.
    """
    facts = _readable(subject)
    if facts.problem:
        return  # said by pg.file-whole
    name = subject.artifact.path.name
    if facts.truncated:
        yield self.finding(name, f"the SQL text is cut {facts.truncated}; what follows is lost")
        return
    dumps, closed = (len(facts.headers.get(k, ())) for k in ("dump", "complete"))
    cluster, cluster_closed = (len(facts.headers.get(k, ())) for k in ("cluster", "cluster-complete"))
    written_by_pg_dump = facts.dump_version or facts.server_version
    if closed > dumps or cluster_closed > cluster:
        yield self.finding(
            name,
            "pg_dump's opening line is missing: the beginning of the dump is lost",
            expected="-- PostgreSQL database dump",
            observed="no such line",
        )
    elif written_by_pg_dump and (closed < dumps or cluster_closed < cluster):
        yield self.finding(
            name,
            "pg_dump's closing line is missing: the dump was cut between two statements",
            expected="-- PostgreSQL database dump complete",
            observed="no such line",
        )
    elif not closed and not cluster_closed and facts.statements:
        yield self.finding(
            name,
            "nothing in the text tells whether it is whole: it has no closing line of pg_dump",
            severity=Severity.MEDIUM,
            remedy="keep pg_dump's comments, or give a manifest",
        )


@check("pg.contents", proves=Proves.FILE, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False)
def contents(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """What the table of contents announces follows it in the file: no entry is hollow."""
    facts = _readable(subject)
    if subject.artifact.format in ARCHIVES and not facts.problem:
        yield from _of_archive(self, subject)
    if not facts.entries:
        raise NotRun("the file has no table of contents (pg_dump's comments were stripped)")
    copied = bool(facts.tables)
    hollow = [e for e in facts.hollow if not e.data or (copied and not facts.inserts)]
    for entry in hollow[:_SHOWN]:
        yield self.finding(
            f"{entry.type} {entry.schema + '.' if entry.schema else ''}{entry.name}",
            f"is announced at line {entry.line}, but nothing follows",
            expected="a statement",
            observed="none",
        )
    if len(hollow) > _SHOWN:
        yield self.finding("file", f"{len(hollow) - _SHOWN} more entries are hollow")
    # pg_dump opens even an empty one (dumpLOs in pg_dump.c); without rows there is no content at all
    unfilled = sorted(facts.unfilled) if (facts.tables or facts.inserts) and not facts.truncated else []
    for _, oid in unfilled[:_SHOWN]:
        yield self.finding(
            f"large object {oid}",
            "is made empty: its content is not in the file",
            expected="content",
            observed="none",
        )
    if len(unfilled) > _SHOWN:
        yield self.finding("large objects", f"{len(unfilled) - _SHOWN} more are without their content")


@check(
    "pg.one-dump", proves=Proves.IDENTITY, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False
)
def one_dump(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The file holds one dump: with a second one appended, the later replaces the earlier while restoring."""
    facts = _readable(subject)
    if subject.artifact.format == "custom" and not subject.artifact.packing:
        if _second_archive(subject.artifact):
            yield self.finding(
                subject.artifact.path.name,
                "another archive stands behind the first in this file; pg_restore never reads it",
                expected=1,
                observed=2,
                remedy="write each dump to a file of its own (> instead of >>)",
            )
        return
    dumps = len(facts.headers.get("dump", ()))
    if dumps < 2 or facts.headers.get("cluster"):
        return
    times = Counter((d, e.type, e.schema, e.name) for d, e in facts.entries if e.data or e.type in _ONCE)
    if times and max(times.values()) == 1:  # --section, or some tables each
        yield self.finding(
            subject.artifact.path.name,
            f"{dumps} dumps of different things stand in this file: they are not of one moment",
            severity=Severity.MEDIUM,
            expected=1,
            observed=dumps,
            remedy="take one dump of everything, so that its tables agree with one another",
        )
    else:
        yield self.finding(
            subject.artifact.path.name,
            f"{dumps} dumps stand one after the other in this file; each one overwrites the one before",
            expected=1,
            observed=dumps,
            remedy="write each dump to a file of its own (> instead of >>)",
        )


@check(
    "pg.hostile",
    proves=Proves.SECURITY,
    severity=Severity.CRITICAL,
    remedy="do not restore this file with psql; find out who changed it, and use an older backup",
    needs_server=False,
)
def hostile(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """Nothing in the dump acts outside the database: no shell or file commands, programs, other servers.

    psql runs meta-commands found in a dump (CVE-2025-8714, CVE-2025-8715); Provado never does.
    """
    facts = _readable(subject)
    dangers = sorted(facts.dangers, key=lambda d: -d[1].severity.rank)
    for line, danger in dangers[:_SHOWN]:
        note = "; it was not executed" if danger.refuse else ""
        yield self.finding(f"line {line}", f"{danger.message}{note}", severity=danger.severity)
    if len(dangers) > _SHOWN:
        yield self.finding(
            "file", f"{len(dangers) - _SHOWN} more such places", severity=dangers[_SHOWN][1].severity
        )
    for _, entry in facts.entries:
        if "\\" in entry.name and entry.type == "TABLE" and any(c in entry.name for c in "\n\r"):
            yield self.finding(entry.name.splitlines()[0], "an object's name holds a line break")


@check("pg.has-content", proves=Proves.DATA, severity=Severity.CRITICAL, remedy=_TAKE_NEW, needs_server=False)
def has_content(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The dump holds tables and their rows, not just a schema or nothing at all."""
    facts = _readable(subject)
    if facts.problem or facts.truncated:
        return  # cut before its end: said elsewhere
    name = subject.artifact.path.name
    tables = max(facts.create_tables, sum(1 for _ in table_entries(facts, "TABLE")))
    if not tables and not facts.tables and not facts.inserts:
        yield self.finding(
            name,
            "the dump holds no table at all",
            expected="tables",
            observed=0,
            remedy="was it taken of the right database? Take a new one",
        )
        return
    if tables and not facts.tables and not facts.inserts and not any(e.data for _, e in facts.entries):
        yield self.finding(
            name,
            f"the dump holds {tables} tables and no rows: it is a dump of the schema only",
            expected="rows",
            observed=0,
            remedy="dump without --schema-only or --section",
        )
    elif facts.rows == 0:
        yield self.finding(
            name,
            "every table in the dump is empty",
            severity=Severity.MEDIUM,
            remedy="say in provado.yaml how many rows there must be, or give a manifest",
        )


def _readable(subject: RestoredPostgres) -> DumpFacts:
    facts = subject.facts_of_file
    if subject.artifact.format in ("unknown", "encrypted"):
        raise NotRun(f"the file is {subject.artifact.format}: there is nothing to look at")
    return facts


def _of_archive(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """What an archive's own contents lack: no checksum covers them, and pg_restore takes them as they are."""
    found = archive_contents(subject.artifact, subject.ctx.scratch)
    if found is None:
        return
    if found.behind:
        yield self.finding(
            subject.artifact.path.name,
            "the archive's contents hold more entries than they count: pg_restore leaves the last ones out",
            expected="as many entries as are there",
            observed="fewer",
        )
    for name in found.twice[:_SHOWN]:
        yield self.finding(name, "has the number of another entry of the archive's contents")
    for name in found.hanging[:_SHOWN]:
        yield self.finding(
            name,
            "needs an entry that is not in the archive's contents: one was lost or damaged",
            expected="the entries it needs",
            observed="not all of them",
        )
    for name in found.cut[:_SHOWN]:
        yield self.finding(
            name, "a large object's file is cut: pg_restore takes what is there without an error"
        )
    for name in found.unknown[:_SHOWN]:
        yield self.finding(
            name,
            "no entry of the archive's contents names this file: nobody reads it",
            severity=Severity.MEDIUM,
            remedy="find out whose rows these are: an entry may be lost, or the folder held another dump",
        )


def _second_archive(artifact: Artifact) -> bool:
    """Whether an archive's header comes once more; what is stored without compression may hold one itself."""
    with open_file(artifact.path) as file:
        first = _ARCHIVE.match(file.read(_HEADER_BYTES))
        if not first or first[0].endswith(b"\0\0"):
            return False
        tail = b""
        while block := file.read(1 << 20):
            if _ARCHIVE.search(tail + block):
                return True
            tail = block[1 - _HEADER_BYTES :]
    return False


def _start(artifact: Artifact) -> bytes:
    """The first bytes of a file, unpacked; b"?" where they cannot be read."""
    if not artifact.path.is_file():
        return b"?"
    try:
        with open_file(artifact.path) as file:
            return next(iter(Stream(file, artifact.path, artifact.packing, hashed=False)), b"")[:4]
    except ArtifactError:  # pg.file-whole says how it is damaged
        return b"?"


CHECKS: Final = (file_kind, file_whole, dump_complete, contents, one_dump, hostile, has_content)
