"""The second process that walks large files gives what walking here gives, and never outlives the drill."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rdb_files import SAMPLE

from harness.errors import ToolError
from harness.redis.spool import compare
from harness.redis.walker import start


def test_both_ways_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "dump.rdb"
    file.write_bytes(SAMPLE)
    until = time.monotonic() + 60
    here = start(file, b"salt", tmp_path, until, lambda done, total: None)
    there = start(file, b"salt", tmp_path, until, lambda done, total: None, large=1)
    assert there.result()[0] == here.result()[0]
    assert there.result()[1].count == 6
    assert not compare(here.result()[1], there.result()[1], past_ms=0)
    assert there.result()[1].classes.names == here.result()[1].classes.names


def test_a_walk_that_is_given_up_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "dump.rdb"
    file.write_bytes(SAMPLE)
    walk = start(file, b"", tmp_path, time.monotonic() + 60, lambda done, total: None, large=1)
    walk.close()
    assert walk._child is not None and walk._child.returncode is not None


def test_a_walk_that_breaks_is_told(tmp_path: Path) -> None:
    file = tmp_path / "dump.rdb"
    file.write_bytes(SAMPLE)
    (tmp_path / "walk.spool").write_bytes(b"in the way")
    walk = start(file, b"", tmp_path, time.monotonic() + 60, lambda done, total: None, large=1)
    with pytest.raises(ToolError):
        walk.result()
