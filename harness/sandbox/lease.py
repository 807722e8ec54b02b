"""Lease files: what this user's running sandboxes are, so that the next run can sweep a crashed one's.

A lease names processes by id and start time (ids are used again), and the folder or container to remove.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import folders


@dataclass(frozen=True)
class Process:
    """A process, told apart from later ones with the same id by its start time (clock ticks since boot)."""

    pid: int
    started: int

    def alive(self) -> bool:
        """True while exactly this process runs."""
        return self.started >= 0 and started(self.pid) == self.started


@dataclass(frozen=True)
class Lease:
    """One sandbox: who made it, in which process namespace, what it runs, what to remove."""

    owner: Process
    namespace: str
    folder: str
    supervisor: Process | None = None
    server: Process | None = None
    container: str | None = None


def started(pid: int) -> int:
    """Start time of a process in clock ticks since boot; -1 when there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


def this_process() -> Process:
    """The process we are in."""
    return Process(os.getpid(), started(os.getpid()))


def namespace() -> str:
    """What process ids count in: the boot and the pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "unknown"


def _folder() -> Path:
    path = folders.cache() / "leases"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def write(name: str, lease: Lease) -> None:
    """Store a lease whole or not at all. No sync to disk: after a power cut its processes are gone anyway."""
    target = _folder() / f"{name}.json"
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(lease)), "utf-8")
    fresh.replace(target)


def drop(name: str) -> None:
    """Forget a lease; what it named is gone."""
    with contextlib.suppress(FileNotFoundError):
        (_folder() / f"{name}.json").unlink()


def age_s(name: str) -> float:
    """How long ago a lease was written; a large number when it is gone."""
    try:
        return time.time() - (_folder() / f"{name}.json").stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def left_over() -> list[tuple[str, Lease]]:
    """Leases whose maker is dead. One of another container or boot counts once its folder is gone, too."""
    found = []
    for file in sorted(_folder().glob("*.json")):
        try:
            data = json.loads(file.read_text("utf-8"))
            lease = Lease(
                owner=Process(**data["owner"]),
                namespace=data["namespace"],
                folder=data["folder"],
                supervisor=Process(**data["supervisor"]) if data["supervisor"] else None,
                server=Process(**data["server"]) if data["server"] else None,
                container=data["container"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # just being removed by another run, or not ours
        same_boot = lease.namespace.split("/")[0] == namespace().split("/")[0]
        if lease.namespace == namespace():
            if not lease.owner.alive():
                found.append((file.stem, lease))
        elif not same_boot or not Path(lease.folder).exists():
            found.append((file.stem, lease))
    return found


def kill(lease: Lease, *, wait_s: float = 5.0) -> None:
    """End what a lease names: the server, then its supervisor, which ends what the server had started."""
    if lease.namespace != namespace():
        return
    for named in (lease.server, lease.supervisor):
        until = time.monotonic() + wait_s
        while named and named.alive() and time.monotonic() < until:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(named.pid, signal.SIGKILL)
            time.sleep(0.01)
