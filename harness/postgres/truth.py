"""The two sides that checks compare: the manifest and the restored database; and how the dump was made."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from psycopg import errors

from ..check import NotRun
from ..component import Inspection
from ..errors import ConfigError
from ..manifest import Manifest
from ..model import Artifact
from ..settings import Settings
from . import capture
from .difference import Way
from .facts import DumpFacts
from .fingerprint import Connection
from .pool import workers


class PostgresSubject(Protocol):
    """What these checks ask of a restored backup."""

    loaded: Any

    @property
    def restored(self) -> bool: ...
    @property
    def artifact(self) -> Artifact: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def inspection(self) -> Inspection: ...
    @property
    def database(self) -> str: ...
    @property
    def manifest(self) -> Manifest | None: ...
    @property
    def last_good(self) -> Mapping[str, Any] | None: ...
    @property
    def deadline(self) -> float: ...
    def connect(self) -> Any: ...


T = TypeVar("T")
_EVERYTHING: Final = frozenset(
    {"ACL", "DEFAULT ACL", "COMMENT", "SECURITY LABEL", "PUBLICATION", "SUBSCRIPTION"}
)
_KEPT: Final[dict[int, dict[str, Any]]] = {}


def once(subject: PostgresSubject, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, made once per drill and forgotten with its subject."""
    kept = _KEPT.get(id(subject))
    if kept is None:
        kept = _KEPT[id(subject)] = {}
        weakref.finalize(subject, _KEPT.pop, id(subject), None)
    if name not in kept:
        kept[name] = make()
    made: T = kept[name]
    return made


def known(subject: object, name: str, otherwise: T) -> T:
    """What `once` made of this name for the drill, `otherwise` when nobody asked for it."""
    kept: T = _KEPT.get(id(subject), {}).get(name, otherwise)
    return kept


def source_facts(subject: PostgresSubject) -> Mapping[str, Any]:
    """Facts of the manifest. Raises NotRun without one, ConfigError when it is of another format."""
    manifest = subject.manifest
    if manifest is None:
        raise NotRun("no manifest: the file was not compared with its source")
    if manifest.facts.get("format") != capture.FORMAT:
        raise ConfigError(
            f"the manifest has format {manifest.facts.get('format')!r}, this version reads {capture.FORMAT}",
            where=str(subject.artifact.manifest),
            remedy="capture it again",
        )
    return manifest.facts


def copy_facts(subject: PostgresSubject) -> Mapping[str, Any]:
    """Facts of the restored database, digested with the manifest's key; read once per drill."""
    source = source_facts(subject)
    return once(subject, "copy", lambda: _captured(subject, source))


def _captured(subject: PostgresSubject, source: Mapping[str, Any]) -> dict[str, Any]:
    def connect() -> Any:
        return subject.connect()

    try:
        with subject.connect() as conn:
            opened: Connection = conn
            return capture.capture_facts(
                opened,
                key=source["key"],
                digests=source["digests"],
                jobs=workers(),
                connect=connect,
                timeout_s=max(1.0, subject.deadline - time.monotonic()),
            )
    except errors.QueryCanceled:
        raise NotRun("the drill ran out of time while reading the copy", blocking=True) from None


def way_of(subject: PostgresSubject) -> Way:
    """How the dump was made, as far as its text shows; a physical backup leaves out nothing."""
    if subject.artifact.format == "physical":
        return Way(toc=_EVERYTHING)
    facts: DumpFacts = subject.inspection.facts
    entries = [e for database, e in facts.entries if database in ("", subject.database)]
    return Way(
        created_database=subject.database in facts.created,
        toc=frozenset(e.type for e in entries) if entries else None,
        owners=any(e.owner for e in entries),
        globals=subject.artifact.globals is not None or bool(facts.headers.get("cluster")),
        new_locale=bool(subject.loaded.mapped_locales),
        newer_dumper=bool(facts.major and facts.dump_major and facts.dump_major > facts.major),
    )
