"""Functions of a dump that may change rows, and what in it may call them while it is loaded.

Rows that were read back before are then read again.
"""

from __future__ import annotations

import re
from typing import Final

from .hostile import bare, language_of
from .patterns import NAME

_CREATE_FUNCTION: Final = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?FUNCTION\s", re.I)
_WRITING: Final = re.compile(  # without one of these words neither SQL nor PL/pgSQL changes anything
    rb"\b(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|EXECUTE|CALL|DO|ALTER|DROP|CREATE)\b", re.I
)
_BY_TRIGGERS_ONLY: Final = re.compile(rb"\bRETURNS\s+(?:event_)?trigger\b", re.I)
_RUNS: Final = re.compile(rb"(?:REFRESH|CREATE\s+(?:OPERATOR|CAST))\s", re.I)
_EVALUATES: Final = re.compile(  # up to where expressions begin
    rb"(?:CREATE\s+(?:UNLOGGED\s+)?|ALTER\s+)(?:TABLE|DOMAIN)\s.*?\s(?:CHECK|AS|(?:BY|USING)\s+\w+)\s*\("
    rb"|CREATE\s+(?:UNIQUE\s+)?INDEX\s",
    re.I | re.S,
)
# The search_path is empty: users' functions have a schema.
_CALL_OF: Final = re.compile(rb"\." + NAME + rb"\s*\(")


def may_write(statement: bytes) -> bool:
    """True for a function that queries may call and that may change rows when they do."""
    if not _CREATE_FUNCTION.match(statement):
        return False
    plain = bare(statement)
    if _BY_TRIGGERS_ONLY.search(plain):
        return False
    language = language_of(statement, plain)
    if language == b"internal":
        return False
    return language not in (b"sql", b"plpgsql") or bool(_WRITING.search(statement, 8))


def calls(statement: bytes) -> bool:
    """True for what may call users' functions on the way of rows, or behind them."""
    begins = _EVALUATES.match(statement)
    return bool(_RUNS.match(statement) or (begins and _CALL_OF.search(statement, begins.end())))
