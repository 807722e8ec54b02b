"""CRC-64 with the polynomial of Jones, which ends every RDB file since version 5."""

from __future__ import annotations

from typing import Final

import anycrc  # type: ignore[import-untyped]

_MODEL: Final = anycrc.Model("CRC64-REDIS")


def crc64(data: bytes | memoryview, crc: int = 0) -> int:
    """The checksum of what was summed up to `crc`, followed by `data`."""
    return int(_MODEL.calc(data, crc))
