"""Past drills from the ledger, for trends and comparisons."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from .ledger import FOLDER, numbers, record_file
from .sign import unseal


def history(output: Path, limit: int = 60, *, without: int | None = None) -> list[dict[str, Any]]:
    """The newest drills, oldest first, for trends: `drill`, `at`, `verdict` ("aborted" without a result),
    and per backup what `finish` summed up. `without` leaves out the drill that is still running. Reads
    records without judging their signatures."""
    drills: dict[int, dict[str, Any]] = {}
    for number in reversed(numbers(output / FOLDER)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            statement = unseal(record_file(output, number).read_bytes()).statement
            at, kind, body = (statement["predicate"][k] for k in ("at", "kind", "body"))
            if kind == "finished":
                drills[body["drill"]] = {"at": at, **body}
            elif kind == "started" and body["drill"] not in drills:
                lost = {"run_id": body.get("run_id"), "verdict": "aborted", "backups": []}
                drills[body["drill"]] = {"at": at, "drill": body["drill"], **lost}
        drills.pop(without or 0, None)
        if len(drills) >= limit:
            break
    return [drills[n] for n in sorted(drills)]
