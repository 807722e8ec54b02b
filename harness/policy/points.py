"""Recovery points: backups of PostgreSQL, Redis and configuration that belong to one moment."""

from __future__ import annotations

from dataclasses import dataclass

from .state import Backup, State


@dataclass(frozen=True)
class Point:
    """Backups to restore together, one per component; `apart_s` is the distance of their times."""

    backups: tuple[Backup, ...]
    apart_s: float

    def sentence(self) -> str:
        """The members by name."""
        names = ", ".join(f"{b.artifact.component} {b.name}" for b in self.backups)
        return f"{names} ({self.apart_s / 60:.0f} min apart)"


def newest_point(state: State) -> Point | None:
    """The newest backup of the database (else of the first component there is), and of each other component
    the one nearest to it in time. None where fewer than two components have backups that tell their time."""
    by_component: dict[str, list[Backup]] = {}
    for b in state.backups:
        if b.taken_at is not None and b.taken_at <= state.now:
            by_component.setdefault(b.artifact.component, []).append(b)
    if len(by_component) < 2:
        return None
    first = "postgres" if "postgres" in by_component else min(by_component)
    anchor = max(by_component[first], key=_time)
    chosen = [anchor]
    for component in sorted(set(by_component) - {first}):
        chosen.append(min(by_component[component], key=lambda b: abs(_time(b) - _time(anchor))))
    times = [_time(b) for b in chosen]
    return Point(tuple(chosen), max(times) - min(times))


def _time(b: Backup) -> float:
    return b.taken_at.timestamp() if b.taken_at else 0.0
