"""Checks against the manifest: the restored database is what the source was."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Final

from ..check import Check, NotRun, check
from ..manifest import Manifest
from ..model import Finding, Origin, Proves, Severity
from .compare import compare_objects
from .compare_data import Rows, Unequal, compare_large_objects, compare_rows, compare_sequences
from .difference import ADDED, CHANGED, MISSING, RIGHTS, Comparison, Difference
from .truth import PostgresSubject, copy_facts, once, source_facts, way_of

_SHOWN: Final = 25  # findings per class; the rest are counted
_TOLERANCE: Final = timedelta(minutes=10)
_RETAKE: Final = "use an older backup, or take a new one of the right source with `provado backup`"
_OPTIONS: Final = {  # class -> what recovery lacks, how to have it in the dump
    "ownership": ("who owns what; everything will belong to who restores", "dump without --no-owner"),
    "privileges": (
        "GRANTs and REVOKEs; applications may be locked out, and PUBLIC may do what was revoked",
        "dump without --no-privileges (-x)",
    ),
    "comments": ("comments", "dump without --no-comments"),
    "security labels": ("security labels", "dump without --no-security-labels"),
    "roles": (
        "roles, memberships and their settings",
        "back up roles too: pg_dumpall --globals-only; give the file with --globals",
    ),
    "role passwords": ("role passwords", "dump globals without --no-role-passwords"),
    "settings of all roles": (
        "what ALTER ROLE ALL SET gave every role: no dump holds that",
        "keep the statement with the procedure, and run it after restoring",
    ),
    "publications": ("publications", "dump without --no-publications"),
    "subscriptions": ("subscriptions", "dump without --no-subscriptions"),
    "tablespaces": ("which tablespace things lie in", "dump without --no-tablespaces"),
    "database": (
        "the database's own settings, locale, comment and privileges",
        "dump with --create, or set them by hand after restoring",
    ),
    "unlogged rows": ("rows of unlogged tables", "dump from the primary, without --no-unlogged-table-data"),
}


def _comparison(subject: PostgresSubject) -> Comparison:
    return once(subject, "comparison", lambda: _compared(subject))


def _compared(subject: PostgresSubject) -> Comparison:
    result = compare_objects(source_facts(subject), copy_facts(subject), way_of(subject))
    rules = subject.settings.postgres.ignore
    kept = []
    for d in result.differences:
        mine = [
            r
            for r in rules
            if fnmatch.fnmatchcase(d.object, r.object) and fnmatch.fnmatchcase(d.kind, r.kind)
        ]
        if any(r.property is None for r in mine):
            continue
        changes = tuple(c for c in d.changes if not any(r.property == c[0] for r in mine))
        if changes or not d.changes:
            kept.append(Difference(d.kind, d.object, d.what, changes))
    return Comparison(kept, result.omitted)


_HIGH = Severity.HIGH
_ROLE_KINDS: Final = frozenset({"role", "role password", "membership"})
_RIGHT_KINDS: Final = RIGHTS | {"owner"}
_DATABASE_KINDS: Final = frozenset({"database", "setting"})


def _told(self: Check, found: Iterable[Difference]) -> Iterator[Finding]:
    """A finding per object, with the first of each class in full and the rest counted."""
    by_kind: dict[str, list[Difference]] = {}
    for d in found:
        by_kind.setdefault(d.kind, []).append(d)
    for kind, differences in by_kind.items():
        for d in differences[:_SHOWN]:
            yield self.finding(
                f"{d.kind} {d.object}",
                _sentence(d),
                severity=d.severity,
                expected=_side(d, 1),
                observed=_side(d, 2),
            )
        if len(differences) > _SHOWN:
            worst = max((d.severity for d in differences[_SHOWN:]), key=lambda s: s.rank)
            yield self.finding(
                kind, f"{len(differences) - _SHOWN} more of this class differ from the source", severity=worst
            )


def _sentence(d: Difference) -> str:
    if d.what == MISSING:
        return "the source has it, the restored copy does not"
    if d.what == ADDED:
        return "the restored copy has it, the source does not"
    return "is not as at the source: " + ", ".join(name for name, _, _ in d.changes)[:300]


def _side(d: Difference, side: int) -> str:
    if d.what != CHANGED and (not d.changes or side == (2 if d.what == MISSING else 1)):
        return {(MISSING, 1): "present", (MISSING, 2): "missing", (ADDED, 1): "absent"}.get(
            (d.what, side), "present"
        )
    words = []
    for change in d.changes[:6]:
        value = change[side]
        if value is None:
            value = "none"
        elif value.startswith("hmac:"):
            value = "the source's" if side == 1 else "another"
        words.append(f"{change[0]}: {value}" if change[1] or change[2] else change[0])
    return "; ".join(words)[:300]


def _unequal(self: Check, found: Iterable[Unequal]) -> Iterator[Finding]:
    listed = list(found)
    for u in listed[:_SHOWN]:
        yield self.finding(u.object, u.message, expected=u.expected, observed=u.observed)
    if len(listed) > _SHOWN:
        yield self.finding("the rest", f"{len(listed) - _SHOWN} more differ from the source")


@check(
    "pg.manifest-objects",
    proves=Proves.SCHEMA,
    severity=Severity.CRITICAL,
    remedy=_RETAKE,
    origin=Origin.MANIFEST,
)
def objects(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every object of the source is in the restored copy with its whole definition, and no other."""
    elsewhere = _ROLE_KINDS | _RIGHT_KINDS | _DATABASE_KINDS
    yield from _told(self, (d for d in _comparison(subject).differences if d.kind not in elsewhere))


@check("pg.manifest-privileges", proves=Proves.SCHEMA, severity=_HIGH, remedy=_RETAKE, origin=Origin.MANIFEST)
def privileges(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Owners, privileges and default privileges are those of the source."""
    yield from _told(self, (d for d in _comparison(subject).differences if d.kind in _RIGHT_KINDS))


@check("pg.manifest-roles", proves=Proves.SCHEMA, severity=_HIGH, remedy=_RETAKE, origin=Origin.MANIFEST)
def roles(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Roles and memberships are those of the source (from the globals file)."""
    source_facts(subject)
    if not way_of(subject).globals:
        raise NotRun("no globals file was given: roles were not compared with the source")
    yield from _told(self, (d for d in _comparison(subject).differences if d.kind in _ROLE_KINDS))


@check("pg.manifest-database", proves=Proves.SCHEMA, severity=_HIGH, remedy=_RETAKE, origin=Origin.MANIFEST)
def database(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Encoding, locale, settings of the database and of roles in it are those of the source."""
    yield from _told(self, (d for d in _comparison(subject).differences if d.kind in _DATABASE_KINDS))


@check(
    "pg.manifest-left-out",
    proves=Proves.USABILITY,
    severity=Severity.MEDIUM,
    remedy="see the class",
    origin=Origin.MANIFEST,
)
def left_out(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """No class of objects was left out by the way the dump was made."""
    meant, required = subject.settings.postgres.leaves_out, subject.settings.postgres.require
    rows = _rows(subject)
    omitted = [(o.name, o.count, o.examples, o.certain) for o in _comparison(subject).omitted]
    if rows.unlogged:
        omitted.append(("unlogged rows", len(rows.unlogged), rows.unlogged[:3], True))
    for name, count, examples, certain in omitted:
        lacks, remedy = _OPTIONS[name]
        severity = Severity.MEDIUM if certain else Severity.HIGH
        if name in meant:
            severity = Severity.INFO
        elif name in required:
            severity = Severity.HIGH
        doubt = (
            ""
            if certain
            else "; the file does not tell whether they were left out on purpose"
            f" (then say so: postgres.leaves_out: [{name}])"
        )
        yield self.finding(
            name,
            f"the backup does not hold {lacks} ({count:,} objects, such as {', '.join(examples)}){doubt}",
            severity=severity,
            expected=f"{count:,}",
            observed="none",
            remedy=remedy,
        )


def _rows(subject: PostgresSubject) -> Rows:
    return compare_rows(source_facts(subject), copy_facts(subject))


@check(
    "pg.manifest-rows",
    proves=Proves.DATA,
    severity=Severity.CRITICAL,
    remedy=_RETAKE,
    origin=Origin.MANIFEST,
)
def rows(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every table holds the source's rows, value by value (keyed digests over every stored column)."""
    found = _rows(subject)
    if not source_facts(subject)["tables"]:
        raise NotRun("the source has no table")
    if found.filled > 1 and found.emptied == found.filled:
        yield self.finding(
            "all tables",
            f"all {found.filled} tables that hold rows at the source are empty: the schema was created anew,"
            " or only the schema was dumped",
            expected=f"{found.filled} tables with rows",
            observed="0",
        )
        return
    yield from _unequal(self, found.differing)
    if found.uncompared and not found.differing:
        raise NotRun("the manifest was captured with --no-digest: rows were counted, content is unproven")


@check(
    "pg.manifest-sequences",
    proves=Proves.DATA,
    severity=Severity.CRITICAL,
    remedy=_RETAKE,
    origin=Origin.MANIFEST,
)
def sequences(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """No sequence stands behind the source's."""
    if not source_facts(subject)["sequences"]:
        raise NotRun("the source has no sequence")
    yield from _unequal(self, compare_sequences(source_facts(subject), copy_facts(subject)))


@check(
    "pg.manifest-large-objects",
    proves=Proves.DATA,
    severity=Severity.CRITICAL,
    remedy="dump with --large-objects (they are left out by -n, -t and --no-large-objects)",
    origin=Origin.MANIFEST,
)
def large_objects(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """Every large object of the source is in the restored copy, byte by byte."""
    source = source_facts(subject)
    if not source["large_objects"]["count"]:
        raise NotRun("the source has no large object")
    found = list(_unequal(self, compare_large_objects(source, copy_facts(subject))))
    yield from found
    if source["large_objects"]["digest"] is None and not found:
        raise NotRun("the manifest does not hold the large objects' content: they were only counted")


@check(
    "pg.manifest-identity",
    proves=Proves.IDENTITY,
    severity=_HIGH,
    remedy=_RETAKE,
    origin=Origin.MANIFEST,
)
def identity(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """The file is of the source, the moment and the bytes that the manifest tells of."""
    source_facts(subject)
    manifest = subject.manifest
    assert manifest is not None  # noqa: S101 - source_facts raised otherwise
    name, facts = subject.artifact.path.name, subject.inspection.facts
    recorded = (manifest.artifact or {}).get("sha256")
    if recorded and recorded != subject.inspection.sha256:
        yield self.finding(
            name,
            "is not the file made with this manifest: its bytes were changed, or it is another backup",
            expected=recorded,
            observed=subject.inspection.sha256,
        )
    if subject.artifact.format == "physical":
        cluster = copy_facts(subject)["server"]["system_identifier"]
        if manifest.source.get("system_identifier") not in (None, cluster):
            yield self.finding(
                name,
                "is a base backup of another cluster than the manifest's",
                severity=self.severity if _rows(subject).differing else Severity.MEDIUM,
                expected=manifest.source["system_identifier"],
                observed=cluster,
            )
    wanted = manifest.source.get("database")
    if facts.created and wanted not in facts.created:
        yield self.finding(
            name,
            "the dump is of a database of another name than the manifest's",
            severity=Severity.MEDIUM,
            expected=wanted,
            observed=", ".join(sorted(facts.created)),
        )
    if facts.major and facts.major != manifest.source.get("major"):
        yield self.finding(
            name,
            "the dump comes from a server of another major version than the manifest",
            severity=Severity.MEDIUM,
            expected=manifest.source.get("major"),
            observed=facts.major,
        )
    yield from _age(self, subject, manifest)


def _age(self: Check, subject: PostgresSubject, manifest: Manifest) -> Iterator[Finding]:
    """An older dump is no fault of its own: only when tables hold fewer rows than the manifest's too."""
    facts = subject.inspection.facts
    taken = facts.taken_at or subject.artifact.taken_at
    if taken is None or manifest.captured_at - taken <= _TOLERANCE:
        return
    found = _rows(subject)
    if found.fewer + found.emptied < 2:
        return
    days = (manifest.captured_at - taken) / timedelta(days=1)
    yield self.finding(
        subject.artifact.path.name,
        f"is {days:.1f} days older than the manifest and holds fewer rows in"
        f" {found.fewer + found.emptied} tables:"
        " an older backup, or one of a replica that stopped",
        expected=f"{manifest.captured_at:%Y-%m-%dT%H:%M:%SZ}",
        observed=f"{taken:%Y-%m-%dT%H:%M:%SZ}",
    )


@check(
    "pg.manifest-complete",
    proves=Proves.SCHEMA,
    severity=Severity.MEDIUM,
    remedy="capture as a superuser",
    origin=Origin.MANIFEST,
)
def complete(self: Check, subject: PostgresSubject) -> Iterator[Finding]:
    """The manifest tells of every class of objects, so that all were compared."""
    unread = source_facts(subject)["unreadable"]
    if unread:
        raise NotRun(
            f"the role that captured the manifest could not read these classes: {', '.join(unread)};"
            " they were not compared"
        )
    yield from ()


CHECKS: Final = (
    objects,
    privileges,
    roles,
    database,
    left_out,
    rows,
    sequences,
    large_objects,
    identity,
    complete,
)
