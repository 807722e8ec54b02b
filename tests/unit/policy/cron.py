"""A folder of backups as a cron job leaves it, without waiting for it."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path

DUMP = gzip.compress(
    b"--\n-- PostgreSQL database dump\n--\nSELECT pg_catalog.set_config('search_path', '', false);\n"
    b"CREATE TABLE public.t (a int);\n--\n-- PostgreSQL database dump complete\n--\n"
)


def run(
    folder: Path, first: datetime, days: int, *, cleanup: bool, skip: frozenset[str] = frozenset()
) -> None:
    """The runbook's crontab for `days` days from `first` (a midnight): daily 02:00, weekly Sunday 03:00,
    monthly on day 1 at 04:00. With `cleanup` every daily run also deletes what is older than 7 days, of
    any kind, as the seed's script does. `skip` names backups that were never taken. Keeps a backup.log."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: dict[str, datetime] = {}
    log = []
    for n in range(days):
        day = first + timedelta(days=n)
        jobs = [("daily", day.replace(hour=2))]
        if day.weekday() == 6:
            jobs.append(("weekly", day.replace(hour=3)))
        if day.day == 1:
            jobs.append(("monthly", day.replace(hour=4)))
        for kind, at in jobs:
            name = f"email-gateway-{kind}-{at:%Y%m%d-%H%M%S}.sql.gz"
            log.append(f"[{at:%Y-%m-%d %H:%M:%S}] Iniciando backup {kind}")
            if name not in skip:
                taken[name] = at
            if cleanup and kind == "daily":
                taken = {k: t for k, t in taken.items() if at - t <= timedelta(days=7)}
                log.append(f"[{at:%Y-%m-%d %H:%M:%S}] Removidos 0 backups antigos")
    for name in taken:
        (folder / name).write_bytes(DUMP)
    (folder / "backup.log").write_text("\n".join(log) + "\n", encoding="utf-8")
