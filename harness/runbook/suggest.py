"""A first guess at which rehearsal stands for which section of a runbook; a person corrects it afterwards."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from .parse import Section

_NOTHING: Final = "text: nothing to rehearse (guessed by `provado init`: please check)"
_COMPONENTS: Final = (
    ("redis", re.compile(r"redis|valkey|queue|\bfilas?\b|cache")),
    ("files", re.compile(r"config|nginx|certific|\bssl\b|\bscripts?\b|\benv\b|variave")),
    ("postgres", re.compile(r"postgre|psql|pg_|\bsql\b|database|banco|table|tabela|dump")),
)
_WHATEVER: Final = (  # sections about no component, by their titles
    (re.compile(r"objetivo|objective|goal|retention|retencao|\brpo\b|\brto\b"), "objectives"),
    (re.compile(r"component"), "components"),
    (re.compile(r"escala"), "escalation"),
    (re.compile(r"contat|contact|equipe|team|who to call|on.call"), "contacts"),
    (
        re.compile(r"quinzena|fortnight|every two weeks|restore test.*automat|teste.*automat"),
        "restore-interval",
    ),
    (re.compile(r"alert"), "alerts"),
    (re.compile(r"espaco|disk space|\bspace\b"), "space"),
    (re.compile(r"monitor|status"), "monitor"),
    (re.compile(r"\blogs?\b"), "log"),
)
_ACTIONS: Final = (  # what is done, by titles first, then by commands; the first match wins
    ("emergency", re.compile(r"emerg|instavel|unstable")),
    (
        "recover-part",
        re.compile(r"(recuper|restaur|recover|restor).*(especific|selected|single|one table|chave|key)"),
    ),
    ("part", re.compile(r"one table|single table|especific|selected")),
    ("test", re.compile(r"(teste?|rehears|drill).*(restaur|restor|recuper)|(restore|restaur\w+) test")),
    ("recover", re.compile(r"recuper|recover|restaur|restor|is lost|disaster")),
    ("integrity", re.compile(r"integri|valida|verific|any good|\bcheck")),
    ("compressed", re.compile(r"compress|-fc\b")),
    ("env", re.compile(r"variave|environment var|\benv\b")),
    ("scripts", re.compile(r"scripts?$")),
    ("backup", re.compile(r"backup|dump|copia")),
)
_REHEARSALS: Final = {
    ("postgres", "emergency"): "postgres-emergency",
    ("postgres", "recover-part"): "postgres-recover-table",
    ("postgres", "part"): "postgres-tables",
    ("postgres", "test"): "postgres-restore-test",
    ("postgres", "recover"): "postgres-recover",
    ("postgres", "integrity"): "postgres-integrity",
    ("postgres", "compressed"): "postgres-compressed",
    ("postgres", "backup"): "postgres-backup",
    ("redis", "emergency"): "redis-backup",
    ("redis", "recover-part"): "redis-recover-keys",
    ("redis", "part"): "redis-recover-keys",
    ("redis", "test"): "redis-restore-test",
    ("redis", "recover"): "redis-recover",
    ("redis", "integrity"): "redis-integrity",
    ("redis", "backup"): "redis-backup",
    ("files", "recover"): "files-recover",
    ("files", "env"): "files-env",
    ("files", "scripts"): "files-scripts",
    ("files", "backup"): "files-backup",
}


def suggest(sections: Sequence[Section], components: Sequence[str]) -> dict[str, str]:
    """A mapping for `runbook.sections`; `components` are those that there are backups of."""
    return {s.slug: _guess(s, components) for s in sections}


def _guess(section: Section, components: Sequence[str]) -> str:
    titles = _plain(" / ".join(section.path[1:] or section.path))
    last = _plain(section.title)
    body = _plain("\n".join(section.commands))
    if len(section.path) == 1:
        return _NOTHING
    if not section.commands:
        return next((name for pattern, name in _WHATEVER if pattern.search(last)), _prose(titles, components))
    if found := next((name for pattern, name in _WHATEVER[4:] if pattern.search(titles)), None):
        return found
    component = next(
        (c for text in (titles, body) for c, p in _COMPONENTS if c in components and p.search(text)), None
    )
    if component is None:
        return _NOTHING
    for text in (titles if "especific" in last else last, titles, body):
        for action, pattern in _ACTIONS:
            if pattern.search(text) and (component, action) in _REHEARSALS:
                return _REHEARSALS[component, action]
    return f"{component}-look" if component != "files" else _NOTHING


def _prose(titles: str, components: Sequence[str]) -> str:
    """Numbered steps without commands are procedures, too, when their titles say so."""
    if re.search(r"is lost|recover|restor|recuper", titles) and "postgres" in components:
        part = re.search(r"one table|single table|tabela", titles)
        return "postgres-recover-table" if part else "postgres-recover"
    return _NOTHING


def _plain(text: str) -> str:
    """Lower case without accents."""
    return unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
