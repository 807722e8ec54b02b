"""Differences between two sources of keys as findings: few, named by kind of key, never by key or value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..check import Check
from ..model import Finding, Severity
from .digest import RECORD
from .spool import Differences, Spool

_MOST = 12
Labels = Counter[tuple[str, str, int]]


def grouped(
    self: Check, labels: Labels, what: str, remedy: str | None = None, severity: Severity | None = None
) -> Iterator[Finding]:
    """One finding per kind of key; what goes beyond a dozen is summed up in one more.

    `what` says what is wrong with `{n}` keys, e.g. "{n} keys are missing".
    """
    most = labels.most_common()
    for (kind, type_name, db), count in most[: _MOST if len(most) > _MOST + 1 else len(most)]:
        yield self.finding(
            f"db{db} {kind}",
            f"{what.format(n=_keys(count))} ({type_name})",
            observed=_keys(count),
            remedy=remedy,
            severity=severity,
        )
    if len(most) > _MOST + 1:
        rest = most[_MOST:]
        count = sum(n for _, n in rest)
        text = f"{what.format(n=_keys(count))} of {len(rest)} more kinds"
        yield self.finding("other keys", text, observed=_keys(count), remedy=remedy, severity=severity)


def presence(self: Check, found: Differences, expected: Spool, where: str) -> Iterator[Finding]:
    """Missing, moved and surplus keys; a whole database, or everything, is one finding."""
    lost = found.missing.total()
    if lost and lost >= expected.count - found.expired:
        yield self.finding(
            "all keys", f"all {lost:,} keys are missing {where}", expected=f"{lost:,}", observed="0"
        )
        return
    there = _per_database(expected) if lost else Counter[int]()
    missing = Counter(found.missing)
    for db in sorted({label[2] for label in missing}):
        gone = sum(n for label, n in missing.items() if label[2] == db)
        if gone > 1 and gone >= there[db]:
            yield self.finding(
                f"db{db}",
                f"all {gone:,} keys of database {db} are missing {where}",
                expected=f"{gone:,}",
                observed="0",
            )
            missing = Counter({label: n for label, n in missing.items() if label[2] != db})
    yield from grouped(self, missing, f"{{n}} missing {where}")
    yield from grouped(self, found.moved, f"{{n}} in another database {where}")
    yield from grouped(self, found.extra, f"{{n}} {where} that should not exist")


def _per_database(spool: Spool) -> Counter[int]:
    counts: Counter[int] = Counter()
    for records in spool.buckets():
        for start in range(0, len(records), RECORD.size):
            counts[RECORD.unpack_from(records, start)[1]] += 1
    return counts


def contents(
    self: Check, found: Differences, where: str, untold: Severity = Severity.MEDIUM
) -> Iterator[Finding]:
    """Keys of another type or with another value; how bad it is that some cannot be compared (`untold`)."""
    yield from grouped(self, found.type, f"{{n}} of another type {where}")
    yield from grouped(self, found.value, f"{{n}} with another value {where}")
    modules = Counter({label: n for label, n in found.side.items() if label[1] == "module"})
    yield from grouped(self, modules, f"{{n}} with another value {where}")
    streams = Counter({label: n for label, n in found.side.items() if label[1] == "stream"})
    yield from grouped(
        self, streams, f"{{n}} with other consumer groups, consumers or pending entries {where}"
    )
    yield from grouped(
        self, found.side - streams - modules, f"fields expire at another time in {{n}} {where}"
    )
    yield from grouped(
        self,
        found.untold,
        f"fields expired since then in {{n}}, which cannot be compared {where}",
        "nothing to do, if such fields are short-lived; take backup and manifest at one moment",
        untold,
    )


def expiry(self: Check, found: Differences, where: str) -> Iterator[Finding]:
    """Keys that expire at another time."""
    yield from grouped(self, found.expiry_lost, f"expiry is lost for {{n}} {where}")
    yield from grouped(self, found.expiry - found.expiry_lost, f"expiry differs for {{n}} {where}")


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count:,} keys"
