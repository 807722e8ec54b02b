"""The drills of a run: each performed once, on demand or several at a time, and closed once.

A drill whose sandbox nobody else will look at is closed where it ran; one that a test of the user's needs
is run when it is asked for, and stays open until `close`. With `jobs` > 1 the others run in threads (the
work is done by servers and C code).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..drill import Drill, broken, open_drill
from ..errors import ConfigError
from ..evidence.record import missing as missing_evidence
from ..model import Artifact, CheckResult, Evidence
from ..sandbox import end_all
from ..waivers import unused
from .history import History
from .plan import Missing, Plan

Watcher = Callable[[str, str, int, int], None]  # (backup, stage, done, total)


class Aborted(BaseException):
    """Unwinds a drill in another thread once the run was interrupted."""


@dataclass
class Slot:
    """One place in a run. `slug` is its name in test ids, of letters that are safe everywhere."""

    slug: str
    artifact: Artifact | None
    missing: Missing | None = None
    drill: Drill | None = None
    evidence: Evidence | None = None

    @property
    def component(self) -> str | None:
        """The component it is about, None when a missing backup could be of any."""
        return (
            self.artifact.component if self.artifact else (self.missing.component if self.missing else None)
        )


class Session:
    """All drills of one plan."""

    def __init__(self, plan: Plan, watch: Watcher) -> None:
        self.plan, self.started_at = plan, datetime.now(UTC)
        self.slots = _slots(plan)
        self.keep_open: Collection[int] = ()  # drills whose sandbox tests will look at
        self._watch, self._history = watch, History(plan.settings.output)
        self._pool: ThreadPoolExecutor | None = None
        self._futures: dict[int, Future[None]] = {}
        self._aborted = False

    def perform(self, index: int) -> Slot:
        """The slot with its drill performed; an open one's `drill` is alive. Raises ConfigError."""
        slot = self.slots[index]
        if slot.evidence or slot.drill:
            return slot
        if slot.artifact is None:
            assert slot.missing is not None  # noqa: S101 - a slot is one or the other
            gap = slot.missing
            slot.evidence = missing_evidence(gap.path, gap.component, gap.why, datetime.now(UTC))
        elif self.plan.settings.jobs == 1 or index in self.keep_open:
            self._run(index)
        else:
            self._start_all()
            self._futures[index].result()
        return slot

    def close(self, index: int) -> Evidence:
        """The final record of a drill, its sandbox torn down."""
        slot = self.perform(index)
        if slot.evidence is None:
            assert slot.drill is not None  # noqa: S101 - `perform` leaves one of the two
            self._close(slot)
            assert slot.evidence is not None  # noqa: S101 - for the type checker
        return slot.evidence

    def peek(self, index: int) -> Evidence:
        """The record as it stands, without closing anything."""
        slot = self.perform(index)
        if slot.evidence:
            return slot.evidence
        assert slot.drill is not None  # noqa: S101 - `perform` leaves one of the two
        return slot.drill.evidence()

    def last_good(self, artifact: Artifact) -> Mapping[str, Any] | None:
        """The evidence entry of the newest passing drill of the same series, None without one."""
        return self._history.last_good(artifact)

    def finish(self) -> tuple[Evidence, ...]:
        """Close what is still open; the records of all drills that were performed, in order.

        A waiver that nothing needed is written into the first record that it is about.
        """
        done = [i for i, s in enumerate(self.slots) if s.evidence or s.drill]
        for index in done:
            self.close(index)
        if self._pool:
            self._pool.shutdown()
        if late := self.unused_waivers():
            checks = {f.object.split(" on ")[0] for f in late.findings}
            for index in done:
                record = self.slots[index].evidence
                if record and checks & {c.id for c in record.checks}:
                    self.slots[index].evidence = replace(record, checks=(*record.checks, late))
                    break
        return tuple(e for s in self.slots if (e := s.evidence))

    def unused_waivers(self) -> CheckResult | None:
        """The failed result about waivers that no drill so far needed; None when there are none."""
        results = [c for s in self.slots if s.evidence for c in s.evidence.checks]
        return unused(self.plan.settings.waivers, results)

    def abort(self) -> None:
        """After an interrupt: start nothing more, unwind what runs, tear down what is open."""
        self._aborted = True
        if self._pool:
            end_all()  # so that drills in other threads come to their end at once
            self._pool.shutdown(wait=True, cancel_futures=True)
        for slot in self.slots:
            if slot.drill and not slot.evidence:
                slot.drill.abandon()

    def _start_all(self) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.plan.settings.jobs, "drill")
            for index, slot in enumerate(self.slots):
                if slot.artifact and index not in self.keep_open:
                    self._futures[index] = self._pool.submit(self._run, index)

    def _run(self, index: int) -> None:
        slot = self.slots[index]
        assert slot.artifact is not None  # noqa: S101 - only such slots are run

        def progress(stage: str, done: int, total: int) -> None:
            if self._aborted:
                raise Aborted
            self._watch(slot.slug, stage, done, total)

        began = datetime.now(UTC)
        try:
            slot.drill = open_drill(
                slot.artifact,
                self.plan.settings,
                last_good=self._history.last_good(slot.artifact),
                progress=progress,
            )
        except ConfigError:
            raise
        except Exception as error:
            slot.evidence = broken(slot.artifact, began, error)
        if index not in self.keep_open:
            self._close(slot)
        self._watch(slot.slug, "done", 0, 0)

    def _close(self, slot: Slot) -> None:
        if slot.drill and not slot.evidence:
            try:
                slot.evidence = slot.drill.close()
            except Exception as error:
                slot.evidence = broken(slot.drill.artifact, slot.drill.started_at, error)


def _slots(plan: Plan) -> list[Slot]:
    slots: list[Slot] = []
    taken: set[str] = set()
    everything: list[Artifact | Missing] = [*plan.missing, *plan.artifacts]
    for thing in everything:
        bare = re.sub(r"[^A-Za-z0-9._]+", "-", thing.path.name).strip("-.") or "backup"
        slug, number = bare[:80], 2
        while slug in taken:
            slug, number = f"{bare[:80]}-{number}", number + 1
        taken.add(slug)
        slots.append(Slot(slug, thing) if isinstance(thing, Artifact) else Slot(slug, None, thing))
    return slots
