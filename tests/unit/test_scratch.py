"""Scratch folders vanish with their drill, and a run beside it takes none away that is being made."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path

import pytest

from harness.scratch import scratch_folder, sweep_scratch


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_swept_when_nobody_holds_it(place: Path) -> None:
    with scratch_folder() as work:
        assert sweep_scratch() == []
        assert work.is_dir()
    assert list(place.iterdir()) == []
    left = place / "provado-scratch-left"
    left.mkdir()
    (left / "lock").touch()
    assert sweep_scratch() == [str(left)]


def test_a_folder_swept_while_it_is_made_is_made_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[str] = []
    lock = fcntl.flock

    def late(handle: int, how: int) -> None:
        if not swept:
            swept.append("begun")
            swept.extend(sweep_scratch())
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch_folder() as work:
        assert len(swept) == 2
        (work / "file").touch()
    assert list(place.iterdir()) == []
