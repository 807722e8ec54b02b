"""What bringing a backup into a sandbox did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .copying import Sent
from .failures import Failure

_MOST: Final = 200


@dataclass
class Loaded:
    """What the load did. `copied` and `inserted` count rows as the server reported them.

    `places` tells schema and name of tables that rows went to, by (database, name as written); `into` the
    same of each COPY that names no schema, whose search_path may differ from the next one's.
    """

    failures: list[Failure] = field(default_factory=list)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind and type of entry
    copied: dict[int, int] = field(default_factory=dict)  # index into DumpFacts.tables -> rows
    shared: dict[int, Sent] = field(default_factory=dict)  # those that several connections filled
    inserted: dict[tuple[str, str], int] = field(default_factory=dict)  # (database, table as written) -> rows
    places: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    into: dict[int, tuple[str, str]] = field(default_factory=dict)  # index into DumpFacts.tables
    placeholder_roles: list[str] = field(default_factory=list)
    placeholder_tablespaces: list[str] = field(default_factory=list)
    mapped_locales: list[str] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    refused: str | None = None  # why the server would not make the database at all

    def record(self, what: Failure) -> None:
        """Note a failure; of errors, those on the same type of entry are kept up to 200."""
        alike = (what.kind, what.type)
        self.failed[alike] += 1
        if self.failed[alike] <= _MOST or what.kind in ("refused", "lacking"):
            self.failures.append(what)

    def unrecorded(self) -> dict[str, int]:
        """Errors that were not kept, by type of entry."""
        return {type_: n - _MOST for (kind, type_), n in self.failed.items() if kind == "error" and n > _MOST}

    def of_kind(self, *kinds: str) -> list[Failure]:
        """The recorded failures of these kinds."""
        return [f for f in self.failures if f.kind in kinds]
