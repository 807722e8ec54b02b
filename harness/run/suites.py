"""Where the shipped pytest suites lie."""

from __future__ import annotations

from pathlib import Path


def suites() -> Path:
    """Folder of the shipped suites: in the wheel `harness/_suites`, in a checkout `suites`."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_suites"
    return shipped if shipped.is_dir() else package.parent / "suites"
