"""Options that several commands share, and the way from flags to settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_PLACES: Final = {  # flag -> place in the configuration
    "sandbox": ("sandbox", "kind"),
    "postgres_bin": ("sandbox", "postgres_bin"),
    "redis_bin": ("sandbox", "redis_bin"),
    "image": ("sandbox", "images"),
    "output": ("output",),
    "lang": ("lang",),
    "jobs": ("jobs",),
    "rpo": ("objectives", "rpo"),
    "rto": ("objectives", "rto"),
    "fail_on": ("fail_on",),
    "signing_key": ("evidence", "signing_key"),
}

config_option = click.option(
    "--config", type=click.Path(path_type=Path), help="Configuration (default: provado.yaml, if it exists)."
)


def sandbox_options(function: F) -> F:
    """--sandbox, --postgres-bin, --redis-bin, --image."""
    folder = click.Path(path_type=Path)
    for option in (
        click.option(
            "--image",
            multiple=True,
            metavar="postgres=NAME",
            help="Container image to restore into (repeatable; postgres, redis or valkey).",
        ),
        click.option("--redis-bin", type=folder, help="Folder of redis-server."),
        click.option("--postgres-bin", type=folder, help="Folder of postgres and initdb."),
        click.option(
            "--sandbox", type=click.Choice(["auto", "local", "container"]), help="Where to restore."
        ),
    ):
        function = option(function)
    return function


def overrides(flags: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Flags as `settings.load_settings` takes them; those not given are left out."""
    given = dict(flags)
    if images := given.pop("image", ()):
        pairs = [image.partition("=") for image in images]
        for engine, sign, name in pairs:
            if not (sign and engine and name):
                raise click.BadParameter(
                    "write ENGINE=NAME, as in postgres=postgres:15", param_hint="--image"
                )
        given["image"] = {engine: name for engine, _, name in pairs}
    return {_PLACES[k]: str(v) if isinstance(v, Path) else v for k, v in given.items() if v is not None}
