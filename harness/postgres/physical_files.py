"""The files of a base backup against PostgreSQL's own backup_manifest (format: its documentation)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import anycrc  # type: ignore[import-untyped]

_CRC32C: Final = anycrc.Model("CRC32C")
_BLOCK: Final = 1 << 20
# What pg_verifybackup does not look at either: WAL is proven by recovery, the rest is written afterwards.
_NOT_LISTED: Final = frozenset(
    ("backup_manifest", "postgresql.auto.conf", "recovery.signal", "standby.signal", "pg_wal")
)


@dataclass(frozen=True)
class Files:
    """How the files compare with the list. `authentic` is False when the list's own checksum is wrong."""

    authentic: bool
    listed: int = 0
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    unsummed: int = 0  # listed without a checksum (--manifest-checksums=NONE): only their sizes were compared
    system_identifier: str | None = None


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Crc:
    """CRC-32C as PostgreSQL writes it: the four bytes as they lie in memory."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = int(_CRC32C.calc(data, self._value))

    def hexdigest(self) -> str:
        return self._value.to_bytes(4, "little").hex()


_SUMS: Final[dict[str, Callable[[], _Sum]]] = {
    "CRC32C": _Crc,
    "SHA224": hashlib.sha224,
    "SHA256": hashlib.sha256,
    "SHA384": hashlib.sha384,
    "SHA512": hashlib.sha512,
}


def compare(data: Path, manifest: Path) -> Files:
    """Every file of a data directory against the list: there, of the size and checksum it says."""
    raw = manifest.read_bytes()
    authentic = _own_sum(raw)
    try:
        listed = json.loads(raw)
        wanted = {name: file for file in listed["Files"] if (name := _name(file)) not in _NOT_LISTED}
    except (ValueError, KeyError, TypeError, AttributeError):
        return Files(False)
    missing, changed, unsummed = [], [], 0
    for name, file in wanted.items():
        path = data / name
        if ".." in Path(name).parts or not path.is_file():
            missing.append(name)
        elif path.stat().st_size != file.get("Size"):
            changed.append(name)
        elif (algorithm := file.get("Checksum-Algorithm")) not in _SUMS:
            unsummed += 1
        elif _sum(path, str(algorithm)) != str(file.get("Checksum")).lower():
            changed.append(name)
    extra = [name for name in _present(data) if name not in wanted]
    identifier = listed.get("System-Identifier")
    return Files(
        authentic,
        len(wanted),
        tuple(missing),
        tuple(changed),
        tuple(extra),
        unsummed,
        str(identifier) if identifier else None,
    )


def _own_sum(raw: bytes) -> bool:
    """The manifest ends with the SHA-256 of everything before its last line."""
    at = raw.rfind(b'"Manifest-Checksum"')
    if at < 0:
        return False
    said = raw[at:].split(b'"')
    return len(said) > 3 and said[3].decode("ascii", "replace") == hashlib.sha256(raw[:at]).hexdigest()


def _name(file: dict[str, Any]) -> str:
    if "Path" in file:
        return str(file["Path"])
    return bytes.fromhex(file["Encoded-Path"]).decode("utf-8", "surrogateescape")


def _sum(path: Path, algorithm: str) -> str:
    total = _SUMS[algorithm]()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _present(data: Path) -> Iterator[str]:
    for path in sorted(data.rglob("*")):
        name = path.relative_to(data)
        if path.is_file() and name.parts[0] not in _NOT_LISTED:
            yield name.as_posix()
