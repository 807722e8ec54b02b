"""Secrets where none should be: found by form, told by file, line and kind, never by value."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .env import is_secret

_FORMS: Final = (  # formats as their makers document them
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY-----")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b")),
    ("a JSON web token", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_\w{36,}|github_pat_\w{60,})")),
    ("a GitLab token", re.compile(r"\bglpat-[\w-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[\w-]{20,}|hooks\.slack\.com/services/T\w+/B\w+/\w{20,}")),
    ("a Stripe key", re.compile(r"\b[sr]k_live_\w{20,}")),
    ("a Google API key", re.compile(r"\bAIza[\w-]{35}\b")),
    ("a SendGrid key", re.compile(r"\bSG\.[\w-]{20,}\.[\w-]{40,}")),
    ("an npm token", re.compile(r"\bnpm_\w{36}\b")),
    ("an age key", re.compile(r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}")),
)
_URL: Final = re.compile(r"\b[a-z][a-z0-9+]{1,20}://[^\s:/@\"']*:(?P<value>[^\s@/\"']+)@", re.I)
_ASSIGNED: Final = re.compile(
    r"^\s*(?:export\s+|-\s*)?[\"']?(?P<name>[A-Za-z_][\w.-]*)[\"']?\s*(?:=|:\s)\s*(?P<value>.+?)\s*$"
)
_TOKEN: Final = re.compile(r"(?<![\w+/=.-])[A-Za-z0-9+/_=-]{24,}(?![\w+/=-])")
_PLACEHOLDER: Final = re.compile(
    r"^$|[<>{}]|\$|x{4,}|\*{3,}|\.{3}|changeme|change[-_ ]?(me|this)|your|seu[-_]|sua[-_]|example|exemplo|"
    r"placeholder|secret|senha|password|replace|troque|todo|dummy|sample|test|^(null|none|true|false|yes|no|\d{1,8})$",
    re.I,
)
_DIGEST: Final = re.compile(r"sha(256|384|512)[:-]|integrity|@sha")
_IN_SCRIPTS: Final = re.compile(  # what is written out where a script should take it from elsewhere
    r"\b(?:export\s+)?(?P<name>[A-Za-z_]*(?:PASSWORD|PASSWD|TOKEN|SECRET|REDISCLI_AUTH))="
    r"[\"']?(?P<value>[^\s\"'`$(;]{8,})[\"']?(?=\s|;|$)",
    re.I,
)
_ARGUMENT: Final = re.compile(
    r"\bredis-cli\b[^|;#]*\s(?:-a|--pass)[= ]\s*[\"']?(?P<value>[^\s\"'`$(-][^\s\"'`$]*)"
)
_REDIS: Final = re.compile(r"^\s*(?P<name>requirepass|masterauth)\s+[\"']?(?P<value>[^\s\"']+)", re.I)
_LONG_LINE: Final = 8192  # no assignment of a template; looking closer would cost time by its square
_PUBLIC: Final = re.compile(
    r"public|fingerprint|checksum|digest|sha\d|_url$|_host$|_path$|_file$|_id$|version", re.I
)


@dataclass(frozen=True)
class Leak:
    """A place that looks like a secret. `sure` when the form leaves little doubt."""

    line: int
    kind: str
    sure: bool


def scan(text: str, *, template: bool, script: bool = False, redis: bool = False) -> Iterator[Leak]:
    """Look through one file. `template` marks files that must hold no value at all (env templates, compose):
    there, values under names like PASSWORD and texts that look random count too. In a `script` passwords that
    are written out count, and in the configuration of `redis` its own."""
    for number, line in enumerate(text.splitlines(), 1):
        found = [kind for kind, form in _FORMS if (hit := form.search(line)) and "EXAMPLE" not in hit[0]]
        if found:
            yield from (Leak(number, kind, True) for kind in found)
            continue
        url = _URL.search(line)
        if url and not _placeholder(url["value"]):
            yield Leak(number, "a password in a URL", _random(url["value"], 8) or template)
            continue
        if (script or redis) and len(line) < _LONG_LINE and not line.lstrip().startswith("#"):
            yield from _written_out(number, line, redis)
        if template and len(line) < _LONG_LINE and not line.lstrip().startswith("#"):
            leak = _assigned(number, line)
            if leak:
                yield leak


def _written_out(number: int, line: str, redis: bool) -> Iterator[Leak]:
    if redis:
        hit = _REDIS.match(line)
        if hit and not _placeholder(hit["value"]):
            yield Leak(number, f"a value for {hit['name'].lower()}", False)
        return
    hit = _IN_SCRIPTS.search(line)
    if hit and not _PUBLIC.search(hit["name"]) and not _placeholder(hit["value"]):
        yield Leak(number, f"a value for {hit['name']}", _random(hit["value"], 8))
    elif (hit := _ARGUMENT.search(line)) and not _placeholder(hit["value"]):
        yield Leak(number, "a password of Redis on a command line", _random(hit["value"], 8))


def _assigned(number: int, line: str) -> Leak | None:
    hit = _ASSIGNED.match(line)
    if hit:
        name, value = hit["name"], _bare(hit["value"])
        if is_secret(name) and not _PUBLIC.search(name):
            if _placeholder(value) or (name == "secrets" and value.startswith("[")):
                return None
            return Leak(number, f"a value for {name}", _random(value, 12))
        if _PUBLIC.search(name):
            return None
    if _DIGEST.search(line):
        return None
    for token in _TOKEN.findall(line):
        if _random(token, 24) and not _placeholder(token):
            return Leak(number, "a value that looks random", False)
    return None


def _bare(value: str) -> str:
    """The value without quotes and without a comment behind it."""
    if value[:1] in "\"'" and value.find(value[0], 1) > 0:
        return value[1 : value.find(value[0], 1)]
    return re.split(r"\s#", value, maxsplit=1)[0].strip()


def _placeholder(value: str) -> bool:
    return bool(_PLACEHOLDER.search(value))


def _random(value: str, least: int) -> bool:
    """Whether a text looks drawn by a machine: long, of mixed kinds, with many different signs."""
    if len(value) < least:
        return False
    counts = Counter(value)
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())
    kinds = sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]"))
    hexes = bool(re.fullmatch(r"[0-9a-f]{32,}", value, re.I))
    return (entropy >= 3.0 and kinds >= 2 and bool(re.search(r"\d", value))) if not hexes else entropy >= 2.8
