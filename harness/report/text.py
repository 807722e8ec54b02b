"""Words, numbers and times of a report in the reader's language, and hostile text made harmless.

Catalogues are gettext `.po` files read as they are (no compiling); a sentence without a translation stays
English. Evidence itself is always English and UTC: only the rendering changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from importlib import resources
from typing import Any, Final
from zoneinfo import ZoneInfo

from ..redact import shown

LANGUAGES: Final = ("en", "pt-BR")
_MONTHS: Final = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "pt-BR": ("jan.", "fev.", "mar.", "abr.", "maio", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."),
}
_PO_LINE: Final = re.compile(r'\s*(?:(msgid|msgstr)\s+)?"((?:[^"\\]|\\.)*)"\s*')
_HOLE: Final = re.compile(r"\{\d*\}")


def harmless(value: Any, seen: dict[str, str] | None = None) -> Any:
    """Evidence ready to be shown: known secrets masked (the last net), invisible characters made visible.

    `seen` remembers strings within one call, since most of them come many times.
    """
    seen = {} if seen is None else seen
    if isinstance(value, str):
        if value not in seen:
            seen[value] = shown(value)
        return seen[value]
    if isinstance(value, Mapping):
        return {harmless(str(k), seen): harmless(v, seen) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(v, seen) for v in value]
    return value


@cache
def catalogue(lang: str) -> dict[str, str]:
    """The reports' own sentences: English -> translation; empty for English."""
    return {} if lang == "en" else _read(f"{lang}.po")


@cache
def evidence_catalogue(lang: str) -> dict[str, str]:
    """What checks and drills say in evidence: English sentence or pattern -> translation."""
    return {} if lang == "en" else _read(f"{lang}.evidence.po")


def _read(name: str) -> dict[str, str]:
    return read_po((resources.files(__package__) / "locale" / name).read_text(encoding="utf-8"))


def read_po(text: str) -> dict[str, str]:
    """The entries of a gettext catalogue without plural forms; empty translations are left out.

    Raises ValueError naming the line that is no part of one.
    """
    entries: list[list[str]] = []
    part = -1
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _PO_LINE.fullmatch(line)
        if not found:
            raise ValueError(f"line {number} of the catalogue is no msgid or msgstr")
        if found[1] == "msgid":
            entries.append(["", ""])
        part = {"msgid": 0, "msgstr": 1}.get(found[1] or "", part)
        entries[-1][part] += re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), found[2])
    return {k: v for k, v in entries if k and v}


@cache
def _patterns(lang: str) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Sentences with holes (`{0} rows are missing`), as (fixed beginning, pattern, translation)."""
    made = []
    for source, translation in evidence_catalogue(lang).items():
        if _HOLE.search(source):  # a pattern of few fixed words might fit what it was not made for
            pieces = _HOLE.split(source)
            pattern = re.compile("(.*?)".join(re.escape(p) for p in pieces), re.S)
            made.append((pieces[0], pattern, translation))
    return tuple(sorted(made, key=lambda p: -len(p[1].pattern.replace("(.*?)", ""))))  # most words first


@dataclass(frozen=True)
class Words:
    """One language's words, numbers and times. `zone` adds local time beside UTC."""

    lang: str = "en"
    zone: tzinfo | None = None

    def __call__(self, text: str, *values: object) -> str:
        """A sentence of the report's own, translated, its `{0}` holes filled."""
        said = catalogue(self.lang).get(text, text)
        return said.format(*values) if values else said

    def said(self, text: str | None) -> tuple[str, str]:
        """A sentence found in evidence, and the language it came out in: translated where the catalogue
        knows it or knows its pattern, else as it is."""
        if not text or self.lang == "en":
            return text or "", "en"
        whole = evidence_catalogue(self.lang).get(text) or catalogue(self.lang).get(text)
        if whole:
            return whole, self.lang
        for start, pattern, translation in _patterns(self.lang):
            if text.startswith(start) and (found := pattern.fullmatch(text)):
                return _fill(translation, found.groups()), self.lang
        return text, "en"

    def number(self, value: float | int | None, digits: int | None = None) -> str:
        """`1,234.5` or `1.234,5`; an em dash for None."""
        if value is None:
            return "—"
        if digits is None:
            digits = 0 if float(value).is_integer() or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.lang == "pt-BR" else text

    def percent(self, share: float) -> str:
        """`12.3 %`-like share of one, with no false precision."""
        value = share * 100
        if 0 < value < 0.01:
            return f"< {self.number(0.01, 2)}%"
        return f"{self.number(value, 0 if value >= 10 else 1 if value >= 1 else 2)}%"

    def duration(self, seconds: float | None) -> str:
        """Seconds in units people use: `1 h 5 min`, `3.2 s`, `40 ms`."""
        if seconds is None:
            return "—"
        sign = "−" if seconds < 0 else ""
        s = abs(seconds)
        if 0 < s < 0.0005:
            return "< 1 ms"
        if s < 1:
            return f"{sign}{self.number(s * 1000, 0)} ms"
        if s < 60:
            return f"{sign}{self.number(s, 1 if s < 10 and not s.is_integer() else 0)} s"
        if s < 3600:
            return f"{sign}{int(s // 60)} min" + (f" {int(s % 60)} s" if s < 600 and s % 60 >= 1 else "")
        if s < 2 * 86400:
            minutes = int(s % 3600 // 60)
            return f"{sign}{int(s // 3600)} h" + (f" {minutes} min" if minutes else "")
        hours = int(s % 86400 // 3600)
        days = f"{self.number(int(s // 86400))} d"
        return f"{sign}{days}" + (f" {hours} h" if hours and s < 30 * 86400 else "")

    def size(self, amount: int | None) -> str:
        """Bytes in binary units."""
        if amount is None:
            return "—"
        value = float(amount)
        for unit in ("bytes", "KiB", "MiB", "GiB"):
            if value < 1024:
                return f"{self.number(value, 0 if unit == 'bytes' else 1)} {unit}"
            value /= 1024
        return f"{self.number(value, 1)} TiB"

    def date(self, text: str | None) -> str:
        """`24 Nov 2026`, of a UTC time."""
        moment = parse_time(text)
        return self._date(moment) if moment else text or "—"

    def time(self, text: str | None) -> str:
        """`24 Nov 2026, 02:00:05 UTC`, with local time in front where the zone is known and differs."""
        moment = parse_time(text)
        if moment is None:
            return text or "—"
        stamp = f"{self._date(moment)}, {moment:%H:%M:%S} UTC"
        if self.zone is None or not (offset := moment.astimezone(self.zone).utcoffset()):
            return stamp
        local = moment.astimezone(self.zone)
        return f"{self._date(local)}, {local:%H:%M:%S} {_offset(offset)} ({stamp})"

    def _date(self, moment: datetime) -> str:
        month = _MONTHS.get(self.lang, _MONTHS["en"])[moment.month - 1]
        return f"{moment.day} {'de ' if self.lang == 'pt-BR' else ''}{month} {moment.year}"


def words(lang: str, zone: str | None = None) -> Words:
    """The words of `lang`. Raises ValueError for a language there is no catalogue of."""
    if lang not in LANGUAGES:
        raise ValueError(f"no catalogue for {lang!r}; there are {', '.join(LANGUAGES)}")
    if zone and zone not in ("UTC", "local"):
        try:
            return Words(lang, ZoneInfo(zone))
        except (KeyError, ValueError, OSError):  # this machine has no data on that zone: UTC alone then
            return Words(lang)
    return Words(lang)


def parse_time(text: str | None) -> datetime | None:
    """A time of evidence (ISO 8601) in UTC; None when it is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _fill(translation: str, values: tuple[str, ...]) -> str:
    return re.sub(r"\{(\d)\}", lambda m: values[int(m[1])] if int(m[1]) < len(values) else m[0], translation)


def _offset(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    sign = "−" if minutes < 0 else "+"
    return f"UTC{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
