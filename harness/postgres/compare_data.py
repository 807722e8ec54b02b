"""The content of a source against its restored copy: rows, sequences, large objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Facts = Mapping[str, Any]
LARGE_OBJECTS: Final = "large objects"


@dataclass(frozen=True)
class Unequal:
    """A table, sequence or large object whose content is not the source's. Amounts and digests only."""

    object: str
    message: str
    expected: str
    observed: str


@dataclass(frozen=True)
class Rows:
    """Tables compared. `unlogged` are those whose rows a standby or a physical backup rightly lacks: then
    all of them come back empty."""

    differing: tuple[Unequal, ...]
    unlogged: tuple[str, ...]
    uncompared: tuple[str, ...]  # counted, not digested
    filled: int  # tables with rows at the source
    emptied: int  # of those, how many hold none now
    fewer: int  # how many hold fewer rows, but some


def compare_rows(source: Facts, copy: Facts) -> Rows:
    """Row counts and digests of every table that both have; missing tables are said by `compare_objects`."""
    differing, unlogged, uncompared = [], [], []
    filled = emptied = fewer = 0
    kept = any(
        old["unlogged"] and old["rows"] and copy["tables"].get(name, {}).get("rows")
        for name, old in source["tables"].items()
    )
    for name, old in source["tables"].items():
        new = copy["tables"].get(name)
        if new is None:
            continue
        before, after = old["rows"], new["rows"]
        filled += before > 0
        if old["unlogged"] and before and not after and not kept:
            unlogged.append(name)
            continue
        emptied += before > 0 and after == 0
        fewer += 0 < after < before
        if before != after:
            differing.append(Unequal(name, _amount(before, after), f"{before:,} rows", f"{after:,} rows"))
        elif "digest" not in old or "digest" not in new:
            uncompared.append(name)
        elif old["digest"] != new["digest"]:
            differing.append(
                Unequal(
                    name,
                    f"holds as many rows as the source ({before:,}), but not the same content: at least one"
                    " value, or a column, is another",
                    "the source's digest",
                    "another digest",
                )
            )
    return Rows(tuple(differing), tuple(unlogged), tuple(uncompared), filled, emptied, fewer)


def _amount(before: int, after: int) -> str:
    if after == 0:
        return f"is empty; all its {before:,} rows are lost"
    if after < before:
        return f"{before - after:,} of the source's {before:,} rows are lost"
    return f"holds {after - before:,} rows that the source had not"


def compare_sequences(source: Facts, copy: Facts) -> Iterator[Unequal]:
    """Sequences that stand behind the source's. Ahead is fine: they know no snapshots."""
    for name, old in source["sequences"].items():
        new = copy["sequences"].get(name)
        if new is None:
            continue
        behind = (_next(old) - _next(new)) * (1 if old["increment"] > 0 else -1)
        if old["cycle"] and behind > 0:
            circle = _circle(source, name)
            behind = behind if behind < circle / 2 else 0  # it came round meanwhile: the shorter way counts
        if behind > 0:
            yield Unequal(
                name,
                "stands behind the source: it will give out numbers that are already used",
                f"next value {_next(old)}",
                f"next value {_next(new)}",
            )


def _circle(source: Facts, name: str) -> int:
    """How many numbers a sequence runs through before it begins again."""
    limits = source["objects"].get("sequence", {}).get(name, {})
    return abs(int(limits.get("maximum", 0)) - int(limits.get("minimum", 0))) + 1


def _next(sequence: Mapping[str, Any]) -> int:
    step = sequence["increment"] if sequence["is_called"] else 0
    return int(sequence["last_value"]) + int(step)


def compare_large_objects(source: Facts, copy: Facts) -> Iterator[Unequal]:
    """Large objects missing, added or with other content."""
    old, new = source["large_objects"], copy["large_objects"]
    if old["count"] and not new["count"]:
        yield Unequal(LARGE_OBJECTS, f"all {old['count']:,} large objects are lost", f"{old['count']:,}", "0")
        return
    lost = sorted(old["objects"].keys() - new["objects"].keys(), key=int)
    if old["count"] != new["count"] or lost:
        yield Unequal(
            LARGE_OBJECTS,
            f"{len(lost) or abs(old['count'] - new['count']):,} large objects are "
            + ("lost" if lost or old["count"] > new["count"] else "there that the source had not")
            + (f" (OID {', '.join(lost[:5])})" if lost else ""),
            f"{old['count']:,}",
            f"{new['count']:,}",
        )
    changed = [o for o, digest in old["objects"].items() if new["objects"].get(o, digest) != digest]
    for oid in sorted(changed, key=int):
        yield Unequal(
            f"large object {oid}", "has other content than at the source", "the source's", "another"
        )
    told = changed or lost or old["count"] != new["count"]
    if not told and old["digest"] and new["digest"] and old["digest"] != new["digest"]:
        yield Unequal(LARGE_OBJECTS, "have other content than at the source", "the source's", "another")
