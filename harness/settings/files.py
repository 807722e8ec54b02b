"""provado.yaml, sections `files` and `secrets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from .types import Duration, Section, Size


class FilesSettings(Section):
    """What people expect of configuration backups.

    `required` lists files and folders (a folder with a `/` behind) that must be there; without it the
    runbook's own list counts. `expiry_margin` is how long a certificate must still be valid when judged.
    `host_names` must be covered by a certificate, beside those that nginx.conf serves. `max_bytes` and
    `max_files` bound what a configuration backup may take.
    """

    required: tuple[str, ...] | None = None
    expiry_margin: Duration = 14 * 86400.0
    host_names: tuple[str, ...] = ()
    max_bytes: Size = 256 << 20
    max_files: Annotated[int, Field(ge=1)] = 10_000


class RequiredSecret(Section):
    """A secret that the restored system needs and that no backup may hold.

    `escrow` is where it is kept (`env:NAME` or `file:PATH`); `fingerprint` is what `provado` prints for the
    right one, `hmac-sha256:<hex>` under `fingerprint_key`.
    """

    name: Annotated[str, Field(min_length=1)]
    escrow: Annotated[str, Field(pattern=r"^(env|file):.+")]
    fingerprint: Annotated[str, Field(pattern=r"^hmac-sha256:[0-9a-f]{64}$")] | None = None


class DecryptProbe(Section):
    """Proof that a secret in escrow decrypts what was restored.

    `query` selects ciphertexts in the restored database (first column). Exactly one of `command` (an argv;
    the ciphertext on stdin, the secret in the variable PROVADO_SECRET, exit code 0 when it decrypts) and
    `callable` (`module:function`, called with ciphertext and secret; an exception or a false value says no).
    """

    name: Annotated[str, Field(min_length=1)]
    secret: str
    query: str
    command: tuple[str, ...] | None = None
    callable: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    timeout: Duration = 30.0
    folder: Path | None = None  # where the command runs and the callable's module lies: provado.yaml's folder

    @model_validator(mode="after")
    def _one_way(self) -> DecryptProbe:
        if bool(self.command) == bool(self.callable):
            raise ValueError("a probe needs either `command` or `callable`")
        return self


class SecretsSettings(Section):
    """Secrets that the restored system needs: where each is kept, and how it is shown to be the right one."""

    fingerprint_key: Annotated[str, Field(pattern=r"^(env|file):.+")] | None = None
    required: tuple[RequiredSecret, ...] = ()
    probes: tuple[DecryptProbe, ...] = ()

    @field_validator("required")
    @classmethod
    def _unique(cls, required: tuple[RequiredSecret, ...]) -> tuple[RequiredSecret, ...]:
        names = [secret.name for secret in required]
        if len(set(names)) < len(names):
            raise ValueError("a secret is named twice")
        return required

    @model_validator(mode="after")
    def _known(self) -> SecretsSettings:
        names = {secret.name for secret in self.required}
        for probe in self.probes:
            if probe.secret not in names:
                raise ValueError(f"probe {probe.name} uses {probe.secret}, which `required` does not name")
        if any(secret.fingerprint for secret in self.required) and not self.fingerprint_key:
            raise ValueError("a fingerprint needs `fingerprint_key`")
        return self
