"""What the policy looks at: backups with their kind and own clock, the drills on record, disks, the log."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ..catalog import named_time, series
from ..errors import ConfigError, ProvadoError
from ..manifest import read_manifest
from ..model import Artifact
from ..settings import Settings
from ..settings.policy import PolicySettings

LOG_NAME: Final = "backup.log"
_LOG_TIME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2})?)")
_LOG_NAME: Final = re.compile(
    r"[\w.+-]*\d{8}-\d{6}[\w-]*\.(?:sql|dump|tar|rdb|tgz)(?:\.(?:gz|zst|lz4|xz|bz2))?(?![\w.])"
)
_MAX_LOG_BYTES: Final = 64 << 20


@dataclass(frozen=True)
class Backup:
    """A backup as the policy sees it. `taken_at` (UTC) is by its own clock, None when only the mtime is left.

    `kind` is the name's, or what `policy.unnamed` says of its component; None when neither tells.
    """

    artifact: Artifact
    series: str
    kind: str | None
    taken_at: datetime | None

    @property
    def name(self) -> str:
        """File name."""
        return self.artifact.path.name

    @property
    def lineage(self) -> str:
        """The series without its folder: how a drill that ran elsewhere names it."""
        return lineage(self.series)


@dataclass(frozen=True)
class Drill:
    """One recorded drill of a backup, read from `evidence.json`."""

    lineage: str
    component: str
    name: str
    sha256: str
    verdict: str
    finished_at: datetime
    rto_s: float | None
    lost_data: bool  # a failing data check against manifest, declaration or history
    bytes: int = 0  # of the backup, as it lay on disk
    stages: tuple[tuple[str, float], ...] = ()  # (name, seconds)


@dataclass(frozen=True)
class Disk:
    """Room on the file system that a folder of backups lies on, in bytes."""

    folder: Path
    total: int
    free: int


@dataclass(frozen=True)
class Log:
    """What backup.log tells: when it begins (UTC), and the names of backups that were taken."""

    begins: datetime | None
    names: frozenset[str]


@dataclass(frozen=True)
class State:
    """Everything the policy's checks examine. Also a `check.Subject`; it needs no server."""

    settings: Settings
    now: datetime
    backups: tuple[Backup, ...]
    drills: tuple[Drill, ...] = ()
    disks: tuple[Disk, ...] = ()
    logs: Mapping[Path, Log] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()  # places that were searched
    empty: tuple[
        tuple[Path, str], ...
    ] = ()  # places declared to hold backups that hold none: (path, component)
    unread_evidence: int = 0
    deep: bool = True  # read the newest backups to their end
    restored: bool = True

    @property
    def policy(self) -> PolicySettings:
        """Section `policy` of the settings."""
        return self.settings.policy

    def by_series(self) -> dict[str, list[Backup]]:
        """Backups with a clock of their own, oldest first, by series."""
        found: dict[str, list[Backup]] = {}
        for b in sorted(self.backups, key=lambda b: (b.taken_at or datetime.max.replace(tzinfo=UTC), b.name)):
            if b.taken_at is not None:
                found.setdefault(b.series, []).append(b)
        return found

    def began(self, of: str) -> datetime | None:
        """When this series is known to have begun: `since`, its log, its drills or its oldest backup.

        A folder that holds nothing older than daily backups live, though it has longer-lived kinds, has most
        likely lost them to a cleanup by one age for all (the seed's does that): it counts as old then.
        """
        mine = [b for b in self.backups if b.series == of]
        folders = {b.artifact.path.parent for b in mine}
        taken = [b.taken_at for b in mine if b.taken_at]
        known = [log.begins for f, log in self.logs.items() if f in folders and log.begins]
        known += [d.finished_at for d in self.drills if d.lineage == lineage(of)]
        if self.policy.since:
            since = self.policy.since
            known.append(since if since.tzinfo else since.replace(tzinfo=self.policy.zone))
        if not known and self.swept(of):
            longest = max(rule.keep for rule in self.policy.kinds.values())
            return self.now - timedelta(seconds=longest)
        return min([*known, *taken], default=None)

    def swept(self, of: str) -> bool:
        """Whether the series looks as if everything was deleted at the age of daily backups."""
        mine = [b for b in self.backups if b.series == of and b.taken_at]
        daily = self.policy.kinds.get("daily")
        if daily is None or sum(b.kind == "daily" for b in mine) < 5:
            return False
        if not any(b.kind in ("weekly", "monthly") for b in mine):
            return False
        oldest = min(b.taken_at for b in mine if b.taken_at)
        age_s = (self.now - oldest).total_seconds()
        return daily.keep - 86400 <= age_s <= daily.keep + 1.5 * 86400


def lineage(of: str) -> str:
    """`component:folder:name` without the folder."""
    return f"{of.split(':', 1)[0]}:{of.rsplit(':', 1)[1]}"


def as_backup(artifact: Artifact, policy: PolicySettings) -> Backup:
    """An artifact with the policy's words: kind, and its own clock in UTC.

    A time in a name is read by `policy.timezone`; a manifest beside the backup stands in for a name that
    tells no time. The file's mtime never counts: a copy of an old file is not a new backup.
    """
    taken = None
    stamp = named_time(artifact.path.name)
    if stamp is not None:
        taken = stamp.replace(tzinfo=policy.zone).astimezone(UTC)
    elif artifact.taken_at_basis not in (None, "mtime", "name"):
        taken = artifact.taken_at
    elif artifact.manifest is not None:
        try:
            taken = read_manifest(artifact.manifest, artifact.component).captured_at.astimezone(UTC)
        except ConfigError:
            taken = None  # a damaged manifest is no clock; the drill reports it
    kind = artifact.kind or policy.unnamed.get(artifact.component)  # type: ignore[call-overload]
    where = replace(artifact, path=artifact.path.absolute())
    return Backup(where, series(where), kind, taken)


def gather(
    artifacts: Iterable[Artifact],
    settings: Settings,
    *,
    now: datetime,
    folders: Iterable[Path] = (),
    empty: Iterable[tuple[Path, str]] = (),
    evidence: Path | None = None,
    deep: bool = True,
) -> State:
    """Look at the disk once: room, logs, recorded drills (in `evidence`, by default the output folder)."""
    backups = tuple(as_backup(a, settings.policy) for a in artifacts)
    places = sorted({*(f.absolute() for f in folders), *(b.artifact.path.parent for b in backups)})
    disks = []
    for place in places:
        room = shutil.disk_usage(place if place.is_dir() else place.parent)
        disks.append(Disk(place, room.total, room.free))
    drills, unread = read_drills(evidence or settings.output)
    return State(
        settings,
        now,
        backups,
        drills,
        tuple(disks),
        {p: read_log(p / LOG_NAME, settings.policy) for p in places if (p / LOG_NAME).is_file()},
        tuple(places),
        tuple(empty),
        unread,
        deep,
    )


def read_log(path: Path, policy: PolicySettings) -> Log:
    """What a backup.log tells, also the scripts' own; times in it are by `policy.timezone`."""
    begins, names = None, set()
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            room = _MAX_LOG_BYTES
            for line in lines:
                if (room := room - len(line)) < 0:
                    break
                if begins is None and (found := _LOG_TIME.search(line)):
                    local = datetime.fromisoformat(f"{found[1]}T{found[2]}")
                    begins = local.replace(tzinfo=policy.zone).astimezone(UTC)
                names.update(_LOG_NAME.findall(line))
    except (OSError, ValueError) as error:
        raise ProvadoError(f"cannot be read as a log: {type(error).__name__}", where=str(path)) from None
    return Log(begins, frozenset(names))


def read_drills(output: Path) -> tuple[tuple[Drill, ...], int]:
    """Every drill recorded below `output`, oldest first, and how many records could not be read.

    The ledger's signatures are checked by `provado evidence verify`, not here.
    """
    drills: dict[tuple[str, str, datetime], Drill] = {}
    unread = 0
    for path in sorted(output.rglob("evidence.json")) if output.is_dir() else ():
        try:
            for entry in json.loads(path.read_bytes())["backups"]:
                if drill := _drill(entry):
                    drills[drill.lineage, drill.name, drill.finished_at] = drill
        except (OSError, ValueError, KeyError, TypeError):
            unread += 1
    return tuple(sorted(drills.values(), key=lambda d: d.finished_at)), unread


def _drill(entry: Mapping[str, Any]) -> Drill | None:
    if entry.get("format") == "missing":
        return None
    path = Path(entry["path"])
    lost = any(
        check["status"] == "fail" and check["proves"] == "data" and check["origin"] != "artifact"
        for check in entry["checks"]
    )
    return Drill(
        lineage(series(Artifact(path, entry["component"], entry["format"]))),
        entry["component"],
        path.name,
        entry["sha256"],
        entry["verdict"],
        datetime.fromisoformat(entry["finished_at"]),
        entry["measured"].get("rto_s"),
        lost,
        int(entry.get("bytes") or 0),
        tuple((str(s["name"]), float(s["seconds"])) for s in entry["measured"].get("stages", ())),
    )
