"""Where the data lies in a Redis backup: an RDB, the parts of an AOF, and what was packed beside them."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..model import Severity

MAGICS: Final = (b"REDIS0", b"VALKEY0")
PART: Final = re.compile(r"^(?P<name>.+)\.(?P<seq>\d+)\.(?P<kind>base|incr)\.(?:rdb|aof)$")
_NOTE: Final = re.compile(
    r"^(redis_version|valkey_version|run_id|role|db\d{1,9}|rdb_last_save_time|rdb_last_bgsave_status|rdb_saves|"
    r"rdb_changes_since_last_save|aof_enabled|aof_last_write_status|master_link_status|master_sync_in_progress|loading):(.+)$"
)
_METADATA: Final = ("backup-metadata.txt", "redis-info.txt", "redis-config.txt")
_NAMES: Final = ("dbfilename", "appendfilename", "appenddirname", "appendonly")
_LONGEST_LINE: Final = 1024  # of an AOF manifest: servers read no more
_MOST_PROBLEMS: Final = 40
_YEAR_9999: Final = 253_402_300_800
SMALL_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Problem:
    """Something found while reading the file; the check named `check` reports it."""

    check: str
    object: str
    message: str
    severity: Severity = Severity.CRITICAL
    expected: str | None = None
    observed: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Aof:
    """An append-only file as a server loads it: its name, folder, base and increments in order.

    `single` is the one file of servers before 7.0, which may begin with an RDB.
    """

    name: str
    folder: Path
    base: Path | None
    parts: tuple[Path, ...]
    single: bool = False


@dataclass
class Layout:
    """What a backup consists of. `notes` holds what the backup's own text files say about its source."""

    rdb: Path | None = None
    aof: Aof | None = None
    problems: list[Problem] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    beside: tuple[str, ...] = ()  # names of files that hold no data
    broken_aof: bool = False  # parts of an AOF without the manifest that makes one of them
    root: Path | None = None  # the folder that was looked through

    @property
    def empty(self) -> bool:
        """True when there is no data at all."""
        return self.rdb is None and self.aof is None


def look(folder: Path, name: str) -> Layout:
    """Find the data in an unpacked backup (`name`, for messages). Links are never followed."""
    files = list(_files(folder))
    made = Layout(root=folder)
    manifests = [f for f in files if f.name.endswith(".manifest") and b" type " in _text(f)]
    claimed: set[Path] = set()
    if len(manifests) > 1:
        made.problems.append(
            Problem(
                "redis.aof-files",
                name,
                "several AOF manifests: which one counts is not clear",
                Severity.HIGH,
                expected="one AOF",
                observed=", ".join(str(f.relative_to(folder)) for f in manifests[:4]),
                remedy="pack one appendonlydir per backup",
            )
        )
    for manifest in manifests:
        aof = _multi_part(manifest, made.problems)
        own = (manifest.name, aof.name)  # as a server before 7.0 called its only file, see below
        claimed.update(f for f in manifest.parent.iterdir() if f.name in own or PART.match(f.name))
        if made.aof is None:
            made.aof = aof
    if more := len(made.problems[_MOST_PROBLEMS:]):
        what = f"{more:,} more of the AOF's files are missing, or not as the manifest says"
        made.problems[_MOST_PROBLEMS:] = [Problem("redis.aof-files", name, what)]
    loose = [f for f in files if f not in claimed and PART.match(f.name)]
    if loose and made.aof is None:
        made.problems.append(
            Problem(
                "redis.aof-files",
                f"{loose[0].parent.name}/*.manifest",
                "the AOF's manifest is missing: a server that gets these files starts empty",
                expected="a file *.manifest beside base and incremental files",
                observed=", ".join(sorted(f.name for f in loose)[:4]),
                remedy="take the backup again with the whole appendonlydir",
            )
        )
        made.broken_aof = True
    elif loose and made.aof:
        made.problems.append(
            Problem(
                "redis.aof-files",
                str(loose[0].relative_to(folder)),
                "files of an AOF lie apart from its manifest: servers ignore what they hold",
                Severity.MEDIUM,
                observed=", ".join(sorted(f.name for f in loose)[:4]),
                remedy="pack one appendonlydir per backup",
            )
        )
    claimed.update(loose)
    dumps = [f for f in files if f not in claimed and _head(f).startswith(MAGICS)]
    single = [f for f in files if f not in claimed and f.suffix == ".aof"]
    single = [f for f in single if not re.match(r"temp-.*\.aof$", f.name)] or single  # of a dead rewrite
    _choose(made, sorted(single, key=lambda f: f.name != "appendonly.aof"), name)
    dumps = [f for f in dumps if f not in single]
    broken = [f for f in files if f.suffix == ".rdb" and f not in claimed and f not in dumps]
    dumps += broken if not dumps else []
    dumps = [f for f in dumps if not re.match(r"temp-.*\.rdb$", f.name)] or dumps  # left by a dead BGSAVE
    if dumps:
        made.rdb = max(dumps, key=lambda f: f.name == "dump.rdb")
    if len(dumps) > 1:
        names = [f.name for f in dumps]
        clear = names.count("dump.rdb") == 1
        made.problems.append(
            Problem(
                "redis.archive-data",
                name,
                "several RDB files: " + ("dump.rdb was taken" if clear else "which one counts is not clear"),
                Severity.MEDIUM if clear else Severity.HIGH,
                expected="one RDB",
                observed=", ".join(sorted(f.name for f in dumps)[:6]),
                remedy="pack one RDB per backup",
            )
        )
    texts = [f for f in files if f not in claimed and f not in dumps and f not in single]
    made.beside = tuple(sorted(f.name for f in texts))
    _read_notes(made, [f for f in texts if f.suffix == ".txt"])
    _switched_off(made, name)
    _misplaced(made, folder, texts)
    _misnamed(made)
    return made


def _choose(made: Layout, single: list[Path], name: str) -> None:
    """Which AOF of one piece counts, where there is one; more than one, or one beside a folder, is told."""
    what = ""
    if single and made.aof is None:
        made.aof = Aof(single[0].name, single[0].parent, None, (single[0],), single=True)
        clear = [f.name for f in single].count("appendonly.aof") == 1
        if len(single) > 1:
            what = "several append-only files: "
            what += "appendonly.aof was taken" if clear else "which one counts is not clear"
    elif single:
        clear, what = True, "an append-only file beside a folder of them: servers since 7.0 ignore it"
    if what:
        severity = Severity.MEDIUM if clear else Severity.HIGH
        names = ", ".join(sorted(f.name for f in single)[:6])
        made.problems.append(
            Problem("redis.aof-files", name, what, severity, "one AOF", names, "pack one AOF per backup")
        )


def regular(path: Path) -> bool:
    """Whether there is a regular file, not a link that could point anywhere."""
    return path.is_file() and not path.is_symlink()


def place(source: Path, target: Path) -> None:
    """A second name for the file where that is possible, else a copy: for what is not written to."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def moment(seconds: int | None) -> datetime | None:
    """Unix seconds as a time; None for what no clock of a server ever showed."""
    return datetime.fromtimestamp(seconds, UTC) if seconds and 0 < seconds < _YEAR_9999 else None


def _files(folder: Path) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if child.is_symlink():
            continue
        if child.is_dir():
            yield from _files(child)
        elif child.is_file():
            yield child


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SMALL_BYTES)


def _multi_part(manifest: Path, problems: list[Problem]) -> Aof:
    folder, name = manifest.parent, manifest.name.removesuffix(".manifest")
    again = "take the backup again with the whole folder"
    listed: list[tuple[int, str, str]] = []

    def problem(what: str, message: str, remedy: str, severity: Severity = Severity.CRITICAL) -> None:
        problems.append(Problem("redis.aof-files", what, message, severity, remedy=remedy))

    for line in _text(manifest).decode("utf-8", "replace").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            if len(line) > _LONGEST_LINE:
                raise ValueError
            words = shlex.split(line)
            fields = dict(zip(words[::2], words[1::2], strict=True))
            entry = (int(fields["seq"]), fields["type"], fields["file"])
        except (ValueError, KeyError):
            problem(
                manifest.name,
                "a line of the AOF manifest cannot be read: servers refuse it",
                "take a new backup",
            )
            continue
        if "/" in entry[2] or entry[1] not in ("b", "i", "h"):
            problem(manifest.name, "the AOF manifest names a file that no server wrote", again)
            continue
        listed.append(entry)
    bases = [e for e in listed if e[1] == "b"]
    increments = sorted(e for e in listed if e[1] == "i")
    if len(bases) > 1 or len({e[0] for e in increments}) != len(increments):
        problem(manifest.name, "the AOF manifest lists a part twice: servers refuse it", again)
    elif len({e[2] for e in (*bases, *increments)}) != len(bases) + len(increments):
        problem(
            manifest.name, "the AOF manifest names a file twice: what it holds is carried out twice", again
        )
    elif increments and increments[-1][0] - increments[0][0] != len(increments) - 1:
        what = "incremental files are missing between those that the AOF manifest lists: servers number them"
        problem(manifest.name, what + " without gaps, and load what is left in silence", again)
    elif other := next((e[2] for e in (*bases, *increments) if not _as_named(*e)), None):
        what = "the AOF manifest lists this file as another part than its name says: servers load the parts "
        problem(other, what + "in another order than they were written in", again)
    oldest = {"base": bases[0][0] if bases else None, "incr": increments[0][0] if increments else 0}
    for seq, kind, file in listed:
        limit = oldest.get(part["kind"]) if kind == "h" and (part := PART.match(file)) else None
        if limit is not None and seq >= limit:
            problem(
                file,
                "the AOF manifest lists this file as history, though no newer one takes its place: "
                "servers ignore what it holds, and delete it",
                again,
            )
    there = [part for child in folder.iterdir() if (part := PART.match(child.name))]
    if bases and not increments and not any(part["kind"] == "incr" for part in there):
        problem(
            manifest.name,
            "the AOF manifest lists no incremental file, as servers do: what was written after the base is "
            "not in the backup",
            again,
            Severity.MEDIUM,
        )
    for _, _, file in (*bases, *increments):
        if not regular(folder / file):
            problem(file, "the AOF manifest names this file, but the backup does not hold it", again)
    if not bases and (not increments or increments[0][0] > 1):
        problem(
            manifest.name,
            "the AOF manifest lists no base file: everything written before the last rewrite is lost",
            "take the backup again while no AOF rewrite runs, with the whole folder",
        )
    # A base of commands is empty as long as nothing was written before the first rewrite.
    for seq, _, file in bases:
        there_is = regular(folder / file) and not (seq == 1 and file.endswith(".base.aof"))
        if there_is and not (folder / file).stat().st_size:
            what = "the base file is empty: everything written before the last rewrite is lost"
            if file.endswith(".rdb"):
                problem(file, what, again)
            else:
                problem(file, what + ", unless there was nothing", again, Severity.MEDIUM)
    names = {e[2] for e in listed}
    newest = max((e[0] for e in bases), default=0)
    for child in sorted(folder.iterdir()):
        part = PART.match(child.name)
        if child.name in names or name not in (child.name, part and part["name"]):
            continue
        current = not bases or (part is not None and int(part["seq"]) >= newest)
        problem(
            child.name,
            "the AOF manifest does not list this file: servers ignore what it holds"
            if current
            else "a leftover of an earlier rewrite",
            "copy manifest and files at one moment (see `provado backup redis`)",
            Severity.CRITICAL if current else Severity.INFO,
        )
    base = folder / bases[0][2] if bases else None
    parts = tuple(folder / e[2] for e in increments)
    return Aof(name, folder, base, parts)


def _as_named(seq: int, kind: str, file: str) -> bool:
    """Whether a part is what its name says; the name of what a server before 7.0 wrote says nothing."""
    return not (part := PART.match(file)) or (int(part["seq"]), part["kind"][0]) == (seq, kind)


def _read_notes(made: Layout, texts: list[Path]) -> None:
    """INFO output and the like: `name:value` lines that redis-cli prints."""
    for file in texts[:20]:
        lines = _text(file).decode("utf-8", "replace").splitlines()[:5000]
        for line, after in zip(lines, [*lines[1:], ""], strict=True):
            if found := _NOTE.match(line):
                made.notes.setdefault(found[1], found[2].strip()[:200])
            elif found := re.match(r"^(dbfilename|appendfilename|appenddirname|appendonly) (.+)$", line):
                made.notes.setdefault(found[1], found[2].strip('"'))
            elif line in _NAMES and after:  # as redis-cli prints CONFIG GET
                made.notes.setdefault(line, after.strip()[:200])


def _switched_off(made: Layout, name: str) -> None:
    """By the source's own INFO the RDB is its data: an AOF beside it is a leftover, whatever is in it."""
    if made.notes.get("aof_enabled") != "0" or made.rdb is None or not (made.aof or made.broken_aof):
        return
    made.aof, made.broken_aof = None, False
    others = [p for p in made.problems if p.check != "redis.aof-files"]
    what = "files of an AOF lie beside the RDB, and the source had its AOF switched off: a server with "
    what += "appendonly yes loads them and ignores the RDB"
    remedy = "restore with appendonly no, and leave the leftover of the AOF out of backups"
    made.problems = [*others, Problem("redis.aof-current", name, what, Severity.MEDIUM, remedy=remedy)]


def _misnamed(made: Layout) -> None:
    """A server looks for its files under configured names; under others it starts empty."""
    found = []
    if made.aof and not made.aof.single:
        found.append(("appendfilename", made.aof.name, "appendonly.aof"))
        found.append(("appenddirname", made.aof.folder.name, "appendonlydir"))
    elif made.rdb:
        found.append(("dbfilename", made.rdb.name, "dump.rdb"))
    if made.aof is None and made.rdb and made.notes.get("appendonly") == "yes":
        made.problems.append(
            Problem(
                "redis.archive-data",
                "appendonly",
                "the source keeps an AOF, which is not in the backup: a server with the source's settings "
                "ignores the RDB and starts empty",
                Severity.INFO,
                remedy="restore with appendonly no first, then CONFIG SET appendonly yes; rehearse it: "
                "redis.redis_conf",
            )
        )
    documented = any(name in made.beside for name in _METADATA)
    for setting, name, default in found:
        told = made.notes.get(setting) or (default if documented else None)
        if name != (told or default):
            made.problems.append(
                Problem(
                    "redis.archive-data",
                    name,
                    f"the server looks for another name ({setting}): by default it would start empty",
                    Severity.HIGH if told else Severity.INFO,
                    expected=told or f"{default}, unless {setting} says otherwise",
                    observed=name,
                    remedy=f"restore with {setting} {name}",
                )
            )


def _misplaced(made: Layout, folder: Path, texts: list[Path]) -> None:
    """Backups that come with metadata say where the data lies: beside it."""
    records = {f.parent for f in texts if f.name in _METADATA}
    if len(records) != 1 or made.rdb is None:
        return
    expected = records.pop()
    if made.rdb.parent != expected:
        made.problems.append(
            Problem(
                "redis.archive-data",
                str(made.rdb.relative_to(folder)),
                "the RDB does not lie beside the backup's metadata, where the restore procedure looks",
                Severity.HIGH,
                expected=str(expected.relative_to(folder) / made.rdb.name),
                observed=str(made.rdb.relative_to(folder)),
                remedy="pack the data files beside the metadata, or correct the restore procedure",
            )
        )
