"""Secrets in escrow: their fingerprints, and whether they decrypt what was restored.

A fingerprint is an HMAC under a key of its own: it shows that two secrets are the same, and cannot be used to
guess a weak one without that key.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import process
from .errors import ConfigError, ToolError
from .redact import Secret, read_secret
from .settings.files import DecryptProbe, SecretsSettings


def fingerprint(secret: Secret, key: Secret) -> str:
    """`hmac-sha256:<hex>` of a secret under the fingerprint key."""
    digest = hmac.new(key.reveal().encode(), secret.reveal().encode(), hashlib.sha256)
    return f"hmac-sha256:{digest.hexdigest()}"


def fingerprints(settings: SecretsSettings) -> dict[str, str]:
    """Fingerprint of every required secret by name, for provado.yaml or a manifest.

    Raises ConfigError when there is no `fingerprint_key`, or a secret cannot be read.
    """
    if settings.fingerprint_key is None:
        raise ConfigError("secrets.fingerprint_key is not declared", remedy="name a key as env: or file:")
    key = read_secret(settings.fingerprint_key)
    return {secret.name: fingerprint(read_secret(secret.escrow), key) for secret in settings.required}


def run_probe(
    probe: DecryptProbe, settings: SecretsSettings, ciphertexts: Sequence[str], *, folder: Path | None = None
) -> int:
    """How many of the restored `ciphertexts` the escrowed secret does not decrypt.

    `folder` is where `callable` modules are looked for besides the import path (usually that of
    provado.yaml). Raises ConfigError when the probe or the secret cannot be had, ToolError when the command
    cannot be started or does not end in time. Neither ciphertext nor secret stands in any message.
    """
    escrow = next(secret.escrow for secret in settings.required if secret.name == probe.secret)
    secret = read_secret(escrow)
    if probe.command:
        argv = list(probe.command)
        return sum(
            process.run(
                argv,
                timeout_s=probe.timeout,
                input=text.encode(),
                env={"PROVADO_SECRET": secret.reveal()},
                cwd=folder,
            ).code
            != 0
            for text in ciphertexts
        )
    decrypts = _callable(probe, folder)
    failed = 0
    for text in ciphertexts:
        try:
            failed += not decrypts(text, secret.reveal())
        except Exception:  # whatever a user's function raises says: not decrypted; its text may quote data
            failed += 1
    return failed


def _callable(probe: DecryptProbe, folder: Path | None) -> Callable[[str, str], object]:
    module, _, name = (probe.callable or "").partition(":")
    before = list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the probe {probe.name} names {probe.callable}, which is not there: {error}"
        ) from None
    finally:
        sys.path[:] = before
    if not callable(found):
        raise ToolError(f"the probe {probe.name} names {probe.callable}, which is no function")
    return found  # type: ignore[no-any-return]
