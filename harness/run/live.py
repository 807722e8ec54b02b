"""What tests of the user's get to see of a restored backup."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    import redis


@dataclass(frozen=True)
class RestoredDatabase:
    """A restored PostgreSQL database: `connection` is read-only (psycopg), `subject` the component's own."""

    connection: psycopg.Connection[tuple[Any, ...]]
    subject: Any

    def facts(self) -> dict[str, Any]:
        """Catalog and content as `provado capture postgres` sees them."""
        facts: dict[str, Any] = self.subject.facts()
        return facts

    def value(self, query: str, *parameters: object) -> Any:
        """First column of the first row; None when there is no row."""
        row = self.connection.execute(query, parameters or None).fetchone()
        return row[0] if row else None


@dataclass(frozen=True)
class RestoredKeys:
    """A restored Redis: `client` answers in bytes; what a test writes stays until the drill ends."""

    client: redis.Redis
    subject: Any


@contextlib.contextmanager
def database(subject: Any) -> Iterator[RestoredDatabase]:
    """A connection to the restored database for one test; unqualified names are looked up in `public`."""
    with subject.connect() as connection:
        connection.execute('SET search_path = "$user", public')  # the checks' own connections have none
        yield RestoredDatabase(connection, subject)


@contextlib.contextmanager
def keys(subject: Any) -> Iterator[RestoredKeys]:
    """A client of the restored Redis for one test."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    server = subject.server
    place = (
        {"unix_socket_path": server.unix_socket}
        if server.unix_socket
        else {"host": server.host, "port": server.port}
    )
    client = redis.Redis(
        **place,
        username=None if server.user == "default" else server.user,  # Redis 5 knows no users
        password=server.password.reveal(),
        protocol=2,  # redis-py 8 would speak RESP3, which Redis 5 does not know
        socket_timeout=30,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield RestoredKeys(client, subject)
    finally:
        client.close()
