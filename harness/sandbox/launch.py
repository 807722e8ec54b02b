"""Supervisor of one sandbox server: `main` of a Python process of its own, started with `COMMAND`.

It reads its orders (one message, see `message`) from standard input, starts the server contained
(`contain`), tells on standard output how that went, and ends the server when asked to, when the harness
dies (its end of the pipe closes, or our parent changes), or when a limit is passed. So it goes on working
while the harness is busy. Every import delays every drill: json, socket, signal and typing together took
longer than the rest of the start, hence marshal and the C modules beneath.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import ctypes
import marshal
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
if TYPE_CHECKING or __package__:
    from . import contain
else:  # in the process of its own: by way of the package all of the harness would be imported
    import contain

_HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = ("-I", "-S", "-c", f"import sys; sys.path.insert(0, {_HERE!r}); import launch; launch.main()")
_PR_SET_CHILD_SUBREAPER = 36
_LAST_ROOM = 64 << 20  # with less than that free, the machine is what is judged, not the backup


def message(what: dict[str, Any]) -> bytes:
    """One line that `understood` reads back, between two processes of the same Python."""
    return marshal.dumps(what).hex().encode() + b"\n"


def understood(line: bytes) -> dict[str, Any]:
    """What a line made by `message` says."""
    data = marshal.loads(bytes.fromhex(line.decode()))  # noqa: S302 - a pipe that only we hold
    return data if isinstance(data, dict) else {}


def main() -> None:
    """Start, watch and end one server."""
    parent = os.getppid()
    orders = understood(sys.stdin.buffer.readline())
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # the server's orphans come to us
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the pipe, or the parent's death, tells us to stop
    contain.before_fork()
    child, answer = _start(orders)
    answer["pid"] = child
    _tell(answer)
    limit, status = _watch(orders, child, parent)
    if limit:
        _tell({"limit": limit})  # before the server's clients can notice anything
    if status is None:
        namespaces = {contain.OWN_PROCESSES, contain.OWN_IPC} <= set(answer.get("containment", ()))
        status = _stop(orders, child, namespaces)
    _end_descendants()
    _tell({"exit_code": status})


def _tell(what: dict[str, Any]) -> None:
    try:
        os.write(1, message(what))
    except BrokenPipeError:  # the harness is gone: what has to be done is done all the same
        return


def _start(orders: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Fork the server -> its process id, and its containment or the error that kept it from starting."""
    receive, report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _become_server(orders, report)
    os.close(report)
    with os.fdopen(receive, "rb") as pipe:
        told = pipe.read()
    return child, understood(told) if told else {"error": "the server's process ended before it began"}


def _become_server(orders: dict[str, Any], report: int) -> None:
    """In the child: contain ourselves, drop privileges, become the server. Never returns."""
    try:
        os.dup2(2, 1)  # the supervisor's own errors go to the server's log, too
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        done = contain.contain(orders)
        os.chdir(orders["cwd"])
        program = os.open(orders["argv"][0], os.O_PATH)  # told only once the server can be reached from here
        os.close(program)
        os.write(report, message({"containment": done}))
        os.execve(orders["argv"][0], orders["argv"], orders["env"])
    except BaseException as error:
        os.write(report, message({"error": f"{type(error).__name__}: {error}"}))
    os._exit(127)


def _watch(orders: dict[str, Any], child: int, parent: int) -> tuple[str | None, int | None]:
    """Wait until the server ends, a limit is passed, or we are to stop -> (limit passed, exit status)."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    try:  # noqa: SIM105 - contextlib would have to be loaded
        poll.register(os.pidfd_open(child), select.POLLIN)
    except (AttributeError, OSError):  # then the end is noticed a quarter of a second later
        pass
    next_look = time.monotonic() + 0.5
    while True:
        events = poll.poll(250)
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return None, os.waitstatus_to_exitcode(status)
        if any(fd == sys.stdin.fileno() for fd, _ in events) or os.getppid() != parent:
            return None, None
        if time.monotonic() >= next_look:
            began = time.monotonic()
            limit = _limit_passed(orders)
            if limit:
                return limit, None
            took = time.monotonic() - began
            next_look = time.monotonic() + max(0.5, 20 * took)  # looking costs at most a twentieth of a core


def _stop(orders: dict[str, Any], child: int, namespaces: bool) -> int:
    """End the server: its own quick way first (it removes shared memory), then SIGKILL.

    At once where process and IPC namespaces are its own: the kernel ends and removes all that is in them.
    """
    until = time.monotonic() + (0 if namespaces else orders["grace_s"])
    if not namespaces:
        os.kill(child, orders["stop_signal"])
    while time.monotonic() < until:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _end_descendants() -> None:
    """SIGKILL everything that is still below us, and reap it."""
    for _ in range(100):
        below = descendants(os.getpid())
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Process ids of all that descend from `root`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            found.append(pid)
            todo.append(pid)
    return found


def _limit_passed(orders: dict[str, Any]) -> str | None:
    if memory_bytes(descendants(os.getpid())) > orders["memory"]:
        return "memory"
    disk = os.statvfs(orders["folder"])
    if disk.f_bavail * disk.f_frsize < _LAST_ROOM or disk_bytes(orders["folder"]) > orders["disk"]:
        return "disk"
    return None


def memory_bytes(pids: list[int]) -> int:
    """Memory the processes hold: their private pages, and shared pages once (the largest view of them)."""
    private, shared = 0, 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", "rb") as file:
                lines = file.read().split(b"\n")
        except OSError:
            continue
        for line in lines:
            if line.startswith(b"RssAnon:"):
                private += int(line.split()[1]) << 10
            elif line.startswith(b"RssShmem:"):
                shared = max(shared, int(line.split()[1]) << 10)
    return private + shared


def disk_bytes(folder: str) -> int:
    """Bytes that the files below `folder` take on the disk."""
    total, todo = 0, [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    try:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            todo.append(entry.path)
                    except OSError:
                        continue
        except OSError:
            continue
    return total
