"""What is asked of every backup: its objectives, and a verdict of pass after everything is torn down.

And of all together: that no waiver outlived what it was for."""


def test_objective(proof):
    """The backup is there, young enough, and restored in time, as far as objectives are declared."""
    proof.demand()


def test_verdict(verdict):
    """The backup was restored, and all checks together prove it."""
    verdict.demand()


def test_waivers(needed_waivers):
    """Every waiver in provado.yaml was needed by a drill of its check."""
    needed_waivers.demand()
