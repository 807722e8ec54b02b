"""Initialised PostgreSQL data directories, made once per server binary and copied for each sandbox.

initdb takes half a second, a copy a twentieth. A template lies in the private cache (0700, ours), is whole
or absent (renamed into place under a lock), and has a random password that only its owner can read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import filelock

from .. import process
from ..errors import SandboxError
from ..process import User
from ..redact import Secret
from . import clients, folders, instance, nameless
from .binaries import Binaries

_FORMAT = 2  # raise when initdb's options change
_FICLONE = 0x40049409


@dataclass(frozen=True)
class Template:
    """An initialised data directory and the password of its superuser `postgres`."""

    data: Path
    password: Secret


def template(server: Binaries, user: User | None, *, deadline: float) -> Template:
    """The cached template for a server binary, made if there is none. Raises SandboxError if initdb fails."""
    status = server.server.stat()
    stamp = (
        f"{_FORMAT}|{server.server}|{server.version}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
    )
    place = (
        folders.cache() / "templates" / f"{server.version}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    )
    found = _read(place)
    if found:
        return found
    place.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with filelock.FileLock(f"{place}.lock", timeout=max(0.1, deadline - time.monotonic())):
            return _read(place) or _make(place, server, user, deadline)
    except filelock.Timeout:
        raise SandboxError(
            "another run held the lock on the server template until the deadline",
            where=f"{place}.lock",
            remedy="End that run, or raise sandbox.timeout",
        ) from None


def _read(place: Path) -> Template | None:
    if not folders.is_private(place):
        return None
    try:
        meta = json.loads((place / "template.json").read_text("utf-8"))
        if [*_census(place / "data")] != meta["census"]:
            return None
        return Template(place / "data", Secret(meta["password"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _census(data: Path) -> tuple[int, int]:
    """Number of files and their bytes: a template somebody thinned out is made anew."""
    sizes = [os.lstat(f"{parent}/{name}").st_size for parent, _, names in os.walk(data) for name in names]
    return len(sizes), sum(sizes)


def _make(place: Path, server: Binaries, user: User | None, deadline: float) -> Template:
    work = instance.create(user)
    try:
        home = instance.subfolder(work, "init")  # where the server's user can write
        password = secrets.token_hex(24)
        pwfile = home / "pw"
        pwfile.write_text(clients.scram_verifier(password), "ascii")  # initdb stores it as it is
        if user:
            os.chown(pwfile, user.uid, user.gid)
        tried = []
        unnamed = [] if user else nameless.prefix()
        for locale in ("C.UTF-8", "C"):
            done = process.run(
                [
                    *unnamed,
                    server.server.parent / "initdb",
                    "-D", home / "data", "-U", "postgres", "-E", "UTF8", f"--locale={locale}",
                    "--auth=scram-sha-256", f"--pwfile={pwfile}", "--no-sync",
                    *(["--no-data-checksums"] if server.major >= 18 else []),  # on by default since then
                ],
                timeout_s=max(1.0, min(120.0, deadline - time.monotonic())),
                user=user,
                cwd=home,
            )  # fmt: skip
            if done.code == 0:
                break
            tried.append(done.error_text())
            shutil.rmtree(home / "data", ignore_errors=True)
        else:
            raise SandboxError(
                f"initdb of PostgreSQL {server.version} failed: {tried[-1]}",
                where=str(server.server.parent),
                remedy=nameless.REMEDY
                if unnamed
                else "Check the installation, or name another one with --postgres-bin",
            )
        fresh = place.with_name(f".new-{place.name}")  # we hold its lock: one of that name is a crashed run's
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        copy_tree(home / "data", fresh / "data", None)
        meta = {"census": _census(fresh / "data"), "password": password}
        (fresh / "template.json").write_text(json.dumps(meta), "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
        return Template(place / "data", Secret(password))
    finally:
        instance.teardown(work)


def copy_tree(
    source: Path, target: Path, user: User | None, *, leave_out: frozenset[str] = frozenset()
) -> None:
    """Copy a folder's plain files and folders, sharing blocks where the file system can; owner `user`.

    Links and special files are left out, and so are the names in `leave_out` at the top.
    """
    clone = True
    todo = [(os.fspath(source), os.fspath(target))]
    while todo:
        here, there = todo.pop()
        Path(there).mkdir(mode=0o700)
        if user:
            os.chown(there, user.uid, user.gid)
        with os.scandir(here) as entries:
            for entry in entries:
                copied = f"{there}/{entry.name}"
                if entry.name in leave_out and here == os.fspath(source):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append((entry.path, copied))
                elif entry.is_file(follow_symlinks=False):
                    clone = _copy_file(entry.path, copied, user, clone)


def _copy_file(source: str, target: str, user: User | None, clone: bool) -> bool:
    """Copy one file; returns whether cloning is worth trying for the next."""
    read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            if user:
                os.fchown(write, user.uid, user.gid)
            if clone:
                try:
                    fcntl.ioctl(write, _FICLONE, read)
                except OSError:
                    clone = False
                else:
                    return True
            status = os.fstat(read)
            if status.st_blocks * 512 < status.st_size:
                _copy_data(read, write, status.st_size)
            else:
                while os.sendfile(write, read, None, 1 << 24):
                    continue
            return clone
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy_data(read: int, write: int, size: int) -> None:
    """Copy a file with holes, and leave them holes: unused WAL is zeros, 16 MiB a piece."""
    end = 0
    while end < size:
        try:
            start = os.lseek(read, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        end = os.lseek(read, start, os.SEEK_HOLE)
        os.lseek(write, start, os.SEEK_SET)
        while start < end and (count := os.sendfile(write, read, start, end - start)):
            start += count
    os.ftruncate(write, size)
