"""Where rehearsals happen: throwaway servers that stand for production, holding the user's newest backups."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ..catalog import RUNBOOK_LAYOUT, find
from ..check import NotRun
from ..component import DrillContext
from ..components import recognisers
from ..model import Artifact
from ..policy.state import Backup, State, gather
from ..sandbox import PostgresRequest, RedisRequest, postgres_sandbox, redis_sandbox
from ..settings import Settings

_DATABASE = "rehearsal"


class Ground:
    """What rehearsals stand on, a `check.Subject`. Use as a context manager: leaving it ends the servers.

    Servers are started when first asked for and shared, so every rehearsal must leave them as it found them.
    """

    restored = True

    def __init__(self, settings: Settings, scratch: Path, *, timeout_s: float | None = None) -> None:
        self.settings, self.scratch = settings, scratch
        self.deadline = time.monotonic() + (timeout_s or settings.sandbox.timeout)
        self._stack = contextlib.ExitStack()
        self._made: dict[str, Any] = {}
        self._count = 0

    def __enter__(self) -> Ground:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def folder(self, name: str) -> Path:
        """A fresh folder of one's own."""
        self._count += 1
        made = self.scratch / f"{name}-{self._count}"
        made.mkdir()
        return made

    def context(self) -> DrillContext:
        """A drill context with a scratch folder of its own."""
        return DrillContext(self.settings, self.folder("drill"), self.deadline)

    def state(self) -> State:
        """The backups there are, as the policy sees them. Raises NotRun when there are none."""
        if "state" not in self._made:
            places = [(s.path, s.component) for s in self.settings.backups]
            places = places or [(Path(p), c) for p, c in RUNBOOK_LAYOUT.items()]  # type: ignore[misc]
            found: list[Artifact] = []
            for path, component in places:
                if path.exists():
                    found += find(path, recognisers(), component=component)
            self._made["state"] = gather(found, self.settings, now=datetime.now(UTC))
        state: State = self._made["state"]
        if not state.backups:
            raise NotRun("there is no backup to rehearse with", blocking=True)
        return state

    def newest(self, component: str) -> Artifact:
        """The newest backup of a component. Raises NotRun when there is none."""
        mine = [b.artifact for b in state_order(self.state()) if b.artifact.component == component]
        if not mine:
            raise NotRun(f"there is no {component} backup to rehearse with", blocking=True)
        return mine[-1]

    def postgres(self) -> Any:
        """A PostgreSQL server with the newest backup recovered into it: how to reach the database (`Live`).

        Raises RestoreError or ArtifactError when that backup cannot be recovered: the rehearsal failed.
        """
        if "postgres" not in self._made:
            from ..postgres import recover
            from ..postgres.live import Live

            artifact = self.newest("postgres")
            facts = recover.read(artifact, self.context())
            request = PostgresRequest(
                facts.major,
                extensions=frozenset(facts.extensions - {"plpgsql"}),
                features=frozenset(facts.features),
            )
            server = self._stack.enter_context(
                postgres_sandbox(request, self.settings.sandbox, deadline=self.deadline)
            )
            name = recover.source_database(facts, _DATABASE) or _DATABASE
            parameters = {"host": server.host, "port": str(server.port), "user": server.user, "dbname": name}
            live = Live(parameters, server.password)
            wish = recover.Wish(safety=None)
            recover.recover(artifact, live, wish, self.settings, self.folder("recover"))
            self._made["postgres"] = live
        return self._made["postgres"]

    def redis(self) -> Any:
        """A Redis server with `appendonly yes` and the newest backup recovered into it (`Address`)."""
        if "redis" not in self._made:
            from ..redis import recover
            from ..redis.inspect import inspect
            from ..redis.wire import Address

            artifact = self.newest("redis")
            head = inspect(artifact, self.context()).facts.head
            request = RedisRequest(
                head.version if head else None,
                valkey_only=bool(head and head.vendor == "valkey"),
                options=(("appendonly", "yes"),),
            )
            server = self._stack.enter_context(
                redis_sandbox(request, self.settings.sandbox, deadline=self.deadline)
            )
            user = server.user if server.user != "default" else None
            address = Address(server.unix_socket, server.host, server.port, user, server.password)
            recover.recover(artifact, address, recover.Wish(), self.settings, self.folder("recover"))
            self._made["redis"] = address
        return self._made["redis"]

    def files(self) -> Path:
        """A folder with the newest configuration backup recovered into it."""
        if "files" not in self._made:
            self._made["files"] = self._recovered_files()
        folder: Path = self._made["files"]
        return folder

    def _recovered_files(self) -> Path:
        from ..files import recover

        target = self.folder("system")
        made = recover.plan(
            self.newest("files"), target, recover.Wish(), self.settings, self.folder("recover")
        )
        recover.recover(made, self.settings)
        return target


def state_order(state: State) -> Iterator[Backup]:
    """Backups by their own clock, oldest first; those without one before all others."""
    yield from sorted(state.backups, key=lambda b: (b.taken_at or datetime.min.replace(tzinfo=UTC), b.name))
