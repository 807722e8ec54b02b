"""PostgreSQL and Redis of one recovery point agree, by the rules that provado.yaml declares."""

import pytest

from harness.consistency import apart_s, ask
from harness.run.declared import settings_of


def pytest_generate_tests(metafunc):
    """One test per declared rule."""
    if "rule" in metafunc.fixturenames:
        rules = settings_of(metafunc.config).consistency.rules
        metafunc.parametrize("rule", rules, ids=[r.name for r in rules])


@pytest.mark.proves("data")
def test_references(restored_postgres, restored_redis, rule):
    """What keys refer to is there as a row."""
    answer = ask(rule, restored_postgres.connection, restored_redis.client)
    if not answer.holds:
        pytest.fail(answer.sentence(), pytrace=False)


@pytest.mark.proves("identity")
def test_one_recovery_point(restored_postgres, restored_redis, pytestconfig):
    """The two backups were taken within the declared window."""
    window = settings_of(pytestconfig).consistency.window
    apart = apart_s(r.subject.artifact.taken_at for r in (restored_postgres, restored_redis))
    if window is None or apart is None:
        pytest.skip("no window is declared, or a backup tells no time")
    if apart > window:
        pytest.fail(f"the backups are {apart:.0f} s apart, {window:.0f} s are allowed", pytrace=False)
