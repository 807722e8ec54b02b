"""Server settings for restoring and throwing away, the same for every provider; evidence names them.

A measured RTO must say under which settings it was measured (DESIGN section 4).
"""

from __future__ import annotations

import os

import psutil

from ..settings import SandboxSettings
from .base import PostgresRequest, RedisRequest

# Files of a base backup that would make the server read its source's settings, or wait for more WAL.
NOT_FROM_BACKUP = frozenset(
    ("postgresql.auto.conf", "recovery.signal", "standby.signal", "recovery.conf", "postmaster.pid")
)


def postgres_tuning(major: int, request: PostgresRequest, settings: SandboxSettings) -> dict[str, str]:
    """PostgreSQL: nothing need survive a crash; sizes follow the memory limit and half of the machine's."""
    budget = min(settings.memory, psutil.virtual_memory().total // 2) >> 20  # MiB
    cores = len(os.sched_getaffinity(0))
    workers = str(max(0, min(4, cores - 1)))
    return {
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "1d",
        "autovacuum": "off",
        "synchronize_seqscans": "off",  # else an ordered scan may start in the middle of a table
        "shared_buffers": f"{max(32, min(1024, budget // 8))}MB",
        "maintenance_work_mem": f"{max(32, min(512, budget // 16))}MB",
        "max_worker_processes": str(max(8, cores)),
        "max_connections": str(max(40, 4 * cores)),
        "max_locks_per_transaction": "512",
        "shared_preload_libraries": "",
        "archive_mode": "off",
        "ssl": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",  # statements hold values
        "log_error_verbosity": "terse",  # and so do the DETAIL lines of constraint errors
        **({"jit": "off", "max_parallel_maintenance_workers": workers} if major >= 11 else {}),
        **({"max_prepared_transactions": "64"} if request.data else {}),  # at least as many as are pending
        **dict(request.options),
    }


def own_files(request: PostgresRequest) -> dict[str, str]:
    """Files of ours, by the setting that names them, in place of those in the data folder -> their content.

    A base backup brings its source's configuration: other folders, commands to run, libraries to load. And
    who may connect is not for the restored system to say.
    """
    method = "trust" if request.data else "scram-sha-256"
    hba = f"local all all {method}\nlocal replication all {method}\n"
    return {"hba_file": hba, **({"config_file": "", "ident_file": ""} if request.data else {})}


def redis_tuning(request: RedisRequest) -> dict[str, str]:
    """Redis: never writes its data again, never evicts a key while loading; the request's options win."""
    return {
        "save": "",
        "appendonly": "no",
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
        **dict(request.options),
    }
