"""A source's facts against a restored copy's: what is missing, what differs, what was never in the dump.

A pure function of two results of `capture_facts` and of how the dump was made (`Way`). What a dump leaves out
as a whole class is said once (`Omitted`); what hangs on a missing object is not said again; what two server
majors print or keep differently is not a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..model import Severity
from .fingerprint import BARE, OF, POSITION
from .fingerprint_cluster import DATABASE
from .fingerprint_rights import OWNER

Facts = Mapping[str, Any]
MISSING, ADDED, CHANGED = "missing", "added", "changed"


@dataclass(frozen=True)
class Way:
    """How the copy came about, as far as that explains differences.

    `toc` holds the types of the dump's TOC entries (None: the file has no TOC); `owners` tells whether it
    names owners; `newer_dumper` that pg_dump was of a newer major than the server; `new_locale` that the
    sandbox lacks the database's locale.
    """

    created_database: bool = True
    toc: frozenset[str] | None = None
    owners: bool = True
    globals: bool = True
    new_locale: bool = False
    newer_dumper: bool = False


@dataclass(frozen=True)
class Difference:
    """One object that is not as at the source. `changes` are (property, at the source, in the copy)."""

    kind: str
    object: str
    what: str
    changes: tuple[tuple[str, str | None, str | None], ...] = ()

    @property
    def severity(self) -> Severity:
        """Badness by class and property (CONTRACT, severities)."""
        if self.kind in _LIGHT_KINDS or (
            self.changes and all(_light(self.kind, p) for p, _, _ in self.changes)
        ):
            return Severity.MEDIUM
        return Severity.HIGH if self.kind in _HAND_WORK or self.what == ADDED else Severity.CRITICAL


@dataclass(frozen=True)
class Omitted:
    """A class that the dump does not hold, by the way it was made. Not `certain`: it may be a loss."""

    name: str
    count: int
    examples: tuple[str, ...]
    certain: bool = True


@dataclass
class Comparison:
    """Every difference in definitions, and the classes left out."""

    differences: list[Difference] = field(default_factory=list)
    omitted: list[Omitted] = field(default_factory=list)


_LIGHT_KINDS: Final = frozenset({"comment", "statistics", "tablespace"})
_HAND_WORK: Final = frozenset(
    (
        *("extension", "role", "role password", "membership", "setting", "database", "owner", "privileges"),
        *("default privileges", "system privileges", "security label", "publication", "subscription"),
        *(
            "subscription connection",
            "foreign server",
            "user mapping",
            "foreign-data wrapper",
            "foreign table",
        ),
        *("event trigger", "language", "access method"),
    )
)
_LIGHT: Final = frozenset(
    (
        *("tablespace", "statistics target", "compression", "storage", "cost", "rows", "clustered", "cache"),
        *("support", "target", "version"),
    )
)
_TUNING: Final = ("storage ", "toast storage ", "attribute ")
# pg_identify_object's words for classes that are called otherwise here.
_ALIASES: Final = {
    "procedure": "function",
    "aggregate": "function",
    "server": "foreign server",
    "table column": "column",
    "foreign table column": "column",
    "statistics object": "statistics",
    "table constraint": "constraint",
}
_LOCALE: Final = frozenset({"collate", "ctype", "locale", "locale provider", "locale rules"})
_RIGHTS: Final = frozenset({"privileges", "default privileges", "system privileges"})
_ROLES: Final = frozenset({"role", "role password", "membership", "tablespace"})


def _light(kind: str, name: str) -> bool:
    tuning = kind in ("table", "index", "materialized view", "column") and name.startswith(_TUNING)
    return name in _LIGHT or tuning


def compare_objects(source: Facts, copy: Facts, way: Way) -> Comparison:
    """Differences between the definitions of a source and of its restored copy."""
    raw = found = _raw(source, copy)
    result = Comparison()
    for step in (
        _superusers,
        _database,
        _roles,
        _ownership,
        _privileges,
        _beside,
        _replication,
        _tablespaces,
    ):
        found = step(found, source, copy, way, result)
    result.differences = sorted(
        _unfold(found, raw, source, copy), key=lambda d: (-d.severity.rank, d.kind, d.object)
    )
    return result


def _raw(source: Facts, copy: Facts) -> list[Difference]:
    majors = source["server"]["major"], copy["server"]["major"]
    found: list[Difference] = []
    kinds = [k for k in source["objects"] if k in copy["objects"]]
    for kind in kinds:
        old, new = source["objects"][kind], copy["objects"][kind]
        found += [Difference(kind, name, MISSING) for name in old if name not in new]
        found += [Difference(kind, name, ADDED) for name in new if name not in old]
        for name in old:
            if name in new and (changes := _changes(kind, name, old[name], new[name], majors)):
                found.append(Difference(kind, name, CHANGED, changes))
    return found + _column_orders(source, copy)


def _changes(
    kind: str, name: str, old: Mapping[str, str], new: Mapping[str, str], majors: tuple[int, int]
) -> tuple[tuple[str, str | None, str | None], ...]:
    before, after = (_comparable(kind, name, properties, majors) for properties in (old, new))
    changes = []
    for key in sorted(before.keys() | after.keys()):
        first, second = before.get(key), after.get(key)
        if first == second or _better(kind, key, first, second):
            continue
        changes.append((key.removesuffix(BARE), first, second))
    return tuple(changes)


def _better(kind: str, key: str, first: str | None, second: str | None) -> bool:
    """A restore makes some things right that were not so at the source: that is no loss."""
    return (key in ("valid", "ready", "validated", "populated")) and (first, second) == ("no", "yes")


def _comparable(
    kind: str, name: str, properties: Mapping[str, str], majors: tuple[int, int]
) -> dict[str, str]:
    """An object's properties as far as both majors print and keep them alike."""

    def across(major: int) -> bool:
        return (majors[0] >= major) != (majors[1] >= major)

    kept = {}
    for key, text in properties.items():
        if key.startswith("@") or (key.endswith(BARE) and not across(16)):
            continue
        if key + BARE in properties and across(16):  # 16 leaves out qualifiers that 15 prints
            continue
        if key.endswith(" (16)") and min(majors) < 16:  # options of memberships that 15 has not
            continue
        if kind == "subscription" and key == "streaming" and across(18):  # another default
            continue
        if kind == "extension" and key == "version" and majors[0] != majors[1]:  # comes with the server
            continue
        if kind in _RIGHTS and across(17):  # MAINTAIN, which the owner then has too
            text = ", ".join(word for word in text.split(", ") if word.rstrip("*") != "MAINTAIN")
        if kind in _RIGHTS | {"owner"} and name == "schema public" and across(15):  # other defaults
            continue
        if text or kind not in _RIGHTS:
            kept[key] = text
    return kept


def _column_orders(source: Facts, copy: Facts) -> list[Difference]:
    """Tables whose common columns stand in another order. Inheritance children get one from any dump."""

    def orders(facts: Facts) -> dict[str, list[str]]:
        tables: dict[str, list[tuple[int, str]]] = {}
        for column, properties in facts["objects"].get("column", {}).items():
            tables.setdefault(properties[OF], []).append((int(properties[POSITION]), column))
        return {table: [name for _, name in sorted(columns)] for table, columns in tables.items()}

    found, old, new = [], orders(source), orders(copy)
    for table, columns in old.items():
        kind, _, name = table.partition(" ")
        if kind != "table" or table not in new:
            continue
        properties = source["objects"]["table"].get(name, {})
        if "parents" in properties and "partition bound" not in properties:
            continue
        there = [c for c in columns if c in set(new[table])]
        if there != [c for c in new[table] if c in set(columns)]:
            found.append(Difference("table", name, CHANGED, (("column order", None, None),)))
    return found


def _superusers(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """The superusers who captured: they belong to the servers, not to the backup."""
    theirs = {f["server"]["user"] for f in (source, copy) if f["server"]["superuser"]}
    return [d for d in found if not (d.kind in _ROLES and d.object in theirs)]


def _database(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """Properties of the database itself are in the dump only when it creates the database (--create)."""

    def about(d: Difference) -> bool:
        return (
            d.kind == "database"
            or (d.kind == "setting" and d.object.endswith(DATABASE))
            or (d.kind in _RIGHTS | {"owner", "comment"} and d.object == f"database {DATABASE}")
        )

    if way.created_database:
        if not way.new_locale:
            return found
        return _without(found, lambda d, p: d.kind == "database" and p in _LOCALE)
    return _leave_out(found, about, "database", result)


def _roles(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """Roles come with the globals, which are a file of their own."""

    def about(d: Difference) -> bool:
        return (
            d.kind in _ROLES
            or (d.kind == "setting" and not d.object.endswith(DATABASE))
            or (d.kind == "comment" and d.object.startswith(("role ", "tablespace ")))
            or d.object.startswith("parameter ")
        )

    if not way.globals:
        return _leave_out(found, about, "roles", result)
    if not any(
        p["method"] != "none"
        for name, p in copy["objects"].get("role password", {}).items()
        if name != copy["server"]["user"]
    ):
        return _leave_out(found, lambda d: d.kind == "role password", "role passwords", result)
    return found


def _ownership(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    mine = [d for d in found if d.kind == "owner" and d.what == CHANGED]
    restorer = copy["server"]["user"]
    given = way.owners
    if way.toc is None:
        given = any(
            properties.get("owner") not in (restorer, "pg_database_owner")
            for name, properties in copy["objects"].get("owner", {}).items()
        )
    if given or not mine:
        return found
    # Who restores owns everything, so privileges of that role are the owner's own now.
    found = _without(found, lambda d, p: d.kind in _RIGHTS and p == restorer)
    return _leave_out(found, lambda d: d.kind == "owner" and d.what == CHANGED, "ownership", result)


def _privileges(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    if way.toc is None:
        given = any(
            grantee not in (OWNER, "PUBLIC", OF)
            for kind in _RIGHTS
            for properties in copy["objects"].get(kind, {}).values()
            for grantee in properties
            if "pg_" not in grantee[:3]
        )
    else:
        given = bool(way.toc & {"ACL", "DEFAULT ACL"})
    return found if given else _leave_out(found, lambda d: d.kind in _RIGHTS, "privileges", result)


def _beside(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """Comments and security labels, when the copy has none at all."""
    for kind, word, name in (
        ("comment", "COMMENT", "comments"),
        ("security label", "SECURITY LABEL", "security labels"),
    ):
        # Extensions and the schema public bring comments of their own; roles and database: see above.
        there = [
            o
            for o in copy["objects"].get(kind, {})
            if not o.startswith(("extension ", "role ", "database ", "tablespace ", "schema public"))
        ]
        if not there and word not in (way.toc or ()):
            found = _leave_out(found, lambda d, kind=kind: d.kind == kind, name, result)  # type: ignore[misc]
    return found


def _replication(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """All subscriptions or publications gone: left out on purpose, or dropped before the dump.

    The file cannot tell which. A pg_dump newer than its server writes subscriptions that the server would not
    take, so leaving them out is the sane way then; both classes gone at once points to options as well.
    """

    def gone(kind: str) -> bool:
        return bool(source["objects"].get(kind)) and not copy["objects"].get(kind)

    both = gone("publication") and gone("subscription")
    for kind, name in (("subscription", "subscriptions"), ("publication", "publications")):
        if gone(kind) and kind.upper() not in (way.toc or ()):
            certain = both or (kind == "subscription" and way.newer_dumper)
            about: Callable[[Difference], bool] = lambda d, kind=kind: d.kind.startswith(kind)  # type: ignore[misc] # noqa: E731
            found = _leave_out(found, about, name, result, certain=certain)
    return found


def _tablespaces(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """Everything in the default tablespace: --no-tablespaces, or the sandbox's choice."""
    moved = [d for d in found if any(p == "tablespace" and new is None for p, _, new in d.changes)]
    if moved:
        result.omitted.append(Omitted("tablespaces", len(moved), _examples(moved)))
    return _without(found, lambda d, p: d in moved and p == "tablespace")


def _leave_out(
    found: list[Difference],
    about: Callable[[Difference], bool],
    name: str,
    result: Comparison,
    *,
    certain: bool = True,
) -> list[Difference]:
    theirs = [d for d in found if about(d)]
    if theirs:
        result.omitted.append(Omitted(name, len({d.object for d in theirs}), _examples(theirs), certain))
    return [d for d in found if not about(d)]


def _examples(found: Iterable[Difference]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(d.object for d in found))[:3]


def _without(found: list[Difference], drop: Callable[[Difference, str], bool]) -> list[Difference]:
    """`found` without some properties; objects that differ in nothing else go too."""
    kept = []
    for d in found:
        changes = tuple(c for c in d.changes if not drop(d, c[0]))
        if changes or not d.changes:
            kept.append(d if changes == d.changes else Difference(d.kind, d.object, d.what, changes))
    return kept


def _unfold(
    found: list[Difference], raw: list[Difference], source: Facts, copy: Facts
) -> Iterable[Difference]:
    """Without what follows from another difference: the columns of a missing table, say."""
    missing = {f"{d.kind} {d.object}" for d in raw if d.what == MISSING}
    missing |= {
        f"large object {oid}"
        for oid in source["large_objects"]["objects"]
        if oid not in copy["large_objects"]["objects"]
    }
    added = {f"{d.kind} {d.object}" for d in raw if d.what == ADDED}
    changed = {f"{d.kind} {d.object}" for d in found if d.what == CHANGED}
    identities = {f"column {d.object}" for d in found if any(name == "identity" for name, _, _ in d.changes)}
    for d in found:
        facts, gone = (copy, added) if d.what == ADDED else (source, missing)
        parents = _parents(facts["objects"][d.kind].get(d.object, {}).get(OF, ""))
        if d.what != CHANGED and parents & gone:
            continue
        # An identity's sequence, gone with the identity; an invalid index, which no dump holds.
        if d.what != CHANGED and parents & {"sequence": identities, "owner": changed}.get(d.kind, set()):
            continue
        if (
            d.kind == "index"
            and d.what == MISSING
            and facts["objects"]["index"][d.object].get("valid") == "no"
        ):
            continue
        yield d


def _parents(of: str) -> set[str]:
    """The names under which the object that something belongs to may be missing."""
    for word, ours in _ALIASES.items():
        if of.startswith(word + " "):
            of = ours + of.removeprefix(word)
            break
    return {of, "domain" + of.removeprefix("type")} if of.startswith("type ") else {of}
