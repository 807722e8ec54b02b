"""Every way we could think of to alter a ledger is found, and named for what it is."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evidence import ledger, sign, verify

DRILLS = 50
FILES = ("evidence.json", "report.html")


def build(output: Path, signer: sign.Signer | None, drills: int) -> ledger.Head:
    """A ledger of `drills` drills, the last but two of them aborted."""
    head = None
    for n in range(1, drills + 1):
        entry = ledger.begin(output, f"run-{n}", plan={"backup": "x.sql.gz"}, signer=signer)
        for name in FILES:
            (entry.folder / name).write_text(f"{name} of drill {n}")
        if n != drills - 2:
            head = ledger.finish(entry, {"verdict": "pass", "exit_code": 0, "backups": []})
    assert head is not None
    return head


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ledger.Head]:
    folder = tmp_path_factory.mktemp("ledger")
    for name in ("ops", "mallory"):
        sign.generate(folder / name)
    head = build(folder / "reports", sign.load_signer(f"file:{folder / 'ops.key'}"), DRILLS)
    return folder, head


def record(root: Path, n: int) -> Path:
    return root / "ledger" / f"{n:08d}.json"


def mallory(root: Path) -> sign.Signer:
    signer = sign.load_signer(f"file:{root.parent / 'mallory.key'}")
    assert signer is not None
    return signer


def rewrite(file: Path, change: Callable[[dict], None], *signers: sign.Signer) -> None:  # type: ignore[type-arg]
    """Change a record's statement; keep its old signatures unless new signers are given."""
    envelope = json.loads(file.read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    new = json.loads(sign.seal(statement, signers))
    if not signers:
        new["signatures"] = envelope["signatures"]
    file.write_text(json.dumps(new, indent=1))


def rechain(root: Path, start: int, *signers: sign.Signer) -> None:
    """Chain everything after `start` anew, as a careful forger would, and write a fitting head."""
    last = max(ledger.numbers(root / "ledger"))
    ident = ""
    for n in range(start + 1, last + 1):

        def relink(statement: dict, n: int = n) -> None:  # type: ignore[type-arg]
            nonlocal ident
            statement["predicate"]["previous"] = ledger.file_sha256(record(root, n - 1))
            ident = statement["predicate"]["ledger"]

        rewrite(record(root, n), relink, *signers)
    ledger.write_head(root, ident, ledger.Head(last, ledger.file_sha256(record(root, last))), signers)


def verdict_to_fail(statement: dict) -> None:  # type: ignore[type-arg]
    statement["predicate"]["body"]["verdict"] = "fail"


def strip_signature(root: Path, n: int) -> None:
    envelope = json.loads(record(root, n).read_bytes())
    record(root, n).write_text(json.dumps({**envelope, "signatures": []}, indent=1))


def resign_all(root: Path) -> None:
    forger = mallory(root)
    rewrite(record(root, 1), lambda s: s["predicate"]["body"].update(public_key=forger.public_pem), forger)
    rechain(root, 1, forger)


def forged_rotation(root: Path) -> None:
    """A key record that names Mallory's key, signed by Mallory, then a drill signed by Mallory."""
    forger = mallory(root)
    tip = ledger._read_tip(root)
    assert tip
    body = {"keyid": forger.keyid, "public_key": forger.public_pem}
    ledger._append(root, tip, "key", body, forger, keyid=forger.keyid)


def unlink_range(root: Path, first: int, last: int) -> None:
    for n in range(first, last + 1):
        record(root, n).unlink()


def swap(root: Path, a: int, b: int) -> None:
    one, two = record(root, a).read_bytes(), record(root, b).read_bytes()
    record(root, a).write_bytes(two)
    record(root, b).write_bytes(one)


def shift_down(root: Path, gone: int) -> None:
    """Delete a record and renumber the files after it."""
    last = max(ledger.numbers(root / "ledger"))
    record(root, gone).unlink()
    for n in range(gone + 1, last + 1):
        record(root, n).rename(record(root, n - 1))


def truncate(root: Path, keep: int, *, head: bool) -> None:
    last = max(ledger.numbers(root / "ledger"))
    unlink_range(root, keep + 1, last)
    if head:
        ident = sign.unseal(record(root, keep).read_bytes()).statement["predicate"]["ledger"]
        newest = ledger.Head(keep, ledger.file_sha256(record(root, keep)))
        ledger.write_head(root, ident, newest, ())


def graft_other_ledger(root: Path) -> None:
    other = root.parent / "other"
    shutil.rmtree(other, ignore_errors=True)
    build(other, sign.load_signer(f"file:{root.parent / 'ops.key'}"), 5)
    shutil.copy(record(other, 6), record(root, 6))


def flip_bit(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def twice_a_key(root: Path) -> None:
    text = record(root, 30).read_text()
    record(root, 30).write_text(text.replace('"payload":', '"payload": "AAAA",\n "payload":', 1))


def old_head(root: Path) -> None:
    """Put back the head of ten records ago; its signature is genuine."""
    signer = sign.load_signer(f"file:{root.parent / 'ops.key'}")
    assert signer
    ident = sign.unseal(record(root, 60).read_bytes()).statement["predicate"]["ledger"]
    ledger.write_head(root, ident, ledger.Head(60, ledger.file_sha256(record(root, 60))), [signer])


def second_result(root: Path) -> None:
    """The verdict of a drill given again, by somebody who holds the key."""
    signer = sign.load_signer(f"file:{root.parent / 'ops.key'}")
    tip = ledger._read_tip(root)
    assert tip
    ledger._append(root, tip, "finished", {"drill": 7, "verdict": "pass"}, signer)


def never_started(root: Path) -> None:
    signer = sign.load_signer(f"file:{root.parent / 'ops.key'}")
    tip = ledger._read_tip(root)
    assert tip
    ledger._append(root, tip, "finished", {"drill": 99, "verdict": "pass"}, signer)


def drill_after_cut(root: Path) -> None:
    """Records cut off, then the next nightly drill appended: the alarm must not be overwritten."""
    truncate(root, 90, head=False)
    entry = ledger.begin(root, "next", signer=sign.load_signer(f"file:{root.parent / 'ops.key'}"))
    (entry.folder / "evidence.json").write_text("{}")
    ledger.finish(entry, {"verdict": "pass"})


MANIPULATIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "verdict edited": (lambda r: rewrite(record(r, 31), verdict_to_fail), "edited"),
    "newest verdict edited": (lambda r: rewrite(record(r, 100), verdict_to_fail), "edited"),
    "verdict edited, chained anew": (
        lambda r: (rewrite(record(r, 31), verdict_to_fail), rechain(r, 31)),
        "edited",
    ),
    "verdict edited, signed by another key": (
        lambda r: rewrite(record(r, 31), verdict_to_fail, mallory(r)),
        "other-key",
    ),
    "time edited": (lambda r: rewrite(record(r, 9), lambda s: s["predicate"].update(at="x")), "edited"),
    "digest of a by-product edited": (
        lambda r: rewrite(record(r, 3), lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)),
        "edited",
    ),
    "everything signed anew": (resign_all, "other-key"),
    "everything unsigned": (lambda r: [strip_signature(r, n) for n in range(1, 101)], "unsigned"),
    "one unsigned among signed": (lambda r: strip_signature(r, 42), "unsigned"),
    "signature of another record": (
        lambda r: record(r, 42).write_text(
            json.dumps(
                json.loads(record(r, 42).read_bytes())
                | {"signatures": json.loads(record(r, 43).read_bytes())["signatures"]}
            )
        ),
        "edited",
    ),
    "white space in an envelope": (
        lambda r: record(r, 50).write_bytes(record(r, 50).read_bytes() + b"\n"),
        "chain-broken",
    ),
    "white space in the newest envelope": (
        lambda r: record(r, 100).write_bytes(record(r, 100).read_bytes() + b"\n"),
        "head-changed",
    ),
    "record deleted": (lambda r: record(r, 31).unlink(), "missing"),
    "ten records deleted": (lambda r: unlink_range(r, 31, 40), "missing"),
    "beginning deleted": (lambda r: unlink_range(r, 1, 4), "missing"),
    "record deleted, the rest renumbered": (lambda r: shift_down(r, 31), "reordered"),
    "two records swapped": (lambda r: swap(r, 30, 32), "reordered"),
    "record copied over the next": (lambda r: shutil.copy(record(r, 30), record(r, 31)), "duplicate"),
    "record copied to the end": (lambda r: shutil.copy(record(r, 100), record(r, 101)), "duplicate"),
    "copy left beside": (
        lambda r: shutil.copy(record(r, 30), r / "ledger/00000030 (1).json"),
        "foreign-file",
    ),
    "end cut off": (lambda r: truncate(r, 98, head=False), "truncated"),
    "end cut off, head written anew": (lambda r: truncate(r, 98, head=True), "head-changed"),
    "end cut off, head deleted": (
        lambda r: (truncate(r, 98, head=False), (r / "ledger/head.json").unlink()),
        "head-missing",
    ),
    "all records deleted": (lambda r: unlink_range(r, 1, 100), "no-records"),
    "cut off, then another drill": (drill_after_cut, "anomaly"),
    "head deleted": (lambda r: (r / "ledger/head.json").unlink(), "head-missing"),
    "head garbled": (lambda r: (r / "ledger/head.json").write_text("{}"), "head-changed"),
    "older head put back": (old_head, "head-changed"),
    "record of another ledger": (graft_other_ledger, "other-ledger"),
    "bit flipped in a payload": (lambda r: flip_bit(record(r, 20), 120), "unreadable"),
    "record emptied": (lambda r: record(r, 20).write_bytes(b""), "unreadable"),
    "record replaced by a link": (
        lambda r: (record(r, 20).rename(r / "away"), record(r, 20).symlink_to(r / "away")),
        "foreign-file",
    ),
    "JSON key twice": (twice_a_key, "unreadable"),
    "payload type changed": (
        lambda r: record(r, 20).write_text(
            json.dumps(json.loads(record(r, 20).read_bytes()) | {"payloadType": "text/plain"})
        ),
        "unreadable",
    ),
    "forged key rotation": (forged_rotation, "other-key"),
    "second result for a drill": (second_result, "two-results"),
    "result without a start": (never_started, "no-start"),
    "evidence.json swapped": (lambda r: (r / "drills/000010/evidence.json").write_text("{}"), "file-changed"),
    "report.html of another drill": (
        lambda r: shutil.copy(r / "drills/000011/report.html", r / "drills/000010/report.html"),
        "file-changed",
    ),
    "report.html deleted": (lambda r: (r / "drills/000010/report.html").unlink(), "file-missing"),
    "by-products of a drill deleted": (lambda r: shutil.rmtree(r / "drills/000010"), "file-missing"),
    "file added to a drill": (lambda r: (r / "drills/000010/log.txt").write_text("x"), "foreign-file"),
    "drill folder added": (lambda r: (r / "drills/000777").mkdir(), "foreign-file"),
    "published report edited": (lambda r: (r / "report.html").write_text("all is well"), "published-changed"),
    "older report published": (
        lambda r: shutil.copy(r / "drills/000011/report.html", r / "report.html"),
        "published-changed",
    ),
}


@pytest.mark.parametrize("name", MANIPULATIONS)
def test_manipulation_is_named(name: str, origin: tuple[Path, ledger.Head], tmp_path: Path) -> None:
    folder, _ = origin
    shutil.copytree(folder / "reports", tmp_path / "reports")
    for key in ("ops.key", "ops.pub", "mallory.key"):
        shutil.copy(folder / key, tmp_path / key)
    key = sign.load_trusted(tmp_path / "ops.pub")
    manipulate, code = MANIPULATIONS[name]
    manipulate(tmp_path / "reports")
    judged = verify.verify(tmp_path / "reports", [key])
    assert judged.exit_code == 1
    assert code in {p.code for p in judged.problems}, judged.problems


def test_untouched_ledger_is_believed(origin: tuple[Path, ledger.Head]) -> None:
    folder, head = origin
    key = sign.load_trusted(folder / "ops.pub")
    judged = verify.verify(folder / "reports", [key], str(head))
    assert (judged.exit_code, judged.records, len(judged.drills)) == (0, 100, DRILLS)
    assert [d.number for d in judged.drills if d.verdict == "aborted"] == [DRILLS - 2]
    assert any("aborted" in r for r in judged.remarks)


def test_cutting_with_a_genuine_old_head_needs_the_expected_head(
    origin: tuple[Path, ledger.Head], tmp_path: Path
) -> None:
    """Somebody kept a full copy of last week and puts it back: only a head kept elsewhere can tell."""
    folder, head = origin
    key = sign.load_trusted(folder / "ops.pub")
    signer = sign.load_signer(f"file:{folder / 'ops.key'}")
    old = build(tmp_path / "reports", signer, 5)
    assert verify.verify(tmp_path / "reports", [key], str(old)).exit_code == 0
    judged = verify.verify(tmp_path / "reports", [key], str(head))
    assert [p.code for p in judged.problems] == ["expected-head"]


def test_without_a_trusted_key_nothing_is_believed(origin: tuple[Path, ledger.Head]) -> None:
    folder, head = origin
    assert verify.verify(folder / "reports").exit_code == 3
    assert verify.verify(folder / "reports", expect_head=str(head)).exit_code == 3
    other = sign.load_trusted(folder / "mallory.pub")
    judged = verify.verify(folder / "reports", [other])
    assert {p.code for p in judged.problems} >= {"other-key"}


@pytest.mark.slow
def test_a_thousand_records_in_two_seconds(origin: tuple[Path, ledger.Head], tmp_path: Path) -> None:
    folder, _ = origin
    signer = sign.load_signer(f"file:{folder / 'ops.key'}")
    build(tmp_path / "reports", signer, 501)
    began = time.process_time()  # of this process: the machine may be busy with other tests
    judged = verify.verify(tmp_path / "reports", [sign.load_trusted(folder / "ops.pub")])
    assert (judged.exit_code, judged.records) == (0, 1002)
    assert time.process_time() - began < 2
