"""Where the shipped pytest suites lie, and whether a command line is about them."""

from __future__ import annotations

from pathlib import Path

import pytest


def suites() -> Path:
    """Folder of the shipped suites: in the wheel `harness/_suites`, in a checkout `suites`."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_suites"
    return shipped if shipped.is_dir() else package.parent / "suites"


def names_suites(config: pytest.Config) -> bool:
    """True when the command line is about drills: an option of ours, or a path among the shipped suites."""
    given = vars(config.option)
    if any(v for k, v in given.items() if k.startswith("provado_")):
        return True
    here = config.invocation_params.dir
    paths = [(here / a.split("::")[0]).resolve() for a in config.args]
    return any(p == suites() or suites() in p.parents for p in paths)
