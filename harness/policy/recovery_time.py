"""How long a recovery of production would take, from timed drills of smaller copies, and how sure that is.

Restoring is taken as proportional to the backup's size, starting a server as constant. The stated error is
the spread of the drills around that line, never less than what a single drill leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev
from typing import Final

from .state import Drill, State

_PREPARING: Final = ("sandbox", "globals")  # does not grow with the data
_WORKING: Final = ("restore", "load", "read back")
_HISTORY: Final = 10
_LEAST_ERROR: Final = 0.1
_ONE_DRILL: Final = 0.5  # two machines or days easily differ by half


@dataclass(frozen=True)
class Estimate:
    """Seconds at production's size and speed, with bounds; `stages` are its parts."""

    lineage: str
    seconds: float
    low_s: float
    high_s: float
    drills: int
    stages: tuple[tuple[str, float], ...]

    def sentence(self) -> str:
        """`2.1 h (1.0 to 3.2 h, from 3 drills)`."""
        hours = [f"{s / 3600:.1f}" for s in (self.seconds, self.low_s, self.high_s)]
        return f"{hours[0]} h ({hours[1]} to {hours[2]} h, from {self.drills} drills)"


def estimates(state: State) -> list[Estimate]:
    """One estimate per series whose component `policy.production` describes and whose drills were timed."""
    made = []
    for lineage in sorted({b.lineage for b in state.backups}):
        mine = [d for d in state.drills if d.lineage == lineage and d.verdict == "pass" and d.bytes]
        timed = [d for d in mine[-_HISTORY:] if any(name in _WORKING for name, _ in d.stages)]
        if timed and (production := state.policy.production.get(timed[-1].component)):  # type: ignore[call-overload]
            made.append(_estimate(lineage, timed, production.backup_size, production.speed))
    return made


def _estimate(lineage: str, drills: list[Drill], size: int, speed: float) -> Estimate:
    constant = mean(sum(s for n, s in d.stages if n in _PREPARING) for d in drills)
    rates = [sum(s for n, s in d.stages if n in _WORKING) / d.bytes for d in drills]
    names = dict.fromkeys(n for d in drills for n, _ in d.stages if n in _WORKING)
    parts = [
        (name, mean(sum(s for n, s in d.stages if n == name) / d.bytes for d in drills) * size / speed)
        for name in names
    ]
    seconds = (constant + mean(rates) * size) / speed
    error = _ONE_DRILL
    if len(rates) > 1 and mean(rates):
        error = max(_LEAST_ERROR, 2 * stdev(rates) / mean(rates))
    low, high = max(0.0, seconds * (1 - error)), seconds * (1 + error)
    return Estimate(lineage, seconds, low, high, len(drills), (("prepare", constant / speed), *parts))
