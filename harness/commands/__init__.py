"""The commands of `provado`: one file each, one line each. Loaded when called, so that starting is quick."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = {  # name -> module below this package and the click command in it
    "verify": "verify:verify",
    "capture": "capture:command",
    "backup": "backup:command",
    "restore": "restore:command",
    "rehearse": "rehearse:command",
    "list": "list:command",
    "monitor": "monitor:command",
    "prune": "prune:command",
    "init": "init:command",
    "evidence": "evidence:evidence",
    "report": "report:report",
    "fingerprint": "fingerprint:command",
    "doctor": "doctor:doctor",
    "schema": "schema:schema",
    "completion": "completion:completion",
}
