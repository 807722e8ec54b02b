"""Rehearsal of the declared recovery: the backup once more, into a database made as the procedure makes it.

A dump that does not create its database takes the encoding and locale of whatever it is restored into. The
same file is whole in one and loses tables in another, so only loading it there tells
(`postgres.target` in provado.yaml). This judges the procedure, never the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import psycopg
from psycopg import errors, sql

from ..component import DrillContext
from ..model import Artifact
from ..settings.postgres import PostgresTarget
from . import source
from .dump import read_dump
from .facts import DumpFacts, ahead
from .load import Loader
from .loaded import Loaded
from .pool import Connection

NAME: Final = "provado_target"


def wanted(target: PostgresTarget | None, artifact: Artifact, facts: DumpFacts) -> bool:
    """Whether the declared database could differ from the one that the drill restores into anyway."""
    if target is None or (target.encoding is None and target.locale is None):
        return False
    if artifact.format not in source.ARCHIVES and (facts.created or facts.databases):
        return False  # it brings its own
    same = target.encoding == ("SQL_ASCII" if facts.encoding == "SQL_ASCII" else "UTF8")
    return bool(facts.created) or target.locale is not None or not same


def rehearse(
    target: PostgresTarget,
    artifact: Artifact,
    facts: DumpFacts,
    ctx: DrillContext,
    connect: Callable[[str], Connection],
) -> Loaded:
    """What loading into such a database did; the database is dropped again.

    `refused` says why the server would not make it. A locale that the sandbox lacks is replaced by "C"
    (`mapped_locales`). Raises ArtifactError where the file cannot be read on, psycopg.Error when the server
    is gone.
    """
    loaded = Loaded()
    with connect("postgres") as admin:
        try:
            _create(admin, target, loaded)
        except psycopg.DataError as refused:
            loaded.refused = (refused.diag.message_primary or "").splitlines()[0]
            return loaded

    def opened(database: str) -> Connection:
        conn = connect(database)
        conn.execute("SET client_encoding = 'UTF8'")  # what text is in that does not say; psql's, too
        return conn

    loader = Loader(opened, NAME, facts, loaded=loaded)
    try:
        with source.sql_text(artifact, ctx, "target", create=False) as text:
            loader.run(read_dump(text, ahead(facts)))
    finally:
        loader.close()
    with connect("postgres") as admin, contextlib.suppress(errors.ObjectInUse):  # by a subscription
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(NAME)))
    return loaded


def _create(admin: Connection, target: PostgresTarget, loaded: Loaded) -> None:
    """Where no locale is declared, "C": the one that goes with every encoding."""
    encoding = target.encoding or "UTF8"
    make = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE {}")
    try:
        admin.execute(
            make.format(sql.Identifier(NAME), sql.Literal(encoding), sql.Literal(target.locale or "C"))
        )
    except errors.WrongObjectType:  # invalid locale name
        loaded.mapped_locales.append(str(target.locale))
        admin.execute(make.format(sql.Identifier(NAME), sql.Literal(encoding), sql.Literal("C")))
