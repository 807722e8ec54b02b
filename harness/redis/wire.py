"""A connection to a Redis or Valkey server: one socket, RESP2, pipelines by hand, a deadline everywhere.

redis-py costs some 15 us per pipelined command; reading back a million keys needs three of them each.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from ..errors import ConfigError, ProvadoError
from ..redact import Secret

Word = str | bytes | int


class ServerGone(Exception):
    """The server closed the connection, or did not answer in time."""


class Refused(ProvadoError):
    """The server answered with an error; the message keeps its code only, since its text may quote data."""

    def __init__(self, command: str, text: str) -> None:
        self.code = text.split(" ", 1)[0][:32] if text[:1].isupper() else "ERR"
        super().__init__(f"the server refuses {command} ({self.code})")


@dataclass(frozen=True)
class Address:
    """Where a server listens and who we are there. `tls` verifies the certificate unless `insecure`."""

    unix_socket: str | None = None
    host: str = "localhost"
    port: int = 6379
    user: str | None = None
    password: Secret | None = None
    database: int = 0
    tls: bool = False
    ca_file: str | None = None


def parse_url(url: str) -> Address:
    """`redis://`, `rediss://` (TLS, `?ca=FILE`) or `unix://PATH` (`?db=N`) -> Address.

    Raises ConfigError for anything else. Percent-encoded user and password are decoded.
    """
    parts = urlsplit(url)
    query = {k: v[0] for k, v in parse_qs(parts.query).items()}
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigError("is no Redis address", remedy="write redis://, rediss:// or unix:// with a place")
    try:
        path = parts.path.strip("/")
        number = query.get("db") or (path if parts.scheme != "unix" and path else "0")
        password = Secret(unquote(parts.password)) if parts.password else None
        user = unquote(parts.username) if parts.username else None
        if parts.scheme == "unix":
            return Address(unquote(parts.path), user=user, password=password, database=int(number))
        return Address(
            None,
            parts.hostname or "localhost",
            parts.port or 6379,
            user,
            password,
            int(number),
            parts.scheme == "rediss",
            query.get("ca"),
        )
    except ValueError:
        raise ConfigError("has a port or a database that is no number", where="the Redis address") from None


class Wire:
    """One connection. Replies are bytes, int, None, lists; an error reply is raised as `Refused`.

    `timeout_s` bounds every single wait. Use as a context manager.
    """

    def __init__(self, address: Address, *, timeout_s: float = 60.0) -> None:
        self.address = address
        self.received = 0  # bytes so far
        self._reader = hiredis.Reader()
        self._socket = _connect(address, timeout_s)
        if address.password is not None:
            login = [address.password.reveal()]
            try:
                self.call("AUTH", *([address.user] if address.user else []), *login)
            except Refused:
                self.close()
                raise ConfigError("the server refuses the user or the password", where=self.place) from None
        if address.database:
            self.call("SELECT", address.database)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """Where it is connected to, without user and password."""
        return self.address.unix_socket or f"{self.address.host}:{self.address.port}"

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def call(self, *words: Word) -> Any:
        """Send one command and return its reply."""
        reply = next(self.pipeline([words]))
        if isinstance(reply, hiredis.ReplyError):
            raise Refused(" ".join(str(w) for w in words[:1]), str(reply))
        return reply

    def pipeline(self, commands: Iterable[Sequence[Word]]) -> Iterator[Any]:
        """Send commands at once and yield their replies as they come; errors come as values."""
        packed = [pack(*c) for c in commands]
        return self.exchange(b"".join(packed), len(packed))

    def exchange(self, data: bytes, count: int) -> Iterator[Any]:
        """Send commands already packed, `count` of them, and yield their replies as they come."""
        self._send(data)
        gets = self._reader.gets
        for _ in range(count):
            reply = gets()
            while reply is False:
                self._receive()
                reply = gets()
            yield reply

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ServerGone(f"the server is gone: {error.strerror or error}") from None

    def _receive(self) -> None:
        try:
            data = self._socket.recv(256 << 10)
        except TimeoutError:
            raise ServerGone("the server does not answer") from None
        except OSError as error:
            raise ServerGone(f"the server is gone: {error.strerror or error}") from None
        if not data:
            raise ServerGone("the server closed the connection")
        self.received += len(data)
        self._reader.feed(data)

    def start_raw(self, command: bytes) -> None:
        """Send a command answered by bytes of its own kind (SYNC); from now on only `receive_raw`."""
        self._send(command)

    def receive_raw(self, limit: int) -> bytes:
        """Up to `limit` bytes, at least one. Raises ServerGone at the end or after the timeout."""
        try:
            data = self._socket.recv(limit)
        except OSError as error:
            raise ServerGone(f"the server is gone: {error.strerror or error}") from None
        if not data:
            raise ServerGone("the server closed the connection")
        return data

    def peek_raw(self) -> bytes:
        """The next byte if it is there already; nothing over TLS, where it cannot be looked at."""
        if isinstance(self._socket, ssl.SSLSocket):
            return b""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return b""

    def info(self, section: str = "all") -> dict[str, str]:
        """INFO as a dictionary; empty when the server's ACL forbids it."""
        try:
            text = self.call("INFO", section)
        except Refused:
            return {}
        lines = text.decode("utf-8", "replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def wait_loaded(self, deadline: float) -> None:
        """Wait until the server has loaded its data set. Raises ServerGone past `deadline`."""
        while True:
            try:
                if self.info("persistence").get("loading", "0") == "0":
                    return
            except Refused as busy:
                if busy.code != "LOADING":
                    raise
            if time.monotonic() > deadline:
                raise ServerGone("the server is still loading at the deadline")
            time.sleep(0.02)


def pack(*words: Word) -> bytes:
    """One command as it goes over the wire."""
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub wants one word only
    return packed


def _connect(address: Address, timeout_s: float) -> socket.socket:
    where = address.unix_socket or f"{address.host}:{address.port}"
    plain: socket.socket | None = None
    try:
        if address.unix_socket:
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(timeout_s)
            plain.connect(address.unix_socket)
            return plain
        plain = socket.create_connection((address.host, address.port), min(timeout_s, 10))
        plain.settimeout(timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not address.tls:
            return plain
        context = ssl.create_default_context(cafile=address.ca_file)
        return context.wrap_socket(plain, server_hostname=address.host)
    except (OSError, ValueError) as error:
        if plain is not None:
            plain.close()
        raise ConfigError(
            f"no connection to the server: {getattr(error, 'strerror', None) or type(error).__name__}",
            where=where,
            remedy="check the address, and for rediss:// the certificate (?ca=FILE)",
        ) from None
