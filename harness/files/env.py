"""Files of environment variables: which names they hold. Only the scan for secrets looks at values."""

from __future__ import annotations

import re
from typing import Final

_LINE: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*([=:]|$)")
_DROPPED: Final = re.compile(r"PASSWORD|SECRET|KEY")  # the runbook's own grep -v
_SECRET: Final = re.compile(
    r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(^|_)(PASS|KEY|SALT|PEPPER|DSN)(_|$)|_KEY"
)


def names(text: str) -> dict[str, int]:
    """Variable names of an env file with the lines they stand on, commented-out ones (`# NAME=`) left out."""
    return _read(text)[0]


def troubles(text: str) -> dict[int, str]:
    """Lines for which Compose refuses an env file, by number."""
    return _read(text)[1]


def _read(text: str) -> tuple[dict[str, int], dict[int, str]]:
    found: dict[str, int] = {}
    wrong: dict[int, str] = {}
    quote, opened = "", 0  # a quoted value may go over several lines
    for number, line in enumerate(text.splitlines(), 1):
        if quote:
            quote = "" if quote in line else quote
            continue
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        hit = _LINE.match(line)
        if hit is None:
            wrong[number] = "is neither NAME=value nor a comment"
            continue
        found.setdefault(hit[1], number)
        value = line[hit.end() :].lstrip()
        if value[:1] in ("'", '"') and not value[1:].replace('\\"', "").count(value[0]):
            quote, opened = value[0], number
    if quote:
        wrong[opened] = "opens a quote that is never closed"
    return found, wrong


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is secret."""
    return bool(_SECRET.search(name.upper()))


def dropped_by_runbook(name: str) -> bool:
    """Whether the runbook's `grep -v "PASSWORD\\|SECRET\\|KEY"` leaves the variable out of the template."""
    return bool(_DROPPED.search(name))
