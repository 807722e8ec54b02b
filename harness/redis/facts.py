"""What is known of a Redis backup before and after its restore: the subject of the checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..manifest import Manifest
from ..model import Artifact, Stage
from ..sandbox import Server
from ..settings import Settings
from .aof import AofFacts
from .digest import Digester
from .layout import Layout, Problem
from .live import LiveFacts
from .opinion import Opinion
from .rdb import RdbFacts
from .spool import Differences, Spool
from .walker import Walk
from .wire import Wire


@dataclass(frozen=True)
class RedisFacts:
    """Read from the file alone. `head` is the beginning of the RDB (or of the AOF's base): version, AUX.

    `walk` reads all of it, perhaps still; None when there is no RDB in any role. `aof` are the commands.
    `beside` is a dump beside an AOF, which no server with appendonly loads.
    """

    layout: Layout
    problems: tuple[Problem, ...]
    digester: Digester
    head: RdbFacts | None = None
    walk: Walk | None = None
    aof: AofFacts | None = None
    manifest: Manifest | None = None
    beside: RdbFacts | None = None

    def rdb(self) -> RdbFacts | None:
        """What the whole RDB says; waits for the walk."""
        return self.walk.result()[0] if self.walk else None

    def writer(self) -> tuple[str, tuple[int, ...]]:
        """Vendor and version (major, minor) of the server that wrote it: by the RDB itself, else by the INFO
        output beside it, else by the manifest. The version is empty where nothing tells."""
        aux = self.head.aux if self.head else {}
        source = self.manifest.source if self.manifest else {}
        told = (
            ("valkey", aux.get("valkey-ver")),
            ("redis", aux.get("redis-ver")),
            ("valkey", self.layout.notes.get("valkey_version")),
            ("redis", self.layout.notes.get("redis_version")),
            (str(source.get("vendor")), source.get("version")),
        )
        vendor, text = next(((v, str(t)) for v, t in told if t), ("redis", ""))
        return vendor, tuple(int(n) for n in re.findall(r"\d{1,6}", text)[:2])

    def spool(self) -> Spool | None:
        """Records of the RDB's keys; waits for the walk."""
        return self.walk.result()[1] if self.walk else None


@dataclass
class RedisSubject:
    """A backup with the server it was restored into (`server` None: none).

    `refused` tells in plain words why a server would not load it; `died` when one ended while keys were
    read back. `live` and `spool` are what was read back.
    """

    artifact: Artifact
    settings: Settings
    facts: RedisFacts
    scratch: Path
    sha256: str = ""
    source_version: str | None = None
    server: Server | None = None
    wire: Wire | None = None
    refused: str | None = None
    died: str | None = None
    live: LiveFacts | None = None
    spool: Spool | None = None
    info: dict[str, str] = field(default_factory=dict)
    load_notes: tuple[str, ...] = ()
    stages: list[Stage] = field(default_factory=list)
    compared: Differences | None = None  # file against server, made once
    last_good: Mapping[str, Any] | None = None  # evidence.json entry of the series' newest passing drill
    queues: dict[str, dict[str, int]] = field(default_factory=dict)  # declared queue -> jobs per state
    rehearsed: tuple[Problem, ...] | None = None  # the recovery with the user's own redis.conf
    not_rehearsed: str | None = None  # why that could not be tried here
    opinion: Opinion | None = None  # what the official check tool says, perhaps still under way
    against_source: tuple[Differences, Spool] | None = None  # manifest against backup, made once

    @property
    def restored(self) -> bool:
        """True once a server with the backup's keys can be looked at."""
        return self.server is not None and self.refused is None
