"""What `nginx -t` refuses beyond syntax: values, doubles and names that nothing declares.

Only what every nginx refuses, whatever its modules. Where a file includes others, what they could declare
is not missed.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator
from typing import Any, Final

Block = dict[str, Any]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SIZE: Final = re.compile(r"\d+[kKmMgG]?")
_TIME: Final = re.compile(r"(?=\d)(\d+(ms|[yMwdhms])\s*)*\d*")
_SIZES: Final = _words(
    "client_max_body_size client_body_buffer_size client_header_buffer_size send_lowat "
    "ssl_buffer_size proxy_buffer_size proxy_busy_buffers_size proxy_max_temp_file_size "
    "gzip_min_length server_names_hash_max_size types_hash_max_size variables_hash_max_size"
)
_TIMES: Final = _words(
    "client_body_timeout client_header_timeout proxy_connect_timeout proxy_read_timeout "
    "proxy_send_timeout send_timeout resolver_timeout ssl_session_timeout lingering_time "
    "worker_shutdown_timeout"
)
_ONCE: Final = _SIZES | _TIMES | _words(
    "alias default_type events gzip http keepalive_timeout pid proxy_buffering proxy_http_version "
    "proxy_pass root sendfile server_tokens ssl_ciphers ssl_dhparam ssl_prefer_server_ciphers "
    "ssl_session_cache tcp_nodelay tcp_nopush try_files types_hash_bucket_size worker_connections "
    "worker_processes worker_rlimit_nofile"
)  # fmt: skip
_ONE_OF: Final = {
    "satisfy": _words("all any"),
    "gzip_comp_level": _words("1 2 3 4 5 6 7 8 9"),
    "proxy_http_version": _words("1.0 1.1 2"),
    "error_log": _words("debug info notice warn error crit alert emerg debug_core debug_alloc debug_mutex "
                        "debug_event debug_http debug_mail debug_stream"),
}  # fmt: skip
_ZONES: Final = _words("limit_req_zone limit_conn_zone proxy_cache_path")
_COMPLEX: Final = _words("add_header proxy_set_header proxy_pass return")  # a value may hold variables
_LONE: Final = re.compile(r"\$(?![\w{])")
_WITH_PATH: Final = re.compile(r"https?://(?!unix:)[^/$]+/[^$]*$", re.I)
_PROTOCOLS: Final = frozenset({"SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"})
_BROKEN: Final = re.compile(r"unterminated|unbalanced|missing \)|nothing to repeat|bad escape \(end")
_OF_A_MAP: Final = "connection_upgrade"  # nginx's manual sets it by a map, which is easily left behind
_PACKAGED: Final = re.compile(
    r"(^|/)((mime\.types|(fastcgi|proxy|uwsgi|scgi)_params|fastcgi\.conf)$|modules-)"
)


def troubles(top: tuple[Block, ...]) -> Iterator[tuple[int, str]]:
    """(line, what nginx says) for a parsed configuration. No value is quoted but names of nginx's own."""
    yield from _block(list(top), within=("http" if any(d["directive"] == "server" for d in top) else ""))
    yield from _placed(list(top))
    https = [one for one in top if one["directive"] == "http"]
    if len(https) == 1:
        yield from _http(https[0])


def comes_with_nginx(path: str) -> bool:
    """Whether a path is of a file that nginx' own packages bring."""
    return bool(_PACKAGED.search(path))


def _inside(block: Block | None) -> list[Block]:
    return (block.get("block") or []) if block else []


def _block(inside: list[Block], within: str) -> Iterator[tuple[int, str]]:
    """One block and all below it."""
    stack = [(inside, within)]
    while stack:
        inside, within = stack.pop()
        seen: set[tuple[str, ...]] = set()
        for one in inside:
            name, args = one["directive"], one["args"]
            if name == "#":
                continue
            key = (name,) if name in _ONCE else (name, *args)
            if name == "listen":
                key = (name, args[0] if args else "", str({"quic", "udp"} & set(args)))
            declared = name in ("upstream", "log_format") or name in _ZONES
            if declared:
                key = (name, _zone(args) if name in _ZONES else "".join(args[:1]))
            plain = name == "location" and args[:1] not in (["~"], ["~*"])
            if name in _ONCE or name == "listen" or plain or declared:
                if key in seen:
                    yield one["line"], f'"{name}" stands twice for the same thing'
                seen.add(key)
            fixed = not any("$" in arg for arg in args)
            if args and (why := _form(name, args) or (_value(name, args, within) if fixed else "")):
                yield one["line"], why
            if name == "upstream" and not any(d["directive"] in ("server", "include") for d in _inside(one)):
                yield one["line"], '"upstream" has no server in it'
            if one.get("block"):
                stack.append((one["block"], name if name in ("http", "stream", "mail") else within))


def _zone(args: list[str]) -> str:
    """The name of the shared memory that a directive declares."""
    return next((zone[1] for arg in args if (zone := re.match(r"(?:keys_)?zone=([^:]+):", arg))), str(args))


def _form(name: str, args: list[str]) -> str:
    """What is wrong with the form of arguments, variables or not."""
    if name in _COMPLEX and any(_LONE.search(arg) for arg in args):
        return f'"{name}" holds a $ that begins no variable'
    wrong = False
    if name in ("map", "geo", "split_clients", "set"):
        wrong = not args[0 if name == "set" else -1].startswith("$")
    elif name == "if" and len(args) == 3 and args[0].startswith("$"):
        wrong = args[1] not in ("=", "!=", "~", "~*", "!~", "!~*")
    elif name == "location" and len(args) == 2:
        wrong = args[0] not in ("=", "~", "~*", "^~")
    elif name == "limit_req_zone":
        rates = [arg for arg in args if arg.startswith("rate=")]
        wrong = not all(re.fullmatch(r"rate=\d+r/[sm]", rate) for rate in rates)
    patterns = [arg[1:] for arg in args if arg.startswith("~")] if name == "server_name" else []
    patterns += [arg for arg in args[:1] if name == "rewrite"]
    patterns += args[2:3] if name == "if" and args[1:2] in (["~"], ["~*"], ["!~"], ["!~*"]) else []
    if any(map(_broken, patterns)):
        return f'a regular expression of "{name}" cannot be compiled'
    return f'"{name}" has a value that cannot be' if wrong else ""


def _location(args: list[str]) -> tuple[str, str]:
    """Modifier and name, with a blank between them or not; `@` for a named one."""
    found = re.match(r"(=|\^~|~\*|~|@)?\s*(.*)", " ".join(args), re.DOTALL)
    return (found[1] or "", found[2]) if found else ("", "")


def _placed(inside: list[Block], place: Block | None = None) -> Iterator[tuple[int, str]]:
    """Locations inside others that they do not belong to, and addresses that such a place does not take."""
    for one in inside:
        name, args = one["directive"], one["args"]
        how, around = _location(place["args"]) if place and place["directive"] == "location" else ("", None)
        if name == "location" and around is not None and args:
            kind, own = _location(args)
            outside = not (kind.startswith("~") or how.startswith("~")) and not own.startswith(around)
            if how in ("=", "@") or kind == "@" or outside:
                yield one["line"], '"location" stands inside one that it does not belong to'
        open_ = how in ("~", "~*", "@") or (place is not None and place["directive"] == "if")
        if name == "proxy_pass" and args and open_ and _WITH_PATH.match(args[0]):
            yield one["line"], '"proxy_pass" has a path where a location of no fixed name takes none'
        if one.get("block") and name in ("http", "server", "location", "if"):
            yield from _placed(one["block"], one)


def _value(name: str, args: list[str], within: str) -> str:
    """What is wrong with a directive's arguments, none of which holds a variable."""
    wrong = False
    if name in _SIZES:
        wrong = not _SIZE.fullmatch(args[0])
    elif name in _TIMES or name == "keepalive_timeout":
        wrong = not all(_TIME.fullmatch(arg) for arg in args[:1])
    elif name == "worker_processes":
        wrong = not (args[0] == "auto" or args[0].isdecimal())
    elif name in ("worker_connections", "worker_rlimit_nofile", "keepalive_requests"):
        wrong = not args[0].isdecimal()
    elif name == "ssl_protocols":
        wrong = not _PROTOCOLS.issuperset(args)
    elif name == "listen":
        wrong = not _listens(args[0])
    elif name == "proxy_pass":
        port = re.match(r"https?://(?!unix:)[^/]*:(\d+)(?:/|$)", args[0], re.I)
        wrong = within == "http" and not re.match(r"https?://.", args[0], re.I)
        wrong = wrong or (port is not None and int(port[1]) > 65535)
    elif name == "error_page":
        codes = [arg for arg in args[:-1] if not arg.startswith("=")]
        wrong = not all(code.isdecimal() and 300 <= int(code) <= 599 for code in codes)
    elif name in _ONE_OF:
        wrong = not _ONE_OF[name].issuperset(args[1:] if name == "error_log" else args)
    elif name in ("allow", "deny"):
        wrong = not _address(args[0])
    elif name == "rewrite" and len(args) == 3:
        wrong = args[2] not in ("last", "break", "redirect", "permanent")
    elif name == "return":
        wrong = args[0].isdecimal() and int(args[0]) > 999
    elif name == "location" and args[0] in ("~", "~*") and len(args) == 2:
        return 'a regular expression of "location" cannot be compiled' if _broken(args[1]) else ""
    return f'"{name}" has a value that cannot be' if wrong else ""


def _listens(text: str) -> bool:
    if text.startswith("unix:"):
        return True
    port = re.search(r"(?:^|:)(\d+)$", text) if not text.endswith("]") else None
    return port is None or 0 < int(port[1]) < 65536


def _address(text: str) -> bool:
    if text in ("all", "unix:"):
        return True
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _broken(pattern: str) -> bool:
    try:
        re.compile(
            pattern.replace("(?<", "(?P<") if "(?<=" not in pattern and "(?<!" not in pattern else pattern
        )
    except (re.error, RecursionError, OverflowError) as error:
        return bool(_BROKEN.search(str(error)))
    return False


def _http(http: Block) -> Iterator[tuple[int, str]]:
    """Names that are used in `http` and declared nowhere; servers that speak TLS without a certificate."""
    everything, stack = [], [_inside(http)]
    while stack:
        inside = stack.pop()
        everything += inside
        stack += [one["block"] for one in inside if one.get("block")]
    elsewhere = [
        one
        for one in everything
        if one["directive"] == "include" and not all(map(comes_with_nginx, one["args"]))
    ]
    if elsewhere:
        return
    yield from _variables(everything)
    formats = {one["args"][0] for one in everything if one["directive"] == "log_format" and one["args"]}
    zones = {
        zone[1]
        for one in everything
        if one["directive"] in ("limit_req_zone", "limit_conn_zone")
        for arg in one["args"]
        if (zone := re.match(r"zone=([^:]+):", arg))
    }
    for one in everything:
        name, args = one["directive"], one["args"]
        form = args[1] if name == "access_log" and len(args) > 1 else "combined"
        if form not in formats | {"combined", "gzip", "buffer"} and "=" not in form and "$" not in form:
            yield one["line"], '"access_log" names a format that no "log_format" declares'
        used = next((a[5:] for a in args if a.startswith("zone=")), "") if name == "limit_req" else ""
        used = args[0] if name == "limit_conn" and args else used
        if used and used not in zones:
            yield one["line"], f'"{name}" names a zone that nothing declares'
    above = {one["directive"] for one in _inside(http)}
    yield from _defaults(http)
    for server in (one for one in _inside(http) if one["directive"] == "server"):
        yield from _certified(server, above)


def _defaults(http: Block) -> Iterator[tuple[int, str]]:
    seen: set[tuple[str, bool]] = set()
    for server in (one for one in _inside(http) if one["directive"] == "server"):
        for one in (one for one in _inside(server) if one["directive"] == "listen" and one["args"]):
            key = (one["args"][0], bool({"quic", "udp"} & set(one["args"])))
            if "default_server" in one["args"] and key in seen:
                yield one["line"], 'two servers are "default_server" of the same address'
            seen |= {key} if "default_server" in one["args"] else set()


def _certified(server: Block, above: set[str]) -> Iterator[tuple[int, str]]:
    inside = _inside(server)
    held = above | {one["directive"] for one in inside}
    speaks = any(one["directive"] == "listen" and "ssl" in one["args"] for one in inside)
    if not speaks or "ssl_reject_handshake" in held:
        return
    for name in ("ssl_certificate", "ssl_certificate_key"):
        if name not in held and not (name == "ssl_certificate_key" and "ssl_certificate" not in held):
            yield server["line"], f'a server listens with ssl and has no "{name}"'


_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w*[A-Za-z_]\w*))")
_DECLARES: Final = _words(
    "set map geo split_clients auth_request_set js_set js_var perl_set set_by_lua set_by_lua_block geoip2"
)
_USES: Final = _words(
    "set proxy_set_header proxy_pass return add_header if log_format map try_files fastcgi_param root "
    "alias limit_req_zone limit_conn_zone uwsgi_pass fastcgi_pass grpc_pass grpc_set_header rewrite"
)
_PREFIXES: Final = re.compile(
    r"(http|sent_http|sent_trailer|arg|cookie|upstream|ssl|tcpinfo|geoip2?|jwt|memcached|spdy|proxy_protocol|"
    r"secure_link|limit|session_log|otel|quic|http2|http3|fastcgi|date|modern|ancient|msie|brotli|gzip|zstd|slice|"
    r"status|connections_\w+|mgmt|modsec\w*)(_\w+)?"
)
_BUILT_IN: Final = _words(
    "args binary_remote_addr body_bytes_sent bytes_sent bytes_received connection connection_requests "
    "connection_time content_length content_type document_root document_uri host hostname https "
    "invalid_referer is_args is_request_port limit_rate msec nginx_version pid pipe protocol "
    "query_string realip_remote_addr realip_remote_port realpath_root remote_addr remote_port "
    "remote_user request request_body request_body_file request_completion request_filename "
    "request_id request_length request_method request_port request_time request_uri scheme "
    "server_addr server_name server_port server_protocol session_time status time_iso8601 time_local "
    "uri uid_got uid_reset uid_set"
)


def _variables(everything: list[Block]) -> Iterator[tuple[int, str]]:
    """Variables that no directive sets and nginx does not have, where the name tells of a slip."""
    declared: set[str] = set()
    for one in everything:
        if one["directive"] in _DECLARES:
            declared |= {arg[1:] for arg in one["args"] if arg.startswith("$")}
        if one["directive"].startswith("$"):
            declared.add(one["directive"][1:])
        declared |= {name for arg in one["args"] for name in re.findall(r"\(\?P?<(\w+)>", arg)}
    known = declared | _BUILT_IN
    for one in everything:
        if one["directive"] not in _USES:
            continue
        args = one["args"][1:] if one["directive"] == "rewrite" else one["args"]
        for name in {a or b for arg in args for a, b in _VARIABLE.findall(arg)} - known:
            near = difflib.get_close_matches(name, known, 1, 0.72)
            if name.isdecimal() or _PREFIXES.fullmatch(name) or not (near or name == _OF_A_MAP):
                continue
            yield one["line"], f'"{one["directive"]}" uses a variable that nothing sets'
