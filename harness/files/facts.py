"""What a configuration backup holds: names, sizes, modes and digests, read with every guard.

Nothing is followed out of the folder, nothing but regular files is opened, and sizes are bounded: a backup is
hostile input.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..archive import Member
from ..errors import ArtifactError, ToolError


@dataclass(frozen=True)
class Entry:
    """One file, folder or link. `kind` is "file", "folder", "link" (to `target`, inside the backup) or
    "refused" with the reason in `trouble`; `mode` holds the permission bits; `source` is where the bytes lie
    before restoring (files only)."""

    name: str
    kind: str
    bytes: int = 0
    mode: int = 0
    sha256: str = ""
    target: str = ""
    trouble: str = ""
    source: Path | None = None


@dataclass(frozen=True)
class FolderFacts:
    """All entries by name (relative, `/` between), in the order of their names."""

    entries: Mapping[str, Entry]

    def files(self) -> Iterator[Entry]:
        """Regular files, and links that lead to one."""
        for entry in self.entries.values():
            found = self.resolve(entry)
            if found is not None and found.kind == "file":
                yield Entry(entry.name, "file", found.bytes, found.mode, found.sha256, source=found.source)

    def resolve(self, entry: Entry) -> Entry | None:
        """What a link leads to inside the backup, by names alone; None when it leads nowhere."""
        for _ in range(16):
            if entry.kind != "link":
                return entry
            name = os.path.normpath(os.path.join(os.path.dirname(entry.name), entry.target))  # noqa: PTH118,PTH120
            step = self.entries.get(name)
            if step is None:
                return None
            entry = step
        return None

    def as_manifest(self) -> dict[str, Any]:
        """The facts that a manifest holds."""
        return {
            "files": {
                file.name: {"bytes": file.bytes, "mode": f"{file.mode:04o}", "sha256": file.sha256}
                for file in self.files()
            }
        }

    def digest(self) -> str:
        """SHA-256 over names, modes' run bit and contents: the digest of a folder as a whole."""
        total = hashlib.sha256()
        for file in self.files():
            total.update(
                f"{file.name}\0{file.mode & 0o100:o}\0{file.sha256}\n".encode(errors="surrogateescape")
            )
        return total.hexdigest()


def read_folder(folder: Path, *, max_bytes: int, max_files: int, deadline: float) -> FolderFacts:
    """Read a folder. Raises ToolError when it is larger than the configuration allows, or time is up."""
    entries: dict[str, Entry] = {}
    left = max_bytes
    for name, place in _walk(folder, ""):
        if len(entries) >= max_files:
            raise ToolError(
                f"holds more than {max_files:,} files",
                where=str(folder),
                remedy="raise files.max_files if that is right for a configuration backup",
            )
        if time.monotonic() > deadline:
            raise ToolError("reading the folder did not finish in time", where=str(folder))
        entry = _entry(folder, name, place, left)
        left -= entry.bytes
        if left < 0:
            raise ToolError(
                f"takes more than {max_bytes:,} bytes",
                where=str(folder),
                remedy="raise files.max_bytes if that is right for a configuration backup",
            )
        entries[name] = entry
    return FolderFacts(dict(sorted(entries.items())))


def read_unpacked(folder: Path, members: tuple[Member, ...], prefix: str) -> FolderFacts:
    """The same for an archive's content below `folder`: modes and links as the archive states them."""
    entries: dict[str, Entry] = {}
    for member in members:
        name = member.name.removeprefix(prefix).lstrip("/")
        if not name or not member.name.startswith(prefix):
            continue
        source, sha256 = None, ""
        if member.kind == "file":
            source = folder / member.name
            with source.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        entries[name] = Entry(
            name, member.kind, member.bytes, member.mode, sha256, member.target or "", source=source
        )
    return FolderFacts(dict(sorted(entries.items())))


def capture_facts(folder: Path, *, max_bytes: int = 1 << 30, max_files: int = 20_000) -> dict[str, Any]:
    """Facts for the manifest of a configuration backup: each file's size, mode and SHA-256, by name.

    Raises ToolError beyond the limits, as `read_folder`.
    """
    facts = read_folder(folder, max_bytes=max_bytes, max_files=max_files, deadline=time.monotonic() + 600)
    return facts.as_manifest()


def digest(folder: Path) -> str:
    """SHA-256 of a whole folder, as drills state it for the backup and manifests for their artifact."""
    return read_folder(folder, max_bytes=1 << 30, max_files=20_000, deadline=time.monotonic() + 600).digest()


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        with os.scandir(folder) as found:
            children = sorted(found, key=lambda child: child.name)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}", where=str(folder)) from None
    for child in children:
        name = f"{prefix}{child.name}"
        yield name, child
        if (
            child.is_dir(follow_symlinks=False)
            and name.count("/") < 64
            and os.access(child, os.R_OK | os.X_OK)
        ):
            yield from _walk(Path(child.path), f"{name}/")


def _entry(root: Path, name: str, place: os.DirEntry[str], left: int) -> Entry:
    try:
        return _looked_at(root, name, place, left)
    except OSError as error:
        return Entry(name, "refused", trouble=f"cannot be read: {error.strerror}")


def _looked_at(root: Path, name: str, place: os.DirEntry[str], left: int) -> Entry:
    status = place.stat(follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        if not os.access(place, os.R_OK | os.X_OK):
            return Entry(name, "refused", trouble="is a folder that cannot be read")
        return Entry(name, "folder", mode=mode)
    if stat.S_ISLNK(status.st_mode):
        target = str(Path(place.path).readlink())
        inside = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118,PTH120
        if os.path.isabs(target) or inside.split("/")[0] == "..":  # noqa: PTH117
            return Entry(name, "refused", trouble="is a link out of the backup: what it led to is not in it")
        if not (root / inside).exists():
            return Entry(name, "refused", trouble="is a link to something that is not there")
        return Entry(name, "link", mode=mode, target=target)
    if not stat.S_ISREG(status.st_mode):
        return Entry(name, "refused", trouble="is a FIFO, socket or device, no file")
    if status.st_size > left:
        return Entry(name, "file", status.st_size, mode)
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(name, "file", status.st_size, mode, sha256, source=Path(place.path))
