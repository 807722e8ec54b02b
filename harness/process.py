"""The only place where other programs are started: argv lists, own process group, a deadline, no shell.

Secrets never stand in argv; they go through `env` or files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .errors import ToolError

PIPE = subprocess.PIPE
Popen = subprocess.Popen
TimeoutExpired = subprocess.TimeoutExpired

_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")


@dataclass(frozen=True)
class User:
    """The unprivileged account a program runs as; None of these is ever 0."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Completed:
    """What a finished program left: exit code (negative: signal), output, and the end of its errors."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    def error_text(self, lines: int = 3) -> str:
        """The last lines of stderr as text. May quote data: for messages about tools, not for evidence."""
        return "\n".join(self.stderr.decode("utf-8", "replace").strip().splitlines()[-lines:])


def base_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment given to programs: no PG*, no cloud credentials, messages in English, plus `extra`."""
    env = {k: os.environ[k] for k in _KEPT if k in os.environ}
    return {**env, "LC_ALL": "C.UTF-8", **(extra or {})}


def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    user: User | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session (and so process group) of its own. The caller ends it with `end`."""
    try:
        return subprocess.Popen(
            [os.fspath(a) for a in argv],
            env=base_env(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            close_fds=True,
            pass_fds=pass_fds,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user and os.geteuid() == 0 else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"cannot start {os.fspath(argv[0])}: {error}") from error


def end(
    process: subprocess.Popen[bytes], *, first: signal.Signals = signal.SIGTERM, grace_s: float = 5.0
) -> int:
    """End a program started here and everything in its group; returns its exit code. Never hangs."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(first)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    user: User | None = None,
    cwd: Path | None = None,
    input: bytes | None = None,
) -> Completed:
    """Run a program to its end and return what it printed; output beyond memory's worth goes to files.

    Raises ToolError when it cannot be started or is still running after `timeout_s`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as feed:
        if input:
            feed.write(input)
            feed.seek(0)
        process = start(argv, env=env, user=user, cwd=cwd, stdin=feed, stdout=out, stderr=err)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ToolError(f"{os.fspath(argv[0])} did not finish within {timeout_s:.0f} s") from None
        finally:
            end(process, first=signal.SIGKILL, grace_s=1)
        return Completed(
            tuple(os.fspath(a) for a in argv), process.returncode, _head(out, 64 << 20), _tail(err, 64 << 10)
        )


@contextlib.contextmanager
def reading(
    argv: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[tuple[IO[bytes], Pipe]]:
    """A program whose output is read as it comes. Leaving the block ends it.

    Yields the stream and a `Pipe`; call `pipe.finish()` after reading to the end for the exit code.
    """
    with tempfile.TemporaryFile() as err:
        process = start(argv, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=err)
        assert process.stdout is not None  # noqa: S101 - for the type checker; PIPE was asked for
        try:
            yield process.stdout, Pipe(process, err)
        finally:
            process.stdout.close()
            end(process, grace_s=1)


@dataclass(frozen=True)
class Pipe:
    """The running program behind `reading`."""

    process: subprocess.Popen[bytes]
    err: IO[bytes]

    def finish(self, timeout_s: float = 30) -> Completed:
        """Wait for the end after its output was read; exit code and the end of stderr."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = end(self.process, first=signal.SIGKILL, grace_s=1)
        argv = self.process.args
        return Completed(
            tuple(str(a) for a in argv) if isinstance(argv, list) else (),
            code,
            b"",
            _tail(self.err, 64 << 10),
        )


def _head(file: IO[bytes], limit: int) -> bytes:
    file.seek(0)
    return file.read(limit)


def _tail(file: IO[bytes], limit: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - limit))
    return file.read(limit)
