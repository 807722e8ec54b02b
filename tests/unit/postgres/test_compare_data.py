"""Where sequences stand, compared without a server."""

import pytest

from harness.postgres.compare_data import compare_rows, compare_sequences

LIMITS = {"minimum": "1000", "maximum": "999999"}


def facts(at: int, *, cycle: bool, step: int = 5) -> dict[str, dict]:
    position = {"last_value": at, "is_called": True, "increment": step, "cycle": cycle}
    return {"sequences": {"q": position}, "objects": {"sequence": {"q": LIMITS}}}


@pytest.mark.parametrize(
    ("before", "after", "cycle", "behind"),
    [
        (4200, 4200, True, False),
        (4200, 4205, True, False),
        (4200, 1000, True, True),  # reset: what is far the one way round is near the other
        (999990, 1005, True, False),  # it began again between manifest and dump
        (999990, 1005, False, True),
    ],
)
def test_a_sequence_that_cycles_is_behind_by_the_shorter_way(before, after, cycle, behind):
    found = list(compare_sequences(facts(before, cycle=cycle), facts(after, cycle=cycle)))
    assert bool(found) is behind


def counted(**rows: int) -> dict[str, dict]:
    """Tables whose names begin with u are unlogged."""
    return {"tables": {n: {"rows": r, "unlogged": n[0] == "u", "digest": str(r)} for n, r in rows.items()}}


def test_unlogged_tables_come_back_empty_together_or_have_lost_their_rows():
    source = counted(u1=5, u2=7, u3=0, t=3)
    all_empty = compare_rows(source, counted(u1=0, u2=0, u3=0, t=3))
    assert (all_empty.unlogged, all_empty.differing) == (("u1", "u2"), ())
    one_empty = compare_rows(source, counted(u1=5, u2=0, u3=0, t=3))
    assert (one_empty.unlogged, [u.object for u in one_empty.differing]) == ((), ["u2"])
