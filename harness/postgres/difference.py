"""How a restored copy differs from its source: the words for it, and how bad each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..model import Severity

Facts = Mapping[str, Any]
"""A result of `capture_facts`."""

MISSING, ADDED, CHANGED = "missing", "added", "changed"
RIGHTS: Final = frozenset({"privileges", "default privileges", "system privileges"})
ROLES: Final = frozenset({"role", "role password", "membership", "tablespace"})

_LIGHT_KINDS: Final = frozenset({"comment", "extension dependency"})
_HAND_WORK: Final = frozenset(
    (
        *("extension", "role", "role password", "membership", "setting", "database", "owner", "privileges"),
        *("default privileges", "system privileges", "security label", "publication", "subscription"),
        *(
            "subscription connection",
            "foreign server",
            "user mapping",
            "foreign-data wrapper",
            "foreign table",
        ),
        *("event trigger", "language", "access method", "statistics", "tablespace"),
    )
)
# Properties without which everything still works, if slower or elsewhere; by class ("": in any).
_LIGHT: Final = frozenset(
    (
        *(("", name) for name in ("tablespace", "statistics target", "compression", "storage", "clustered")),
        *(("materialized view", "column tuning"), ("column", "not null named (18)")),
        *(("function", name) for name in ("cost", "rows", "support")),
        *(("sequence", "cache"), ("statistics", "target"), ("extension", "version")),
    )
)
_TUNING: Final = ("storage ", "toast storage ", "attribute ")


@dataclass(frozen=True)
class Way:
    """How the copy came about, as far as that explains differences.

    `toc` holds the types of the dump's TOC entries (None: the file has no TOC); `owners` tells whether it
    names owners; `newer_dumper` that pg_dump was of a newer major than the server; `new_locale` that the
    sandbox lacks the database's locale.
    """

    created_database: bool = True
    toc: frozenset[str] | None = None
    owners: bool = True
    globals: bool = True
    new_locale: bool = False
    newer_dumper: bool = False


@dataclass(frozen=True)
class Difference:
    """One object that is not as at the source. `changes` are (property, at the source, in the copy)."""

    kind: str
    object: str
    what: str
    changes: tuple[tuple[str, str | None, str | None], ...] = ()

    @property
    def severity(self) -> Severity:
        """Badness by class and property (CONTRACT, severities)."""
        if self.kind in _LIGHT_KINDS or (
            self.changes and all(_light(self.kind, p) for p, _, _ in self.changes)
        ):
            return Severity.MEDIUM
        return Severity.HIGH if self.kind in _HAND_WORK or self.what == ADDED else Severity.CRITICAL


@dataclass(frozen=True)
class Omitted:
    """A class that the dump does not hold, by the way it was made. Not `certain`: it may be a loss."""

    name: str
    count: int
    examples: tuple[str, ...]
    certain: bool = True


@dataclass
class Comparison:
    """Every difference in definitions, and the classes left out."""

    differences: list[Difference] = field(default_factory=list)
    omitted: list[Omitted] = field(default_factory=list)


def _light(kind: str, name: str) -> bool:
    if kind in RIGHTS:  # whose properties are names of roles
        return False
    tuning = kind in ("table", "index", "materialized view", "column") and name.startswith(_TUNING)
    return tuning or ("", name) in _LIGHT or (kind, name) in _LIGHT
