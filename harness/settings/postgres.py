"""provado.yaml, section `postgres`: what people expect of a restored database."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from .types import Duration, Section

Left = Literal[
    "ownership",
    "privileges",
    "comments",
    "security labels",
    "roles",
    "role passwords",
    "settings of all roles",
    "publications",
    "subscriptions",
    "tablespaces",
    "database",
    "unlogged rows",
]
"""What a dump may leave out as a whole class by the way it is made (--no-owner, --no-privileges ...)."""


def _share(value: Any) -> Any:
    """`10%` or a number from 0 to 1 -> a share. Raises ValueError for anything else."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
        if not found:
            raise ValueError("not a share: write 10% or 0.1")
        return float(found[1]) / 100
    return value


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]


class TableExpectation(Section):
    """How many rows a table must hold, and how many of its rows it may lose since the last good drill."""

    min_rows: Annotated[int, Field(ge=0)] | None = None
    max_rows: Annotated[int, Field(ge=0)] | None = None
    allowed_drop: Share | None = None

    @model_validator(mode="after")
    def _ordered(self) -> TableExpectation:
        if self.min_rows is not None and self.max_rows is not None and self.min_rows > self.max_rows:
            raise ValueError("min_rows is more than max_rows")
        return self


class Invariant(Section):
    """A query that must give one row with one value: true, or what `equals`, `min`, `max` say.

    It runs read-only with a time limit in the restored database. NULL or no row is an error, never 0.
    """

    name: Name
    sql: Name
    equals: int | float | str | bool | None = None
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Invariant:
        if self.equals is not None and (self.min is not None or self.max is not None):
            raise ValueError("write equals, or min and max, not both")
        return self


class Ignore(Section):
    """Differences from the manifest that do not count: class and object as patterns (`*` as in file names).

    `property` limits the rule to one property of the object; findings are not made at all, so prefer a
    waiver for what should stay visible.
    """

    object: Name
    kind: str = "*"
    property: str | None = None
    reason: Annotated[str, Field(min_length=8)]


_ENCODING: Final = (  # of databases (PostgreSQL manual, table 24.3)
    r"^(UTF8|SQL_ASCII|LATIN(10|[1-9])|ISO_8859_[5-8]|WIN(866|874|125[0-8])|KOI8[RU]|MULE_INTERNAL"
    r"|EUC_(CN|JP|JIS_2004|KR|TW))$"
)


def _encoding(value: Any) -> Any:
    """`utf-8` as a server writes it: UTF8."""
    return {"UTF-8": "UTF8"}.get(value.upper(), value.upper()) if isinstance(value, str) else value


class PostgresTarget(Section):
    """The server and the database into which the recovery procedure restores.

    `version` is its major version, `extensions` what it offers besides plpgsql. `encoding` and `locale` are
    those of the database that is made for a dump without --create (`createdb -E LATIN1 --locale=C`): each
    drill then restores into such a database, too.
    """

    version: Annotated[int, Field(ge=9)] | None = None
    encoding: Annotated[str, BeforeValidator(_encoding), Field(pattern=_ENCODING)] | None = None
    locale: Name | None = None
    extensions: tuple[Name, ...] | None = None


class PostgresSettings(Section):
    """What people expect of PostgreSQL backups.

    `tables` are named as in SQL (`public.companies`; the schema may be left out for `public`). `allowed_drop`
    is the default for all tables against the last good drill. `fresh` names timestamp columns
    (`public.email_logs.created_at`) and how old their newest value may be when the backup was taken.
    `require` raises what a dump leaves out as a class from `medium` to `high`; `leaves_out` says that it is
    meant (`info`). `target` is where a recovery restores; whether the backup
    fits there is told apart (`pg.target-*`).
    """

    tables: dict[Name, TableExpectation] = Field(default_factory=dict)
    allowed_drop: Share | None = None
    invariants: tuple[Invariant, ...] = ()
    extensions: tuple[Name, ...] = ()
    roles: tuple[Name, ...] = ()
    fresh: dict[Name, Duration] = Field(default_factory=dict)
    require: tuple[Left, ...] = ()
    leaves_out: tuple[Left, ...] = ()
    ignore: tuple[Ignore, ...] = ()
    target: PostgresTarget | None = None
    statement_timeout: Duration = 300.0

    @model_validator(mode="after")
    def _consistent(self) -> PostgresSettings:
        if both := set(self.require) & set(self.leaves_out):
            raise ValueError(f"{', '.join(sorted(both))}: required and left out at once")
        names = [invariant.name for invariant in self.invariants]
        if len(set(names)) < len(names):
            raise ValueError("two invariants have the same name")
        return self
