"""From a runbook's sections to rehearsals and back: what is rehearsed, what is not, and the last results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..atomic import write_atomic
from ..check import Check, run_checks
from ..errors import ArtifactError, ConfigError, RestoreError
from ..model import CheckResult, Finding, Status, Verdict
from ..redact import mask
from ..settings import Settings
from ..settings.policy import Runbook
from . import files, postgres, redis, watch
from .ground import Ground
from .parse import Section, read_runbook

TEXT: Final = "text:"
TEST: Final = "test:"
_ALL: Final = (*watch.CHECKS, *postgres.CHECKS, *redis.CHECKS, *files.CHECKS)


@dataclass(frozen=True)
class Traced:
    """A section with what stands for it: names of rehearsals, a reason, a test of the user's, or nothing."""

    section: Section
    target: str | None

    @property
    def rehearsals(self) -> tuple[str, ...]:
        """Names of its rehearsals; empty when something else stands for it."""
        if self.target is None or self.target.startswith((TEXT, TEST)):
            return ()
        return tuple(self.target.replace(",", " ").split())


@dataclass(frozen=True)
class Trace:
    """Sections in order; entries of the mapping that name no section; rehearsals that no section names."""

    sections: tuple[Traced, ...]
    astray: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def untested(self) -> tuple[Traced, ...]:
        """Sections that nothing stands for."""
        return tuple(t for t in self.sections if t.target is None)


def rehearsals() -> dict[str, Check]:
    """Every rehearsal by its name, as a runbook's mapping names it."""
    return {check.id.removeprefix("runbook."): check for check in _ALL}


def trace(runbook: Runbook) -> Trace:
    """Tie the runbook's sections to what the mapping names.

    Raises ConfigError when the runbook cannot be read or the mapping names an unknown rehearsal.
    """
    sections = read_runbook(runbook.path)
    known = rehearsals()
    traced = tuple(Traced(s, runbook.sections.get(s.slug)) for s in sections)
    for one in traced:
        for name in one.rehearsals:
            if name not in known:
                raise ConfigError(
                    f"there is no rehearsal {name!r}",
                    where=f"runbook.sections.{one.section.slug}",
                    remedy=f"one of {', '.join(sorted(known))}; or `text: why`, or `test: node id`",
                )
    slugs = {s.slug for s in sections}
    used = {name for one in traced for name in one.rehearsals}
    return Trace(
        traced,
        tuple(sorted(set(runbook.sections) - slugs)),
        tuple(sorted(set(known) - used)),
    )


def rehearse(
    names: Iterable[str],
    settings: Settings,
    scratch: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, CheckResult]:
    """Perform rehearsals, each once; their servers are gone afterwards. Results by name.

    A backup that cannot be recovered is a failure of the rehearsal, not an error of this machine.
    """
    known, results = rehearsals(), {}
    with Ground(settings, scratch) as ground:
        for name in dict.fromkeys(names):
            progress(name)
            results[name] = perform(known[name], ground)
    return results


def perform(check: Check, ground: Ground) -> CheckResult:
    """One rehearsal on a ground that others share."""

    def run(subject: Any) -> Any:
        try:
            yield from check.run(subject)
        except (ArtifactError, RestoreError) as error:
            yield Finding(
                check.id, check.severity, error.where or "recovery", mask(error.what), remedy=error.remedy
            )

    run.__doc__ = check.run.__doc__
    wrapped = Check(
        check.id, run, check.proves, check.severity, check.origin, True, check.controls, check.remedy
    )
    (result,), _ = run_checks(
        [wrapped], ground, fail_on=ground.settings.fail_on, not_restored="no stand-in server"
    )
    return result


def verdict(traced: Trace, results: Mapping[str, CheckResult]) -> Verdict:
    """Fail when a rehearsal failed or a section has none; inconclusive when one could not be performed."""
    states = {r.status for r in results.values()}
    if Status.FAIL in states or traced.untested or traced.astray:
        return Verdict.FAIL
    if not results or states - {Status.PASS}:
        return Verdict.INCONCLUSIVE
    return Verdict.PASS


def table(traced: Trace, results: Mapping[str, CheckResult]) -> list[dict[str, Any]]:
    """One row per section: slug, title, line, what stands for it, and the results by rehearsal."""
    return [
        {
            "section": one.section.slug,
            "title": " > ".join(one.section.path),
            "line": one.section.line,
            "target": one.target,
            "results": {
                name: {
                    "status": results[name].status.value,
                    "seconds": results[name].seconds,
                    "reason": results[name].reason,
                    "findings": [f"{f.object}: {f.message}" for f in results[name].findings],
                }
                for name in one.rehearsals
                if name in results
            },
        }
        for one in traced.sections
    ]


def write_table(folder: Path, traced: Trace, results: Mapping[str, CheckResult]) -> Path:
    """Write `runbook.json` and `runbook.md` into the output folder; returns the second."""
    rows = table(traced, results)
    data = {
        "schema": "provado/runbook/1",
        "verdict": verdict(traced, results).value,
        "sections": rows,
        "astray": list(traced.astray),
        "unused": list(traced.unused),
    }
    write_atomic(folder / "runbook.json", json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    lines = ["| section | stands for it | last result |", "|---|---|---|"]
    for row in rows:
        states = ", ".join(f"{n}: {r['status']}" for n, r in row["results"].items()) or "-"
        lines.append(f"| {_cell(row['title'])} | {_cell(row['target'] or 'NOTHING')} | {_cell(states)} |")
    path = folder / "runbook.md"
    write_atomic(path, "\n".join(lines) + "\n")
    return path


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
