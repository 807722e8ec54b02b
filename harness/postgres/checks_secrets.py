"""Can the restored ciphertexts still be read? The secret that decrypts them lies in no database backup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import psycopg

from ..check import Check, NotRun, check
from ..escrow import run_probe
from ..model import Finding, Origin, Proves, Severity
from . import usability
from .restore import RestoredPostgres

_MOST: Final = 100  # a sample shows whether the secret is the right one


@check(
    "pg.secrets-decrypt",
    proves=Proves.USABILITY,
    severity=Severity.CRITICAL,
    origin=Origin.DECLARED,
    remedy="find the secret that wrote this data and put it in escrow: without it the column is lost",
)
def secrets_decrypt(self: Check, subject: RestoredPostgres) -> Iterator[Finding]:
    """The secret in escrow decrypts what was restored (`secrets.probes` in provado.yaml)."""
    secrets = subject.settings.secrets
    if not secrets.probes:
        raise NotRun(
            "provado.yaml declares no decrypt probe (secrets.probes): encrypted columns were not tried"
        )
    for probe in secrets.probes:
        with subject.connect() as conn:
            usability.use_own_search_path(conn)
            try:
                rows = conn.execute(probe.query.encode(), prepare=True).fetchmany(_MOST)
            except psycopg.Error as error:
                yield self.finding(
                    f"probe {probe.name}",
                    f"its query fails on the restored database ({type(error).__name__})",
                    remedy="the column is missing, or the query in provado.yaml is wrong",
                )
                continue
        ciphertexts = [str(row[0]) for row in rows if row and row[0] is not None]
        if not ciphertexts:
            yield self.finding(
                f"probe {probe.name}",
                "its query finds no ciphertext: nothing shows that encrypted data can be read again",
                severity=Severity.HIGH,
            )
            continue
        failed = run_probe(probe, secrets, ciphertexts, folder=probe.folder)
        if failed:
            yield self.finding(
                f"probe {probe.name}",
                f"{probe.secret} from escrow does not decrypt {failed} of {len(ciphertexts)} restored values",
                expected=f"{len(ciphertexts)} decrypted",
                observed=f"{len(ciphertexts) - failed} decrypted",
            )


CHECKS: Final = (secrets_decrypt,)
