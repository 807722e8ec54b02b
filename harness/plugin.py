"""pytest is the runner: hooks and fixtures that turn drills into tests. Nothing else lives here.

pytest loads this file in every project where Provado is installed, so it imports little and does nothing
until a test asks for one of its fixtures (or an option of it is given).

Fixtures: `restored_postgres`, `restored_redis`, `restored_files`, `backup`, `manifest`, `evidence`; `proof`
and `verdict` are for the shipped suites. A test that uses them runs once per selected backup; the backup is
restored once, and its sandbox stays until the last test that looks at it. Markers: `backups_of(component)`
chooses backups, `control(id)` and `proves(what)` say what a test stands for in the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .components import NAMES
from .run.stash import STATE

if TYPE_CHECKING:
    from .manifest import Manifest
    from .model import Artifact, Evidence
    from .run.live import RestoredDatabase, RestoredKeys
    from .run.proof import Proof, VerdictProof
    from .run.pytest_state import State


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `provado verify`, prefixed."""
    group = parser.getgroup("provado", "Provado: prove that backups restore")
    group.addoption("--provado-config", metavar="FILE", help="provado.yaml (default: the one in this folder)")
    group.addoption(
        "--provado-backup", metavar="PATH", action="append", default=[], help="backup or folder (repeatable)"
    )
    group.addoption("--provado-select", metavar="WHICH", help="newest (of each series), all, or a name")
    group.addoption("--provado-manifest", metavar="FILE", help="manifest of the one backup")
    group.addoption(
        "--provado-globals", metavar="FILE", help="roles, as pg_dumpall --globals-only writes them"
    )
    group.addoption("--provado-sandbox", choices=("auto", "local", "container"), help="where to restore")
    group.addoption("--provado-output", metavar="DIR", help="folder for evidence and reports")
    group.addoption("--provado-jobs", metavar="N", type=int, help="drills at once")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Keep drills in one process: each xdist worker would restore everything again."""
    if not getattr(config.option, "numprocesses", None):
        return
    from .run.suites import names_suites

    if names_suites(config):
        config.option.numprocesses = 0
        config.option.dist = "no"
        config.option.tx = []


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    for line in (
        "backups_of(component): run once per backup of postgres, redis or files (default: of any)",
        "control(id): the control this test supports, as in control('ISO27001:A.8.13')",
        "proves(what): file, restore, schema, data, usability, identity, security or objective",
    ):
        config.addinivalue_line("markers", line)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per backup, and for `proof` one per backup and check."""
    names = set(metafunc.fixturenames)
    restored = [c for c in NAMES if f"provado_{c}" in names]
    # Somebody else's fixture or argument called `backup` does not bring ours along: then it is not about us.
    if not restored and "provado_drill" not in names:
        return
    state = _state(metafunc.config)
    if "provado_check" in names:
        state.parametrize_proofs(metafunc)
    elif "verdict" in names:
        state.parametrize_backups(metafunc, ["provado_drill"], missing=True)
    else:
        state.parametrize_restored(metafunc, restored)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Backup by backup, each one's verdict after its last test."""
    if state := config.stash.get(STATE, None):
        state.order(items)


@pytest.fixture
def provado_drill(request: pytest.FixtureRequest) -> int:
    """Number of the drill that this test is about; performs it."""
    return _performed(request)


@pytest.fixture
def provado_postgres(request: pytest.FixtureRequest) -> int:
    """The same for the PostgreSQL backup of a test."""
    return _performed(request)


@pytest.fixture
def provado_redis(request: pytest.FixtureRequest) -> int:
    """The same for the Redis backup of a test."""
    return _performed(request)


@pytest.fixture
def provado_files(request: pytest.FixtureRequest) -> int:
    """The same for the configuration backup of a test."""
    return _performed(request)


@pytest.fixture
def restored_postgres(request: pytest.FixtureRequest, provado_postgres: int) -> Iterator[RestoredDatabase]:
    """The restored database: `connection` (psycopg, read-only), `value(query)`, `facts()`."""
    from .run.live import database

    with database(_state(request.config).subject(provado_postgres)) as restored:
        yield restored


@pytest.fixture
def restored_redis(request: pytest.FixtureRequest, provado_redis: int) -> Iterator[RestoredKeys]:
    """The restored Redis: `client` (redis-py)."""
    from .run.live import keys

    with keys(_state(request.config).subject(provado_redis)) as restored:
        yield restored


@pytest.fixture
def restored_files(request: pytest.FixtureRequest, provado_files: int) -> Any:
    """The unpacked configuration: `folder`, `text(name)`."""
    return _state(request.config).subject(provado_files)


@pytest.fixture
def backup(request: pytest.FixtureRequest, provado_drill: int) -> Artifact:
    """The backup as found: path, component, format, age."""
    return _state(request.config).evidence(provado_drill).artifact


@pytest.fixture
def evidence(request: pytest.FixtureRequest, provado_drill: int) -> Evidence:
    """The record of the drill so far (the proof of teardown comes after the last test)."""
    return _state(request.config).evidence(provado_drill)


@pytest.fixture
def manifest(request: pytest.FixtureRequest, provado_drill: int) -> Manifest:
    """The manifest of the backup; the test is skipped when there is none."""
    from .manifest import read_manifest

    artifact = _state(request.config).evidence(provado_drill).artifact
    if artifact.manifest is None:
        pytest.skip("no manifest lies beside this backup")
    return read_manifest(artifact.manifest, artifact.component)


@pytest.fixture
def proof(request: pytest.FixtureRequest, provado_drill: int, provado_check: str) -> Proof:
    """What one check said; a check that broke is an error of this set-up."""
    return _state(request.config).proof(provado_drill, provado_check)


@pytest.fixture
def provado_check(request: pytest.FixtureRequest) -> str:
    """Id of the check that this test is about."""
    return str(request.param)


@pytest.fixture
def verdict(request: pytest.FixtureRequest, provado_drill: int) -> VerdictProof:
    """The final verdict of a drill, its sandbox torn down; inconclusive is an error of this set-up."""
    return _state(request.config).verdict(provado_drill)


@pytest.fixture
def needed_waivers(request: pytest.FixtureRequest) -> Proof:
    """Whether a waiver was needed by no drill of this run; asked when all are over."""
    return _state(request.config).waivers()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Attach what the test stands for; user's tests become checks of the evidence."""
    report: pytest.TestReport = yield
    if state := item.config.stash.get(STATE, None):
        state.annotate(item, report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Write the evidence and set the exit code of the contract before reports are written."""
    if state := session.config.stash.get(STATE, None):
        state.conclude(session)
    yield


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the ledger's record once junit.xml and pytest.html are there; tear down what is left."""
    if state := config.stash.get(STATE, None):
        state.leave()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The verdict as the last words."""
    if (state := config.stash.get(STATE, None)) and state.written:
        terminalreporter.section("Provado")
        for line in state.closing_lines():
            terminalreporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_html_report_title(report: Any) -> None:
    """Name the pytest-html page."""
    report.title = "Provado: tests of the drills"


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_summary(prefix: list[str], session: pytest.Session) -> None:
    """Verdict, per-backup lines and links on top of the pytest-html page."""
    if (state := session.config.stash.get(STATE, None)) and state.written:
        prefix.extend(state.html_summary())


@pytest.hookimpl(optionalhook=True)
def pytest_metadata(metadata: dict[str, Any], config: pytest.Config) -> None:
    """No environment of the CI job in the report of a drill: it may hold secrets and host names."""
    if STATE in config.stash:  # `provado verify`
        from . import __version__

        metadata.clear()
        metadata["Provado"] = __version__


def _performed(request: pytest.FixtureRequest) -> int:
    index: int = request.param
    _state(request.config).perform(index)
    return index


def _state(config: pytest.Config) -> State:
    if STATE not in config.stash:
        from .run.pytest_state import make_state

        config.stash[STATE] = make_state(config)
    return config.stash[STATE]
