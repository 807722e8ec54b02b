"""Holding a hostile server in: namespaces, a read-only view of the files, a system call filter. Linux only.

Used by `launch.py` in the process that is about to become the server; only the bare standard library.
Every step that the kernel refuses is left out and so not named in the evidence: containers without
privileges and hardened desktops forbid some of them.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import ctypes
import fcntl
import os
import resource
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OWN_PROCESSES, OWN_IPC = "own process namespace", "own IPC namespace"
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWIPC = 0x00020000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture
_ATTR_RDONLY = 1
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38

# What a server has no business to see: people's files, other programs' sockets and scratch files.
_WRITABLE = ("/tmp", "/dev/shm")  # noqa: S108 - their own, empty
_HIDDEN = (*_WRITABLE, "/var/tmp", "/home", "/root", "/run", "/media", "/mnt", "/srv")  # noqa: S108


def before_fork() -> None:
    """Have the next child start in a process namespace of its own (and, unless root, a user namespace)."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _try(_LIBC.unshare, _NEWPID)
    elif _try(_LIBC.unshare, _NEWUSER | _NEWPID):
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")


def contain(orders: dict[str, Any]) -> list[str]:
    """Close this process in, then drop every privilege. Returns what was achieved, in words for evidence."""
    done = []
    _write("/proc/self/oom_score_adj", "500")  # when memory runs out, the server goes first
    if os.getpid() == 1:
        done.append(OWN_PROCESSES)
    if _try(_LIBC.unshare, _NEWIPC | _NEWUTS):
        done.append(OWN_IPC)
    isolated = _try(_LIBC.unshare, _NEWNET)
    if isolated:
        _loopback_up()
        done.append("no network (own network namespace)")
    if orders["own_view"] and _try(_LIBC.unshare, _NEWNS):
        done += _own_view(orders)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the backup's data
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    user = orders["uid"]
    if user is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (512, 512))  # the user is this sandbox's alone
        os.setgroups([])
        os.setresgid(orders["gid"], orders["gid"], orders["gid"])
        os.setresuid(user, user, user)
        done.append("unprivileged user")
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        done.append("no new privileges")
        if not isolated and _filter_system_calls():
            done.append("no network (system call filter)")
    if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:  # after setuid, which clears it
        done.append("ends with the harness")
    return done


def _try(call: Any, *arguments: Any) -> bool:
    return bool(call(*arguments) == 0)


def _write(path: str, text: str) -> bool:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError:
        return False
    return True


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> bool:
    encoded = [v.encode() if v is not None else None for v in (source, target, kind)]
    return _try(_LIBC.mount, *encoded, ctypes.c_ulong(flags), data.encode() if data else None)


def _read_only(path: str, on: bool, recursive: bool) -> bool:
    """Set or clear the read-only attribute of the mount at `path` (Linux 5.12)."""
    attributes = struct.pack("QQQQ", _ATTR_RDONLY if on else 0, 0 if on else _ATTR_RDONLY, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    return _try(
        _LIBC.syscall, _SYS_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, attributes, len(attributes)
    )


def _own_view(orders: dict[str, Any]) -> list[str]:
    """A view in which only the sandbox's folder can be written, and people's folders are empty."""
    done: list[str] = []
    if not _mount("none", "/", None, _MS_REC | _MS_PRIVATE):
        return done
    keep = [os.path.realpath(p) for p in (orders["folder"], *orders["needs"])]
    handles = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in keep]
    read_only = _read_only("/", True, True)
    hidden: list[str] = []
    for path in dict.fromkeys((*_HIDDEN, orders["home"])):
        real = os.path.realpath(path)
        if real != "/" and os.path.isdir(real) and not _within(real, hidden):
            options = f"mode=1777,size={orders['memory']}" if real in _WRITABLE else "mode=755"
            if _mount("none", real, "tmpfs", _MS_NOSUID | _MS_NODEV, options):
                hidden.append(real)
    if hidden:
        done.append("private /tmp, home folders hidden")
    for path, handle in handles:
        covered = _within(path, hidden)
        if covered:
            os.makedirs(path, mode=0o755, exist_ok=True)
        if covered or path == keep[0]:
            bound = _mount(f"/proc/self/fd/{handle}", path, None, _MS_BIND)
            if not bound or (read_only and path == keep[0] and not _read_only(path, False, False)):
                raise OSError(ctypes.get_errno(), f"cannot bring {path} into the server's view")
        os.close(handle)
    if read_only:
        done.append("files read-only but the sandbox's own")
    if os.getpid() == 1 and not _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC):
        _mount("none", "/proc", "tmpfs", _MS_RDONLY)  # /proc/PID/root of our other processes leads out
    return done


def _within(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _loopback_up() -> None:
    """PostgreSQL before 15 talks to its own statistics collector over loopback."""
    try:
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        fcntl.ioctl(probe.fileno(), 0x8914, struct.pack("16sh14x", b"lo", 0x1))  # SIOCSIFFLAGS, IFF_UP
        probe.close()
    except OSError:
        return


def _filter_system_calls() -> bool:
    """No sockets but Unix ones, no io_uring (it would make sockets past the filter), no foreign ABI."""
    machines = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
    machine = os.uname().machine
    if machine not in machines:
        return False
    arch, socket_call = machines[machine]
    deny, no_such_call, allow = 0x00050000 | 13, 0x00050000 | 38, 0x7FFF0000  # EACCES, ENOSYS
    program = (
        (0x20, 0, 0, 4),  # which ABI
        (0x15, 0, 8, arch),
        (0x20, 0, 0, 0),  # which call
        (0x35, 6, 0, 0x40000000),  # x32 calls on x86_64
        (0x15, 5, 0, 425),  # io_uring_setup
        (0x15, 0, 3, socket_call),
        (0x20, 0, 0, 16),  # its first argument: the address family
        (0x15, 1, 0, socket.AF_UNIX),
        (0x06, 0, 0, deny),
        (0x06, 0, 0, allow),
        (0x06, 0, 0, no_such_call),
    )
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)
