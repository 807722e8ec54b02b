"""Every section of the runbook is rehearsed on throwaway servers (`runbook:` in provado.yaml)."""

import pytest

from harness.run.wider import rehearsing, runbook_trace


def pytest_generate_tests(metafunc):
    """One test per section."""
    if "traced" in metafunc.fixturenames:
        sections = runbook_trace(metafunc.config).sections
        metafunc.parametrize("traced", sections, ids=[s.section.slug for s in sections])


@pytest.fixture(scope="module")
def rehearsed(pytestconfig):
    """Perform a rehearsal by name, once."""
    with rehearsing(pytestconfig) as perform:
        yield perform


def test_section(traced, rehearsed):
    """The section has something that stands for it, and its rehearsals succeed."""
    if traced.target is None:
        pytest.fail(f"line {traced.section.line}: nothing stands for this section", pytrace=False)
    for name in traced.rehearsals:
        rehearsed(name).demand()


def test_mapping(pytestconfig):
    """The mapping names no section that the runbook lacks."""
    if astray := runbook_trace(pytestconfig).astray:
        pytest.fail(f"no such sections: {', '.join(astray)}", pytrace=False)
