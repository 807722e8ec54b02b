"""What the documents say is what the code does."""

import importlib.util
import re
from pathlib import Path

from harness.commands import COMMANDS
from harness.components import NAMES, component

ROOT = Path(__file__).parents[2]


def test_checks_md_is_fresh():
    spec = importlib.util.spec_from_file_location("make_checks", ROOT / "docs/make_checks.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (ROOT / "docs/checks.md").read_text() == made.page(), "run: python docs/make_checks.py"


def test_check_ids_are_unique():
    ids = [c.id for name in NAMES for c in component(name).checks]
    assert len(ids) == len(set(ids)) > 20
    assert all(c.remedy for name in NAMES for c in component(name).checks)


def test_every_file_the_readme_links_to_is_there():
    for name in ("README.md", "docs/architecture.md"):
        page = ROOT / name
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{name} links to {link}"


def test_commands_of_the_readme_exist():
    used = set(re.findall(r"provado ([a-z]+)", (ROOT / "README.md").read_text()))
    assert used <= set(COMMANDS)
