"""nginx.conf: accepted by nginx's rules, and complete."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import PurePosixPath

from ..check import Check, NotRun, check
from ..model import Finding, Severity
from . import nginx, nginx_rules
from .layout import is_compose, is_nginx
from .restore import RestoredFiles

_FILES = ("ssl_certificate", "ssl_certificate_key", "ssl_trusted_certificate", "ssl_client_certificate",
          "ssl_dhparam", "auth_basic_user_file", "ssl_password_file")  # fmt: skip


def configurations(subject: RestoredFiles) -> list[str]:
    """Names of the nginx configurations in the backup. Raises NotRun when there is none."""
    names = subject.named(is_nginx)
    if not names:
        raise NotRun("the backup holds no nginx.conf")
    return names


@check(
    "files.nginx-syntax",
    proves="usability",
    severity="critical",
    remedy="correct the file on the source system and take the backup again: nginx does not start with it",
)
def nginx_syntax(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """nginx accepts nginx.conf: blocks, directives, their places and arguments."""
    own_modules = _modules_of_their_own(subject)
    for name in configurations(subject):
        text = subject.text(name)
        modules = own_modules or "load_module" in text
        if subject.data(name).startswith(BOM_UTF8):
            yield self.finding(
                f"{name}:1",
                f"nginx does not accept {name}: it takes the byte order mark at its start for a directive",
            )
        for trouble in nginx.parse(text).troubles:
            place = f"{name}:{trouble.line}" if trouble.line else name
            if trouble.unknown or (modules and "unknown" in trouble.message):
                yield self.finding(
                    place,
                    f"{trouble.message} in {name}: nginx starts only if it has the module",
                    severity=Severity.MEDIUM,
                    remedy="see that the image which runs in production has the module",
                )
            else:
                yield self.finding(place, f"nginx does not accept {name}: {trouble.message}")


def _modules_of_their_own(subject: RestoredFiles) -> bool:
    """Whether some image of the compose files is not plain nginx: it may know directives of its own."""
    texts = " ".join(subject.text(name) for name in subject.named(is_compose))
    images = re.findall(r"^\s*image:\s*[\"']?([\w./-]+)", texts, re.M)
    return any(
        re.search(r"nginx|openresty|tengine|angie", i) and i.rsplit("/")[-1] != "nginx" for i in images
    )


@check(
    "files.nginx-references",
    proves="usability",
    severity="high",
    remedy="add the file to the backup (the runbook copies ssl/), or say in the runbook where it comes from",
)
def nginx_references(self: Check, subject: RestoredFiles) -> Iterator[Finding]:
    """Every certificate, key and password file that nginx.conf names is in the backup."""
    held = {PurePosixPath(file.name).name for file in subject.facts.files()}
    claims = any(file.name.startswith("ssl/") for file in subject.facts.files())
    for name in configurations(subject):
        for one in nginx.walk(nginx.parse(subject.text(name)).directives):
            path = one["args"][0] if one["directive"] in (*_FILES, "include") and one["args"] else ""
            if not path or "$" in path or path.startswith(("data:", "engine:")):
                continue
            included = one["directive"] == "include"
            if included and (re.search(r"[*?\[]", path) or nginx_rules.comes_with_nginx(path)):
                continue
            if PurePosixPath(path).name not in held:
                yield self.finding(
                    f"{name}:{one['line']}",
                    f"{one['directive']} names {path}, which is not in the backup",
                    severity=None if claims and not included else Severity.MEDIUM,
                )
