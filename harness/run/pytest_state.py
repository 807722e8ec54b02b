"""What the pytest plugin knows during a session: the drills, which test is about which, and the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from html import escape
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest

from ..components import component
from ..drill import Drill
from ..errors import ConfigError, ProvadoError
from ..evidence.record import judge
from ..model import CheckResult, Evidence, Finding, Origin, Proves, Severity, Status, Verdict
from ..objectives import RPO, RTO
from ..redact import mask, shown
from ..sandbox import sweep
from ..scratch import sweep_scratch
from ..settings import load_settings
from ..waivers import UNUSED, needed
from .outputs import Outputs, Written
from .plan import make_plan
from .progress import Silence
from .proof import Proof, VerdictProof, proof_of
from .session import Session
from .stash import RUNBOOK, WIDER
from .suites import suites
from .summary import summary_lines

_SANDBOXED: Final = ("provado_postgres", "provado_redis", "provado_files")
_DRILLS: Final = ("provado_drill", *_SANDBOXED)


def make_state(config: pytest.Config) -> State:
    """Plan the drills of this session from the options, after sweeping up what a crashed one left."""
    sweep()
    sweep_scratch()
    try:
        option = config.option
        overrides: dict[tuple[str, ...], Any] = {
            ("sandbox", "kind"): option.provado_sandbox,
            ("output",): option.provado_output,
            ("jobs",): option.provado_jobs,
        }
        file = Path(option.provado_config) if option.provado_config else None
        plan = make_plan(
            load_settings(file, overrides),
            [Path(p) for p in option.provado_backup],
            choice=option.provado_select,
            manifest=Path(option.provado_manifest) if option.provado_manifest else None,
            globals_file=Path(option.provado_globals) if option.provado_globals else None,
        )
        return State(Session(plan, Silence()))
    except ConfigError as error:
        raise pytest.UsageError(mask(str(error))) from None


class State:
    """One session's drills. Made on first need, so that other projects' tests never pay for it."""

    def __init__(self, session: Session, outputs: Outputs | None = None) -> None:
        self.session, self.outputs = session, outputs
        self.written: Written | None = None
        self.error: ProvadoError | None = None
        self._concluded = False
        self._passed = self._failed = 0

    # collection

    def parametrize_backups(
        self, metafunc: pytest.Metafunc, names: Sequence[str], *, missing: bool = False
    ) -> None:
        """`names` (drill fixtures) all stand for the same backup, of the component the marker names."""
        marker = metafunc.definition.get_closest_marker("backups_of")
        wanted = marker.args[0] if marker and marker.args else None
        chosen = [
            pytest.param(*([i] * len(names)), id=slot.slug)
            for i, slot in enumerate(self.session.slots)
            if wanted in (None, slot.component) and (slot.artifact or missing)
        ]
        metafunc.parametrize(list(names), chosen, indirect=True)

    def parametrize_restored(self, metafunc: pytest.Metafunc, components: Sequence[str]) -> None:
        """Tests of the user's: over the backups of the component they look at, or over all combinations."""
        generic = "provado_drill" in metafunc.fixturenames
        if len(components) == 1:
            names = [f"provado_{components[0]}", *(["provado_drill"] if generic else [])]
            chosen = [
                pytest.param(*([i] * len(names)), id=s.slug)
                for i, s in enumerate(self.session.slots)
                if s.artifact and s.component == components[0]
            ]
            metafunc.parametrize(names, chosen, indirect=True)
        elif components:
            if generic:
                raise pytest.UsageError(
                    f"{metafunc.definition.nodeid}: `backup`, `manifest`, `evidence` are about one backup, "
                    "but this test looks at several"
                )
            per = [
                [i for i, s in enumerate(self.session.slots) if s.artifact and s.component == c]
                for c in components
            ]
            chosen = [
                pytest.param(*row, id="+".join(self.session.slots[i].slug for i in row))
                for row in product(*per)
            ]
            metafunc.parametrize([f"provado_{c}" for c in components], chosen, indirect=True)
        else:
            self.parametrize_backups(metafunc, ["provado_drill"])

    def parametrize_proofs(self, metafunc: pytest.Metafunc) -> None:
        """One test per backup and check. With `backups_of("any")` the checks are the drill's own."""
        marker = metafunc.definition.get_closest_marker("backups_of")
        wanted = marker.args[0] if marker and marker.args else None
        rows = []
        for i, slot in enumerate(self.session.slots):
            if wanted == slot.component and slot.artifact:
                ids: Iterable[str] = [c.id for c in component(str(wanted)).checks]
            elif wanted is None:
                ids = self._own_checks(i)
            else:
                continue
            rows += [pytest.param(i, name, id=f"{slot.slug}-{name}") for name in ids]
        metafunc.parametrize(["provado_drill", "provado_check"], rows, indirect=True)

    def _own_checks(self, index: int) -> list[str]:
        if self.session.slots[index].artifact is None:
            return ["policy.missing"]
        declared = self.session.plan.settings.objectives
        return [id for id, limit in ((RPO, declared.rpo), (RTO, declared.rto)) if limit is not None]

    def order(self, items: list[pytest.Item]) -> None:
        """Sort tests by the last backup they need, verdicts after every test of their backup.

        Tests of the shipped suites that are about no backup of this run are left out.
        """
        uses = {item: _indices(item) for item in items}
        asks = {"proof", "verdict"} | (
            {"needed_waivers"} if not self.session.plan.settings.waivers else set()
        )
        idle = [i for i in items if not uses[i] and asks & set(_fixtures(i))]
        if idle:
            items[:] = [i for i in items if i not in set(idle)]
            idle[0].config.hook.pytest_deselected(items=idle)
        last: dict[int, int] = {}
        self.session.keep_open = set()
        for item, mine in uses.items():
            for index in mine:
                last[index] = max(last.get(index, -1), *mine)
            if set(_SANDBOXED) & set(_fixtures(item)):
                self.session.keep_open.update(mine)

        def key(item: pytest.Item) -> tuple[int, int, int]:
            mine = uses[item]
            if "needed_waivers" in _fixtures(item):
                return (len(self.session.slots), 0, 0)
            if not mine:
                return (-1, 0, 0)
            if "verdict" in _fixtures(item):
                return (last[mine[0]], 1, mine[0])
            return (max(mine), 0, 0)

        items.sort(key=key)

    # fixtures

    def perform(self, index: int) -> None:
        """Have the drill performed; a wrong configuration ends the session with exit code 2."""
        try:
            if self.outputs is None:
                self.outputs = Outputs(self.session)
            self.session.perform(index)
        except ConfigError as error:
            self.error = error
            pytest.exit(mask(str(error)), returncode=error.exit_code)

    def subject(self, index: int) -> Any:
        """The live subject; a set-up error when nothing was restored."""
        drill = self.session.slots[index].drill
        if drill is None or self.session.slots[index].evidence is not None or not drill.restored:
            judged = judge(self.evidence(index), self.session.plan.settings.fail_on)
            pytest.fail(f"nothing was restored: {mask(judged.reason)}", pytrace=False)
        return drill.subject

    def evidence(self, index: int) -> Evidence:
        """The record as it stands."""
        return self.session.peek(index)

    def proof(self, index: int, check_id: str) -> Proof:
        """The results of one check."""
        proof = proof_of(check_id, self.evidence(index).checks)
        proof.require_examined()
        return proof

    def verdict(self, index: int) -> VerdictProof:
        """Close the drill and judge it."""
        evidence = self.session.close(index)
        proof = VerdictProof(evidence, judge(evidence, self.session.plan.settings.fail_on))
        proof.require_judged()
        return proof

    def waivers(self) -> Proof:
        """What the run says of waivers nobody needs."""
        late = self.session.unused_waivers()
        return Proof(UNUSED, (late or needed(),))

    # reports

    def annotate(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Properties for JUnit, extras for pytest-html (also of a failed set-up), results of user's tests."""
        mine = _indices(item)
        if not mine:
            return
        if report.when == "call" and report.passed:
            self._passed += 1
        self._failed += report.failed
        check_id = item.callspec.params.get("provado_check")  # type: ignore[attr-defined]
        proof = None
        slot = self.session.slots[mine[0]]
        if check_id and (slot.drill or slot.evidence):
            proof = proof_of(check_id, self.evidence(mine[0]).checks)
            if report.when == "call" and proof.results:
                report.duration = proof.results[0].seconds
        elif "verdict" not in _fixtures(item):
            self._record_user_test(item, report, mine)
        if report.when == "call":  # junitxml reads them from the tear-down's report
            item.user_properties.append(("backup", slot.slug))
            for result in proof.results if proof else ():
                item.user_properties += [("origin", result.origin.value), ("proves", result.proves.value)]
                item.user_properties += [("control", c) for c in result.controls]
        if report.when == "call" or report.failed:
            report.extras = _extras(proof)  # type: ignore[attr-defined]

    def _record_user_test(self, item: pytest.Item, report: pytest.TestReport, mine: Sequence[int]) -> None:
        if not (report.when == "call" or (report.when == "setup" and not report.passed)):
            return
        drill = self.session.slots[mine[0]].drill
        if drill is None or self.session.slots[mine[0]].evidence is not None:
            return
        drill.extra.append(_user_result(item, report, drill))

    # the end

    def conclude(self, session: pytest.Session) -> None:
        """Finish all drills, write, and set the exit code: 0 only when everything asked for passed."""
        if session.config.option.collectonly:
            return
        stopped = session.exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        if stopped or self.error or session.exitstatus == pytest.ExitCode.USAGE_ERROR:
            self.session.abort()
            return
        if self.outputs is None:
            if session.exitstatus == pytest.ExitCode.OK:  # tests ran, but none needed a drill
                session.exitstatus = Verdict.INCONCLUSIVE.exit_code
            return
        stash = session.config.stash
        wider, runbook = stash.setdefault(WIDER, []), stash.setdefault(RUNBOOK, [])
        self.written = self.outputs.write(wider, runbook)
        self._concluded = True
        code = self.written.judged.verdict.exit_code
        if code == 0 and (self._failed or session.exitstatus == pytest.ExitCode.TESTS_FAILED):
            code = Verdict.FAIL.exit_code
        if code == 0 and not self._passed:
            code = Verdict.INCONCLUSIVE.exit_code
        session.exitstatus = code

    def leave(self) -> None:
        """Seal the ledger's record, or tear down what an interrupt left open."""
        if self.written and self.outputs:
            self.outputs.seal(self.written)
        elif not self._concluded:
            self.session.abort()

    def closing_lines(self) -> list[str]:
        """The verdict for people, as `provado verify` prints it."""
        return summary_lines(self.written, colour=False) if self.written else []

    def html_summary(self) -> list[str]:
        """Blocks for the top of the pytest-html page."""
        lines = self.closing_lines()
        links = " · ".join(
            f'<a href="{name}">{name}</a>' for name in ("report.html", "evidence.json", "junit.xml")
        )
        return [f"<pre>{escape(chr(10).join(lines))}</pre>", f"<p>{links}</p>"]


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


def _indices(item: pytest.Item) -> list[int]:
    params = getattr(getattr(item, "callspec", None), "params", {})
    found = dict.fromkeys(params[name] for name in _DRILLS if name in params)
    return [index for index in found if isinstance(index, int)]  # pytest marks an empty choice otherwise


def _user_result(item: pytest.Item, report: pytest.TestReport, drill: Drill) -> CheckResult:
    """A user's test as a check. Its assertion's text stays out, since it may quote data; what our own suites
    say is in words that were written for the record."""
    marker = item.get_closest_marker("proves")
    proves = Proves.DATA
    with contextlib.suppress(ValueError, IndexError):
        proves = Proves(marker.args[0]) if marker else proves
    controls = tuple(str(m.args[0]) for m in item.iter_markers("control") if m.args)
    bare = item.name.split("[")[0]
    ours = item.path.parent == suites()
    name = f"test.{item.path.stem}.{bare}"
    if ours:
        name = f"{item.path.stem}.{bare}".replace("test_", "").replace("_", "-")
    status = {"passed": Status.PASS, "failed": Status.FAIL, "skipped": Status.NOT_RUN}[report.outcome]
    if report.when == "setup" and report.failed:
        status = Status.ERROR
    findings: tuple[Finding, ...] = ()
    if status is Status.FAIL:
        message = report.longreprtext.strip().splitlines()[0] if ours and report.longreprtext.strip() else ""
        findings = (
            Finding(
                name,
                Severity.HIGH,
                drill.artifact.path.name,
                message or "a test of your own failed on the restored backup",
                Origin.DECLARED,
                remedy=f"run it alone to see why: pytest {item.path.name}::{bare}",
            ),
        )
    reasons = {Status.ERROR: "the set-up of the test failed", Status.NOT_RUN: "the test was skipped"}
    title = (getattr(getattr(item, "obj", None), "__doc__", None) or item.name).strip().splitlines()[0]
    return CheckResult(
        name,
        title,
        status,
        proves,
        Origin.DECLARED,
        Severity.HIGH,
        round(report.duration, 4),
        findings,
        reasons.get(status),
        controls,
    )


def _extras(proof: Proof | None) -> list[dict[str, Any]]:
    links = [_extra("url", "report.html", "report"), _extra("url", "evidence.json", "evidence")]
    if not proof or not proof.findings:
        return links
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(shown(str(v)))}</td>" for v in cells) + "</tr>"
        for f in proof.findings[:50]
        for cells in [(f.severity.value, f.object, f.message, f.expected or "", f.observed or "")]
    )
    head = "".join(f"<th>{h}</th>" for h in ("severity", "object", "finding", "expected", "observed"))
    return [*links, _extra("html", f"<table><tr>{head}</tr>{rows}</table>", "")]


def _extra(kind: str, content: str, name: str) -> dict[str, Any]:
    return {"name": name, "format_type": kind, "content": content, "mime_type": None, "extension": None}
