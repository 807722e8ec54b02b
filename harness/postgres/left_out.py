"""What a dump leaves out as a whole class by the way it was made: taken out of the differences, said once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from .difference import ADDED, CHANGED, RIGHTS, ROLES, Comparison, Difference, Facts, Omitted, Way
from .fingerprint import OF
from .fingerprint_cluster import ALL_ROLES, DATABASE
from .fingerprint_rights import OWNER

_LOCALE: Final = frozenset({"collate", "ctype", "locale", "locale provider", "locale rules"})


def without_left_out(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """The differences that are none of a class left out; those classes go to `result.omitted`."""
    for step in (
        _servers,
        _database,
        _all_roles,
        _roles,
        _ownership,
        _privileges,
        _beside,
        _replication,
        _tablespaces,
    ):
        found = step(found, source, copy, way, result)
    return found


def _servers(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """The superusers who captured, and tablespaces made for the restore: they belong to the servers."""
    theirs = {f["server"]["user"] for f in (source, copy) if f["server"]["superuser"]}
    return [
        d
        for d in found
        if not (d.kind in ROLES and d.object in theirs) and not (d.kind == "tablespace" and d.what == ADDED)
    ]


def _database(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """Properties of the database itself are in the dump only when it creates the database (--create)."""

    def about(d: Difference) -> bool:
        return (
            d.kind == "database"
            or (d.kind == "setting" and d.object.endswith(DATABASE))
            or (d.kind in RIGHTS | {"owner", "comment"} and d.object == f"database {DATABASE}")
        )

    if way.created_database:
        if not way.new_locale:
            return found
        return _without(found, lambda d, p: d.kind == "database" and p in _LOCALE)
    return _leave_out(found, about, "database", result)


def _all_roles(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """ALTER ROLE ALL SET: neither pg_dump nor pg_dumpall writes it (PostgreSQL 14 to 18)."""

    def about(d: Difference) -> bool:
        return d.kind == "setting" and d.object == ALL_ROLES and d.what != ADDED

    return _leave_out(found, about, "settings of all roles", result)


def _roles(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    """Roles come with the globals, which are a file of their own."""

    def about(d: Difference) -> bool:
        return (
            d.kind in ROLES
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
    found = _without(found, lambda d, p: d.kind in RIGHTS and p == restorer)
    return _leave_out(found, lambda d: d.kind == "owner" and d.what == CHANGED, "ownership", result)


def _privileges(
    found: list[Difference], source: Facts, copy: Facts, way: Way, result: Comparison
) -> list[Difference]:
    if way.toc is None:
        given = any(
            grantee not in (OWNER, "PUBLIC", OF)
            for kind in RIGHTS
            for properties in copy["objects"].get(kind, {}).values()
            for grantee in properties
            if "pg_" not in grantee[:3]
        )
    else:
        given = bool(way.toc & {"ACL", "DEFAULT ACL"})
    return found if given else _leave_out(found, lambda d: d.kind in RIGHTS, "privileges", result)


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
