"""Steps after a restore: does tonight's backup survive this release's migrations?

They run on the drill's own sandbox, after every check and test has looked at it, and may change it as they
like. What a program or query prints may quote data, so only its outcome and time are kept.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

import psycopg

from . import process
from .errors import ProvadoError
from .model import CheckResult, Finding, Origin, Proves, Severity, Status
from .sandbox import RedisRequest, Server, redis_sandbox
from .settings import SandboxSettings, Settings
from .settings.policy import Step

_REMEDY: Final = (
    "run the step by hand against a restored copy (provado restore postgres … --into a new database)"
)


def run_steps(server: Server, database: str, settings: Settings) -> tuple[CheckResult, ...]:
    """Run `after_restore` in order, each as a check; after one that failed the others are not run."""
    results: list[CheckResult] = []
    failed: str | None = None
    with contextlib.ExitStack() as stack:
        environment = _environment(server, database, settings, stack)
        for step in settings.after_restore:
            if failed:
                results.append(_result(step, Status.NOT_RUN, 0.0, f"the step {failed!r} before it failed"))
                continue
            began = time.perf_counter()
            problem = _run(step, server, database, environment)
            seconds = round(time.perf_counter() - began, 4)
            if problem:
                failed = step.name
                results.append(_result(step, Status.FAIL, seconds, None, problem))
            else:
                results.append(_result(step, Status.PASS, seconds))
    return tuple(results)


def step_id(step: Step) -> str:
    """The check id of a step, made from its name: what a waiver names."""
    return f"release.{re.sub(r'[^a-z0-9]+', '-', step.name.lower()).strip('-') or 'step'}"


def database_url(server: Server, database: str) -> str:
    """The sandbox as DATABASE_URL; a socket folder stands in the query, as libpq and Prisma take it."""
    user, password = quote(server.user, safe=""), quote(server.password.reveal(), safe="")
    name = quote(database, safe="")
    if server.host.startswith("/"):
        where = urlencode({"host": server.host, "port": server.port})
        return f"postgresql://{user}:{password}@localhost/{name}?{where}"
    return f"postgresql://{user}:{password}@{server.host}:{server.port}/{name}"


def _environment(
    server: Server, database: str, settings: Settings, stack: contextlib.ExitStack
) -> Callable[[], dict[str, str]]:
    """What programs get; an empty Redis is started for the first that runs, where this machine has one."""
    made: dict[str, str] = {}

    def environment() -> dict[str, str]:
        if not made:
            made.update(
                DATABASE_URL=database_url(server, database),
                PGHOST=server.host,
                PGPORT=str(server.port),
                PGUSER=server.user,
                PGPASSWORD=server.password.reveal(),
                PGDATABASE=database,
            )
            with contextlib.suppress(ProvadoError):
                made["REDIS_URL"] = _redis_url(settings.sandbox, stack)
        return made

    return environment


def _redis_url(settings: SandboxSettings, stack: contextlib.ExitStack) -> str:
    deadline = time.monotonic() + settings.timeout
    redis = stack.enter_context(redis_sandbox(RedisRequest(), settings, deadline=deadline))
    password = quote(redis.password.reveal(), safe="")
    if redis.unix_socket:
        return f"unix://:{password}@{redis.unix_socket}"
    return f"redis://:{password}@{redis.host}:{redis.port}/0"


def _run(step: Step, server: Server, database: str, environment: Callable[[], dict[str, str]]) -> str | None:
    """What went wrong, in words without data; None when all is well."""
    if step.run is not None:
        try:
            done = process.run(step.run, timeout_s=step.timeout, env=environment(), cwd=step.cwd)
        except ProvadoError as error:
            return error.what
        return f"ended with exit code {done.code}" if done.code else None
    try:
        with _connection(server, database, step.timeout) as conn:
            if step.sql is not None:
                conn.execute(step.sql.read_bytes())
                return None
            return _asked(conn, step)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    except psycopg.Error as error:
        place = error.diag.table_name or error.diag.constraint_name
        return (
            f"the server refused it with SQLSTATE {error.sqlstate or 'none'}{f' ({place})' if place else ''}"
        )


def _asked(conn: psycopg.Connection[Any], step: Step) -> str | None:
    row = conn.execute((step.query or "").encode()).fetchone()
    value = row[0] if row else None
    if step.expect is None:
        return None if value else "gave no row, or nothing in it"
    return None if str(value) == str(step.expect) else "gave another value than expected"


@contextlib.contextmanager
def _connection(server: Server, database: str, timeout_s: float) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password.reveal(),
        dbname=database,
        autocommit=True,
        options=f"-c statement_timeout={int(timeout_s * 1000)}",
    ) as conn:
        yield conn


def _result(
    step: Step, status: Status, seconds: float, reason: str | None = None, problem: str | None = None
) -> CheckResult:
    id = step_id(step)
    findings: tuple[Finding, ...] = ()
    if problem:
        expected = None if step.expect is None else str(step.expect)
        findings = (
            Finding(id, Severity.HIGH, step.name, problem, Origin.DECLARED, expected, remedy=_REMEDY),
        )
    return CheckResult(
        id, step.name, status, Proves.USABILITY, Origin.DECLARED, Severity.HIGH, seconds, findings, reason
    )
