"""Checks: how one is declared, and how a list of them is run.

A check is a generator function over a component's restored subject. It yields `Finding`s through
`found(...)`-style calls of its own; yielding none means that what it `proves` was examined and holds.
When there is nothing to examine it raises `NotRun`: a check that could not run never looks like a pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .errors import ProvadoError
from .model import CheckResult, Finding, Origin, Proves, Severity, Status


class NotRun(Exception):
    """Raised by a check that has nothing to compare with; the text says why, for `unproven`.

    With `blocking` the drill as a whole becomes inconclusive: something on this machine kept the check
    from running. Without it the check is merely out of scope (say, no manifest was given).
    """

    def __init__(self, reason: str, *, blocking: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.blocking = reason, blocking


class Subject(Protocol):
    """What every component hands to its checks."""

    @property
    def restored(self) -> bool:
        """True once a server (or folder) with the backup's content can be looked at."""


S = TypeVar("S", bound=Subject)


@dataclass(frozen=True)
class Check:
    """A declared check. `severity` is the default of its findings, `title` its docstring's first line."""

    id: str
    run: Callable[[Any], Iterator[Finding]]
    proves: Proves
    severity: Severity
    origin: Origin
    needs_server: bool
    controls: tuple[str, ...]
    remedy: str
    formats: frozenset[str] = frozenset()  # of backups that it is about; empty: of all

    @property
    def title(self) -> str:
        """First line of the docstring."""
        return (self.run.__doc__ or self.id).strip().splitlines()[0].rstrip(".")

    def finding(
        self,
        obj: str,
        message: str,
        *,
        severity: Severity | None = None,
        expected: object = None,
        observed: object = None,
        origin: Origin | None = None,
        remedy: str | None = None,
    ) -> Finding:
        """A finding of this check with its defaults filled in."""
        return Finding(
            self.id,
            severity or self.severity,
            obj,
            message,
            origin or self.origin,
            None if expected is None else str(expected),
            None if observed is None else str(observed),
            remedy or self.remedy or None,
        )


def check(
    id: str,
    *,
    proves: Proves | str,
    severity: Severity | str,
    remedy: str,
    origin: Origin | str = Origin.ARTIFACT,
    needs_server: bool = True,
    controls: Sequence[str] = ("ISO27001:A.8.13",),
) -> Callable[[Callable[..., Iterator[Finding]]], Check]:
    """Declare a check; the decorated function takes `(self: Check, subject)` and yields findings.

    `needs_server=False` marks a static check that also runs when nothing could be restored.
    """

    def wrap(function: Callable[..., Iterator[Finding]]) -> Check:
        def run(subject: Any) -> Iterator[Finding]:
            return function(made, subject)

        run.__doc__ = function.__doc__
        made = Check(
            id, run, Proves(proves), Severity(severity), Origin(origin), needs_server, tuple(controls), remedy
        )
        return made

    return wrap


def run_checks(
    checks: Iterable[Check], subject: Subject, *, fail_on: Severity, not_restored: str
) -> tuple[tuple[CheckResult, ...], tuple[str, ...]]:
    """Run every check; returns the results and the reasons why blocking ones could not run.

    `not_restored` is the reason given to checks which need the server when there is none. A check that
    breaks is an `error`, never a pass; its exception's text is kept out of the record, since a server's
    message may quote data (only our own errors, whose text we write, are quoted).
    """
    results: list[CheckResult] = []
    blocking: list[str] = []
    for item in checks:
        artifact = getattr(subject, "artifact", None)
        if item.formats and artifact is not None and artifact.format not in item.formats:
            continue  # not about backups of this kind at all
        began, status, reason = time.perf_counter(), Status.PASS, None
        findings: list[Finding] = []  # what was found stays found, however the check ends
        try:
            if item.needs_server and not subject.restored:
                raise NotRun(not_restored)
            findings.extend(item.run(subject))
        except NotRun as skip:
            status, reason = Status.NOT_RUN, skip.reason
            if skip.blocking:
                blocking.append(f"{item.id}: {skip.reason}")
        except ProvadoError as broken:
            status, reason = Status.ERROR, str(broken)
        except Exception as broken:
            status = Status.ERROR
            reason = f"the check itself broke with {broken_at(broken)}; please report this"
        if status is not Status.ERROR and any(f.severity.rank >= fail_on.rank for f in findings):
            status = Status.FAIL
        results.append(
            CheckResult(
                item.id,
                item.title,
                status,
                item.proves,
                item.origin,
                item.severity,
                round(time.perf_counter() - began, 4),
                tuple(findings),
                reason,
                item.controls,
            )
        )
    return tuple(results), tuple(blocking)


def broken_at(broken: BaseException) -> str:
    """Kind and place of an unexpected exception, without its text: that may quote data."""
    tb = broken.__traceback__
    while tb and tb.tb_next:
        tb = tb.tb_next
    place = f" at {tb.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{tb.tb_lineno}" if tb else ""
    return f"{type(broken).__name__}{getattr(broken, 'sqlstate', None) or ''}{place}"
