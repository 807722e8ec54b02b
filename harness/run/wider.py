"""For the suites that look beyond one backup: policy and runbook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from ..catalog import find
from ..components import recognisers
from ..errors import ProvadoError
from ..model import Artifact, CheckResult, Finding, Origin, Proves, Severity, Status
from ..policy.monitor import Report, look
from ..policy.state import gather
from ..redact import mask
from ..runbook.ground import Ground
from ..runbook.trace import Trace, perform, rehearsals, table, trace, write_table
from ..scratch import scratch_folder
from .declared import settings_of
from .proof import Proof
from .stash import RUNBOOK, WIDER

_TRACE: Final = pytest.StashKey[Trace]()
_REPORT: Final = pytest.StashKey[Report]()


def policy_report(config: pytest.Config) -> Report:
    """What monitoring says of the declared places, looked at once."""
    if _REPORT not in config.stash:
        settings = settings_of(config)
        found: list[Artifact] = []
        empty: list[tuple[Path, str]] = []
        for source in settings.backups:
            there = source.path.exists()
            mine = find(source.path, recognisers(), component=source.component) if there else []
            found += mine
            if not mine:
                empty.append((source.path, source.component or "known"))
        folders = [s.path for s in settings.backups if s.path.is_dir()]
        state = gather(found, settings, now=datetime.now(UTC), folders=folders, empty=empty)
        config.stash[_REPORT] = look(state)
        _tell(config, config.stash[_REPORT].results)
    return config.stash[_REPORT]


def runbook_trace(config: pytest.Config) -> Trace:
    """The declared runbook's sections with what stands for each."""
    if _TRACE not in config.stash:
        runbook = settings_of(config).runbook
        assert runbook is not None  # noqa: S101 - the suite is only collected then
        try:
            config.stash[_TRACE] = trace(runbook)
        except ProvadoError as error:
            raise pytest.UsageError(mask(str(error))) from None
    return config.stash[_TRACE]


@contextmanager
def rehearsing(config: pytest.Config) -> Iterator[Callable[[str], Proof]]:
    """Perform rehearsals by name, each once, on servers that live as long as the block; the table of
    sections and results is written to the output folder at its end."""
    settings, results = settings_of(config), {}
    with scratch_folder() as scratch, Ground(settings, scratch) as ground:

        def perform_once(name: str) -> Proof:
            if name not in results:
                results[name] = perform(rehearsals()[name], ground)
            proof = Proof(results[name].id, (results[name],))
            proof.require_examined()
            return proof

        yield perform_once
    traced = runbook_trace(config)
    _tell(config, [*results.values(), *_gaps(traced)])
    config.stash[RUNBOOK] = table(traced, results)
    write_table(settings.output, traced, results)


def _tell(config: pytest.Config, results: Iterable[CheckResult]) -> None:
    """Results that the run's verdict and evidence count in."""
    config.stash.setdefault(WIDER, []).extend(results)


def _gaps(traced: Trace) -> Iterator[CheckResult]:
    """Sections that nothing stands for, and mapping entries that name no section, as a failed check."""
    check = "runbook.traced"
    findings = [
        Finding(check, Severity.HIGH, one.section.slug, "nothing stands for this section", Origin.DECLARED)
        for one in traced.untested
    ]
    findings += [
        Finding(check, Severity.HIGH, name, "the runbook has no such section", Origin.DECLARED)
        for name in traced.astray
    ]
    if findings:
        yield CheckResult(
            check,
            "Every section of the runbook has something that stands for it",
            Status.FAIL,
            Proves.OBJECTIVE,
            Origin.DECLARED,
            Severity.HIGH,
            findings=tuple(findings),
        )
