"""One screen for people: the verdict first, then a line per backup, the worst findings, what is unproven."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..evidence.record import backup_json, judge
from ..model import Evidence, Severity, Status, Verdict
from ..objectives import readable
from ..redact import mask
from .outputs import Written

_WORDS: Final = {Verdict.PASS: "PASS", Verdict.FAIL: "FAIL", Verdict.INCONCLUSIVE: "INCONCLUSIVE"}
_COLOURS: Final = {Verdict.PASS: "32", Verdict.FAIL: "31", Verdict.INCONCLUSIVE: "33"}
_MOST: Final = 5


def summary_lines(written: Written, *, colour: bool) -> list[str]:
    """The screen as lines, secrets masked."""
    return [_painted(line, colour) for line in _lines(written)]


def _lines(written: Written) -> Iterator[str]:
    run, judged = written.run, written.judged
    yield f"{_WORDS[judged.verdict]}: {judged.reason}"
    for evidence in run.drills:
        yield from _backup(evidence, run.fail_on)
    yield f"Report: {run.output.rstrip('/')}/report.html"


def _backup(evidence: Evidence, fail_on: Severity) -> Iterator[str]:
    judged, artifact = judge(evidence, fail_on), evidence.artifact
    measured = evidence.measured
    parts = [f"{artifact.component} {artifact.format}"]
    if evidence.sandbox.version:
        parts.append(f"restored into {evidence.sandbox.version} ({evidence.sandbox.provider})")
    if measured.rto_s is not None:
        parts.append(f"in {readable(measured.rto_s)}")
    amounts = (("rows", measured.rows), ("keys", measured.keys), ("files", measured.files))
    parts += [f"{count:,} {name}" for name, count in amounts if count is not None]
    if measured.backup_age_s is not None:
        parts.append(f"{readable(max(0.0, measured.backup_age_s))} old")
    counted = {s: sum(c.status is s for c in evidence.checks) for s in Status}
    parts.append(f"{counted[Status.PASS]} of {len(evidence.checks)} checks pass")
    yield ""
    yield f"{_WORDS[judged.verdict]}  {artifact.path.name}: {', '.join(parts)}"
    if judged.verdict is Verdict.INCONCLUSIVE:
        yield f"  {judged.reason}"
    shown = [f for f in evidence.findings if f.severity is not Severity.INFO][:_MOST]
    for finding in shown:
        yield f"  {finding.severity.value}: {finding.object}: {finding.message}"
        if finding.remedy and finding.severity.rank >= fail_on.rank:
            yield f"    -> {finding.remedy}"
    rest = len(evidence.findings) - len(shown)
    if rest:
        yield f"  and {rest} more in the report"
    for text in backup_json(evidence, fail_on)["unproven"][:_MOST]:
        yield f"  unproven: {text}"
    if len(evidence.unproven) > _MOST:
        yield f"  unproven: {len(evidence.unproven) - _MOST} more in the report"


def _painted(line: str, colour: bool) -> str:
    """Hostile object names must not drive the terminal: control characters show as escapes."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in mask(line))
    for verdict, word in _WORDS.items():
        if colour and line.startswith(word):
            return f"\033[1;{_COLOURS[verdict]}m{word}\033[0m{line[len(word) :]}"
    return line
