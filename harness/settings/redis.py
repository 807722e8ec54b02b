"""provado.yaml, section `redis`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from .types import Duration, Section


class RedisSettings(Section):
    """What people expect of Redis backups."""

    require: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Key patterns (as for KEYS, any database) with the least number of keys: {'bull:*': 1}",
    )
    allowed_drop: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of its keys a database may lose since the last good drill: 0.2"
    )
    queues: tuple[str, ...] = Field(
        default=(), description="BullMQ queues to examine, prefix and name: 'bull:email:send'"
    )
    target: Annotated[str, Field(pattern=r"^(redis|valkey)? ?\d+\.\d+(\.\d+)?$")] | None = Field(
        default=None, description="The server that recovery has: '7.0', 'valkey 8.1'. It must load the backup"
    )
    redis_conf: Path | None = Field(
        default=None, description="The redis.conf that recovery uses: restoring with it is rehearsed"
    )
    modules: tuple[str, ...] = Field(
        default=(), description="Module types that keys may be of, as TYPE names them"
    )
    max_clock_gap: Duration = Field(
        default=12 * 3600.0, description="How much older than its name the data inside a backup may be"
    )
    canary: bool = Field(
        default=True,
        description="Backups write a key of their own just before the save, and remove it again: it proves "
        "that a file is of this very run",
    )
    may_be_empty: bool = Field(default=False, description="An empty data set is what is expected")
