"""The ledger: which drills ran, in what order, with what result - written so that nothing can vanish quietly.

How a run uses it (`begin` and `finish` are all it needs; `evidence.verify` reads it back)::

    signer = sign.load_signer(settings.evidence.signing_key)       # None: the ledger is not signed
    entry = ledger.begin(output, run_id, plan=plan, signer=signer)  # before anything is restored
    ... write evidence.json, report.html, junit.xml ... into entry.folder; put entry.as_json() into
        evidence.json under "ledger" and history.history(output, without=entry.drill) under "history" ...
    head = ledger.finish(entry, evidence)                           # after every by-product is written

`finish` records the digest of every file in `entry.folder` and copies them to the output folder, where
people look for the newest drill's files. A run that dies between the two leaves a drill that `verify`
calls aborted. Layout below the output folder::

    ledger/00000001.json ...   records: DSSE envelopes, each naming its predecessor's SHA-256
    ledger/head.json           the newest record's number and digest, an envelope too
    drills/000001/ ...         the by-products of each drill
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ..atomic import write_atomic
from ..errors import ConfigError, ProvadoError
from ..redact import storable
from .sign import STATEMENT_TYPE, Signer, seal, unseal

PREDICATE_TYPE: Final = "https://github.com/provado/provado/ledger/v1"
FOLDER: Final = "ledger"
DRILLS: Final = "drills"
HEAD: Final = "head.json"
GENESIS: Final = "0" * 64
PUBLISHED: Final = ("evidence.json", "report.html", "pytest.html", "junit.xml", "provado.prom")
RECORD_NAME: Final = re.compile(r"(\d{8})\.json")
_LOCK_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Head:
    """The newest record: number and SHA-256. Written as `NUMBER:DIGEST`, worth keeping outside the folder."""

    seq: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.sha256}"


@dataclass(frozen=True)
class Entry:
    """An open drill: its number, its `started` record, and the folder for its by-products."""

    output: Path
    folder: Path
    ledger: str
    drill: int
    head: Head
    run_id: str
    signer: Signer | None

    def as_json(self) -> dict[str, Any]:
        """What evidence.json says about its place in the ledger. `keyid` None: not signed."""
        return {
            "id": self.ledger,
            "drill": self.drill,
            "record": self.head.seq,
            "record_sha256": self.head.sha256,
            "signed": self.signer is not None,
            "signature": "Ed25519" if self.signer else "not signed",
            "keyid": self.signer.keyid if self.signer else None,
        }


@dataclass(frozen=True)
class _Tip:
    """Where the chain ends: the newest record and what every record repeats about the whole."""

    head: Head
    ledger: str
    drills: int
    keyid: str | None
    seen_head: str  # "" when head.json agrees with the records, else what it says instead


def begin(
    output: Path, run_id: str, *, plan: Mapping[str, Any] | None = None, signer: Signer | None = None
) -> Entry:
    """Open a drill: its number is taken and recorded before there is any result.

    Raises ConfigError when the ledger is signed with a key and another or none is given: an unsigned
    record among signed ones would look like tampering. A ledger found cut or altered is not repaired:
    the new records say so for ever, and the drill goes on.
    """
    with _locked(output):
        tip = _prepared(output, signer)
        number = max(tip.drills, *_folder_numbers(output), 0) + 1
        body = {"drill": number, "run_id": run_id, "plan": _clean(plan or {})}
        head = _append(output, tip, "started", body, signer, drills=number)
        folder = output / DRILLS / f"{number:06d}"
        folder.mkdir(parents=True)
        for name in PUBLISHED:  # a run that dies must not leave the last one's answer as its own
            (output / name).unlink(missing_ok=True)
        return Entry(output, folder, tip.ledger, number, head, run_id, signer)


def finish(entry: Entry, evidence: Mapping[str, Any]) -> Head:
    """Close a drill: digests of its by-products and its verdict are recorded, then the files published.

    Returns the new head, which should be printed: who keeps it elsewhere can later prove that nothing
    was cut off (`provado evidence verify --expect-head`).
    """
    subjects = [
        {"name": file.relative_to(entry.output).as_posix(), "digest": {"sha256": file_sha256(file)}}
        for file in sorted(entry.folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    ]
    body = _clean({"drill": entry.drill, "run_id": entry.run_id, **_summary(evidence)})
    with _locked(entry.output):
        tip = _prepared(entry.output, entry.signer)
        return _append(
            entry.output, tip, "finished", body, entry.signer, subjects=subjects, publish=entry.folder
        )


def note(
    output: Path,
    kind: str,
    *,
    drill: int,
    by: str,
    text: str = "",
    link: str = "",
    signer: Signer | None = None,
) -> Head:
    """Add what people say about a drill: a review, a ticket, the drill that retested it, a comment.

    Raises ConfigError when there is no such drill.
    """
    with _locked(output):
        tip = _existing(output, drill, signer)
        body = {"drill": drill, "note": kind, "by": by, "text": text, "link": link}
        return _append(output, tip, "note", _clean(body), signer)


def expire(output: Path, *, drill: int, by: str, reason: str, signer: Signer | None = None) -> Head:
    """Remove a drill's by-products at the end of their retention; a tombstone and their digests stay."""
    with _locked(output):
        tip = _existing(output, drill, signer)
        head = _append(output, tip, "tombstone", _clean({"drill": drill, "by": by, "reason": reason}), signer)
        shutil.rmtree(output / DRILLS / f"{drill:06d}", ignore_errors=True)
        return head


def rotate(output: Path, old: Signer, new: Signer, *, reason: str = "") -> Head:
    """Go over to a new key: the record is signed by both, so trust in one leads to the other."""
    with _locked(output):
        tip = _prepared(output, old)
        body = _clean({"keyid": new.keyid, "public_key": new.public_pem, "reason": reason})
        return _append(output, tip, "key", body, old, new, keyid=new.keyid)


def drill_folders(output: Path) -> Iterator[tuple[int, Path]]:
    """The numbered by-product folders, in order."""
    for number in sorted(_folder_numbers(output)):
        yield number, output / DRILLS / f"{number:06d}"


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder = output / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=_LOCK_TIMEOUT_S)
        with lock:
            yield
    except Timeout:
        raise ProvadoError(
            f"another run has held the ledger's lock for {_LOCK_TIMEOUT_S:.0f} s",
            where=str(folder),
            remedy="wait for it to end, then run again",
        ) from None
    except OSError as error:
        raise ConfigError(f"the ledger cannot be written: {error.strerror}", where=str(folder)) from None


def _prepared(output: Path, signer: Signer | None) -> _Tip:
    """The tip to append to, after a new ledger was opened, a key taken up or an anomaly recorded."""
    keyid = signer.keyid if signer else None
    tip = _read_tip(output)
    if tip is None:
        tip = _Tip(Head(0, GENESIS), str(uuid.uuid4()), 0, keyid, "")
        body = {"keyid": keyid, "public_key": signer.public_pem if signer else None}
        head = _append(output, tip, "created", body, signer)
        return _Tip(head, tip.ledger, 0, keyid, "")
    if tip.keyid is not None and tip.keyid != keyid:
        raise ConfigError(
            f"this ledger is signed with key {tip.keyid[:16]}, but "
            + (f"key {keyid[:16]} was given" if keyid else "no signing key was given"),
            where=str(output / FOLDER),
            remedy="give that key (--signing-key, PROVADO_SIGNING_KEY), write to another --output, or change "
            "keys with `provado evidence rotate`",
        )
    if tip.seen_head:
        body = {"head": tip.seen_head, "found": str(tip.head)}
        tip = _Tip(_append(output, tip, "anomaly", body, signer), tip.ledger, tip.drills, tip.keyid, "")
    if tip.keyid is None and signer:
        body = {"keyid": keyid, "public_key": signer.public_pem, "reason": "signing begins"}
        head = _append(output, tip, "key", body, signer, keyid=keyid)
        tip = _Tip(head, tip.ledger, tip.drills, keyid, "")
    return tip


def _existing(output: Path, drill: int, signer: Signer | None) -> _Tip:
    tip = _read_tip(output)
    if tip is None or not 1 <= drill <= tip.drills:
        raise ConfigError(f"there is no drill {drill} in this ledger", where=str(output / FOLDER))
    return _prepared(output, signer)


def _read_tip(output: Path) -> _Tip | None:
    """The chain's end as the files show it; None when there is no record yet."""
    present = numbers(output / FOLDER)
    head_file = output / FOLDER / HEAD
    if not present:
        if head_file.exists():
            raise ConfigError(
                "the ledger's records are gone but its head is there",
                where=str(head_file),
                remedy="restore the ledger from a copy, or keep the folder and use another --output",
            )
        return None
    newest = Head(present[-1], file_sha256(record_file(output, present[-1])))
    seen = _head_says(output, newest)
    for number in reversed(present):  # a damaged last record must not stop tonight's drill
        try:
            predicate = unseal(record_file(output, number).read_bytes()).statement["predicate"]
            found = (str(predicate["ledger"]), int(predicate["drills"]), predicate["key"])
        except (ValueError, KeyError, TypeError):
            seen = seen or f"record {number} is not readable"
            continue
        return _Tip(newest, *found, seen)
    raise ConfigError("holds no readable record", where=str(output / FOLDER), remedy="use another --output")


def _head_says(output: Path, newest: Head) -> str:
    """ "" when head.json agrees with the newest record or is one behind it (a run was killed between the
    two writes); otherwise what head.json says instead."""
    try:
        predicate = unseal((output / FOLDER / HEAD).read_bytes()).statement["predicate"]
        head = Head(int(predicate["seq"]), str(predicate["sha256"]))
    except FileNotFoundError:
        return "" if newest.seq == 1 else "missing"
    except (OSError, ValueError, KeyError, TypeError):
        return "unreadable"
    if head == newest:
        return ""
    before = record_file(output, newest.seq - 1)
    if head.seq == newest.seq - 1 and before.is_file() and file_sha256(before) == head.sha256:
        return ""
    return str(head)


def _append(
    output: Path,
    tip: _Tip,
    kind: str,
    body: Mapping[str, Any],
    *signers: Signer | None,
    subjects: Sequence[Mapping[str, Any]] = (),
    drills: int | None = None,
    keyid: str | None = None,
    publish: Path | None = None,
) -> Head:
    seq = tip.head.seq + 1
    before = f"{FOLDER}/{tip.head.seq:08d}.json" if tip.head.seq else FOLDER
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": list(subjects) or [{"name": before, "digest": {"sha256": tip.head.sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "ledger": tip.ledger,
            "seq": seq,
            "previous": tip.head.sha256,
            "at": _now(),
            "kind": kind,
            "drills": tip.drills if drills is None else drills,
            "key": keyid or tip.keyid,
            "body": body,
        },
    }
    present = [s for s in signers if s]
    data = seal(statement, present)
    write_atomic(record_file(output, seq), data)
    head = Head(seq, hashlib.sha256(data).hexdigest())
    if publish:
        _publish(output, publish)
    write_head(output, tip.ledger, head, present[-1:])
    return head


def write_head(output: Path, ledger: str, head: Head, signers: Sequence[Signer]) -> None:
    """Record the newest record's number and digest, signed by the key in force."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"{FOLDER}/{head.seq:08d}.json", "digest": {"sha256": head.sha256}}],
        "predicateType": PREDICATE_TYPE + "/head",
        "predicate": {"ledger": ledger, "seq": head.seq, "sha256": head.sha256, "at": _now()},
    }
    write_atomic(output / FOLDER / HEAD, seal(statement, signers))


def _publish(output: Path, folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.is_symlink():
            write_atomic(output / file.name, file.read_bytes())


def _summary(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a drill's evidence that stays in the chain itself, even after its files expired."""
    kept = ("name", "component", "kind", "sha256", "bytes", "taken_at", "verdict")
    figures = ("backup_age_s", "rto_s", "rows", "keys", "files")
    return {
        **{k: evidence.get(k) for k in ("verdict", "exit_code", "reason", "started_at", "finished_at")},
        "backups": [
            {k: b.get(k) for k in kept} | {k: (b.get("measured") or {}).get(k) for k in figures}
            for b in evidence.get("backups", ())
        ],
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {storable(str(k)): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float) else storable(str(value))


def numbers(folder: Path) -> list[int]:
    """The numbers of the record files lying in a ledger's folder, in order."""
    return sorted(int(m[1]) for n in _names(folder) if (m := RECORD_NAME.fullmatch(n)))


def _folder_numbers(output: Path) -> list[int]:
    return [int(name) for name in _names(output / DRILLS) if re.fullmatch(r"\d{6,}", name)]


def _names(folder: Path) -> list[str]:
    """Names in a folder, none when there is no such folder; quick, since every record asks for them."""
    try:
        return os.listdir(folder)  # noqa: PTH208 - a Path per name costs ten times as much
    except FileNotFoundError:
        return []


def record_file(output: Path, seq: int) -> Path:
    """Where a record lies."""
    return output / FOLDER / f"{seq:08d}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
