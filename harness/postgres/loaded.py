"""What bringing a backup into a sandbox did."""

from __future__ import annotations

from dataclasses import dataclass, field

from .failures import Failure


@dataclass
class Loaded:
    """What the load did. `copied` and `inserted` count rows as the server reported them.

    `places` tells schema and name of tables that rows went to, by (database, name as written); `into` the
    same of each COPY that names no schema, whose search_path may differ from the next one's.
    """

    failures: list[Failure] = field(default_factory=list)
    failure_count: int = 0
    statements: int = 0
    copied: dict[int, int] = field(default_factory=dict)  # index into DumpFacts.tables -> rows
    inserted: dict[tuple[str, str], int] = field(default_factory=dict)  # (database, table as written) -> rows
    places: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    into: dict[int, tuple[str, str]] = field(default_factory=dict)  # index into DumpFacts.tables
    placeholder_roles: list[str] = field(default_factory=list)
    placeholder_tablespaces: list[str] = field(default_factory=list)
    mapped_locales: list[str] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    refused: str | None = None  # why the server would not make the database at all

    def of_kind(self, *kinds: str) -> list[Failure]:
        """The recorded failures of these kinds."""
        return [f for f in self.failures if f.kind in kinds]
