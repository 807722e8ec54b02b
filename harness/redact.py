"""The last net: known secrets are masked in everything that is written for people or machines.

Checks return typed facts and never values, so this net should have nothing to catch.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Final

from .errors import ConfigError

MASK: Final = "[redacted]"
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_KNOWN: set[str] = set()
_PATTERNS: Final = (
    re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)(?=@)"),  # user:password@ in URLs
    re.compile(r"(SCRAM-SHA-256\$|md5(?=[0-9a-f]{32}))[^'\"\s]+"),  # password hashes in globals
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.S),
)


class Secret:
    """A secret value that does not show itself in repr, logs or tracebacks; `reveal()` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= 4:  # shorter ones would mask ordinary words
            _KNOWN.add(value)

    def reveal(self) -> str:
        """The value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__


def read_secret(reference: str) -> Secret:
    """Read a secret named as `env:NAME` or `file:PATH` (CONTRACT: secrets come in no other way).

    Raises ConfigError when the reference has another form, or what it names does not exist.
    """
    scheme, _, name = reference.partition(":")
    if scheme == "env" and name:
        if name not in os.environ:
            raise ConfigError(
                f"the environment has no variable {name}", remedy=f"export {name} and run again"
            )
        return Secret(os.environ[name])
    if scheme == "file" and name:
        try:
            return Secret(Path(name).read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ConfigError(f"the secret file cannot be read: {error.strerror}", where=name) from None
    raise ConfigError("a secret must be given as env:NAME or file:PATH, never in clear")


def mask(text: str) -> str:
    """`text` with known secrets, passwords in URLs, password hashes and private keys masked."""
    for value in sorted(_KNOWN, key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _PATTERNS[0].sub(rf"\1:{MASK}", text)
    text = _PATTERNS[1].sub(rf"\1{MASK}", text)
    return _PATTERNS[2].sub(MASK, text)


def visible(text: str) -> str:
    """`text` with control, bidirectional and other invisible characters written out as `⟨U+202E⟩`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if c != " " and unicodedata.category(c) in _HIDDEN else c for c in text
    )


def shown(text: str) -> str:
    """`text` fit to be put before people: secrets masked, invisible characters written out."""
    return visible(mask(text))


def storable(text: str) -> str:
    """`text` fit to be stored: secrets masked, and bytes of file names that are no UTF-8 as `\\udcff`."""
    return mask(text).encode("utf-8", "backslashreplace").decode()
