"""Secrets: none where none should be, and each that the restored system needs accounted for elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from ..check import Check, NotRun, check
from ..errors import ConfigError
from ..escrow import fingerprint
from ..model import Finding, Origin, Severity
from ..redact import read_secret
from . import compose, env
from .layout import in_ssl, is_compose, is_env, is_redis, is_script
from .restore import RestoredFiles
from .secret_scan import scan

_CONTROLS = ("ISO27001:A.8.13", "ISO27001:A.8.24")


@check(
    "files.leaked-secrets",
    proves="security",
    severity="high",
    remedy="change this secret now, take it out of the file, and delete the backups that hold it",
    controls=_CONTROLS,
)
def leaked_secrets(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """No private key, token or password lies in a file where none should be."""
    looked = 0
    for file in subject.facts.files():
        if file.bytes > 1 << 20 or in_ssl(file.name):
            continue
        data = subject.data(file.name)
        if b"\0" in data[:4096]:
            continue
        looked += 1
        template = is_env(file.name) or is_compose(file.name)
        script, redis = is_script(file.name, data), is_redis(file.name)
        for leak in scan(data.decode("utf-8", "replace"), template=template, script=script, redis=redis):
            yield self.finding(
                f"{file.name}:{leak.line}",
                f"line {leak.line} of {file.name} holds {leak.kind}"
                if leak.sure
                else f"line {leak.line} of {file.name} may hold a secret: {leak.kind}",
                severity=None if leak.sure else Severity.MEDIUM,
            )
    if not looked:
        raise NotRun("the backup holds no text file to look through")


@check(
    "files.secrets-escrow",
    proves="usability",
    severity="critical",
    origin="declared",
    remedy="put the right secret into escrow while the running system still has it",
    needs_server=False,
    controls=_CONTROLS,
)
def secrets_escrow(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every declared secret lies in its escrow, and is the one that the running system uses."""
    settings = subject.ctx.settings.secrets
    if not settings.required:
        raise NotRun("secrets.required names no secret: nothing shows that encrypted data can be read again")
    key = None
    unread: list[str] = []
    found = False
    if settings.fingerprint_key:
        try:
            key = read_secret(settings.fingerprint_key)
        except ConfigError as error:
            unread.append(f"fingerprint_key: {error}")
    captured = subject.manifest.facts.get("secrets") if subject.manifest else None
    for secret in settings.required:
        try:
            value = read_secret(secret.escrow)
        except ConfigError as error:
            if secret.escrow.startswith("file:"):
                found = True
                yield self.finding(secret.name, f"{secret.name} is not in its escrow: {error.what}")
            else:
                unread.append(f"{secret.name}: {error}")
            continue
        if not value.reveal():
            found = True
            yield self.finding(secret.name, f"the escrow of {secret.name} is empty")
            continue
        expected = secret.fingerprint or (captured.get(secret.name) if isinstance(captured, dict) else None)
        if key is not None and expected:
            observed = fingerprint(value, key)
            if observed != expected:
                found = True
                yield self.finding(
                    secret.name,
                    f"{secret.name} in escrow is not the one that the system uses: what it encrypted stays"
                    " unreadable",
                    expected=expected,
                    observed=observed,
                    origin=Origin.DECLARED if secret.fingerprint else Origin.MANIFEST,
                )
        elif not unread:
            yield self.finding(
                secret.name,
                f"{secret.name} lies in escrow; that it is the right one is not shown (no fingerprint)",
                severity=Severity.MEDIUM,
                remedy="declare secrets.fingerprint_key and the fingerprint, or a decrypt probe",
            )
    if unread and not found:
        raise NotRun("; ".join(unread), blocking=True)
    for reason in unread:
        yield self.finding("secrets", f"not looked at here: {reason}", severity=Severity.MEDIUM)


@check(
    "files.secrets-accounted",
    proves="usability",
    severity="medium",
    remedy="keep the value in a safe place outside the backups, and name that in secrets.required",
    controls=_CONTROLS,
)
def secrets_accounted(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every secret that the restored system is started with is declared with its escrow."""
    needed: dict[str, str] = {}
    for name in subject.named(is_compose):
        for variable in compose.read(name, subject.text(name)).variables:
            if env.is_secret(variable):
                needed.setdefault(variable, name)
    for name in subject.named(is_env):
        for variable in env.names(subject.text(name)):
            if env.is_secret(variable):
                needed.setdefault(variable, name)
    if not needed:
        raise NotRun("no file of the backup names a secret that the system needs")
    declared = {secret.name for secret in subject.ctx.settings.secrets.required}
    for variable, name in sorted(needed.items()):
        if variable in declared:
            continue
        dropped = env.dropped_by_runbook(variable)
        yield self.finding(
            variable,
            f"{name} needs {variable}; its value is in no backup"
            + (" (the runbook's grep drops it)" if dropped else "")
            + " and no escrow is declared"
            + (": what it encrypted would stay unreadable" if "ENCRYPT" in variable.upper() else ""),
        )
