"""Progress of `provado capture` where nobody watches: a line now and then, nothing with --quiet."""

from __future__ import annotations

import pytest

from harness.commands import capture


@pytest.mark.parametrize(
    ("quiet", "every_s", "expected"),
    [
        (False, 0.0, [" 50%  1,000 of 2,000 keys", "100%  2,000 of 2,000 keys"]),
        (False, 60.0, []),
        (True, 0.0, []),
    ],
    ids=["lines", "too soon", "quiet"],
)
def test_plain_lines(
    quiet: bool,
    every_s: float,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(capture, "_EVERY_S", every_s)
    with capture._Teller(quiet, "keys") as tell:
        tell(1000, 2000, "keys")
        tell(2000, 2000, "keys")
    assert capsys.readouterr().err.splitlines() == expected
