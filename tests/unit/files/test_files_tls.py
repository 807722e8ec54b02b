"""Certificates and keys: expired, not yet valid, wrong chain, wrong key, wrong names, open to all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from harness.model import Status

from .judging import NGINX, NOW, certify, everything, judged, made, private_pem, told, write_self_signed

NAMES = ("certificate-dates", "certificate-chain", "certificate-key", "certificate-names", "key-permissions")
CHECKS = {f"files.{name}" for name in NAMES}


def reissued(**how: object) -> Callable[[Path], None]:
    return lambda folder: certify(folder / "ssl", "site", **how)  # type: ignore[arg-type]


def other_key(folder: Path) -> None:
    (folder / "ssl/site.key").write_bytes(private_pem())


def cut(folder: Path) -> None:
    path = folder / "ssl/site.crt"
    path.write_bytes(path.read_bytes()[:200])


def flipped(folder: Path) -> None:
    path = folder / "ssl/site.crt"
    text = path.read_bytes()
    path.write_bytes(text[:40] + b"AAAAAAAA" + text[48:])


def authority_first(folder: Path) -> None:
    path = folder / "ssl/site.crt"
    first, second = path.read_bytes().split(b"-----END CERTIFICATE-----\n")[:2]
    path.write_bytes(b"".join(part + b"-----END CERTIFICATE-----\n" for part in (second, first)))


def key_cut(folder: Path) -> None:
    (folder / "ssl/site.key").write_bytes(private_pem()[:100])


def stray_key(folder: Path) -> None:
    certify(folder / "ssl", "outro", names=("outro.example",))
    (folder / "ssl/outro.key").write_bytes(private_pem())


def another_behind(folder: Path) -> None:
    certify(folder / "ssl", "site", with_issuer=False)
    write_self_signed(folder / "ssl", "outra")
    with (folder / "ssl/site.crt").open("ab") as file:
        file.write((folder / "ssl/outra.crt").read_bytes())
    for ending in ("crt", "key"):
        (folder / f"ssl/outra.{ending}").unlink()


def another_beside(folder: Path) -> None:
    certify(folder / "ssl", "site", with_issuer=False)
    write_self_signed(folder / "ssl", "ca")
    (folder / "ssl/ca.key").unlink()


def clients_authority(folder: Path) -> None:
    another_beside(folder)
    line = "ssl_certificate_key"
    text = NGINX.replace(line, f"ssl_client_certificate /etc/nginx/ssl/ca.crt; {line}")
    (folder / "nginx.conf").write_text(text)


BROKEN: dict[str, tuple[Callable[[Path], None], set[tuple[str, str, str]]]] = {
    "expired": (
        reissued(begins=NOW - timedelta(100), ends=NOW - timedelta(1)),
        {("high", "files.certificate-dates", "ssl/site.crt")},
    ),
    "expires within the margin": (
        reissued(ends=NOW + timedelta(5)),
        {("medium", "files.certificate-dates", "ssl/site.crt")},
    ),
    "not yet valid": (
        reissued(begins=NOW + timedelta(1)),
        {("high", "files.certificate-dates", "ssl/site.crt")},
    ),
    "signed by another": (
        reissued(signed_by_another=True),
        {("high", "files.certificate-chain", "ssl/site.crt")},
    ),
    "issuer may not sign": (
        reissued(issuer_is_authority=False),
        {("high", "files.certificate-chain", "ssl/site.crt")},
    ),
    "another authority behind it": (
        another_behind,
        {("high", "files.certificate-chain", "ssl/site.crt")},
    ),
    "another authority beside it": (
        another_beside,
        {("high", "files.certificate-chain", "ssl/site.crt")},
    ),
    "issuer missing": (
        reissued(with_issuer=False),
        {("medium", "files.certificate-chain", "ssl/site.crt")},
    ),
    "wrong key": (other_key, {("high", "files.certificate-key", "ssl/site.key")}),
    "authority first": (
        authority_first,
        {
            ("high", "files.certificate-chain", "ssl/site.crt"),
            ("high", "files.certificate-key", "ssl/site.key"),
            ("medium", "files.certificate-names", "api.acme.example"),
            ("medium", "files.certificate-names", "*.acme.example"),
        },
    ),
    "key cut": (
        key_cut,
        {("critical", "files.certificate-key", "ssl/site.key")},
    ),
    "cut": (
        cut,
        {("critical", "files.certificate-dates", "ssl/site.crt")},
    ),
    "damaged": (
        flipped,
        {("critical", "files.certificate-dates", "ssl/site.crt")},
    ),
    "other names": (
        reissued(names=("www.acme.example",)),
        {
            ("medium", "files.certificate-names", "api.acme.example"),
            ("medium", "files.certificate-names", "*.acme.example"),
        },
    ),
    "key open to all": (
        lambda f: (f / "ssl/site.key").chmod(0o644),
        {("medium", "files.key-permissions", "ssl/site.key")},
    ),
    "a stray key beside its namesake": (
        stray_key,
        {("high", "files.certificate-key", "ssl/outro.key")},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_is_named(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    change, expected = BROKEN[name]
    change(folder)
    results = judged(folder, tmp_path / "s")
    found = {(severity, check, place) for check in CHECKS for severity, place in told(results, check)}
    assert found == expected
    assert "PRIVATE KEY" not in everything(results)


def encrypted(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "ssl/site.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )


def catch_all(folder: Path) -> None:
    text = NGINX.replace("api.acme.example", "localhost _ ~^x$ 10.0.0.1")
    (folder / "nginx.conf").write_text(text)


def self_signed(folder: Path) -> None:
    """As `openssl req -x509` makes it: its own authority (CA:TRUE)."""
    write_self_signed(folder / "ssl", "site")


def old_form(folder: Path) -> None:
    """A key in the form of before PKCS #8, as `openssl rsa` and `ecparam` wrote it."""
    path = folder / "ssl/site.key"
    key = load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


GOOD: dict[str, Callable[[Path], None]] = {
    "an intermediate without its root": reissued(intermediate=True),
    "a wildcard for one label": reissued(names=("*.acme.example",)),
    "an old certificate that nobody uses": lambda f: certify(f / "ssl", "velho", ends=NOW - timedelta(1)),
    "localhost and catch-all": catch_all,
    "self-signed": self_signed,
    "an authority that clients are known by": clients_authority,
    "a key in the old form": old_form,
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_usual_is_no_failure(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    GOOD[name](folder)
    results = judged(folder, tmp_path / "s")
    assert {results[check].status for check in CHECKS} <= {Status.PASS}


def test_an_encrypted_key_is_not_compared_and_that_is_said(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    encrypted(folder)
    (folder / "nginx.conf").write_text(NGINX.replace("listen 443", "ssl_password_file /pass; listen 443"))
    result = judged(folder, tmp_path / "s")["files.certificate-key"]
    assert result.status is Status.NOT_RUN
    assert "encrypted" in (result.reason or "")


def test_a_declared_host_without_certificate_fails(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    names = ("api.acme.example", "a.b.acme.example")
    results = judged(folder, tmp_path / "s", {"files": {"host_names": names, "required": []}})
    assert told(results, "files.certificate-names") == [("high", "a.b.acme.example")]


def test_no_certificate_is_not_a_pass(tmp_path: Path) -> None:
    folder = made(tmp_path / "20261124")
    for path in (folder / "ssl").iterdir():
        path.unlink()
    results = judged(folder, tmp_path / "s")
    assert {results[check].status for check in CHECKS} == {Status.NOT_RUN}
