"""Key records of one source, on disk and in buckets: two sources of any size compare in flat memory."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from .digest import MODULE, NEVER, NO_DIGEST, RECORD, TYPES, Digester, KeyClasses, Value, is_canary

_BUCKETS: Final = 256
_FLUSH: Final = 32 << 10
_CANARIES: Final = 1000
_REST: Final = 10  # where a record's part behind the name begins


class Spool:
    """Records (see `digest.RECORD`) of one source; `classes` names the kinds their last field points to."""

    def __init__(self, place: Path | IO[bytes], classes: KeyClasses | None = None) -> None:
        """`place` is a folder for a temporary file, or a file open for reading and writing."""
        self.classes = classes or KeyClasses()
        self.count = 0
        # The file lives as long as the spool, however the drill ends.
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=place) if isinstance(place, Path) else place  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._parts: list[list[tuple[int, int]]] = [[] for _ in range(_BUCKETS)]
        self._open = [bytearray() for _ in range(_BUCKETS)]
        self._end = 0

    def add(self, record: bytes | bytearray) -> None:
        """Take one record."""
        bucket = self._open[record[0]]
        bucket += record
        self.count += 1
        if len(bucket) > _FLUSH:
            self._flush(record[0])

    def sink(
        self, digester: Digester, canaries: dict[str, str] | None = None
    ) -> Callable[[int, bytes, Value, int], None]:
        """A function that takes keys (db, name, value, expiry in ms or NEVER); it runs for every key.

        Keys of our own (see `canary`) are no records: they go to `canaries`, as the digests of their values.
        """
        pack, kind_of, name_of, buckets, flush = (
            RECORD.pack,
            self.classes.of,
            digester.name,
            self._open,
            self._flush,
        )

        def take(db: int, key: bytes, value: Value, expiry: int) -> None:
            type_, main, side, field_expiry, death = value
            if is_canary(key):
                if canaries is not None and len(canaries) < _CANARIES:
                    canaries[key.decode("ascii", "replace")] = main.hex()
                return
            if expiry != NEVER and (death == NEVER or expiry < death):
                death = expiry
            name = name_of(key)
            bucket = buckets[name[0]]
            bucket += pack(name, db, type_, main, side[:6], expiry, field_expiry, death, kind_of(key))
            self.count += 1
            if len(bucket) > _FLUSH:
                flush(name[0])

        return take

    def add_all(self, records: bytes | bytearray) -> None:
        """Take many records at once."""
        for start in range(0, len(records), RECORD.size):
            self.add(records[start : start + RECORD.size])

    def bucket(self, number: int) -> bytes:
        """The records of one bucket, in the order they came."""
        pieces = []
        for start, size in self._parts[number]:
            self._file.seek(start)
            pieces.append(self._file.read(size))
        self._file.seek(self._end)
        return b"".join((*pieces, self._open[number]))

    def buckets(self) -> Iterator[bytes]:
        """All records, bucket by bucket."""
        return (self.bucket(number) for number in range(_BUCKETS))

    def save(self, index: Path) -> None:
        """Write everything to the spool's file, and to `index` where each bucket lies in it."""
        for number, data in enumerate(self._open):
            if data:
                self._flush(number)
        self._file.flush()
        index.write_text(json.dumps({"count": self.count, "parts": self._parts, "end": self._end}))

    @staticmethod
    def load(file: Path, classes: KeyClasses) -> Spool:
        """A spool that `save` wrote, its index beside it."""
        made = Spool(file.open("rb"), classes)
        index = json.loads(Path(f"{file}.index").read_bytes())
        made.count, made._parts, made._end = index["count"], index["parts"], index["end"]
        return made

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _flush(self, number: int) -> None:
        data = self._open[number]
        self._file.write(data)
        self._parts[number].append((self._end, len(data)))
        self._end += len(data)
        data.clear()


@dataclass
class Differences:
    """What differs between an expected and an observed source, counted by kind of key.

    Each counter's keys are (kind of key, type, database). `moved` are keys that came back in another
    database; `side` differs in hash-field expiry, a stream's groups or what a module wrote, while the content
    proper agrees.
    `expired` counts keys left out because their time had come; `untold` are hashes that differ, but whose
    fields' time had come on one side: what else differs in them cannot be told.
    """

    missing: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    extra: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    moved: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    type: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    value: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    side: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    expiry: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    expiry_lost: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    untold: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    compared: int = 0
    expired: int = 0

    def __bool__(self) -> bool:
        return any((self.missing, self.extra, self.moved, self.type, self.value, self.side, self.expiry))


def compare(
    expected: Spool,
    observed: Spool,
    *,
    past_ms: int,
    skip: frozenset[bytes] = frozenset(),
    values: bool = True,
) -> Differences:
    """Compare two sources made with the same salt; without `values` name, database, type and expiry only.

    Keys whose expiry is not after `past_ms` may be absent on either side: their time had come. Keys whose
    name digests are in `skip` are left out.
    """
    found = Differences()
    for number in range(_BUCKETS):
        left, right = expected.bucket(number), observed.bucket(number)
        if not values:
            left, right = _without_values(left), _without_values(right)
        ours, theirs = _without_kind(left), _without_kind(right)
        same = ours & theirs
        names = {record[:_REST] for record in ours ^ theirs} - skip
        found.compared += sum(record[:_REST] not in skip for record in same) if skip else len(same)
        if names:
            lefts, rights = _by_name(left, names), _by_name(right, names)
            found.compared -= sum(record[:_REST] in names for record in same)
            for name in names:
                pair = lefts.get(name, []), rights.get(name, [])
                _compare_key(*pair, expected, observed, past_ms, found)
    return found


def _without_values(records: bytes) -> bytes:
    """The records without what tells of their values."""
    made = []
    for fields in RECORD.iter_unpack(records):
        name, db, kind, _, _, expiry, _, death, label = fields
        made.append(RECORD.pack(name, db, kind, NO_DIGEST, b"", expiry, NEVER, death, label))
    return b"".join(made)


def _without_kind(records: bytes) -> set[bytes]:
    """The records but for their last field, whose numbers are each spool's own."""
    return {records[i : i + RECORD.size - 2] for i in range(0, len(records), RECORD.size)}


def _by_name(records: bytes, names: set[bytes]) -> dict[bytes, list[bytes]]:
    """For each of `names` its records without the name, once per database (a scan may meet a key twice)."""
    made: dict[bytes, list[bytes]] = {}
    for start in range(0, len(records), RECORD.size):
        name = records[start : start + _REST]
        if name in names:
            rest = records[start + _REST : start + RECORD.size]
            held = made.setdefault(name, [])
            if all(rest[:4] != other[:4] for other in held):
                held.append(rest)
    return made


def _compare_key(
    lefts: list[bytes],
    rights: list[bytes],
    expected: Spool,
    observed: Spool,
    past_ms: int,
    found: Differences,
) -> None:
    def gone(rest: bytes) -> bool:
        death: int = RECORD.unpack(b"\0" * _REST + rest)[7]
        return death != NEVER and death <= past_ms

    places = {rest[:4]: rest for rest in rights}
    lost = [rest for rest in lefts if not _pair(rest, places.pop(rest[:4], None), expected, past_ms, found)]
    found.expired += sum(map(gone, lost))
    lost = [rest for rest in lost if not gone(rest)]
    more = [rest for rest in places.values() if not gone(rest)]
    while lost and more:
        found.moved[_label(lost.pop(), expected)] += 1
        more.pop()
    found.missing.update(_label(rest, expected) for rest in lost)
    found.extra.update(_label(rest, observed) for rest in more)


def _pair(left: bytes, right: bytes | None, expected: Spool, past_ms: int, found: Differences) -> bool:
    """Compare two records of one key; False when there is no second one."""
    if right is None:
        return False
    found.compared += 1
    a, b = RECORD.unpack(b"\0" * _REST + left), RECORD.unpack(b"\0" * _REST + right)
    label = _label(left, expected)
    gone = [r[6] != NEVER and r[6] <= past_ms for r in (a, b)]  # the time of fields had come
    if a[2] != b[2]:
        found.type[label] += 1
    elif a[3] != b[3]:
        (found.untold if any(gone) else found.value)[label] += 1
    elif a[4] != b[4] and not gone[0] and not _untold(a, b):
        found.side[label] += 1
    if a[5] != b[5]:
        found.expiry[label] += 1
        if b[5] == NEVER:
            found.expiry_lost[label] += 1
    return True


def _untold(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether one of two module values comes from a live server, which shows its type only."""
    return a[2] == MODULE and (not any(a[4]) or not any(b[4]))


def _label(rest: bytes, spool: Spool) -> tuple[str, str, int]:
    fields = RECORD.unpack(b"\0" * _REST + rest)
    names = spool.classes.names
    kind = names[fields[8]] if fields[8] < len(names) else names[0]
    return kind, TYPES[fields[2]] if fields[2] < len(TYPES) else "unknown", fields[1]
