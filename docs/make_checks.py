"""Write docs/checks.md from the declared checks: `python docs/make_checks.py`."""

from __future__ import annotations

from pathlib import Path

from harness.check import Check
from harness.components import NAMES, component
from harness.policy.checks import CHECKS as POLICY

HEAD = """# Every check

Made by `docs/make_checks.py` from the code; do not edit. A check compares the restored backup with one of
four origins: `artifact` (the backup file, read independently of the server), `manifest` (facts captured from
the source), `declared` (provado.yaml) or `last_good` (the newest passing drill of the same series). The
severity is that of its findings unless one says otherwise. Checks marked *static* need no server, so they
also judge a backup that cannot be restored here.
"""
TITLES = {"postgres": "PostgreSQL", "redis": "Redis", "files": "Configuration"}
TABLE = """
## {title}

| check | what it proves | proves | origin | severity |
|---|---|---|---|---|
{rows}
"""
DRILL = (  # made by the drill itself, not declared with @check
    ("policy.missing", "A backup is where one is expected", "objective", "declared", "critical"),
    ("drill.inspect", "The backup can be read", "file", "artifact", "critical"),
    ("drill.restore", "The backup can be restored", "restore", "artifact", "critical"),
    ("policy.rpo", "The backup is young enough (when `rpo` is declared)", "objective", "declared", "high"),
    ("policy.rto", "The restore was quick enough (when `rto` is declared)", "objective", "declared", "high"),
    ("policy.waiver-expired", "No waiver has expired", "objective", "declared", "high"),
    ("policy.waiver-unused", "Every waiver is still needed", "objective", "declared", "high"),
)


def page() -> str:
    """The whole of docs/checks.md."""
    rows = "\n".join(f"| `{id}` | " + " | ".join(rest) + " |" for id, *rest in DRILL)
    parts = [HEAD, TABLE.format(title="Every drill", rows=rows)]
    parts += [section(TITLES[name], component(name).checks) for name in NAMES]
    parts.append(section("`provado monitor`: the folder of backups", POLICY))
    return "".join(parts)


def section(title: str, checks: tuple[Check, ...]) -> str:
    """A table of checks under a heading."""
    rows = [
        f"| `{c.id}` | {c.title.replace('|', '/')}{'' if c.needs_server else ' (*static*)'} "
        f"| {c.proves.value} | {c.origin.value} | {c.severity.value} |"
        for c in checks
    ]
    return TABLE.format(title=title, rows="\n".join(rows))


if __name__ == "__main__":
    (Path(__file__).parent / "checks.md").write_text(page(), encoding="utf-8")
