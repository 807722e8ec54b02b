"""Signatures of the ledger: DSSE envelopes around in-toto Statements, Ed25519.

Formats: DSSE v1 (https://github.com/secure-systems-lab/dsse), in-toto Statement v1. `cryptography` is
imported inside the functions that need it: most commands never do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..atomic import write_atomic
from ..errors import ConfigError
from ..redact import Secret, read_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True)
class Signer:
    """A private key ready to sign. `keyid` is the SHA-256 of the public key's DER form, in hex."""

    private: Ed25519PrivateKey
    keyid: str
    public_pem: str


@dataclass(frozen=True)
class TrustedKey:
    """A public key that the verifier was given from outside the evidence."""

    public: Ed25519PublicKey
    keyid: str

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """True when `signature` over `message` was made with this key's private half."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Envelope:
    """An opened DSSE envelope: the statement inside, the exact bytes that were signed, and by whom."""

    statement: Mapping[str, Any]
    signed_bytes: bytes
    signatures: tuple[tuple[str, bytes], ...]  # (keyid, signature); empty when not signed


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed instead of the bare payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(statement: Mapping[str, Any], signers: Sequence[Signer]) -> bytes:
    """The statement as a DSSE envelope in JSON; with no signers its `signatures` is empty."""
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    message = pae(PAYLOAD_TYPE, payload)
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": s.keyid, "sig": base64.b64encode(s.private.sign(message)).decode()} for s in signers
        ],
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def unseal(data: bytes) -> Envelope:
    """Open an envelope without judging its signatures. Raises ValueError naming what is malformed."""
    try:
        envelope = json.loads(data, object_pairs_hook=_unique)
        if set(envelope) != {"payloadType", "payload", "signatures"}:
            raise ValueError("the envelope has other fields than DSSE's")
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"the payload type is not {PAYLOAD_TYPE}")
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = tuple(
            (str(s["keyid"]), base64.b64decode(s["sig"], validate=True)) for s in envelope["signatures"]
        )
        statement = json.loads(payload, object_pairs_hook=_unique)
        if statement["_type"] != STATEMENT_TYPE:
            raise ValueError("the payload is no in-toto Statement v1")
    except (KeyError, TypeError, AttributeError, binascii.Error, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no DSSE envelope around an in-toto Statement") from None
    except json.JSONDecodeError:
        raise ValueError("it is not valid JSON") from None
    return Envelope(statement, pae(PAYLOAD_TYPE, payload), signatures)


def generate(prefix: Path) -> tuple[Path, Path, str]:
    """Make an Ed25519 pair: PREFIX.key (PKCS#8 PEM, owner-only) and PREFIX.pub (PEM).

    Returns both paths and the key id. Raises ConfigError rather than overwrite an existing key.
    """
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key_file, pub_file = prefix.with_name(prefix.name + ".key"), prefix.with_name(prefix.name + ".pub")
    for file in (key_file, pub_file):
        if file.exists() or file.is_symlink():
            raise ConfigError("exists already", where=str(file), remedy="choose another --output PREFIX")
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    signer = _signer(private)
    try:
        write_atomic(key_file, pem, mode=0o600)
        write_atomic(pub_file, signer.public_pem)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", where=str(prefix)) from None
    return key_file, pub_file, signer.keyid


def load_signer(reference: str | None, environ: Mapping[str, str] = os.environ) -> Signer | None:
    """The signing key named by `file:PATH` or `env:NAME`, by default by PROVADO_SIGNING_KEY; None: unsigned.

    Raises ConfigError when a key is named but is missing, unreadable or of another kind: a drill that was
    meant to be signed must not become an unsigned one.
    """
    reference = reference or environ.get("PROVADO_SIGNING_KEY") or None
    if reference is None:
        return None
    return signer_from_pem(read_secret(reference), reference)


def signer_from_pem(secret: Secret, where: str) -> Signer:
    """A signer from a PEM private key. Raises ConfigError for anything but Ed25519 without passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(secret.reveal().encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(
            "is no Ed25519 private key in PEM form (without passphrase)",
            where=where,
            remedy="make one with `provado evidence keygen --output PREFIX`",
        )
    return _signer(private)


def load_trusted(file: Path) -> TrustedKey:
    """A public key file (PEM). Raises ConfigError when it is none."""
    try:
        return trusted_from_pem(file.read_text(encoding="ascii"))
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file)) from None
    except ValueError:
        raise ConfigError("is no Ed25519 public key in PEM form", where=str(file)) from None


def trusted_from_pem(pem: str) -> TrustedKey:
    """A public key from its PEM text. Raises ValueError when it is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(pem.encode("ascii"))
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if not isinstance(public, Ed25519PublicKey):
        raise ValueError("not an Ed25519 key")
    return TrustedKey(public, _keyid(public))


def _signer(private: Ed25519PrivateKey) -> Signer:
    from cryptography.hazmat.primitives import serialization as ser

    public = private.public_key()
    pem = public.public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo).decode()
    return Signer(private, _keyid(public), pem)


def _keyid(public: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives import serialization as ser

    der = public.public_bytes(ser.Encoding.DER, ser.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are unique: with a key twice, two readers may see two documents."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a JSON key stands twice")
    return found
