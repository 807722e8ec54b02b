"""What a run judges: paths or provado.yaml or the runbook's layout -> backups, and those that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any

from ..catalog import RUNBOOK_LAYOUT, find, select
from ..components import NAMES, component, recognisers
from ..errors import ConfigError
from ..model import Artifact
from ..objectives import RPO, RTO
from ..settings import Settings, Source
from ..waivers import EXPIRED, UNUSED, reject_unknown

DRILL_CHECKS = ("drill.inspect", "drill.restore", "policy.missing", RPO, RTO, EXPIRED, UNUSED)


@dataclass(frozen=True)
class Missing:
    """A backup that should be there and is not: `why` in one sentence."""

    path: Path
    component: str | None
    why: str


@dataclass(frozen=True)
class Plan:
    """The settings of a run and what it will judge, in the order of the drills."""

    settings: Settings
    artifacts: tuple[Artifact, ...]
    missing: tuple[Missing, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The settings that the verdict depends on; secrets stand in them as references only."""
        return self.settings.model_dump(
            mode="json", exclude={"output", "jobs", "lang"}, exclude_defaults=True
        )


def make_plan(
    settings: Settings,
    paths: Sequence[Path] = (),
    *,
    components: Sequence[str] = (),
    choice: str | None = None,
    manifest: Path | None = None,
    globals_file: Path | None = None,
) -> Plan:
    """Find the backups. `paths` win over provado.yaml's list, that over the runbook's layout below here.

    `choice` is `newest` of every series (default), `all`, or a name. Raises ConfigError for a path that is
    no backup, a name that selects none, or a waiver of an unknown check. What is not there is `missing`.
    """
    wanted = tuple(_sources(settings, paths, components, choice, manifest, globals_file))
    artifacts: dict[Path, Artifact] = {}
    missing: list[Missing] = []
    for source in wanted:
        if lack := _lack(source.path):
            missing.append(Missing(source.path, source.component, lack))
            continue
        found = [
            a
            for a in find(
                source.path,
                recognisers(),
                component=source.component if source.path.is_file() else None,
                manifest=source.manifest,
                globals_file=source.globals,
            )
            if source.component in (None, a.component) and (not components or a.component in components)
        ]
        if not found:
            what = source.component or " or ".join(components or NAMES)
            missing.append(Missing(source.path, source.component, f"no {what} backup lies in this folder"))
        artifacts |= {a.path.resolve(): _in_zone(a, settings) for a in select(found, source.select)}
    if not wanted:
        looked = ", ".join(RUNBOOK_LAYOUT)
        why = f"no PATH was given, no provado.yaml lists backups, and none of {looked} exists here"
        missing.append(Missing(Path("backups"), components[0] if len(components) == 1 else None, why))
    plan = Plan(settings, tuple(artifacts.values()), tuple(missing))
    _check_options(plan, manifest, globals_file)
    if settings.waivers:
        from ..policy.checks import CHECKS as POLICY  # not for every run: they import what drills do without
        from ..release import step_id

        known = [c.id for name in NAMES for c in component(name).checks]
        known += [*(c.id for c in POLICY), *map(step_id, settings.after_restore)]
        reject_unknown(settings.waivers, [*known, *DRILL_CHECKS])
    return plan


def _sources(
    settings: Settings,
    paths: Sequence[Path],
    components: Sequence[str],
    choice: str | None,
    manifest: Path | None,
    globals_file: Path | None,
) -> Iterator[Source]:
    claimed: Any = components[0] if len(components) == 1 else None
    extra: dict[str, Any] = {"manifest": manifest, "globals": globals_file}
    if paths:
        for path in paths:
            yield Source(path=path, component=claimed, select=choice or "newest", **extra)
        return
    for source in settings.backups:
        if components and source.component and source.component not in components:
            continue
        given = {k: v for k, v in extra.items() if v} | ({"select": choice} if choice else {})
        yield source.model_copy(update={**given, "component": source.component or claimed})
    if settings.backups:
        return
    for place, name in RUNBOOK_LAYOUT.items():
        if Path(place).is_dir() and (not components or name in components):
            yield Source(path=Path(place), component=name, select=choice or "newest", **extra)  # type: ignore[arg-type]


def _lack(path: Path) -> str | None:
    try:
        return None if path.exists() else "there is nothing at this path"
    except OSError as error:  # a folder above may not be entered, or the path is too long
        return f"cannot be looked at: {error.strerror}"


def _in_zone(artifact: Artifact, settings: Settings) -> Artifact:
    """A name tells the local time of the machine that took the backup: `policy.timezone` says which."""
    if artifact.taken_at is None or artifact.taken_at_basis != "name":
        return artifact
    local = artifact.taken_at.replace(tzinfo=settings.policy.zone)
    return replace(artifact, taken_at=local.astimezone(UTC))


def _check_options(plan: Plan, manifest: Path | None, globals_file: Path | None) -> None:
    for option, given in (("--manifest", manifest), ("--globals", globals_file)):
        if given is None:
            continue
        if not given.is_file():
            raise ConfigError("is not a file", where=f"{option} {given}")
        if option == "--manifest" and len(plan.artifacts) > 1:
            raise ConfigError(
                f"one manifest cannot belong to {len(plan.artifacts)} backups",
                where=option,
                remedy="name one backup, or put <backup>.manifest.json beside each",
            )
