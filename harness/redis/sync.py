"""Fetch a server's RDB over the replication protocol, as a replica would; its files need not be reachable.

The server forks at one moment and sends that state. Nothing is written on our side but the given file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from ..errors import ArtifactError, ToolError
from .wire import ServerGone, Wire

_BLOCK: Final = 1 << 20
_LINE_LIMIT: Final = 4096


class Sync:
    """One full synchronisation. Construct it to make the server fork, then `save` the bytes that come."""

    def __init__(self, wire: Wire) -> None:
        """`wire` is a connection for this alone; it is unusable for commands from now on."""
        self._wire = wire
        wire.start_raw(b"*1\r\n$4\r\nSYNC\r\n")

    def refused(self) -> bool:
        """Whether the server answered with an error already (`save` tells which)."""
        return self._wire.peek_raw() == b"-"

    def save(self, path: Path, *, deadline: float) -> int:
        """Write the RDB to `path`; returns its size. `deadline` in `time.monotonic()` seconds.

        Raises ToolError when the server refuses or stops, ArtifactError when it sends something else.
        """
        try:
            size = self._size(deadline)
            with path.open("xb") as file:
                left = size
                while left:
                    if time.monotonic() > deadline:
                        raise ToolError("the server did not send its data in time", where=self._wire.place)
                    block = self._wire.receive_raw(min(left, _BLOCK))
                    file.write(block)
                    left -= len(block)
        except ServerGone as gone:
            raise ToolError(f"fetching the RDB stopped: {gone}", where=self._wire.place) from None
        return size

    def _size(self, deadline: float) -> int:
        """The announced size; a server sends empty lines while it saves."""
        line = b""
        while True:
            if time.monotonic() > deadline:
                raise ToolError("the server did not begin to send its data in time", where=self._wire.place)
            byte = self._wire.receive_raw(1)
            if byte != b"\n":
                line += byte
                if len(line) > _LINE_LIMIT:
                    raise ArtifactError("the server does not speak the replication protocol")
                continue
            text, line = line.strip(), b""
            if text.startswith(b"-"):
                code = text[1:].split(b" ", 1)[0].decode("ascii", "replace")
                raise ToolError(
                    f"the server refuses to send its data ({code})",
                    where=self._wire.place,
                    remedy="the user needs the permission +sync, and the server must save without error",
                )
            if text.startswith(b"$") and text[1:].isdigit():
                return int(text[1:])
            if text:
                raise ArtifactError("the server does not speak the replication protocol")
