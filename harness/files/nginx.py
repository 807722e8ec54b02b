"""nginx.conf: parsed by ngxparse, which knows nginx's directives, their places and their arguments.

Only the text is given to it: nothing that a hostile file includes is opened, and nginx itself, which opens
logs, certificates and modules even for `nginx -t`, is never started on a backup.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import crossplane
from crossplane.analyzer import DIRECTIVES

from . import nginx_rules

_MAX_ERRORS: Final = 20
_NEWER: Final = re.compile(  # nginx's own since ngxparse's list was made, and modules in wide use
    r"http[23]|quic_|early_hints|keepalive_(time|min_timeout)$|ssl_(reject_handshake|conf_command|ocsp|"
    r"certificate_c|key_log|encrypted)|(proxy|grpc|uwsgi)_ssl_(conf_command|key_log|certificate_cache)|"
    r"proxy_cookie_flags|max_headers|add_(header|trailer)_inherit|js_|mgmt|otel_|brotli|more_|geoip2|vhost_|"
    r"modsecurity|lua_|\w+_by_lua|headers_more|auth_(digest|ldap|pam)|acme_|zstd|naxsi|pagespeed"
)
_SHARE: Final = re.compile(r"\d+(\.\d+)?%|\*")  # of split_clients


@dataclass(frozen=True)
class Trouble:
    """Something that nginx refuses; `line` counts from 1."""

    line: int | None
    message: str
    unknown: bool = False  # a directive that ngxparse does not know, and that is no known one mistyped


@dataclass(frozen=True)
class Parsed:
    """Directives of one file as ngxparse gives them (directive, line, args, block), and what is wrong."""

    directives: tuple[dict[str, Any], ...]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True)
class Site:
    """A `server` block: its names, and the certificate and key files it names (innermost wins)."""

    line: int
    names: tuple[str, ...]
    certificates: tuple[str, ...]
    keys: tuple[str, ...]


@lru_cache(maxsize=16)
def parse(text: str) -> Parsed:
    """Parse one nginx configuration, or a part of one that is included into `http` or `server`.

    Never raises for what stands in the text. Remembered, since several checks ask for the same file.
    """
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        return Parsed((), (Trouble(line, "holds NUL bytes: it is no text"),))
    try:
        shape = crossplane.parse_string(text, single=True, check_ctx=False, check_args=False)
        top = {d["directive"] for d in shape["config"][0]["parsed"]}
        before, after = _wrapping(top)
        # Put on the first line, so that the lines keep their numbers.
        told = crossplane.parse_string(f"{before}{text}\n{after}", single=True, strict=True)
    except RecursionError:
        return Parsed((), (Trouble(None, "nests blocks deeper than any real configuration"),))
    except (IndexError, ValueError, TypeError, KeyError) as error:
        return Parsed((), (Trouble(None, f"cannot be parsed ({type(error).__name__})"),))
    parsed: tuple[dict[str, Any], ...] = tuple(told["config"][0]["parsed"])
    told_troubles = (_trouble(e["line"], _plain(e["error"])) for e in told["errors"])
    troubles = [trouble for trouble in told_troubles if trouble][:_MAX_ERRORS]
    if not troubles:
        troubles += _unended(text)
    if not top and not troubles:
        troubles.append(Trouble(None, "holds no directive: nginx does not start"))
    elif not before and not troubles and "events" not in top:
        troubles.append(Trouble(None, 'has no "events" block: nginx does not start'))
    if not troubles or all(trouble.unknown for trouble in troubles):
        troubles += [Trouble(*one) for one in islice(nginx_rules.troubles(parsed), _MAX_ERRORS)]
    return Parsed(parsed, tuple(troubles))


def _unended(text: str) -> Iterator[Trouble]:
    """Directives whose `;` is missing and whose arguments could be any words: the next line then looks like
    more of them. Told by a line that begins with a directive's name behind one that does and does not end."""
    before, number_before = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        line = re.sub(r"\s#.*$", "", line)
        open_before = (
            before
            and before[-1] not in ";{}"
            and before.split()[0] in DIRECTIVES
            and not before.count('"') % 2
            and not before.count("'") % 2
        )
        if open_before and line.split()[0].rstrip(";{") in DIRECTIVES and line[-1] in ";{":
            yield Trouble(number_before, f'directive "{before.split()[0]}" is not terminated by ";"')
        before, number_before = line, number


def _wrapping(top: set[str]) -> tuple[str, str]:
    """What to put around a part of a configuration, told by what stands at its top."""
    if not top or top & {"http", "events", "stream", "mail"}:
        return "", ""
    if "location" in top:
        return "events {} http { server { ", "}}"
    return ("events {} http { ", "}") if top & {"server", "upstream", "map", "log_format"} else ("", "")


def walk(directives: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every directive, outer before inner."""
    stack = list(reversed(directives))
    while stack:
        one = stack.pop()
        yield one
        stack += reversed(one.get("block") or [])


def sites(parsed: Parsed) -> Iterator[Site]:
    """The `server` blocks of `http`, with certificates inherited from `http` where they name none."""
    for http in (d for d in parsed.directives if d["directive"] == "http"):
        inherited = {name: _values(http, name) for name in ("ssl_certificate", "ssl_certificate_key")}
        for server in (d for d in http.get("block") or [] if d["directive"] == "server"):
            yield Site(
                server["line"],
                tuple(name for one in _all(server, "server_name") for name in one),
                _values(server, "ssl_certificate") or inherited["ssl_certificate"],
                _values(server, "ssl_certificate_key") or inherited["ssl_certificate_key"],
            )


def _all(block: dict[str, Any], name: str) -> list[list[str]]:
    return [d["args"] for d in block.get("block") or [] if d["directive"] == name]


def _values(block: dict[str, Any], name: str) -> tuple[str, ...]:
    return tuple(args[0] for args in _all(block, name) if args)


def _trouble(line: int | None, message: str) -> Trouble | None:
    """An unknown directive that looks like a known one is a slip; one of a newer nginx is none."""
    if not message.startswith("unknown directive"):
        return Trouble(line, message)
    name = message.split('"')[1]
    if _NEWER.match(name) or _SHARE.fullmatch(name):
        return None
    if not name.strip("{};"):
        return Trouble(line, "something stands where a directive must begin")
    near = difflib.get_close_matches(name, DIRECTIVES, 1, 0.82)
    return Trouble(line, f'{message}: is "{near[0]}" meant?' if near else message, not near)


def _plain(error: str) -> str:
    """ngxparse's message without the place, which we give ourselves."""
    return error.rsplit(" in ", 1)[0]
