"""Is the server there yet? Asked by real connections, because nothing else proves that it answers.

The client libraries are imported when first used: they take longer to load than a server to start.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from collections.abc import Callable

from ..errors import SandboxError
from ..redact import Secret
from .base import FEATURES, PostgresRequest, ServerDied

_PATIENCE_S = 5.0  # how long a restored cluster may refuse us with the same error
_SOON = ("starting up", "shutting down", "recovery", "not yet accepting", "not accepting")
_FAST, _SLOW = 0.003, 0.1  # seconds between attempts: quickly at first, gently when it takes long


def wait(ready: Callable[[], bool], check: Callable[[], None]) -> None:
    """Ask `ready` until it says yes; `check` raises when waiting on is of no use."""
    began = time.monotonic()
    while not ready():
        check()
        waited = time.monotonic() - began
        time.sleep(min(max(_FAST, waited / 20), _SLOW))


def wait_postgres(
    host: str,
    port: int,
    password: Secret,
    check: Callable[[], None],
    *,
    database: str = "postgres",
    user: str = "postgres",
    fresh: Secret | None = None,
    main_process: bool = False,
) -> str:
    """Wait until PostgreSQL lets `user` in; gives it the `fresh` password then -> the server's version.

    A restored cluster (`database` is template1) that goes on refusing us for a reason of its own, say a lost
    catalog or a locale that is not here, is given up: ServerDied with the reason as its log.

    `main_process`: only a server whose process id is 1 counts (an image's entry point runs another one
    for a moment to set things up).
    """
    import psycopg

    version = ""
    refused_since: float | None = None

    def ready() -> bool:
        nonlocal version, refused_since
        try:
            with psycopg.connect(
                host=host,
                port=port,
                user=user,
                password=password.reveal(),
                dbname=database,
                connect_timeout=10,
                autocommit=True,
            ) as connection:
                if main_process:
                    row = connection.execute("SELECT pg_read_file('postmaster.pid', 0, 2)").fetchone()
                    if row is None or row[0] != "1\n":
                        return False
                if fresh:
                    verifier = scram_verifier(fresh.reveal()).encode()
                    connection.execute(b"ALTER ROLE postgres PASSWORD '" + verifier + b"'")
                version = (connection.pgconn.parameter_status(b"server_version") or b"").decode()
                return True
        except psycopg.OperationalError as error:
            told = str(error)
            if database != "template1" or "FATAL" not in told or any(word in told for word in _SOON):
                refused_since = None
                return False
            refused_since = refused_since or time.monotonic()
            if time.monotonic() - refused_since > _PATIENCE_S:
                raise ServerDied("the restored server lets nobody in", log=told, exit_code=None) from None
            return False

    wait(ready, check)
    return version.split(" ")[0]


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of a password (RFC 5803), after one round of hashing instead of 4096.

    The rounds slow down guessing, and our passwords are 192 random bits; but every connection pays for them.
    """
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    words = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256$1:{words[0]}${words[1]}:{words[2]}"


def wait_redis(
    host: str, port: int, unix_socket: str | None, password: Secret, check: Callable[[], None]
) -> str:
    """Wait until Redis or Valkey answers and has loaded its data -> the server's version."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    where = {"unix_socket_path": unix_socket} if unix_socket else {"host": host, "port": port}
    client = redis.Redis(
        **where,
        password=password.reveal(),
        socket_timeout=10,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )

    def ready() -> bool:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            raise SandboxError(
                "the server does not take the sandbox's password: the given configuration sets its own users",
                remedy="Leave requirepass, user and aclfile out of it",
            ) from None
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is one of the former
            return False

    try:
        wait(ready, check)
        info = client.info("server")
        return str(info.get("valkey_version") or info["redis_version"])
    finally:
        client.close()


def lack(host: str, port: int, password: Secret, database: str, request: PostgresRequest) -> str | None:
    """What a running server lacks that the request needs, in words that follow its name; None: nothing."""
    import psycopg

    with psycopg.connect(
        host=host,
        port=port,
        user=request.superuser,
        password=password.reveal(),
        dbname=database,
        connect_timeout=10,
    ) as connection:
        major = connection.info.server_version // 10000
        if request.major and (major != request.major if request.exact else major < request.major):
            return f"is not the wanted version ({request.major})"
        rows = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
        missing = sorted(request.extensions - {str(row[0]) for row in rows})
        if missing:
            return f"lacks the extension {', '.join(missing)}"
        for feature in sorted(request.features):
            try:
                has = connection.execute(FEATURES[feature][1]).fetchone()
            except psycopg.errors.FeatureNotSupported:
                has = None
            if not has:
                return f"is built without {feature}"
    return None
