"""A drill as the ledger tells it, and whether the files it left are still the ones it recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ledger import DRILLS, PUBLISHED, drill_folders, file_sha256


@dataclass(frozen=True)
class Problem:
    """One sign of tampering. `code` is a stable word; `record` the number it was seen at, if any."""

    code: str
    record: int | None
    message: str


@dataclass(frozen=True)
class Drill:
    """One drill as the ledger tells it; `verdict` is "aborted" when no result was recorded.

    `notes` are the bodies of reviews, tickets, retests, comments and tombstones about it.
    """

    number: int
    started_at: str
    record: int
    run_id: str
    verdict: str = "aborted"
    finished_at: str | None = None
    finished_record: int | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[tuple[str, str], ...] = ()
    notes: tuple[Mapping[str, Any], ...] = ()
    expired: bool = False


def compare_files(
    output: Path, drills: Sequence[Drill], problems: list[Problem], remarks: list[str], *, settled: bool
) -> None:
    """Compare every by-product with the digest recorded when its drill ended.

    `settled` is False when the newest run was killed before its files could be published.
    """
    for drill in drills:
        recorded = dict(drill.files)
        folder = output / DRILLS / f"{drill.number:06d}"
        if drill.finished_record is None:
            remarks.append(f"drill {drill.number} was aborted (or is still running): it has no result")
            continue
        for name, digest in recorded.items():
            file = output / name
            if not file.is_file():
                if not drill.expired:
                    text = f"{name} of drill {drill.number} is missing"
                    problems.append(Problem("file-missing", drill.finished_record, text))
            elif file.is_symlink() or file_sha256(file) != digest:
                text = f"{name} of drill {drill.number} was changed after the drill"
                problems.append(Problem("file-changed", drill.finished_record, text))
        for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
            name = file.relative_to(output).as_posix()
            if not file.is_dir() and name not in recorded:
                problems.append(Problem("foreign-file", drill.finished_record, f"{name} was added later"))
    known = {d.number for d in drills}
    for number, folder in drill_folders(output):
        if number not in known:
            text = f"{DRILLS}/{folder.name} belongs to no recorded drill"
            problems.append(Problem("foreign-file", None, text))
    if settled:
        _published(output, drills, problems)


def _published(output: Path, drills: Sequence[Drill], problems: list[Problem]) -> None:
    """The copies in the output folder, which people open, must be the newest finished drill's."""
    newest = next((d for d in sorted(drills, key=_finish_order, reverse=True) if d.finished_record), None)
    recorded = {Path(name).name: digest for name, digest in newest.files} if newest else {}
    for name in PUBLISHED:
        try:
            digest = file_sha256(output / name)
        except FileNotFoundError:  # none, or a drill beside us took it away as it began
            continue
        if newest and digest != recorded.get(name):
            text = f"{name} in the output folder is not the one of drill {newest.number}, the newest"
            problems.append(Problem("published-changed", newest.finished_record, text))


def _finish_order(drill: Drill) -> int:
    return drill.finished_record or 0
