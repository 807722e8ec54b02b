"""Databases in C.UTF-8 compare by bytes while they are loaded: the same order without strcoll.

C.UTF-8 sorts by code point (NEWS of glibc 2.35; musl, and Debian's and Fedora's own before that, too), which
is the order of the bytes of UTF-8. But only for "C" does PostgreSQL compare with memcmp and sort by
abbreviated keys (varstr_sortsupport in varlena.c): an index over text takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .pool import Connection


@dataclass
class ByteOrder:
    """Which databases of one sandbox were switched. `connect(database)` opens a superuser connection."""

    connect: Callable[[str], Connection]
    collations: dict[int, str] = field(default_factory=dict)  # oid of the database -> its own collation
    _seen: set[str] = field(default_factory=set)

    def begin(self, database: str) -> None:
        """Have later connections to the database compare by bytes, if that is its order."""
        if database in self._seen:
            return
        with self.connect(database) as conn:
            own = conn.execute(
                "SELECT oid, datcollate FROM pg_catalog.pg_database WHERE datname = current_database()"
                " AND pg_catalog.pg_encoding_to_char(encoding) = 'UTF8'"
                " AND pg_catalog.lower(pg_catalog.replace(datcollate, '-', '')) = 'c.utf8'"
            ).fetchone()
            if own:
                conn.execute("UPDATE pg_catalog.pg_database SET datcollate = 'C' WHERE oid = %s", (own[0],))
                self.collations[own[0]] = own[1]
        self._seen.add(database)

    def end(self) -> None:
        """Give the databases their own collation again, for all connections opened from now on."""
        with self.connect("postgres") as conn:
            for oid, name in self.collations.items():
                conn.execute("UPDATE pg_catalog.pg_database SET datcollate = %s WHERE oid = %s", (name, oid))
