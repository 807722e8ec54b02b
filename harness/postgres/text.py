"""Reading SQL text piece by piece: the text at hand, and where quoted things in it end."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Iterable
from typing import Final

from ..errors import ArtifactError

MAX_STATEMENT: Final = 256 << 20  # what one statement or line may hold in memory
_CHUNK: Final = 1 << 18
_DOLLAR: Final = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$")
_ESCAPE: Final = re.compile(rb"['\\]")
_OPEN: Final = re.compile(rb"/\*|\*/")


_CODECS: Final = {"UNICODE": "utf-8", "SQL_ASCII": "utf-8", "WIN": "cp1251", "ALT": "cp866", "KOI8": "koi8-r",
    "KOI8R": "koi8-r", "KOI8U": "koi8-u", "SJIS": "cp932"}  # fmt: skip


@functools.lru_cache(64)
def codec_of(encoding: str) -> str:
    """Python's name for an encoding of PostgreSQL; utf-8 for one that Python lacks (names become guesses)."""
    name = encoding.upper()
    try:
        return codecs.lookup(_CODECS.get(name) or re.sub(r"^WIN(?=\d)", "cp", name)).name
    except LookupError:
        return "utf-8"


class Source:
    """The text at hand: `data` from `pos` on is unread; `more()` reads on, `take()` moves forward."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self.data, self.pos, self.line, self.ended = b"", 0, 1, False
        self._damage: ArtifactError | None = None

    def more(self) -> bool:
        """Read on, at least half of what is unread (so that rescanning stays linear); False at the end.

        Raises ArtifactError where the text cannot be read on, after all before that was given.
        """
        if self._damage:
            raise self._damage
        left = len(self.data) - self.pos
        parts, got, want = [self.data[self.pos :]] if left else [], 0, max(_CHUNK, left // 2)
        while got < want and not self.ended:
            try:
                block = next(self._blocks, None)
            except ArtifactError as damage:
                if not got:
                    raise
                self._damage = damage
                break
            if block is None:
                self.ended = True
            else:
                parts.append(block)
                got += len(block)
        if not got:
            return False
        self.data, self.pos = b"".join(parts), 0
        if left > MAX_STATEMENT:
            raise ArtifactError(
                f"a single statement or line is larger than {MAX_STATEMENT >> 20} MiB (line {self.line})",
                remedy="this is no dump that pg_dump writes; look at the file",
            )
        return True

    def take(self, to: int) -> bytes:
        """The text up to index `to`; it is read now."""
        text = self.data[self.pos : to]
        self.line += text.count(b"\n")
        self.pos = to
        return text

    def skip(self, to: int, lines: int) -> None:
        """Move forward to index `to`, over so many line ends."""
        self.pos = to
        self.line += lines

    def rest_of_line(self, start: int) -> bytes:
        """Take everything up to the end of the line that begins at offset `start` from here."""
        while (at := self.data.find(b"\n", self.pos + start)) < 0:
            if not self.more():
                return self.take(len(self.data))
        return self.take(at + 1)


def skip_quoted(source: Source, at: int, word: bytes, backslashes: bool) -> int | None:
    """Offset behind the string, name, dollar quote or comment at offset `at`; None when it never ends."""
    if word == b"/":
        return skip_comment(source, at)
    if word == b"-":
        return _find(source, b"\n", at)
    if word == b"$":
        while (tag := _DOLLAR.match(source.data, source.pos + at)) is None:
            if len(source.data) - source.pos - at > 70 or not source.more():  # names have at most 63 bytes
                return at + 1
        before = source.data[source.pos + at - 1 : source.pos + at] if at else b""
        if before.isalnum() or before == b"_" or before >= b"\x80":
            return at + 1  # a dollar inside a name
        return _find(source, tag[0], at + len(tag[0]))
    if word == b'"':
        return _find(source, b'"', at + 1)
    prefix = source.data[max(source.pos, source.pos + at - 2) : source.pos + at]
    escapes = backslashes or (
        prefix[-1:] in (b"E", b"e") and not (prefix[:-1].isalnum() or prefix[:-1] in (b"_", b"$"))
    )
    at += 1
    if not escapes:
        return _find(source, b"'", at)  # a doubled quote is the end of one string and the start of another
    while True:
        found = _ESCAPE.search(source.data, source.pos + at)
        if found and found[0] == b"'":
            return found.end() - source.pos
        at = found.end() - source.pos + 1 if found else max(at, len(source.data) - source.pos)
        if source.pos + at >= len(source.data) and not source.more():
            return None


def _find(source: Source, needle: bytes, at: int) -> int | None:
    """Offset behind the next `needle` from offset `at` on, None when there is none to the end."""
    while (found := source.data.find(needle, source.pos + at)) < 0:
        at = max(at, len(source.data) - source.pos - len(needle) + 1)
        if not source.more():
            return None
    return found - source.pos + len(needle)


def skip_comment(source: Source, at: int) -> int | None:
    """Offset behind the (nesting) comment at offset `at`, None when it never ends."""
    depth = 0
    while True:
        found = _OPEN.search(source.data, source.pos + at)
        if found is None:
            at = max(at, len(source.data) - source.pos - 1)
            if not source.more():
                return None
            continue
        at = found.end() - source.pos
        depth += 1 if found[0] == b"/*" else -1
        if depth == 0:
            return at
