"""A source's facts against a restored copy's: what is missing, what differs, what was never in the dump.

A pure function of two results of `capture_facts` and of how the dump was made (`Way`). What a dump leaves out
as a whole class is said once (`Omitted`); what hangs on a missing object is not said again; what two server
majors print or keep differently is not a difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from .difference import ADDED, CHANGED, MISSING, RIGHTS, Comparison, Difference, Facts, Way
from .fingerprint import BARE, OF, POSITION
from .left_out import without_left_out

_SINCE: Final = re.compile(r" \((\d\d)\)$")  # what servers have from that major on
_ALIASES: Final = {  # pg_identify_object's words for classes that are called otherwise here
    "procedure": "function",
    "aggregate": "function",
    "server": "foreign server",
    "table column": "column",
    "foreign table column": "column",
    "statistics object": "statistics",
    "table constraint": "constraint",
}


def compare_objects(source: Facts, copy: Facts, way: Way) -> Comparison:
    """Differences between the definitions of a source and of its restored copy."""
    result = Comparison()
    unfolded = [d for d in _unfold(_raw(source, copy), source, copy) if not _made_anew(d, copy)]
    found = without_left_out(unfolded, source, copy, way, result)
    result.differences = sorted(found, key=lambda d: (-d.severity.rank, d.kind, d.object))
    return result


def _raw(source: Facts, copy: Facts) -> list[Difference]:
    majors = source["server"]["major"], copy["server"]["major"]
    found: list[Difference] = []
    kinds = [k for k in source["objects"] if k in copy["objects"]]
    for kind in kinds:
        old, new = source["objects"][kind], copy["objects"][kind]
        found += [Difference(kind, name, MISSING, _named(kind, old[name])) for name in old if name not in new]
        found += [Difference(kind, name, ADDED, _named(kind, new[name])) for name in new if name not in old]
        for name in old:
            if name in new and (changes := _changes(kind, name, old[name], new[name], majors)):
                found.append(Difference(kind, name, CHANGED, changes))
    return found + _column_orders(source, copy)


def _named(kind: str, properties: Mapping[str, str]) -> tuple[tuple[str, str | None, str | None], ...]:
    """What is said of an object that one side lacks: of settings each by name, else that it is there."""
    if kind != "setting":
        return ()
    return tuple((name, text, text) for name, text in sorted(properties.items()) if not name.startswith("@"))


def _changes(
    kind: str, name: str, old: Mapping[str, str], new: Mapping[str, str], majors: tuple[int, int]
) -> tuple[tuple[str, str | None, str | None], ...]:
    before, after = (_comparable(kind, name, properties, majors) for properties in (old, new))
    changes = []
    for key in sorted(before.keys() | after.keys()):
        first, second = before.get(key), after.get(key)
        if first == second or _better(key, first, second):
            continue
        if _SINCE.search(key) and None in (first, second):
            continue
        changes.append((key.removesuffix(BARE), first, second))
    return tuple(changes)


def _better(key: str, first: str | None, second: str | None) -> bool:
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
        if kind == "subscription" and key == "streaming" and across(18):  # another default
            continue
        if kind == "sequence" and key == "persistence" and across(15):  # goes with its table's from 15 on
            continue
        if kind == "extension" and key == "version" and majors[0] != majors[1]:  # comes with the server
            continue
        if kind in RIGHTS and across(17):  # MAINTAIN, which the owner then has too
            text = ", ".join(word for word in text.split(", ") if word.rstrip("*") != "MAINTAIN")
        if kind in RIGHTS | {"owner"} and name == "schema public" and across(15):  # other defaults
            continue
        if text or kind not in RIGHTS:
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


def _unfold(found: list[Difference], source: Facts, copy: Facts) -> Iterable[Difference]:
    """Without what follows from another difference: the columns of a missing table, say."""
    missing = {f"{d.kind} {d.object}" for d in found if d.what == MISSING}
    missing |= {
        f"large object {oid}"
        for oid in source["large_objects"]["objects"]
        if oid not in copy["large_objects"]["objects"]
    }
    added = {f"{d.kind} {d.object}" for d in found if d.what == ADDED}
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


def _made_anew(d: Difference, copy: Facts) -> bool:
    """The schema public of a new database, which no dump drops, while nothing is in it."""
    return (d.kind, d.object, d.what) == ("schema", "public", ADDED) and not any(
        name.startswith("public.") for objects in copy["objects"].values() for name in objects
    )


def _parents(of: str) -> set[str]:
    """The names under which the object that something belongs to may be missing."""
    for word, ours in _ALIASES.items():
        if of.startswith(word + " "):
            of = ours + of.removeprefix(word)
            break
    return {of, "domain" + of.removeprefix("type")} if of.startswith("type ") else {of}
