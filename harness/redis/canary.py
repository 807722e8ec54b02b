"""A key of our own in the data that is saved: proof that a file is of this server and of this very run.

It is written just before the save and removed after it; a time to live removes it should we die meanwhile. It
is no key of the application: nothing counts or compares it. Where writing it could do harm, or is not
allowed, it is left out and the backup says so.
"""

from __future__ import annotations

import binascii
import contextlib
import re
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final

from ..errors import ArtifactError, ConfigError
from .digest import CANARY, NO_DIGEST, Digester
from .wire import Address, Refused, ServerGone, Wire

_LIFE_MS: Final = 600_000  # as long as a fork may keep us waiting; the key is gone within seconds otherwise
_SLOTS: Final = 16384
_ROOM_BYTES: Final = 1 << 20
_TRIES: Final = 400_000  # a node with a single slot is hit by one name of 16384


@dataclass(frozen=True)
class Canary:
    """`host` is the server as we reached it, `at` when it was written (ISO, UTC)."""

    name: str
    nonce: str
    host: str
    at: str

    def value(self) -> bytes:
        """What the key holds."""
        return f"{self.host} {self.at} {self.nonce}".encode()

    def record(self) -> dict[str, str]:
        """As the manifest keeps it."""
        return {"name": self.name, "nonce": self.nonce, "host": self.host, "at": self.at}

    def digest(self, digester: Digester) -> str:
        """Digest of the value, as the walker makes it."""
        return digester.string(self.value()).main.hex()


@dataclass
class Planted:
    """What became of it. `why` tells why there is none; `stayed` is True when it was there until removed."""

    canary: Canary | None = None
    why: str | None = None
    stayed: bool = False
    left: str | None = None

    def notes(self) -> list[str]:
        """What a backup has to tell of it, in plain words."""
        return [text for text in (self.why, self.left) if text]


def from_record(record: Mapping[str, Any]) -> Canary:
    """The canary of a manifest. Raises ConfigError when its record is damaged."""
    try:
        texts = [record[name] for name in ("name", "nonce", "host", "at")]
    except (KeyError, TypeError):
        texts = [None]
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("the manifest's canary is damaged", remedy="capture it again, or verify without it")
    return Canary(*texts)


@contextlib.contextmanager
def planted(source: Address, wire: Wire, *, wanted: bool = True) -> Iterator[Planted]:
    """Write the key (into the database of `wire`) and remove it when the block is left, however that happens.

    `source` is the server's address, for a connection of its own to remove the key over.
    """
    made = Planted()
    if not wanted:
        yield made
        return
    with _unwinding():
        try:
            made.why = _write(wire, made)
            yield made
        finally:
            if made.canary:
                _remove(source, made.canary, made)


def proven(planted: Planted, held: Mapping[str, str], digester: Digester) -> dict[str, str] | None:
    """The manifest's record once the file is seen to hold the canary; `held` are those the walker met.

    None when there was none, or when it vanished from the server as well. Raises ArtifactError when the
    server had it all the time and the file does not.
    """
    canary = planted.canary
    if canary is None:
        return None
    # Where values were not looked at, the name alone tells: it is as random.
    if held.get(canary.name) in (canary.digest(digester), NO_DIGEST.hex()):
        return canary.record()
    if planted.stayed:
        raise ArtifactError(
            "the RDB does not hold the canary that was written right before: it is of another server, or "
            "of an earlier moment",
            remedy="name the server itself, not a proxy or a balancer, and take the backup again",
        )
    planted.why = "the canary was gone before the file was whole: it proves nothing about this backup"
    return None


def _write(wire: Wire, made: Planted) -> str | None:
    """Plant it; returns in plain words why not."""
    info = wire.info()
    if info.get("role") == "slave":
        return "no canary was written: the server is a replica, which only reads"
    if _full(info):
        return "no canary was written: the server is at its maxmemory, a write could evict a key"
    try:
        name = _name(wire, info.get("cluster_enabled") == "1")
        if name is None:
            return "no canary was written: this node of the cluster serves no slots"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        canary = Canary(name, secrets.token_hex(16), wire.place, now)
        made.canary = canary  # from here on it is removed, even if the answer never comes
        if wire.call("SET", name, canary.value(), "PX", _LIFE_MS, "NX") != b"OK":
            raise Refused("SET", "NX")
    except Refused as refused:
        made.canary = None
        return f"no canary was written: {refused.what}"
    return None


def _full(info: Mapping[str, str]) -> bool:
    limit = int(info.get("maxmemory", "0"))
    evicts = info.get("maxmemory_policy", "noeviction") != "noeviction"
    return bool(limit and evicts and int(info.get("used_memory", "0")) + _ROOM_BYTES > limit)


def _name(wire: Wire, clustered: bool) -> str | None:
    """A fresh name; in a cluster, one whose slot this node serves."""
    if not clustered:
        return CANARY.decode() + secrets.token_hex(8)
    text = wire.call("CLUSTER", "NODES").decode("ascii", "replace")
    own = next((line for line in text.splitlines() if "myself" in line), "")
    ranges = [
        (int(a), int(b or a))
        for a, b in re.findall(r" (\d+)(?:-(\d+))?(?= |$)", own.partition("connected")[2])
    ]
    for _ in range(_TRIES if ranges else 0):
        name = CANARY.decode() + secrets.token_hex(8)
        slot = binascii.crc_hqx(name.encode(), 0) % _SLOTS
        if any(first <= slot <= last for first, last in ranges):
            return name
    return None


def _remove(source: Address, canary: Canary, made: Planted) -> None:
    """Over a connection of its own: the other may be in the middle of an answer, or gone."""
    try:
        with Wire(source, timeout_s=10) as wire:
            made.stayed = wire.call("DEL", canary.name) == 1
    except (Refused, ServerGone, ConfigError) as failed:
        until = _LIFE_MS // 60_000
        made.left = f"the canary could not be removed ({failed}): it expires within {until} minutes"


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the block as Ctrl-C does, once; where somebody else handles them, they do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        if not told.is_set():
            told.set()
            raise KeyboardInterrupt

    ours = [s for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
