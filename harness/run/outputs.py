"""What a run leaves in the output folder (CONTRACT): evidence.json, report.html, provado.prom, the ledger.

junit.xml and pytest.html are pytest's own and are written beside these before the ledger's record is closed.
"""

from __future__ import annotations

import json
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..atomic import write_atomic
from ..evidence import ledger
from ..evidence.history import history
from ..evidence.record import Judgement, Run, evidence_json, judge_run, result_json
from ..evidence.sign import load_signer
from ..model import CheckResult
from ..sandbox.folders import cache
from .metrics import metrics
from .session import Session


@dataclass(frozen=True)
class Written:
    """A finished run: its record, the verdict, and `evidence.json` as written."""

    run: Run
    judged: Judgement
    evidence: dict[str, Any]

    def result(self) -> dict[str, Any]:
        """What `--json` prints."""
        return result_json(self.run)


class Outputs:
    """The open place of one run in the output folder: `begin` before any result, `write`, then `seal`."""

    def __init__(self, session: Session) -> None:
        settings = session.plan.settings
        self._session, self._output = session, settings.output
        stamp = datetime.now(UTC)
        self.run_id = f"{stamp:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        signer = load_signer(settings.evidence.signing_key)
        self.head: ledger.Head | None = None  # the ledger's, once the run is sealed
        self._entry = ledger.begin(self._output, self.run_id, plan=session.plan.as_json(), signer=signer)

    @property
    def folder(self) -> Path:
        """Where by-products of this run are written; `seal` copies them to the output folder."""
        return self._entry.folder

    def write(self, wider: Sequence[CheckResult] = (), runbook: Sequence[Mapping[str, Any]] = ()) -> Written:
        """Finish the drills and write evidence, report and metrics.

        `wider` are results beyond single backups (policy, runbook), `runbook` its sections with results.
        """
        session, settings = self._session, self._session.plan.settings
        drills = session.finish()
        run = Run(
            run_id=self.run_id,
            started_at=session.started_at,
            finished_at=datetime.now(UTC),
            output=str(self._output),
            drills=drills,
            fail_on=settings.fail_on,
            plan=session.plan.as_json(),
            objectives={"rpo_s": settings.objectives.rpo, "rto_s": settings.objectives.rto},
            tools={"provado": __version__, "python": platform.python_version(), "system": platform.system()},
            wider=tuple(wider),
            runbook=tuple(runbook),
        )
        evidence = evidence_json(run)
        evidence["ledger"] = self._entry.as_json()
        evidence["history"] = history(self._output, without=self._entry.drill)
        for entry, drill in zip(evidence["backups"], drills, strict=True):
            entry["last_good"] = _amounts(session.last_good(drill.artifact))
        text = json.dumps(evidence, indent=1, ensure_ascii=False) + "\n"
        write_atomic(self.folder / "evidence.json", text)
        write_atomic(self.folder / "provado.prom", metrics(evidence))
        from ..report.html import render

        write_atomic(self.folder / "report.html", render(evidence, settings.lang, _compiled()))
        return Written(run, judge_run(drills, settings.fail_on, run.wider), evidence)

    def seal(self, written: Written) -> ledger.Head:
        """Close the ledger's record over everything in `folder`, and publish it. Call it last."""
        head = self.head = ledger.finish(self._entry, written.evidence)
        from ..report.period import render_index

        lang = self._session.plan.settings.lang
        page = render_index(history(self._output, limit=1000), lang, _compiled())
        write_atomic(self._output / "index.html", page)
        return head


def _compiled() -> Path:
    """Where compiled templates stay: compiling them takes longer than a small restore's checks."""
    folder = cache() / "report"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _amounts(entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Of an earlier drill what the report shows the drift against: its time and its amounts per object."""
    if entry is None:
        return None
    facts = entry.get("facts") or {}
    kept = ("tables", "keys_per_database")
    return {"finished_at": entry.get("finished_at"), "facts": {k: facts[k] for k in kept if k in facts}}
