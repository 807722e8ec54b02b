"""Do PostgreSQL and Redis of one recovery point agree? Declared rules, answered in counts.

`bull:email:send:*` refers to `email_outbox.id`: a job whose row is missing is sent for nobody, or for ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from .errors import ConfigError
from .settings.policy import ConsistencyRule

_BATCH: Final = 500


@dataclass(frozen=True)
class Answer:
    """What one rule found. `keys` match the pattern and have the reference, `without` match and have none
    (BullMQ's own `wait`, `meta` ... among them); of the `references` that differ, `dangling` have no row."""

    rule: str
    keys: int
    without: int
    references: int
    dangling: int
    allowed: int

    @property
    def holds(self) -> bool:
        """True when no more references dangle than allowed, and there was something to look at."""
        return self.references > 0 and self.dangling <= self.allowed

    def sentence(self) -> str:
        """The answer in words, without any value."""
        if not self.references:
            return f"{self.rule}: none of the {self.keys + self.without} keys holds a reference"
        return f"{self.rule}: {self.dangling} of {self.references} references have no row"


def ask(rule: ConsistencyRule, connection: Any, client: Any) -> Answer:
    """Answer one rule; `connection` is psycopg's, `client` redis-py's (answers in bytes).

    Raises ConfigError when the table or the column does not exist.
    """
    keys = without = 0
    references: set[str] = set()
    for key, value in _values(rule, client):
        reference = _reference(rule, key, value)
        if reference is None:
            without += 1
        else:
            keys += 1
            references.add(reference)
    dangling = _dangling(rule, sorted(references), connection)
    return Answer(rule.name, keys, without, len(references), dangling, rule.allow)


def apart_s(times: Iterable[datetime | None]) -> float | None:
    """Seconds between the oldest and the newest of the backups' times; None with fewer than two known."""
    known = [t for t in times if t is not None]
    return (max(known) - min(known)).total_seconds() if len(known) > 1 else None


def _values(rule: ConsistencyRule, client: Any) -> Iterator[tuple[bytes, bytes | None]]:
    """Matching keys with what their field (or the key itself, a string) holds."""
    with client.client() as wire:  # one connection: SELECT belongs to it
        wire.execute_command("SELECT", rule.db)
        for key in wire.scan_iter(match=rule.keys, count=1000):
            if rule.field is None and rule.path is None:
                yield key, None
                continue
            kind = wire.type(key)
            if rule.field is not None and kind == b"hash":
                yield key, wire.hget(key, rule.field)
            elif rule.field is None and kind == b"string":
                yield key, wire.get(key)
            else:
                yield key, None


def _reference(rule: ConsistencyRule, key: bytes, value: bytes | None) -> str | None:
    if rule.field is None and rule.path is None:
        pattern = ".*".join(re.escape(part) for part in rule.keys.split("*"))
        pattern = pattern.replace(".*", "(.*)", 1)
        found = re.fullmatch(pattern, key.decode("utf-8", "replace"), re.S)
        return found[1] if found and found.groups() else None
    if value is None:
        return None
    if rule.path is None:
        return value.decode("utf-8", "replace")
    try:
        inner = json.loads(value)
        for part in rule.path.split("."):
            inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return None if inner is None or isinstance(inner, dict | list) else str(inner)


def _dangling(rule: ConsistencyRule, references: list[str], connection: Any) -> int:
    from psycopg import errors, sql

    table = sql.Identifier(*rule.table.split("."))
    query = sql.SQL(
        "SELECT count(*) FROM unnest(%s::text[]) r WHERE EXISTS (SELECT FROM {} t WHERE t.{}::text = r)"
    )
    found = 0
    try:
        for start in range(0, len(references), _BATCH):
            batch = references[start : start + _BATCH]
            row = connection.execute(query.format(table, sql.Identifier(rule.column)), (batch,)).fetchone()
            found += int(row[0])
    except (errors.UndefinedTable, errors.UndefinedColumn):
        raise ConfigError(
            f"the restored database has no {rule.table}.{rule.column}", where=f"consistency rule {rule.name}"
        ) from None
    return len(references) - found
