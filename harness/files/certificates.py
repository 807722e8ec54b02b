"""Certificates and private keys of a backup: who they are for, until when, who issued them, which key fits.

Keys are read to compare public halves only; neither they nor parts of them leave this module.
"""

from __future__ import annotations

import re
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import NameOID

_CERTIFICATE: Final = re.compile(  # base64 holds no `-`, so that a hostile file takes no more than one pass
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]+-----END (?:X509 |TRUSTED )?CERTIFICATE-----"
)
_BEGUN: Final = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE(?! REQUEST)")
_KEY: Final = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ ){0,3})PRIVATE KEY-----(?:\s*Proc-Type:[^\n]*\n\s*DEK-Info:[^\n]*\n)?[^-]+"
    rb"-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----"
)
_CERTIFICATE_NAME: Final = re.compile(r"\.(crt|cer|der|cert)$")
_PEM_NAME: Final = re.compile(r"\.(crt|cer|cert|pem|key)$")
_CHAIN_NAME: Final = re.compile(
    r"(root)?[-_]?ca([-_]?(cert|bundle|chain))?|chain\d*|bundle|root|intermediate|issuer"
)
_KEY_NAME: Final = re.compile(r"\.key$|(^|/)privkey[\w.-]*$")


@dataclass(frozen=True)
class CertificateFile:
    """Certificates of one file in their order; `trouble` when the file holds none that can be read."""

    name: str
    certificates: tuple[x509.Certificate, ...]
    trouble: str = ""

    @property
    def leaf(self) -> x509.Certificate | None:
        """The server's certificate: the first, unless that one is an authority's own."""
        first = self.certificates[0] if self.certificates else None
        return None if first is None or is_authority(first) else first


@dataclass(frozen=True)
class KeyFile:
    """A private key file: its public half (DER), or why that could not be had."""

    name: str
    public: bytes = b""
    encrypted: bool = False
    trouble: str = ""


def read_certificates(name: str, data: bytes) -> CertificateFile | None:
    """The certificates of a file, PEM or DER; None when it is no certificate file."""
    places = list(_CERTIFICATE.finditer(data))
    if not places and b"-----BEGIN" not in data and _CERTIFICATE_NAME.search(name):
        return _der(name, data)
    if not places:
        if _BEGUN.search(data):
            return CertificateFile(name, (), "is cut: the certificate has no end")
        if _CERTIFICATE_NAME.search(name) and not _KEY.search(data):
            return CertificateFile(name, (), "holds no certificate")
        return None
    found: list[x509.Certificate] = []
    for place in places:
        if _PEM_NAME.search(name) and not _begins_line(data, place.start()):
            what = (
                f"certificate {len(found) + 1} in it does not begin on a line of its own: OpenSSL refuses it"
            )
            return CertificateFile(name, tuple(found), what)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # odd serial numbers are old authorities', not a finding
                found.append(x509.load_pem_x509_certificate(_standard(place[0])))
        except ValueError:
            return CertificateFile(name, tuple(found), f"certificate {len(found) + 1} in it is damaged")
    return CertificateFile(name, tuple(found))


def _begins_line(data: bytes, start: int) -> bool:
    """OpenSSL looks at lines: not so of files that were joined without a line end between them."""
    return start == 0 or data[start - 1 : start] in (b"\n", b"\r") or data[:start] == BOM_UTF8


def _standard(block: bytes) -> bytes:
    return re.sub(rb"(BEGIN|END) (?:X509 |TRUSTED )CERTIFICATE", rb"\1 CERTIFICATE", block)


def _der(name: str, data: bytes) -> CertificateFile:
    try:
        return CertificateFile(name, (x509.load_der_x509_certificate(data),))
    except ValueError:
        return CertificateFile(name, (), "is no certificate, neither PEM nor DER")


def read_key(name: str, data: bytes) -> KeyFile | None:
    """The private key of a file; None when it holds none and its name does not claim one."""
    block = _KEY.search(data)
    if block is None:
        if b"PRIVATE KEY-----" in data:
            return KeyFile(name, trouble="is cut: the key has no end")
        if not _KEY_NAME.search(name):
            return None
        try:
            return KeyFile(name, _public(load_der_private_key(data, None)))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return KeyFile(name, trouble="holds no private key")
    if _PEM_NAME.search(name) and not _begins_line(data, block.start()):
        return KeyFile(name, trouble="does not begin on a line of its own: OpenSSL refuses it")
    if b"ENCRYPTED" in block[1] or b"Proc-Type: 4,ENCRYPTED" in block[0]:
        return KeyFile(name, encrypted=True)
    load = load_ssh_private_key if b"OPENSSH" in block[1] else load_pem_private_key
    try:
        return KeyFile(name, _public(load(block[0] + b"\n", None)))
    except TypeError:
        return KeyFile(name, encrypted=True)
    except (ValueError, UnsupportedAlgorithm):
        return KeyFile(name, trouble="is damaged: no key can be read from it")


def _public(key: object) -> bytes:
    half = key.public_key()  # type: ignore[attr-defined]
    return bytes(half.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def public_half(certificate: x509.Certificate) -> bytes:
    """The certificate's public key as DER, to compare with `KeyFile.public`."""
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate may sign others (basic constraints CA:TRUE)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def self_signed(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer."""
    return certificate.issuer == certificate.subject


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether `issuer` really signed `certificate`: names and signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def chain_trouble(file: CertificateFile, known: Iterable[x509.Certificate]) -> str:
    """What is wrong with the chain from a file's leaf upwards; "" when each link that is there holds.

    The root is usually not in the file: an issuer that is nowhere in the backup ends the chain without
    trouble once an intermediate was seen; "lacks" when not even the leaf's own issuer is there.
    """
    at = file.leaf
    if at is None:
        return ""
    candidates = [*file.certificates, *known]
    for depth in range(10):
        if self_signed(at):
            return "" if issued_by(at, at) else "its self-signature does not hold"
        named = [c for c in candidates if c.subject == at.issuer]
        if not named:
            if depth:
                return ""
            return "is followed by a certificate that did not issue it" if file.certificates[1:] else "lacks"
        signer = next((c for c in named if issued_by(at, c)), None)
        if signer is None:
            return "is not signed by the issuer that lies beside it, although the name is the same"
        if not is_authority(signer):
            return "is signed by a certificate that may not sign others (CA:FALSE)"
        at = signer
    return "goes in circles"


def is_chain_file(name: str, leaf_name: str) -> bool:
    """Whether a file's name says that it holds the issuers of the certificate in `leaf_name`."""
    stem, own = (PurePosixPath(n).name.rsplit(".", 1)[0].lower() for n in (name, leaf_name))
    same_folder = PurePosixPath(name).parent == PurePosixPath(leaf_name).parent
    return same_folder and (
        bool(_CHAIN_NAME.fullmatch(stem)) or stem in (f"{own}-chain", f"{own}-ca", f"{own}.chain")
    )


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Host names it is for: the alternative names, else (old certificates) the common name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(n.lower() for n in found.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(c.value).lower() for c in common)


def covers(certificate: x509.Certificate, host: str) -> bool:
    """Whether it is for `host`; a wildcard stands for exactly one label (RFC 6125)."""
    host = host.lower().rstrip(".")
    wild = "*." + host.partition(".")[2]
    return any(name in (host, wild) for name in names(certificate))
