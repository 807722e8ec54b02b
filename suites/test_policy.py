"""What must hold for the backups over time: age, schedule, retention, room, restore tests (`policy:`)."""

from harness.run.proof import Proof
from harness.run.wider import policy_report


def pytest_generate_tests(metafunc):
    """One test per check of the policy."""
    results = policy_report(metafunc.config).results
    metafunc.parametrize("result", results, ids=[r.id for r in results])


def test_policy(result):
    """The policy holds for every series of backups."""
    Proof(result.id, (result,)).demand()
