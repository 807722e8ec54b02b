"""The fingerprint sees every property of every class alone, and nothing where nothing changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from live_servers import live, postgres
from pg_subject import make_zoo
from pg_zoo import MUTATIONS

from harness.postgres.compare import compare_objects
from harness.postgres.difference import ADDED, MISSING, Way
from harness.postgres.fingerprint import fingerprint, object_digest, pin
from harness.sandbox import Server

KEY = b"test"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as made:
        make_zoo(made, "zoo")
        yield made


@pytest.fixture(scope="module")
def conn(server: Server) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with live(server, "zoo").connect() as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture(scope="module")
def before(conn: psycopg.Connection[tuple[Any, ...]]) -> dict[str, Any]:
    return facts(conn)


def facts(conn: psycopg.Connection[tuple[Any, ...]]) -> dict[str, Any]:
    major = pin(conn)
    return {
        "server": {"major": major, "user": conn.info.user, "superuser": True},
        "objects": fingerprint(conn, KEY),
        "large_objects": {"objects": {}},
    }


def test_nothing_changed_is_no_difference(
    conn: psycopg.Connection[tuple[Any, ...]], before: dict[str, Any]
) -> None:
    conn.execute("SET search_path = z; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'")
    again = facts(conn)
    assert again == before
    result = compare_objects(before, again, Way())
    assert (result.differences, result.omitted) == ([], [])
    empty = [kind for kind, objects in before["objects"].items() if not objects]
    assert sorted(empty) == ["security label", "tablespace", "transform"]


@pytest.mark.parametrize(("change", "kind", "properties"), MUTATIONS, ids=[m[0][:70] for m in MUTATIONS])
def test_one_change_is_one_difference(
    conn: psycopg.Connection[tuple[Any, ...]],
    before: dict[str, Any],
    change: str,
    kind: str,
    properties: str,
) -> None:
    conn.execute("BEGIN; SET LOCAL allow_system_table_mods = on")
    try:
        conn.execute(change.encode())
        after = facts(conn)
    finally:
        conn.rollback()
    result = compare_objects(before, after, Way())
    assert [(d.kind, d.what) for d in result.differences] == [
        (kind, {"": MISSING, "+": ADDED}.get(properties, "changed"))
    ], result
    assert result.omitted == []
    changed = {name for name, _, _ in result.differences[0].changes}
    if properties not in ("", "+"):
        assert set(properties.split(" + ")) <= changed


def test_secrets_stay_out(before: dict[str, Any]) -> None:
    text = json.dumps(before["objects"])
    for secret in ("not-a-secret", "nor-this", "hidden", "concealed", "SCRAM-SHA-256$", "round(v", "people"):
        assert secret not in text


def test_another_key_gives_another_text_for_bodies(conn: psycopg.Connection[tuple[Any, ...]]) -> None:
    one, two = fingerprint(conn, b"1"), fingerprint(conn, b"2")
    name = "z.tax(numeric,numeric)"
    assert one["function"][name]["body"] != two["function"][name]["body"]
    assert object_digest(one["table"]["z.parent"]) == object_digest(two["table"]["z.parent"])
