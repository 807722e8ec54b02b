"""`provado fingerprint`: what provado.yaml says of a secret without saying the secret."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import ConfigError
from ..escrow import fingerprint, fingerprints
from ..redact import read_secret
from ..settings import load_settings
from .options import config_option


@click.command("fingerprint")
@click.argument("secret", required=False, metavar="[env:NAME|file:PATH]")
@config_option
def command(secret: str | None, config: Path | None) -> None:
    """Print the keyed fingerprints of the secrets in escrow, for secrets.required in provado.yaml.

    With env:NAME or file:PATH that one secret instead: run it where the system runs, to record the
    secret that is really in use. The key is secrets.fingerprint_key.
    """
    settings = load_settings(config).secrets
    if secret is None:
        found = fingerprints(settings)
        if not found:
            raise ConfigError("secrets.required names no secret", remedy="name them, or give one as env:NAME")
        for name, value in found.items():
            click.echo(f"{name} {value}")
        return
    if settings.fingerprint_key is None:
        raise ConfigError("secrets.fingerprint_key is not declared", remedy="name a key as env: or file:")
    click.echo(fingerprint(read_secret(secret), read_secret(settings.fingerprint_key)))
