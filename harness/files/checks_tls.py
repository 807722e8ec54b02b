"""Certificates and keys: valid now and for a while, rightly issued, for the right hosts, with their key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from cryptography import x509

from ..check import Check, NotRun, check
from ..model import Finding, Origin, Severity
from . import certificates as tls
from . import nginx
from .layout import is_nginx
from .restore import RestoredFiles

_KEY_BYTES = 256 << 10  # no certificate bundle in use is larger than this (Mozilla's has 220 KB)


def _files(subject: RestoredFiles) -> list[tuple[str, bytes]]:
    return [
        (file.name, subject.data(file.name)) for file in subject.facts.files() if file.bytes <= _KEY_BYTES
    ]


def _certificates(subject: RestoredFiles) -> list[tls.CertificateFile]:
    found = [tls.read_certificates(name, data) for name, data in _files(subject)]
    held = [file for file in found if file]
    if not held:
        raise NotRun("the backup holds no certificate")
    return held


def _keys(subject: RestoredFiles) -> list[tls.KeyFile]:
    return [key for name, data in _files(subject) if (key := tls.read_key(name, data))]


def _sites(subject: RestoredFiles) -> list[nginx.Site]:
    return [site for name in subject.named(is_nginx) for site in nginx.sites(nginx.parse(subject.text(name)))]


def _used(subject: RestoredFiles) -> set[str] | None:
    """File names that nginx uses as certificates; None when no configuration says."""
    used = {PurePosixPath(path).name for site in _sites(subject) for path in site.certificates}
    return used or None


def _for_clients(subject: RestoredFiles, names: list[str]) -> set[str]:
    """Those of the files that nginx knows clients by: they need not have issued the site's certificate."""
    told = {
        PurePosixPath(one["args"][0]).name
        for name in subject.named(is_nginx)
        for one in nginx.walk(nginx.parse(subject.text(name)).directives)
        if one["directive"] == "ssl_client_certificate" and one["args"]
    }
    return {name for name in names if PurePosixPath(name).name in told}


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


@check(
    "files.certificate-dates",
    proves="usability",
    severity="high",
    remedy="renew the certificate on the source system, put it in place and take the backup again",
)
def certificate_dates(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every certificate is valid now, and stays so for the declared margin."""
    now = datetime.now(UTC)
    margin = timedelta(seconds=subject.ctx.settings.files.expiry_margin)
    used = _used(subject)
    for name, data in _files(subject):
        if PurePosixPath(name).name in (used or ()) and tls.read_certificates(name, data) is None:
            yield self.finding(
                name,
                f"{name} holds no certificate, and nginx.conf names it as one",
                severity=Severity.CRITICAL,
            )
    for file in _certificates(subject):
        if file.trouble:
            yield self.finding(file.name, f"{file.name} {file.trouble}", severity=Severity.CRITICAL)
        unused = used is not None and file.leaf is not None and PurePosixPath(file.name).name not in used
        for certificate in file.certificates:
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            whose = f"the certificate of {_whose(certificate)}"
            aside = Severity.MEDIUM if unused else None
            if now < begins:
                yield self.finding(
                    file.name,
                    f"{whose} is not valid yet: clients refuse it until {_day(begins)}",
                    severity=aside,
                    expected=f"valid on {_day(now)}",
                    observed=f"valid from {_day(begins)}",
                    remedy="see that the clock was right when it was made, and issue it again",
                )
            elif now > ends:
                yield self.finding(
                    file.name,
                    f"{whose} expired on {_day(ends)}: clients refuse it after a recovery",
                    severity=aside,
                    expected=f"valid on {_day(now)}",
                    observed=f"valid until {_day(ends)}",
                )
            elif now + margin > ends:
                yield self.finding(
                    file.name,
                    f"{whose} expires on {_day(ends)}, within {margin.days} days",
                    severity=Severity.MEDIUM,
                    expected=f"valid for {margin.days} days more",
                    observed=f"valid until {_day(ends)}",
                )


def _whose(certificate: x509.Certificate) -> str:
    return ", ".join(tls.names(certificate)[:3]) or "an authority"


@check(
    "files.certificate-chain",
    proves="usability",
    severity="high",
    remedy="put the certificate and its intermediates, in this order, into the file that nginx names",
)
def certificate_chain(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every certificate is signed by the issuer that lies beside it."""
    held = _certificates(subject)
    known = [certificate for file in held for certificate in file.certificates]
    for_clients = _for_clients(subject, [file.name for file in held])
    used = _used(subject)
    for file in held:
        trouble = tls.chain_trouble(file, known)
        beside = [
            other.name
            for other in held
            if other.name not in for_clients
            and other.certificates
            and tls.is_chain_file(other.name, file.name)
        ]
        if trouble == "lacks" and beside:
            yield self.finding(
                file.name,
                f"the certificate's chain does not hold: {beside[0]}, which lies beside it, did not issue it",
            )
        elif trouble == "lacks":
            yield self.finding(
                file.name,
                "the issuer's certificate is not in the backup: clients that do not know it refuse the site",
                severity=Severity.MEDIUM,
            )
        elif trouble:
            yield self.finding(file.name, f"the certificate's chain does not hold: it {trouble}")
        if used and PurePosixPath(file.name).name in used and file.certificates and file.leaf is None:
            first = file.certificates[0]
            if not tls.self_signed(first) or len(file.certificates) > 1:
                yield self.finding(
                    file.name,
                    "nginx takes the first certificate of the file as the site's, and that is an authority's",
                )


@check(
    "files.certificate-key",
    proves="usability",
    severity="high",
    remedy="back up the key that belongs to the certificate; if it is lost, have the certificate reissued",
)
def certificate_key(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every private key fits its certificate."""
    held, keys = _certificates(subject), _keys(subject)
    if not keys:
        raise NotRun("the backup holds no private key: nothing shows that one fits the certificates")
    for key in keys:
        if key.trouble:
            yield self.finding(key.name, f"{key.name} {key.trouble}", severity=Severity.CRITICAL)
    by_name = {PurePosixPath(file.name).name: file for file in held}
    key_by_name = {PurePosixPath(key.name).name: key for key in keys}
    told: set[str] = set()
    for site in _sites(subject):
        for certificate_path, key_path in zip(site.certificates, site.keys, strict=False):
            file = by_name.get(PurePosixPath(certificate_path).name)
            named = key_by_name.get(PurePosixPath(key_path).name)
            if not file or not named or not file.certificates or named.name in told:
                continue
            told.add(named.name)
            if named.public and named.public != tls.public_half(file.certificates[0]):
                yield self.finding(
                    named.name,
                    f"{named.name} is not the key of {file.name}: nginx does not start with the two",
                )
    damaged = any(file.trouble for file in held)
    publics = {tls.public_half(c) for file in held for c in file.certificates}
    for key in keys:
        if key.name not in told and key.public and key.public not in publics and not damaged:
            beside = {_stem(file.name): file.name for file in held if file.certificates}
            if _stem(key.name) in beside:
                yield self.finding(key.name, f"{key.name} is not the key of {beside[_stem(key.name)]}")
            elif PurePosixPath(key.name).parent.name in ("ssl", "tls", "certs"):
                yield self.finding(
                    key.name,
                    f"{key.name} belongs to no certificate in the backup",
                    severity=Severity.MEDIUM,
                )
    yield from _locked(self, subject, [key for key in keys if key.encrypted])
    if all(key.encrypted for key in keys):
        raise NotRun("every private key is encrypted: whether they fit the certificates was not looked at")


def _locked(self: Check, subject: RestoredFiles, keys: list[tls.KeyFile]) -> Iterator[Finding]:
    """Keys that nobody can use without a passphrase, which is in no backup."""
    used = {PurePosixPath(path).name for site in _sites(subject) for path in site.keys}
    helped = any("ssl_password_file" in subject.text(name) for name in subject.named(is_nginx))
    for key in keys:
        asks = PurePosixPath(key.name).name in used and not helped
        yield self.finding(
            key.name,
            f"{key.name} is encrypted: "
            + (
                "nginx asks for its passphrase and does not start by itself"
                if asks
                else "it needs a passphrase"
            ),
            severity=None if asks else Severity.MEDIUM,
            remedy="keep the passphrase in escrow, and name it to nginx (ssl_password_file)",
        )


def _stem(name: str) -> str:
    return re.sub(r"\.(crt|cer|cert|pem|key|der)$", "", name)


@check(
    "files.certificate-names",
    proves="usability",
    severity="medium",
    remedy="have the certificate issued for every name that nginx serves over TLS",
)
def certificate_names(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """The certificates are for the host names that are served."""
    held = _certificates(subject)
    by_name = {PurePosixPath(file.name).name: file for file in held}
    looked = False
    for site in _sites(subject):
        files = [by_name[n] for path in site.certificates if (n := PurePosixPath(path).name) in by_name]
        leaves = [file.certificates[0] for file in files if file.certificates]
        for host in site.names if leaves else ():
            if not re.fullmatch(r"(\*\.)?[\w-]+(\.[\w-]+)+", host) or host.replace(".", "").isdecimal():
                continue
            looked = True
            if not any(tls.covers(leaf, host) or host in tls.names(leaf) for leaf in leaves):
                yield self.finding(
                    host, f"nginx serves {host} with {files[0].name}, which is not for that name"
                )
    for host in subject.ctx.settings.files.host_names:
        looked = True
        if not any(file.leaf and tls.covers(file.leaf, host) for file in held):
            yield self.finding(
                host,
                f"no certificate in the backup is for {host}",
                severity=Severity.HIGH,
                origin=Origin.DECLARED,
            )
    if not looked:
        raise NotRun("neither nginx.conf nor files.host_names names a host that a certificate must cover")


@check(
    "files.key-permissions",
    proves="security",
    severity="medium",
    remedy="chmod 600 the key, on the source system and in the backup",
    controls=("ISO27001:A.8.13", "ISO27001:A.8.24"),
)
def key_permissions(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Private keys can be read by their owner only."""
    keys = _keys(subject)
    if not keys:
        raise NotRun("the backup holds no private key")
    modes = {file.name: file.mode for file in subject.facts.files()}
    for key in keys:
        if modes[key.name] & 0o077 and not key.trouble:
            yield self.finding(
                key.name,
                f"others than its owner can read or change {key.name}",
                expected="0600",
                observed=f"{modes[key.name]:04o}",
            )
