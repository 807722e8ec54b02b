"""Addresses of live servers: where passwords come from, and what never leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError, ToolError
from harness.postgres.live import live


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)


def test_where_passwords_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("postgresql://app:in-the-url@db/shop\n")
    inside = live(f"file:{tmp_path / 'url'}")
    assert inside.password is not None and inside.password.reveal() == "in-the-url"
    monkeypatch.setenv("PW", "apart-from-it")
    apart = live("postgresql://app:in-the-url@db/shop", "env:PW")
    assert apart.password is not None and apart.password.reveal() == "apart-from-it"
    monkeypatch.setenv("PGPASSWORD", "from-libpq")
    assert live("postgresql://app@db/shop").environment()["PGPASSWORD"] == "from-libpq"
    for one in (inside, apart):
        assert "in-the-url" not in repr(one) and "apart-from-it" not in repr(one)
        assert one.place == "db:5432/shop"


def test_what_other_programs_put_into_a_url_is_left_out() -> None:
    url = "postgresql://app@db:5433/shop?schema=public&connection_limit=5&sslmode=require"
    assert live(url).parameters == {
        "user": "app",
        "host": "db",
        "port": "5433",
        "dbname": "shop",
        "sslmode": "require",
    }
    assert live("postgresql://app@db/shop?schema=public").parameters["dbname"] == "shop"


def test_what_is_no_address() -> None:
    with pytest.raises(ConfigError, match="no PostgreSQL address"):
        live("mysql://x/y")
    with pytest.raises(ConfigError, match="names no database"):
        live("postgresql://app@db")
    with pytest.raises(ConfigError, match="no variable"):
        live("env:PROVADO_THERE_IS_NO_SUCH_VARIABLE")


def test_an_unreachable_server_is_told_without_the_password() -> None:
    with pytest.raises(ToolError) as refused:
        live("postgresql://app:s3cret-word@127.0.0.1:1/shop").connect()
    assert "127.0.0.1:1/shop" in str(refused.value) and "s3cret-word" not in str(refused.value)
