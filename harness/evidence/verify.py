"""Reads a ledger back and says whether it can be believed, offline and without running anything.

Trust comes only from what the caller brings: a public key and, against cutting off the end, a head that
was kept elsewhere. A key found inside the ledger is believed only when a trusted one signed it in.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError
from .byproducts import Drill, Problem, compare_files
from .ledger import DRILLS, FOLDER, GENESIS, HEAD, PREDICATE_TYPE, RECORD_NAME, Head, file_sha256, numbers
from .sign import Envelope, TrustedKey, trusted_from_pem, unseal

_ATTEMPTS: Final = 5
_WAIT_S: Final = 10.0
_EXPECTED_HEAD: Final = re.compile(r"(?:(\d+):)?([0-9a-f]{64})")


@dataclass(frozen=True)
class Judged:
    """What `verify` found. `trusted` names what the trust rests on, None when nothing could vouch."""

    records: int
    drills: tuple[Drill, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]
    head: Head | None
    signed: bool
    trusted: str | None

    @property
    def exit_code(self) -> int:
        """0 proven, 1 tampered with, 3 nothing to judge by."""
        return 1 if self.problems else 0 if self.trusted else 3


@dataclass(frozen=True)
class _Record:
    number: int  # as its file name says
    sha256: str
    envelope: Envelope
    predicate: Mapping[str, Any]

    @property
    def body(self) -> Mapping[str, Any]:
        body = self.predicate["body"]
        return body if isinstance(body, dict) else {}

    @property
    def kind(self) -> str:
        return str(self.predicate["kind"])


def verify(output: Path, trusted: Sequence[TrustedKey] = (), expect_head: str | None = None) -> Judged:
    """Judge the ledger in `output`. Raises ConfigError when there is none or `expect_head` is malformed."""
    folder = output / FOLDER
    if not folder.is_dir():
        raise ConfigError("there is no ledger here", where=str(output))
    expected = _EXPECTED_HEAD.fullmatch(expect_head.strip().lower()) if expect_head else None
    if expect_head and not expected:
        raise ConfigError(f"--expect-head {expect_head} is no head", remedy="give NUMBER:SHA256 or SHA256")
    for _ in range(_ATTEMPTS - 1):  # a drill that writes meanwhile is no tampering: look again
        before = _state(folder)
        judged = _judge(output, trusted, expected)
        if not judged.problems or before == _state(folder):
            return judged
    with _still(folder):
        return _judge(output, trusted, expected)


@contextlib.contextmanager
def _still(folder: Path) -> Iterator[None]:
    """Keep writers out for one look, where they could write at all: a copy on read-only media has none."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as held:
        if os.access(folder, os.W_OK):
            with contextlib.suppress(Timeout, OSError):
                held.enter_context(FileLock(folder / ".lock", timeout=_WAIT_S))
        yield


def _state(folder: Path) -> tuple[bytes | None, int]:
    """What changes whenever somebody writes: the head, and how many records there are."""
    head = folder / HEAD
    return head.read_bytes() if head.is_file() else None, len(numbers(folder))


def _judge(output: Path, trusted: Sequence[TrustedKey], expected: re.Match[str] | None) -> Judged:
    folder = output / FOLDER
    problems: list[Problem] = []
    remarks: list[str] = []
    records, digests = _read(folder, problems)
    _chain(records, digests, problems)
    vouched = _signatures(records, trusted, problems, remarks)
    settled = _head(folder, digests, vouched, bool(trusted), problems, remarks)
    matched = False
    if expected:
        number, digest = expected[1], expected[2]
        where = [n for n, d in digests.items() if d == digest and (not number or n == int(number))]
        matched = bool(where)
        if not matched:
            problems.append(
                Problem(
                    "expected-head",
                    int(number) if number else None,
                    "the head that was kept elsewhere is not in this ledger: records were cut off or "
                    "replaced",
                )
            )
        elif where[0] < max(digests):
            remarks.append(f"{max(digests) - where[0]} records are newer than the expected head")
    drills = _drills(records, problems)
    compare_files(output, drills, problems, remarks, settled=settled)
    signed = any(r.envelope.signatures for r in records)
    return Judged(
        len(digests),
        drills,
        tuple(problems),
        tuple(remarks),
        Head(max(digests), digests[max(digests)]) if digests else None,
        signed,
        _basis(bool(trusted), signed, matched) if not problems else None,
    )


def _basis(key: bool, signed: bool, head: bool) -> str | None:
    if key:
        return "the trusted key and the expected head" if head else "the trusted key"
    return "the expected head; the ledger is not signed" if head and not signed else None


def _read(folder: Path, problems: list[Problem]) -> tuple[list[_Record], dict[int, str]]:
    """All readable records by file name, and the digest of every record file; names what does not belong."""
    records: list[_Record] = []
    digests: dict[int, str] = {}
    for file in sorted(folder.iterdir()):
        if file.name in (HEAD, ".lock") or (file.name.startswith(".") and file.name.endswith(".tmp")):
            continue
        name = RECORD_NAME.fullmatch(file.name)
        if not name or file.is_symlink() or not file.is_file():
            problems.append(Problem("foreign-file", None, f"{file.name} does not belong into a ledger"))
            continue
        number = int(name[1])
        digests[number] = file_sha256(file)
        try:
            envelope = unseal(file.read_bytes())
            predicate = envelope.statement["predicate"]
            for key, kind in (("seq", int), ("drills", int), ("previous", str), ("at", str), ("kind", str)):
                if type(predicate[key]) is not kind:
                    raise ValueError(f"its field {key} is no {kind.__name__}")
            if envelope.statement["predicateType"] != PREDICATE_TYPE or "body" not in predicate:
                raise ValueError("it is no record of a ledger")
        except (ValueError, KeyError, TypeError) as error:
            why = str(error) if type(error) is ValueError else "it is no record of a ledger"
            problems.append(Problem("unreadable", number, f"record {number} cannot be read: {why}"))
            continue
        records.append(_Record(number, digests[number], envelope, predicate))
    if not digests:
        problems.append(Problem("no-records", None, "the ledger's folder holds no record at all"))
    return records, digests


def _chain(records: Sequence[_Record], digests: Mapping[int, str], problems: list[Problem]) -> None:
    absent = sorted(set(range(1, max(digests, default=0) + 1)) - set(digests))
    for first, last in _ranges(absent):
        text = f"record {first} is" if first == last else f"records {first} to {last} are"
        problems.append(Problem("missing", first, f"{text} missing: deleted, or moved away"))
    seen: dict[int, int] = {}
    drills, ledger = 0, records[0].predicate["ledger"] if records else ""
    for record in records:
        n, said = record.number, record.predicate["seq"]
        if said in seen:
            problems.append(
                Problem("duplicate", n, f"records {seen[said]} and {n} both carry sequence number {said}")
            )
        elif said != n:
            problems.append(
                Problem(
                    "reordered", n, f"in the place of record {n} lies record {said}: reordered or renamed"
                )
            )
        seen.setdefault(said, n)
        before = digests.get(n - 1) if n > 1 else GENESIS
        if before is not None and record.predicate["previous"] != before:
            text = (
                f"record {n} was chained to another record {n - 1} than the one lying here: record {n - 1} "
                "was edited, replaced or moved"
                if n > 1
                else "the first record has a predecessor: the ledger's beginning was cut off"
            )
            problems.append(Problem("chain-broken", n, text))
        if record.predicate["ledger"] != ledger:
            problems.append(Problem("other-ledger", n, f"record {n} belongs to another ledger"))
        if (record.kind == "created") != (n == 1):
            problems.append(
                Problem("other-ledger", n, f"record {n} is a {record.kind} record, which cannot stand there")
            )
        if record.predicate["drills"] < drills:
            problems.append(Problem("drill-count", n, f"record {n} counts fewer drills than the one before"))
        drills = record.predicate["drills"]
        if record.kind == "anomaly":
            problems.append(
                Problem(
                    "anomaly",
                    n,
                    f"record {n} says that the ledger was already damaged when it was written: the head said "
                    f"{record.body.get('head')}, the newest record was {record.body.get('found')}",
                )
            )


def _signatures(
    records: Sequence[_Record],
    trusted: Sequence[TrustedKey],
    problems: list[Problem],
    remarks: list[str],
) -> dict[int, TrustedKey]:
    """Check every signature; returns which key was in force at each record."""
    pinned = {k.keyid: k for k in trusted}
    introduced = next((r for r in records if r.kind == "key" and r.body.get("keyid") in pinned), None)
    first = str(records[0].predicate.get("key")) if records else ""
    # Without a record that brings the trusted key in, it must have signed everything from the beginning.
    active = None if introduced and first not in pinned else pinned.get(first) or next(iter(trusted), None)
    if introduced and active is None and introduced.number > 1:
        remarks.append(
            f"the trusted key came in with record {introduced.number}: the records before it are vouched for "
            "by the chain of digests"
        )
    vouched: dict[int, TrustedKey] = {}
    was_signed = False
    for record in records:
        signatures = record.envelope.signatures
        if was_signed and not signatures:
            text = f"record {record.number} is not signed, unlike the records before it"
            problems.append(Problem("unsigned", record.number, text))
        elif active and not signatures:
            text = f"record {record.number} is not signed, but a trusted key was given"
            problems.append(Problem("unsigned", record.number, text))
        elif active and not any(active.verifies(record.envelope.signed_bytes, s) for _, s in signatures):
            ours = any(keyid == active.keyid for keyid, _ in signatures)
            text = (
                f"record {record.number} was edited after it was signed"
                if ours
                else f"record {record.number} is signed with another key"
            )
            problems.append(Problem("edited" if ours else "other-key", record.number, text))
        was_signed = was_signed or bool(signatures)
        if record.kind == "key" and trusted:
            active = _next_key(record, active, pinned, problems) or active
        if active:
            vouched[record.number] = active
    return vouched


def _next_key(
    record: _Record, active: TrustedKey | None, pinned: Mapping[str, TrustedKey], problems: list[Problem]
) -> TrustedKey | None:
    """The key that a rotation record brings in, if it may: it must have signed the record itself, and so
    must the key in force (checked by the caller) or else it must be trusted from outside."""
    keyid = str(record.body.get("keyid"))
    try:
        key = pinned.get(keyid) or (trusted_from_pem(str(record.body["public_key"])) if active else None)
    except (ValueError, KeyError):
        key = None
    if key is None and active is None:
        return None
    signatures = record.envelope.signatures
    if (
        key is None
        or key.keyid != keyid
        or not any(key.verifies(record.envelope.signed_bytes, s) for _, s in signatures)
    ):
        text = f"record {record.number} brings in a key that did not sign it"
        problems.append(Problem("bad-rotation", record.number, text))
        return None
    if active and not any(active.verifies(record.envelope.signed_bytes, s) for _, s in signatures):
        return None
    return key


def _head(
    folder: Path,
    digests: Mapping[int, str],
    vouched: Mapping[int, TrustedKey],
    trusted: bool,
    problems: list[Problem],
    remarks: list[str],
) -> bool:
    """Compare head.json with the chain; False when it is one record behind, as a killed run leaves it."""
    newest = max(digests, default=0)
    try:
        envelope = unseal((folder / HEAD).read_bytes())
        predicate = envelope.statement["predicate"]
        head = Head(int(predicate["seq"]), str(predicate["sha256"]))
    except FileNotFoundError:
        if newest == 1:
            remarks.append("a run was killed right after it opened the ledger")
        elif newest:
            problems.append(
                Problem("head-missing", None, f"{HEAD} is missing: it tells how long the chain is")
            )
        return newest != 1
    except (OSError, ValueError, KeyError, TypeError):
        problems.append(Problem("head-changed", None, f"{HEAD} cannot be read"))
        return True
    if head.seq > newest:
        text = f"the head names record {head.seq}, but the newest is {newest}: the end was cut off"
        problems.append(Problem("truncated", newest, text))
    elif digests.get(head.seq) != head.sha256:
        text = f"the head and record {head.seq} disagree: one of them was edited or replaced"
        problems.append(Problem("head-changed", head.seq, text))
    elif head.seq < newest - 1:
        text = f"the head stops at record {head.seq}, but there are {newest}: an old head was put back"
        problems.append(Problem("head-changed", head.seq, text))
    elif head.seq == newest - 1:
        remarks.append(f"a run was killed right after it wrote record {newest}")
    key = vouched.get(head.seq)
    if trusted and key and not any(key.verifies(envelope.signed_bytes, s) for _, s in envelope.signatures):
        problems.append(Problem("head-changed", None, f"{HEAD} is not signed with the trusted key"))
    return head.seq != newest - 1


def _drills(records: Sequence[_Record], problems: list[Problem]) -> tuple[Drill, ...]:
    found: dict[int, dict[str, Any]] = {}
    for record in records:
        body, n = record.body, record.number
        number = body.get("drill")
        if record.kind not in ("started", "finished", "note", "tombstone"):
            continue
        if not isinstance(number, int) or (record.kind != "started" and number not in found):
            text = f"record {n} is about drill {number}, which was never started"
            problems.append(Problem("no-start", n, text))
        elif record.kind == "started":
            if number in found:
                problems.append(Problem("duplicate-drill", n, f"record {n} starts drill {number} again"))
                continue
            found[number] = {
                "number": number,
                "started_at": record.predicate["at"],
                "record": n,
                "run_id": str(body.get("run_id")),
                "notes": (),
            }
        elif record.kind == "finished":
            if "finished_record" in found[number]:
                problems.append(Problem("two-results", n, f"record {n} gives drill {number} a second result"))
                continue
            found[number] |= {
                "verdict": str(body.get("verdict")),
                "finished_at": record.predicate["at"],
                "finished_record": n,
                "summary": body,
                "files": tuple(_subjects(record, number, problems)),
            }
        else:
            found[number]["notes"] += ({**body, "at": record.predicate["at"], "record": n},)
            found[number]["expired"] = found[number].get("expired", False) or record.kind == "tombstone"
    for first, last in _ranges(sorted(set(range(1, max(found, default=0) + 1)) - set(found))):
        text = f"drill {first} has" if first == last else f"drills {first} to {last} have"
        problems.append(Problem("missing-drill", None, f"{text} no record of a start"))
    return tuple(Drill(**found[n]) for n in sorted(found))


def _subjects(record: _Record, drill: int, problems: list[Problem]) -> list[tuple[str, str]]:
    files: list[tuple[str, str]] = []
    inside = f"{DRILLS}/{drill:06d}/"
    for subject in record.envelope.statement.get("subject", ()):
        name = str(subject.get("name"))
        if name.startswith(inside) and ".." not in name.split("/"):
            files.append((name, str(subject.get("digest", {}).get("sha256"))))
        elif not name.startswith(FOLDER):
            text = f"record {record.number} names a file outside its drill's folder"
            problems.append(Problem("foreign-file", record.number, text))
    return files


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found
