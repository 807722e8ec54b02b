"""A configuration folder that is in order, ways to break it, and what the checks say of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from harness.catalog import identify
from harness.check import run_checks
from harness.component import DrillContext
from harness.files import COMPONENT
from harness.model import CheckResult, Severity
from harness.settings import Settings

NOW = datetime.now(UTC)

NGINX = """events {}
http {
  server {
    listen 443 ssl;
    server_name api.acme.example *.acme.example;
    ssl_certificate /etc/nginx/ssl/site.crt;
    ssl_certificate_key /etc/nginx/ssl/site.key;
    location / { proxy_pass http://api:3000; }
  }
}
"""
COMPOSE = """services:
  api:
    image: acme/api:1
    environment:
      DATABASE_URL: postgresql://app:${DB_PASSWORD}@db/app
      LEVEL: ${LOG_LEVEL:-info}
    depends_on: [db]
  db:
    image: postgres:15
    volumes: ["dados:/var/lib/postgresql/data"]
volumes:
  dados:
"""
ENV = "# modelo\nDB_PASSWORD=\nLOG_LEVEL=info\nexport APP_PORT=3000\n"
REQUIRED = ("nginx.conf", "docker-compose.yml", ".env.example", "ssl/", "scripts/")


def made(folder: Path) -> Path:
    """A small system's configuration backup with nothing wrong (no redis.conf: that needs a server)."""
    folder.mkdir(parents=True)
    (folder / "nginx.conf").write_text(NGINX)
    (folder / "docker-compose.yml").write_text(COMPOSE)
    (folder / ".env.example").write_text(ENV)
    (folder / "ssl").mkdir()
    certify(folder / "ssl", "site")
    (folder / "scripts").mkdir()
    script = folder / "scripts/backup.sh"
    script.write_text("#!/bin/sh\nset -eu\nif true; then echo ok; fi\n")
    script.chmod(0o755)
    return folder


def certify(
    folder: Path,
    stem: str,
    *,
    names: tuple[str, ...] = ("api.acme.example", "*.acme.example"),
    begins: datetime = NOW - timedelta(10),
    ends: datetime = NOW + timedelta(400),
    issuer_is_authority: bool = True,
    signed_by_another: bool = False,
    with_issuer: bool = True,
    intermediate: bool = False,
) -> None:
    """STEM.crt (leaf, then its issuer) and STEM.key."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _name("Raiz de teste"), _name(names[0])
    above = _name("Raiz de longe") if intermediate else root_name
    root = _certificate(root_name, above, root_key, root_key, NOW - timedelta(99), NOW + timedelta(999),
                        authority=issuer_is_authority)  # fmt: skip
    signer = ec.generate_private_key(ec.SECP256R1()) if signed_by_another else root_key
    leaf = _certificate(name, root_name, key, signer, begins, ends, names=names)
    pem = leaf.public_bytes(Encoding.PEM) + (root.public_bytes(Encoding.PEM) if with_issuer else b"")
    (folder / f"{stem}.crt").write_bytes(pem)
    (folder / f"{stem}.key").write_bytes(private_pem(key))
    (folder / f"{stem}.key").chmod(0o600)


def write_self_signed(folder: Path, stem: str) -> None:
    """STEM.crt that signs itself (CA:TRUE), and STEM.key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("api.acme.example")
    names = ("api.acme.example", "*.acme.example")
    made = _certificate(name, name, key, key, NOW, NOW + timedelta(400), authority=True, names=names)
    (folder / f"{stem}.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / f"{stem}.key").write_bytes(private_pem(key))


def private_pem(key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    fresh = key or ec.generate_private_key(ec.SECP256R1())
    return fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    begins: datetime,
    ends: datetime,
    *,
    authority: bool = False,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
    return builder.sign(signer, hashes.SHA256())


def judged(
    path: Path, scratch: Path, settings: dict[str, Any] | None = None, manifest: Path | None = None
) -> dict[str, CheckResult]:
    """Results of every check by id."""
    base: dict[str, Any] = {"files": {"required": REQUIRED}}
    read = Settings.model_validate(base | (settings or {}))
    artifact = identify(path, {"files": COMPONENT.recognise}, component="files", manifest=manifest)
    assert artifact
    scratch.mkdir(parents=True, exist_ok=True)
    ctx = DrillContext(read, scratch, time.monotonic() + 60)
    inspection = COMPONENT.inspect(artifact, ctx)
    with COMPONENT.restore(inspection, ctx) as subject:
        results, blocking = run_checks(
            COMPONENT.checks, subject, fail_on=Severity.HIGH, not_restored="not restored"
        )
    assert not [r for r in results if r.reason and "please report" in r.reason]
    found = {result.id: result for result in results}
    found["blocking"] = blocking  # type: ignore[assignment]
    return found


def told(results: dict[str, CheckResult], check: str) -> list[tuple[str, str]]:
    """(severity, object) of a check's findings."""
    return [(finding.severity.value, finding.object) for finding in results[check].findings]


def everything(results: dict[str, CheckResult]) -> str:
    """All that would be written: to look for values that must not be in it."""
    return "\n".join(repr(result) for result in results.values())
