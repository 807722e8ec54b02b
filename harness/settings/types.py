"""Value types of provado.yaml that every section shares."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def duration_s(value: Any) -> Any:
    """`24h`, `90m`, `15d` or a number of seconds -> seconds. Raises ValueError for anything else."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])?\s*", value)
        if not found:
            raise ValueError("not a duration: write 24h, 90m, 15d or seconds")
        return float(found[1]) * _UNITS[found[2] or "s"]
    return value


def size_bytes(value: Any) -> Any:
    """`512M`, `20G` (binary units) or a number of bytes -> bytes. Raises ValueError for anything else."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?\s*", value.lower())
        if not found:
            raise ValueError("not a size: write 512M, 20G or bytes")
        return int(float(found[1]) * _SIZES[found[2]])
    return value


Duration = Annotated[float, BeforeValidator(duration_s), Field(gt=0)]
Size = Annotated[int, BeforeValidator(size_bytes), Field(gt=0)]


class Section(BaseModel):
    """A part of provado.yaml: unknown keys are errors, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
