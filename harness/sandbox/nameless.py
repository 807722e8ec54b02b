"""initdb under a user id that no user database names (`docker run --user 1234`): it gives up without a name.

Its process gets a user namespace of its own in which it is somebody who has one. The files stay ours, and the
servers themselves ask for no name.
"""

from __future__ import annotations

import os
import pwd
import sys
from typing import Final

REMEDY: Final = (
    "This user id has no name, and user namespaces are not allowed here: add it to /etc/passwd,"
    " or run as a user that is in it"
)
_AS_SOMEBODY: Final = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
if ctypes.CDLL(None).unshare(0x10000000) == 0:  # CLONE_NEWUSER
    maps = {"setgroups": "deny", "uid_map": f"{sys.argv[1]} {uid} 1", "gid_map": f"{gid} {gid} 1"}
    for name, text in maps.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
os.execv(sys.argv[2], sys.argv[2:])
"""


def prefix() -> list[str]:
    """What to put before a command that needs to find its own user's name; nothing where it has one."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        others = [entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid]  # initdb refuses to be root
        return [sys.executable, "-I", "-S", "-c", _AS_SOMEBODY, str(others[0])] if others else []
    return []
