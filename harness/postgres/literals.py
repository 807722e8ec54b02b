"""The rows of INSERT statements as COPY text, where every value stands there as a literal.

So pg_dump writes them (`--inserts`, `--column-inserts`, `--rows-per-insert`): NULL, numbers, true and false,
strings, bit strings, and DEFAULT for generated columns. Anything the server has to compute is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_NAME: Final = rb'(?:"(?:[^"]|"")+"|[^\s,."()]+)'
_HEAD: Final = re.compile(
    rb"INSERT INTO (?:ONLY )?" + _NAME + rb"(?:\." + _NAME + rb")?\s*(?:\(((?:" + _NAME + rb"|[\s,])+)\)\s*)?"
    rb"(?:OVERRIDING (?:SYSTEM|USER) VALUE\s+)?VALUES\s*",
    re.I,
)
_VALUE: Final = re.compile(
    rb"\s*(?:'(?P<text>[^']*+(?:''[^']*+)*+)'|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)|(?P<null>NULL)"
    rb"|(?P<bool>true|false)|E'(?P<escaped>(?:[^'\\]|''|\\.)*+)'|B'(?P<bits>[01]*)'|(?P<default>DEFAULT))"
    rb"\s*(?P<end>[,)])",
    re.I | re.S,
)
_OPEN: Final = re.compile(rb"\s*,?\s*\(")
_TAIL: Final = re.compile(rb"\s*(?:ON CONFLICT DO NOTHING\s*)?\Z", re.I)
_NAMES: Final = re.compile(_NAME)
_PLAIN_NUMBER: Final = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|([uU].*)|(.))|''", re.S)
_LETTERS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_SPECIAL: Final = re.compile(rb"[\\\b\f\n\r\t\v]")  # what COPY writes with a backslash
_COPIED: Final = {b"\\": b"\\\\", b"\b": b"\\b", b"\f": b"\\f", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t",
                  b"\v": b"\\v"}  # fmt: skip
NEGATIVE_ZERO: Final = "negative zero"
# Encodings in which a quote's or backslash's byte may be the second half of a letter.
_UNSAFE: Final = frozenset({"shift_jis", "shift_jis_2004", "big5", "gbk", "gb18030", "johab", "cp949"})


@dataclass(frozen=True)
class Values:
    """One row of an INSERT: each value as a field of COPY text (None for DEFAULT).

    `kinds` are the places of values that mean the same as COPY text only in a column of a fitting type:
    "boolean", "bits", "number" (written in an odd way, such as 1e3) or "default"; and of -0, which SQL reads
    as 0 (NEGATIVE_ZERO).
    """

    fields: tuple[bytes | None, ...]
    kinds: tuple[tuple[int, str], ...]


def columns(statement: bytes) -> tuple[str, ...] | None:
    """The columns that an INSERT ... VALUES names; () when it names none, None when it is another INSERT."""
    head = _HEAD.match(statement)
    if head is None:
        return None
    names = (n.decode("utf-8", "replace") for n in _NAMES.findall(head[1] or b""))
    return tuple(n[1:-1].replace('""', '"') if n.startswith('"') else n.lower() for n in names)


def rows(statement: bytes, codec: str, *, backslashes: bool = False) -> Iterator[Values] | None:
    """The rows of an INSERT, None when not all of its values are literals.

    `backslashes` tells that standard_conforming_strings is off: then a backslash in a string escapes.
    """
    head = _HEAD.match(statement)
    if head is None or codec in _UNSAFE:
        return None
    found: list[Values] = []
    at = head.end()
    while opened := _OPEN.match(statement, at):
        at = opened.end()
        fields: list[bytes | None] = []
        kinds: list[tuple[int, str]] = []
        while True:
            value = _VALUE.match(statement, at)
            if value is None:
                return None
            kind, text = next((k, v) for k, v in value.groupdict().items() if v is not None)
            field, odd = _field(kind, text, backslashes)
            if odd == "unread":
                return None
            if odd:
                kinds.append((len(fields), odd))
            fields.append(field)
            at = value.end()
            if value["end"] == b")":
                break
        found.append(Values(tuple(fields), tuple(kinds)))
    return iter(found) if found and _TAIL.match(statement, at) else None


def _field(kind: str, text: bytes, backslashes: bool) -> tuple[bytes | None, str | None]:
    """A literal as a field of COPY text, and its kind where that depends on the column's type."""
    match kind:
        case "text":
            if backslashes and b"\\" in text:
                return None, "unread"
            return _copied(text.replace(b"''", b"'")), None
        case "number":
            if text == b"-0":  # an integer to SQL, which has no -0: what pg_dump makes of a float's
                return b"0", NEGATIVE_ZERO
            return text, None if _PLAIN_NUMBER.fullmatch(text) else "number"
        case "null":
            return b"\\N", None
        case "bool":
            return text[:1].lower(), "boolean"
        case "bits":
            return text, "bits"
        case "default":
            return None, "default"
    plain = _ESCAPE.sub(_unescaped, text)
    return (None, "unread") if b"\0" in plain else (_copied(plain), None)


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return bytes([int(found[1], 8) & 0xFF])
    if found[2]:
        return bytes([int(found[2], 16)])
    if found[3]:
        return b"\0"  # \u depends on the database's encoding: such a value is not read
    return _LETTERS.get(found[4], found[4]) if found[4] else b"'"


def _copied(text: bytes) -> bytes:
    return _SPECIAL.sub(lambda found: _COPIED[found[0]], text) if _SPECIAL.search(text) else text
