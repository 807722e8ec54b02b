"""Databases as wholes: make one beside another, and put it in the other's place.

Only `swap` touches the target, with two renames in one transaction.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import errors, sql

from ..errors import RestoreError, ToolError
from .live import Connection, Live

_LOCK: Final = "provado restore "
_SWAP_TRIES: Final = 10
_MAINTENANCE: Final = ("postgres", "template1")
_CREATED: Final = re.compile(rb'\s*CREATE DATABASE ("(?:[^"]|"")+"|\S+)', re.I)
_LOCALE: Final = re.compile(
    rb" (?:LOCALE_PROVIDER = \w+|(?:LOCALE|LC_\w+|\w+_LOCALE|COLLATION_VERSION|ICU_RULES) = '(?:[^']|'')*')",
    re.I,
)


@contextlib.contextmanager
def maintenance(target: Live) -> Iterator[Connection]:
    """A connection to the server's own database, from where others can be renamed."""
    for name in _MAINTENANCE:
        with contextlib.suppress(ToolError):
            with target.at(name).connect() as conn:
                yield conn
            return
    with target.connect() as conn:  # says why, by failing
        yield conn


@contextlib.contextmanager
def exclusive(admin: Connection, target: Live) -> Iterator[None]:
    """One recovery per database at a time; the server lets go when our connection ends, however it ends."""
    key = (_LOCK + target.database,)
    if not one(admin, "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))::int", *key):
        raise RestoreError("another recovery of this database is running", where=target.place)
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            admin.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", key)


def stem(database: str) -> str:
    """How names made from a database's begin: itself, or a part and a digest where 63 bytes would not do."""
    if len(database.encode()) <= 30:
        return database
    short = database.encode()[:20].decode("utf-8", "ignore")
    return f"{short}_{hashlib.sha256(database.encode()).hexdigest()[:8]}"


def old_name(database: str, stamp: str) -> str:
    """What the replaced database is called afterwards."""
    return f"{stem(database)}_before_{stamp}"


def create(
    admin: Connection, new: str, created: bytes | None, target: Live, exists: bool, notes: list[str]
) -> None:
    """The new database, with the encoding and locale of the backup's, else of the target's."""
    name = sql.Identifier(new).as_string(admin)
    if created is not None:
        text = _CREATED.sub(lambda m: b"CREATE DATABASE " + name.encode(), created, count=1)
        try:
            admin.execute(text, binary=True)
            return
        except (errors.WrongObjectType, errors.InvalidParameterValue, errors.UndefinedFile):
            admin.execute(_LOCALE.sub(b"", text), binary=True)
            notes.append("the server lacks the backup's locale: its own was used")
            return
    if exists:
        row = admin.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_catalog.pg_database"
            " WHERE datname = %s AND datlocprovider = 'c'"
            if admin.info.server_version >= 150000
            else "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_catalog.pg_database"
            " WHERE datname = %s",
            (target.database,),
        ).fetchone()
        if row:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
                    sql.Identifier(new), *map(sql.Literal, row)
                )
            )
            return
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(new)))


def carry_over(admin: Connection, old: str, new: str) -> None:
    """Owner, settings and rights of the replaced database, which a dump without --create does not hold."""
    b = sql.Identifier(new)
    row = admin.execute(
        "SELECT pg_get_userbyid(datdba), datacl::text[], oid FROM pg_catalog.pg_database WHERE datname = %s",
        (old,),
    ).fetchone()
    if row is None:
        return
    owner, acl, oid = row
    admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(b, sql.Identifier(owner)))
    if acl is not None:
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(b))
        rights = admin.execute(
            "SELECT grantee, privilege_type, is_grantable"
            " FROM pg_catalog.pg_database d, aclexplode(d.datacl) WHERE d.datname = %s",
            (old,),
        ).fetchall()
        for grantee, privilege, grantable in rights:
            to = sql.SQL("PUBLIC") if grantee == 0 else sql.Identifier(_role(admin, grantee))
            option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
            admin.execute(
                sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(sql.SQL(privilege), b, to, option)
            )
    settings = admin.execute(
        "SELECT setrole, unnest(setconfig) FROM pg_catalog.pg_db_role_setting WHERE setdatabase = %s", (oid,)
    ).fetchall()
    for role, pair in settings:
        key, _, value = str(pair).partition("=")
        value_sql = sql.SQL(value) if key.lower() == "search_path" else sql.Literal(value)
        head = (
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                sql.Identifier(_role(admin, role)), b, sql.Identifier(*key.split(".")), value_sql
            )
            if role
            else sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                b, sql.Identifier(*key.split(".")), value_sql
            )
        )
        admin.execute(head)


def swap(admin: Connection, target: Live, new: str, stamp: str | None) -> str | None:
    """Both renames or none; returns what the replaced database is called now.

    Sessions of the old database are ended; those that come back in between are ended again, a few times.
    Raises RestoreError when they keep coming.
    """
    name, fresh = sql.Identifier(target.database), sql.Identifier(new)
    if stamp is None:
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(fresh, name))
        return None
    old = old_name(target.database, stamp)
    for _ in range(_SWAP_TRIES):
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            (target.database,),
        )
        try:
            with admin.transaction():
                admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(name, sql.Identifier(old)))
                admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(fresh, name))
        except errors.ObjectInUse:
            continue
        return old
    raise RestoreError(
        f"clients keep connecting to {target.place}, so the names could not be swapped",
        remedy="stop the services that use it (the runbook's first step) and run again",
    )


def drop(admin: Connection, name: str) -> None:
    """Drop a database with its sessions."""
    force = " WITH (FORCE)" if admin.info.server_version >= 130000 else ""
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(sql.Identifier(name)))


def one(conn: Connection, query: str, *values: object) -> int:
    """The first number of a query's answer; 0 without one."""
    row = conn.execute(query, values).fetchone()
    return int(row[0]) if row else 0


def _role(admin: Connection, oid: int) -> str:
    row = admin.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE oid = %s", (oid,)).fetchone()
    return str(row[0]) if row else str(oid)
