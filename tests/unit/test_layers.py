"""The layering of docs/architecture.md, read from the imports themselves."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "harness"
MODULES = sorted(p for p in ROOT.rglob("*.py") if "_suites" not in p.parts)
LONGEST = 400
EXEC = {"system", "popen", "execv", "execve", "execvp", "execvpe", "posix_spawn", "spawnv", "spawnve"}
STARTS = {
    ROOT / "process.py",
    ROOT / "sandbox/launch.py",  # the supervisor: a program of its own that becomes the server
}

# What each part may import of ours. A part is a folder or a module below harness/. Lower layers first.
WORDS = {"model", "errors", "__init__"}
TOOLS = WORDS | {"redact", "atomic", "process", "lock", "settings", "scratch", "backups", "recovery"}
DATA = TOOLS | {
    "stream",
    "tar",
    "archive",
    "escrow",
    "catalog",
    "manifest",
    "sandbox",
    "check",
    "component",
    "objectives",
    "waivers",
}
COMPONENTS = {"postgres", "redis", "files"}
RUN = (
    DATA
    | COMPONENTS
    | {"policy", "runbook", "release", "consistency", "components", "drill", "evidence", "report", "run"}
)
ALLOWED = {
    "model": set(),
    "errors": {"model"},
    "redact": WORDS,
    "atomic": WORDS,
    "lock": TOOLS,
    "backups": TOOLS,
    "recovery": WORDS | {"backups"},
    "process": WORDS,
    "settings": WORDS | {"redact"},
    "scratch": WORDS,
    "stream": TOOLS,
    "tar": TOOLS | {"stream"},
    "archive": TOOLS | {"stream", "tar"},
    "escrow": TOOLS,
    "catalog": TOOLS | {"stream"},
    "manifest": TOOLS,
    "sandbox": TOOLS,
    "check": WORDS,
    "objectives": WORDS | {"settings"},
    "waivers": WORDS | {"settings"},
    "component": TOOLS | {"check"},
    "components": {"component", "postgres", "redis", "files"},
    "postgres": DATA | {"postgres"},
    "redis": DATA | {"redis"},
    "files": DATA | {"files"},
    "policy": DATA | {"policy"},
    "runbook": DATA | COMPONENTS | {"policy", "components", "runbook"},
    "release": DATA,
    "consistency": WORDS | {"settings"},
    "report": WORDS | {"redact", "report"},
    "evidence": TOOLS | {"evidence"},
    "drill": DATA | {"components", "release"},
    "run": RUN,
    "plugin": RUN | {"plugin"},
    "commands": RUN | {"plugin", "commands", "cli"},
    "cli": {"commands", "check", "errors", "redact", "__init__"},
    "__main__": {"cli"},
    "__init__": set(),
}


@cache
def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def part_of(module: Path) -> str:
    relative = module.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(module: Path) -> set[str]:
    """Parts of harness that a module imports, wherever the statement stands (lazily or not)."""
    package = ("harness", *module.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.walk(tree(module)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        for name in names:
            words = name.split(".")
            if words[0] == "harness":
                inner = words[1] if len(words) > 1 else "__init__"
                exists = (ROOT / inner).is_dir() or (ROOT / f"{inner}.py").is_file()
                found.add(inner if exists else "__init__")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(module):
    part = part_of(module)
    assert part in ALLOWED, f"{part} is new: give it a place in the layers"
    wrong = imports(module) - ALLOWED[part] - ({part} if module.parent != ROOT else set())
    assert not wrong, f"{module.relative_to(ROOT)} must not import {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_stay_readable(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_programs_start_in_one_place_only(module):
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name for a in node.names} | {getattr(node, "module", None)}
            assert "subprocess" not in names or module == ROOT / "process.py", "use harness.process"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "os"
        ):
            assert node.func.attr not in EXEC or module in STARTS, f"line {node.lineno}: use harness.process"


def test_every_module_says_what_it_is_for():
    silent = [str(m.relative_to(ROOT)) for m in MODULES if not ast.get_docstring(tree(m))]
    assert silent == []
