"""A server's own check tool on a hostile file, held in as the server is.

Since Redis and Valkey are one program under several names (`redis-check-rdb` is the server itself), every
server at hand brings the tool of its own version.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import process
from ..settings import SandboxSettings
from . import instance, local, template
from .base import RedisRequest
from .binaries import Binaries
from .choose import redis_options

_SLICE_S: Final = 0.1  # whoever ends all sandboxes has to wait as long


@dataclass(frozen=True)
class Finished:
    """How the tool ended: its exit code (None: not in time), the end of its output (it may quote data)."""

    exit_code: int | None
    output: str


def redis_program(request: RedisRequest, settings: SandboxSettings) -> Binaries | None:
    """The program on this machine that `redis_sandbox` would take first; None when that is no local one."""
    first = next(iter(redis_options(request, settings).choices), None)
    return first if isinstance(first, Binaries) else None


def run_check(
    server: Binaries,
    called: str,
    data: Path,
    name: str,
    settings: SandboxSettings,
    *,
    deadline: float,
    stop: threading.Event,
) -> Finished:
    """Run `called` (redis-check-rdb, redis-check-aof) on a copy of the file `name` in the folder `data`.

    Setting `stop` ends it early. Raises SandboxError when it cannot be started; `deadline` in monotonic
    seconds.
    """
    user = local.server_user()
    server = local.accessible(server, user)
    made = instance.create(user)
    try:
        instance.spawn(made)
        program = instance.subfolder(made, "bin") / called
        program.symlink_to(server.server)
        folder = made.folder / "data"
        template.copy_tree(data, folder, user)
        instance.launch(
            made,
            [str(program), name],
            env=process.base_env({"HOME": str(made.folder)}),
            cwd=folder,
            needs=server.needs,
            memory=settings.memory,
            disk=settings.disk,
            stop_signal=signal.SIGKILL,
            deadline=deadline,
        )
        code = None
        while code is None and made.proof is None and not stop.is_set() and time.monotonic() < deadline:
            code = instance.ended(made, min(deadline, time.monotonic() + _SLICE_S))
        return Finished(code, made.log())
    finally:
        instance.teardown(made)
