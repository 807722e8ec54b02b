r"""SQL text of a logical dump as a stream of items: TOC headers, statements, COPY blocks, meta-commands.

The reader follows psql's own rules for where a statement ends (quotes, dollar quotes, E'' strings, nested
comments, parentheses, BEGIN ATOMIC bodies) and what a backslash means, so that nothing psql would act upon
can hide from it. Memory stays flat: only one statement is held at a time, COPY data are never held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import ArtifactError
from .text import Source, codec_of, skip_comment, skip_quoted

_TAIL: Final = 4  # bytes of a terminator that may still be incomplete: \n \ . \r

_ENTRY: Final = re.compile(
    rb"-- (Data for |Statistics for )?Name: (.*); Type: (.+?); Schema: (.*?); Owner: (.*?)"
    rb"(?:; Tablespace: (.*))?\s*$"
)
_HEADERS: Final = (
    ("complete", re.compile(rb"-- PostgreSQL database dump complete\s*$")),
    ("dump", re.compile(rb"-- PostgreSQL database dump\s*$")),
    ("cluster-complete", re.compile(rb"-- PostgreSQL database cluster dump complete\s*$")),
    ("cluster", re.compile(rb"-- PostgreSQL database cluster dump\s*$")),
    ("server-version", re.compile(rb"-- Dumped from database version (.*?)\s*$")),
    ("dump-version", re.compile(rb"-- Dumped by pg_dump version (.*?)\s*$")),
    ("started", re.compile(rb"-- Started on (.*?)\s*$")),
    ("completed", re.compile(rb"-- Completed on (.*?)\s*$")),
)
_PADDING: Final = b" \t\r\n\f\v\0\x1a"  # zeros fill a block up; DOS ended texts with ^Z
_BLANK: Final = re.compile(rb"\s+")
_TOKEN: Final = re.compile(rb"""['"$;()\\]|-(?=-)|/(?=\*)""")
_TOKEN_BODY: Final = re.compile(
    rb"""['"$;()\\]|-(?=-)|/(?=\*)|(?<![\w$\x80-\xff])(?:begin|case|end)(?![\w$\x80-\xff])""", re.I
)
_ROUTINE: Final = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s", re.I)
# A whole INSERT in one step: strings (two quotes in a row are two strings to it), names, anything else plain.
_INSERT: Final = re.compile(
    rb"""INSERT INTO (?:[^'"$;\\/\-]++|(?<![Ee])'[^']*+'|"[^"]*+"|-(?!-)|/(?!\*))*+;"""
)
_COPY: Final = re.compile(rb"COPY\s.*\bFROM\s+STDIN\b", re.I | re.S)
_COPY_NAME: Final = re.compile(
    rb"""COPY\s+((?:"(?:[^"]|"")+"|[^\s."(]+))(?:\.("(?:[^"]|"")+"|[^\s."(]+))?\s*(?:\((.*?)\))?\s*FROM\s""",
    re.I | re.S,
)
_NAME: Final = re.compile(rb'"((?:[^"]|"")+)"|([^\s,"]+)')
_STRINGS_OFF: Final = re.compile(rb"SET\s+standard_conforming_strings\s*(?:=|TO)\s*'?(off|on)", re.I)
_ENCODING: Final = re.compile(rb"SET\s+(?:SESSION\s+)?client_encoding\s*(?:=|TO)\s*['\"]?([\w-]+)", re.I)
_PATH: Final = re.compile(
    rb"SET\s+(?:(?:SESSION\s+)?search_path\s*(?:=|TO)|SCHEMA)\s*(\"(?:[^\"]|\"\")+\"|'[^']*'|[^\s,;']+)"
    rb"|SELECT\s+(?:pg_catalog\.)?set_config\s*\(\s*'search_path'\s*,\s*'\s*(\"[^\"]+\"|[^\s,']*)"
    rb"|(?:RESET\s+(?:search_path|ALL)|DISCARD\s+ALL)\b",
    re.I,
)
_NO_SCHEMA: Final = ("", '"$user"', "$user", "default", "pg_catalog")
_ROUTINE_BYTES: Final = 200  # how much of a statement must be at hand to tell whether it makes a routine
_LINE_END: Final = re.compile(rb"\r?\n")
_END: Final = re.compile(rb"\\\.(?:\r?\n|\Z)")


@dataclass(frozen=True)
class Entry:
    """A TOC entry as pg_dump's comment header tells it: type, name, schema (None for "-"), owner.

    `data` is True for the headers of rows ("Data for Name").
    """

    type: str
    name: str
    schema: str | None
    owner: str | None
    line: int
    data: bool = False


@dataclass(frozen=True)
class Header:
    """Something pg_dump says about the dump as a whole; `kind` is one of `_HEADERS`, or "truncated"."""

    kind: str
    value: str
    line: int


@dataclass(frozen=True)
class Meta:
    r"""A psql meta-command: the line from its backslash on. Never executed; `\.` outside COPY included."""

    text: str
    line: int


@dataclass(frozen=True)
class Statement:
    """One SQL statement without its semicolon, comments before it left out."""

    sql: bytes
    line: int
    entry: Entry | None = None
    codec: str = "utf-8"
    schema: str | None = None  # where names without one lie, as written: the first of the search_path set

    @property
    def utf8(self) -> bytes:
        """The statement in UTF-8, for looking at the names in it."""
        if self.codec == "utf-8":
            return self.sql
        return self.sql.decode(self.codec, "replace").encode()


@dataclass(frozen=True)
class Known:
    """Size of a COPY block's rows in bytes and lines, as an earlier pass over the same text found them."""

    bytes: int
    rows: int


class CopyData:
    r"""The rows of one COPY block, read once by iterating: blocks of COPY text up to `\.`, line ends as LF.

    Afterwards `rows` counts lines, `bytes` their size, `ended` tells whether `\.` was there and
    `partial_row` whether the text stops inside a row.
    """

    def __init__(self, source: Source, crlf: bool, known: Known | None) -> None:
        self.rows = self.bytes = 0
        self.ended = self.partial_row = False
        self._source, self._crlf = source, crlf
        self._blocks = self._read() if known is None or crlf else self._forward(known)

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def watch(self, see: Callable[[bytes], None]) -> None:
        """Have every block seen by another on its way to whoever reads it."""
        self._blocks = _seen(self._blocks, see)

    def _forward(self, known: Known) -> Iterator[bytes]:
        """The rows without looking for their end, which an earlier pass over the same text found."""
        source, left = self._source, known.bytes
        while left and (source.pos < len(source.data) or source.more()):
            block = source.data[source.pos : source.pos + left]
            source.skip(source.pos + len(block), 0)
            left -= len(block)
            yield block
        while len(source.data) - source.pos < _TAIL and source.more():
            pass
        end = _END.match(source.data, source.pos)
        if left or end is None:
            raise ArtifactError(
                "the file changed while it was read",
                remedy="verify backups that nothing writes to any more",
            )
        source.skip(end.end(), known.rows + 1)
        self.rows, self.bytes, self.ended = known.rows, known.bytes, True

    def _read(self) -> Iterator[bytes]:
        source, first, held = self._source, True, b""
        while not self.ended and (source.pos < len(source.data) or source.more()):
            data, pos = source.data, source.pos
            opening = first and data.startswith(b"\\.", pos)
            slash = data.find(b"\\", pos)  # a search for one byte is several times as fast
            mark = pos if opening else data.find(b"\n\\.", max(pos, slash - 1)) + 1 if slash >= 0 else 0
            if mark or opening:
                end = _LINE_END.match(data, mark + 2)
                if end is None and len(data) - mark < 2 + _TAIL and source.more():
                    continue  # too little of the line is here to say
                self.ended = end is not None or len(data) == mark + 2
                block = data[pos:mark] if self.ended else data[pos : mark + 2]  # or a row beginning with "\."
                behind = end.end() if end else mark + 2
            else:
                line_end = data.find(b"\n", max(pos, len(data) - 2))  # "\." may follow
                if (line_end == pos or (first and len(data) - pos < 2)) and source.more():
                    continue
                behind = len(data) if source.ended or line_end < 0 else line_end
                block = data[pos:behind]
            rows = len(block) - len(block.replace(b"\n", b""))  # twice as fast as counting them
            source.skip(behind, rows + self.ended)
            first = False
            self.rows += rows
            self.partial_row = not self.ended and not block.endswith(b"\n")
            if self._crlf:
                block = held + block
                held = b"\r" if block.endswith(b"\r") else b""
                block = block[: len(block) - len(held)].replace(b"\r\n", b"\n")
            self.bytes += len(block)
            if block:
                yield block
        self.rows += self.partial_row


def _seen(blocks: Iterator[bytes], see: Callable[[bytes], None]) -> Iterator[bytes]:
    for block in blocks:
        see(block)
        yield block


@dataclass(frozen=True)
class Copy:
    """A COPY ... FROM stdin: its statement (without semicolon), the table it names, the rows that follow.

    `encoding` is PostgreSQL's name of what the rows are written in.
    """

    sql: bytes
    schema: str | None
    table: str
    columns: tuple[str, ...]
    line: int
    data: CopyData
    entry: Entry | None = None
    encoding: str = "UTF8"


Item = Entry | Header | Meta | Statement | Copy


def read_dump(blocks: Iterable[bytes], known: Iterable[Known | None] = ()) -> Iterator[Item]:
    """The items of SQL text in order. A COPY's rows are skipped when the caller does not read them.

    `known` are the sizes of the COPY blocks where an earlier pass found them: then nothing looks for their
    ends any more. The end of the text inside a statement, comment or COPY block gives a last
    `Header("truncated", ...)`. Raises ArtifactError only for what `blocks` raises, for a statement beyond
    `MAX_STATEMENT`, and where the text is not the one that `known` is about.
    """
    source, entry, backslashes, encoding, known = Source(blocks), None, False, "UTF8", iter(known)
    schema: str | None = None
    while source.data[:3] != b"\xef\xbb\xbf" and len(source.data) < 3 and source.more():
        pass
    if source.data.startswith(b"\xef\xbb\xbf"):  # Windows editors; psql skips it too
        source.take(3)
    while True:
        if blank := _BLANK.match(source.data, source.pos):
            source.take(blank.end())
        if len(source.data) - source.pos < 2 and source.more():
            continue
        data, pos = source.data, source.pos
        if pos >= len(data):
            return
        if data.startswith(b"--", pos):
            line = source.line
            item = _comment(source.rest_of_line(0), line, codec_of(encoding))
            if isinstance(item, Entry):
                entry = item
            elif item and item.kind in ("dump", "complete", "cluster-complete"):
                entry = None
            if item:
                yield item
        elif data.startswith(b"/*", pos):
            line = source.line
            end = skip_comment(source, 0)
            if end is None:
                source.take(len(source.data))
                yield Header("truncated", "inside a comment", line)
                return
            source.take(source.pos + end)
        elif data.startswith(b"\\", pos):
            line = source.line
            yield Meta(source.rest_of_line(0).decode("utf-8", "replace").rstrip(), line)
            schema = None  # mostly another session
        else:
            found = yield from _statement(source, entry, backslashes, encoding, known, schema)
            if found is None:
                return
            if named := _ENCODING.match(found):
                encoding = named[1].decode("ascii", "replace").upper()
            if path := _PATH.match(found):
                first = (path[1] or path[2] or b"").decode(codec_of(encoding), "replace").strip("'")
                schema = None if first.lower() in _NO_SCHEMA else first
            if switch := _STRINGS_OFF.match(found):
                backslashes = switch[1].lower() == b"off"


def _statement(
    source: Source,
    entry: Entry | None,
    backslashes: bool,
    encoding: str,
    known: Iterator[Known | None],
    schema: str | None,
) -> Generator[Item, None, bytes | None]:
    """Yield the statement (or COPY, and meta-commands inside); returns its text, None when the text ended."""
    line = source.line
    whole = _INSERT.match(source.data, source.pos) if not backslashes else None
    end = whole.end() - source.pos if whole else (yield from _find_end(source, backslashes))
    if end is None:
        text = source.take(len(source.data)).strip(_PADDING)
        if text:
            yield Header("truncated", "inside a statement", line)
        return None
    text = source.take(source.pos + end)[:-1].rstrip()
    codec = codec_of(encoding)
    if not _COPY.match(text):
        if text:
            yield Statement(text, line, entry, codec, schema)
        return text
    named = _COPY_NAME.match(text)
    names = [_name(n, codec) for n in (named[1], named[2]) if n] if named else []
    columns = tuple(_name(c[0], codec) for c in _NAME.finditer(named[3])) if named and named[3] else ()
    ending = source.rest_of_line(0)
    data = CopyData(source, ending.endswith(b"\r\n"), next(known, None))
    named_schema = names[0] if len(names) == 2 else None
    yield Copy(text, named_schema, names[-1] if names else "?", columns, line, data, entry, encoding)
    for _ in data:  # what the caller left unread
        pass
    if not data.ended:
        where = "inside a row" if data.partial_row else "between two rows"
        yield Header("truncated", f"{where} of COPY {'.'.join(names) or '?'}", source.line)
    return text


def _find_end(source: Source, backslashes: bool) -> Generator[Item, None, int | None]:
    """Offset just behind the semicolon that ends the statement at the source's position, None at the end."""
    at, depth, body = 0, 0, 0
    if source.data[source.pos : source.pos + 1] in (b"C", b"c"):
        while len(source.data) - source.pos < _ROUTINE_BYTES and source.more():
            pass
    token = _TOKEN_BODY if _ROUTINE.match(source.data, source.pos, source.pos + _ROUTINE_BYTES) else _TOKEN
    while True:
        found = token.search(source.data, source.pos + at)
        if found is None:
            at = max(at, len(source.data) - source.pos - 8)  # a word or "--" may be cut here
            if not source.more():
                return None
            continue
        at, word = found.start() - source.pos, found[0]
        if word in (b"'", b'"', b"$", b"-", b"/"):
            end = skip_quoted(source, at, word, backslashes)
            if end is None:
                return None
            at = end
        elif word == b"\\":
            line = source.line + source.data.count(b"\n", source.pos, source.pos + at)
            while (stop := source.data.find(b"\n", source.pos + at)) < 0 and source.more():
                pass
            stop = len(source.data) if stop < 0 else stop
            text = source.data[source.pos + at : stop]
            yield Meta(text.decode("utf-8", "replace").rstrip(), line)
            begin = source.pos
            source.data = source.data[: begin + at] + source.data[stop:]  # psql takes it out of the statement
        elif word == b";":
            at += 1
            if depth <= 0 and body <= 0:
                return at
        elif word in b"()":
            depth += 1 if word == b"(" else -1
            at += 1
        else:
            if len(source.data) - source.pos - at <= len(word) and source.more():
                continue  # the word may go on
            if depth <= 0:
                lower = word.lower()
                body += lower == b"begin" or (lower == b"case" and body > 0)
                body -= lower == b"end" and body > 0
            at += len(word)


def _comment(text: bytes, line: int, codec: str) -> Entry | Header | None:
    if found := _ENTRY.match(text):
        data, name, kind, schema, owner = (found[n] for n in range(1, 6))
        return Entry(
            kind.decode(codec, "replace"),
            name.decode(codec, "replace"),
            None if schema == b"-" else schema.decode(codec, "replace"),
            owner.decode(codec, "replace") if owner not in (b"-", b"") else None,
            line,
            data == b"Data for ",
        )
    for kind_name, pattern in _HEADERS:
        if match := pattern.match(text):
            value = match[1].decode(codec, "replace") if pattern.groups else ""
            return Header(kind_name, value, line)
    return None


def _name(raw: bytes, codec: str) -> str:
    """An SQL name as it is stored: quotes undone."""
    text = raw.decode(codec, "replace")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
