"""A runbook in Markdown -> its sections, with the anchors that GitHub and its like give them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import ConfigError

_HEADING: Final = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE: Final = re.compile(r"^\s*(```+|~~~+)")
_DROPPED: Final = re.compile(r"[^\w\- ]")
_MAX_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Section:
    """One section that says something itself (not only through its sub-sections).

    `slug` is its anchor, `path` the titles above it and its own, `commands` the lines of its code blocks.
    """

    slug: str
    title: str
    path: tuple[str, ...]
    line: int
    text: str
    commands: tuple[str, ...]


def read_runbook(path: Path) -> tuple[Section, ...]:
    """The sections of a runbook file. Raises ConfigError when it cannot be read or has no section."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError("is too large for a runbook", where=str(path))
        sections = parse_runbook(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read as a runbook: {error}", where=str(path)) from None
    if not sections:
        raise ConfigError("has no headings, so there is nothing to rehearse", where=str(path))
    return sections


def parse_runbook(text: str) -> tuple[Section, ...]:
    """Sections in order. Headings inside code blocks are none; equal titles get -1, -2 as anchors do."""
    found: list[Section] = []
    titles: list[tuple[int, str]] = []
    seen: Counter[str] = Counter()
    body: list[str] = []
    commands: list[str] = []
    current: tuple[str, str, tuple[str, ...], int] | None = None
    fence: str | None = None

    def close() -> None:
        said = "\n".join(body).strip().strip("-").strip()
        if current and (said or commands):
            slug, title, path, line = current
            found.append(Section(slug, title, path, line, said, tuple(commands)))
        body.clear()
        commands.clear()

    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if mark and (fence is None or line.strip().startswith(fence)):
            fence = mark[1] if fence is None else None
            continue
        if fence is not None:
            if line.strip() and not line.strip().startswith("#"):
                commands.append(line.strip())
            continue
        heading = _HEADING.match(line)
        if heading is None:
            body.append(line)
            continue
        close()
        level, title = len(heading[1]), heading[2]
        titles = [t for t in titles if t[0] < level] + [(level, title)]
        plain = slug_of(title)
        slug = f"{plain}-{seen[plain]}" if seen[plain] else plain
        seen[plain] += 1
        current = (slug, title, tuple(t for _, t in titles), number)
    close()
    return tuple(found)


def slug_of(title: str) -> str:
    """GitHub's anchor of a heading: lower case, punctuation dropped, spaces as hyphens."""
    return _DROPPED.sub("", title.lower()).replace(" ", "-")
