"""What is asked of every backup: its objectives, and a verdict of pass after everything is torn down."""


def test_objective(proof):
    """The backup is there, young enough, and restored in time, as far as objectives are declared."""
    proof.demand()


def test_verdict(verdict):
    """The backup was restored, and all checks together prove it."""
    verdict.demand()
