"""Files of environment variables: which names they hold. Only the scan for secrets looks at values."""

from __future__ import annotations

import re
from typing import Final

_LINE: Final = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*(=|$)")
_DROPPED: Final = re.compile(r"PASSWORD|SECRET|KEY")  # the runbook's own grep -v
_SECRET: Final = re.compile(
    r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|(^|_)(PASS|KEY|SALT|PEPPER|DSN)(_|$)|_KEY"
)


def names(text: str) -> dict[str, int]:
    """Variable names of an env file with the lines they stand on, commented-out ones (`# NAME=`) left out."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("#") and (hit := _LINE.match(line)):
            found.setdefault(hit[1], number)
    return found


def troubles(text: str) -> dict[int, str]:
    """Lines that neither Compose nor a shell takes as a variable, by number."""
    return {
        number: "is neither NAME=value nor a comment"
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#") and not _LINE.match(line)
    }


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is secret."""
    return bool(_SECRET.search(name.upper()))


def dropped_by_runbook(name: str) -> bool:
    """Whether the runbook's `grep -v "PASSWORD\\|SECRET\\|KEY"` leaves the variable out of the template."""
    return bool(_DROPPED.search(name))
