"""Does the backup fit the server and database that recovery has (`postgres.target`)? Of the procedure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..check import Check, NotRun, check
from ..model import Finding, Origin, Proves, Severity
from ..settings.postgres import PostgresTarget
from . import source
from .restore import RestoredPostgres

_SHOWN: Final = 20
_UNTRANSLATABLE: Final = ("22P05", "22021")  # no such character there; not a character of that encoding


def _declared(subject: RestoredPostgres, *names: str) -> PostgresTarget:
    target = subject.settings.postgres.target
    if target is None:  # the same words for all checks: a report says them once
        raise NotRun("no target of recovery is declared (postgres.target in provado.yaml)")
    if all(getattr(target, name) is None for name in names):
        raise NotRun(f"postgres.target declares no {' or '.join(names)}")
    return target


@check(
    "pg.target-version",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="recover into the source's version or a later one, and correct postgres.target",
    needs_server=False,
)
def version(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The server that recovery has, by its declared version, can take this backup.

    Dumps load into the source's version and later ones; an archive is read by the tools of its pg_dump's
    version and later (pg_dump, Notes); a base backup only by its own version.
    """
    target = _declared(subject, "version").version
    facts = subject.facts_of_file
    physical, major = subject.artifact.format == "physical", facts.major
    if major is None:
        raise NotRun("the file does not say which version of PostgreSQL it comes from")
    needs = max(major, facts.dump_major or 0) if subject.artifact.format in source.ARCHIVES else major
    assert target is not None  # noqa: S101 - _declared raised otherwise
    if target < needs or (physical and target != needs):
        why = "starts on its own version only" if physical else "is of a newer version than the server"
        yield self.finding(
            subject.artifact.path.name,
            f"the backup {why} which recovery has",
            expected=f"PostgreSQL {needs}" + ("" if physical else " or later"),
            observed=f"PostgreSQL {target} declared",
        )


@check(
    "pg.target-extensions",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="install the extension on the server that recovery has, and add it to postgres.target.extensions",
    needs_server=False,
)
def extensions(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The server that recovery has offers every extension that the backup creates."""
    offered = _declared(subject, "extensions").extensions or ()
    if subject.artifact.format == "physical":
        raise NotRun("a base backup does not say without a server which extensions it uses")
    for name in sorted(subject.facts_of_file.extensions - {"plpgsql", *offered}):
        yield self.finding(
            f"extension {name}",
            "the backup needs it, and the server that recovery has does not offer it",
            expected="offered",
            observed="not in postgres.target.extensions",
        )


@check(
    "pg.target-database",
    proves=Proves.USABILITY,
    severity=Severity.HIGH,
    origin=Origin.DECLARED,
    remedy="have the procedure make the database with the source's encoding (ENCODING 'UTF8'), or dump with"
    " --create; then correct postgres.target",
)
def database(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The backup goes without a loss into a database of the declared encoding and locale."""
    target = _declared(subject, "encoding", "locale")
    name, facts = subject.artifact.path.name, subject.facts_of_file
    if subject.artifact.format == "physical":
        raise NotRun("a base backup brings its own databases")
    if subject.artifact.format not in source.ARCHIVES and (facts.created or facts.databases):
        yield self.finding(
            name,
            "the backup creates its own database (--create): the declared encoding and locale are not used",
            severity=Severity.INFO,
        )
        return
    tried, place = subject.in_target, " ".join(filter(None, (target.encoding, target.locale)))
    if tried is None:  # the drill's own database is like the declared one
        return
    if tried.refused:
        yield self.finding(
            name,
            f"a database with {place} cannot be made: {tried.refused}",
            expected=place,
            observed="refused",
        )
    known = {(f.what, f.why) for f in subject.loaded.failures}
    lost = [f for f in tried.of_kind("error") if (f.what, f.why) not in known]
    lost.sort(key=lambda f: f.sqlstate not in _UNTRANSLATABLE)
    if tried.mapped_locales and not lost:
        raise NotRun(
            f"the sandbox lacks the declared locale {target.locale}: restoring into it was not tried"
        )
    for f in lost[:_SHOWN]:
        direct = f.sqlstate in _UNTRANSLATABLE
        why = f"holds characters that {target.encoding} lacks" if direct else f.why
        yield self.finding(
            f.what,
            f"is lost where the procedure restores it ({place}): {why}",
            expected="restored",
            observed=f"error at line {f.line}",
        )
    if len(lost) > _SHOWN:
        yield self.finding("the rest", f"{len(lost) - _SHOWN} more statements fail there")


CHECKS: Final = (version, extensions, database)
