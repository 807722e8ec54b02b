"""`provado backup postgres` against a real server: names, contents, errors, no second run, no half files."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_servers import SETTINGS, live, make_shop, postgres, query

from harness import process
from harness.backups import order
from harness.errors import ConfigError, ToolError
from harness.lock import folder_lock
from harness.manifest import read_manifest
from harness.postgres.backup import Choice, backup
from harness.redact import Secret
from harness.sandbox import Server
from harness.settings import SandboxSettings

UTC = SETTINGS.policy.zone


@pytest.fixture(scope="module")
def shop() -> Iterator[Server]:
    with postgres() as server:
        make_shop(server, "email_shop")
        yield server


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_plain_backup_is_named_as_the_runbook_names_it(shop: Server, tmp_path: Path) -> None:
    taken = backup(live(shop, "email_shop"), order(tmp_path, "daily", UTC), Choice(), SETTINGS)
    assert re.fullmatch(r"email-shop-daily-\d{8}-\d{6}\.sql\.gz", taken.path.name)
    text = gzip.decompress(taken.path.read_bytes())
    assert b"-- PostgreSQL database dump complete" in text[-300:]
    assert b"DROP DATABASE" not in text and b"OWNER TO" in text and b"GRANT SELECT" in text
    assert taken.globals and "CREATE ROLE reader" in taken.globals.read_text()
    assert taken.manifest is not None
    manifest = read_manifest(taken.manifest, "postgres")
    assert manifest.artifact == {"sha256": taken.sha256, "bytes": taken.bytes}
    assert manifest.facts["tables"]["public.outbox"]["rows"] == 3000
    assert (taken.path.stat().st_mode & 0o777, taken.globals.stat().st_mode & 0o777) == (0o640, 0o600)
    log = (tmp_path / "backup.log").read_text()
    assert "Iniciando backup daily de email_shop" in log
    assert re.search(rf"Backup concluído: {taken.path.name} \({taken.bytes} bytes", log)
    assert not [n for n in names(tmp_path) if n.endswith((".partial", ".tmp"))]


def test_custom_format_and_compression(shop: Server, tmp_path: Path) -> None:
    small = backup(
        live(shop, "email_shop"), order(tmp_path, "weekly", UTC), Choice("custom", compress=9), SETTINGS
    )
    assert small.path.name.endswith(".dump") and small.path.read_bytes()[:5] == b"PGDMP"
    prefixed = order(tmp_path, "recovery-backup", UTC, prefix="other")
    large = backup(live(shop, "email_shop"), prefixed, Choice("plain", compress=0), SETTINGS)
    assert re.fullmatch(r"other-recovery-\d{8}-\d{6}\.sql", large.path.name)
    assert large.bytes > small.bytes


def test_a_missing_table_is_an_error_and_leaves_nothing(shop: Server, tmp_path: Path) -> None:
    source = live(shop, "email_shop")
    with pytest.raises(ConfigError, match="no table api_keys"):  # GATEWAY: pg_dump -t a -t b says nothing
        backup(source, order(tmp_path, "daily", UTC), Choice(tables=("companies", "api_keys")), SETTINGS)
    assert set(names(tmp_path)) <= {".provado.lock", "backup.log"}
    assert "ERRO" in (tmp_path / "backup.log").read_text()
    taken = backup(source, order(tmp_path, "daily", UTC), Choice(tables=("companies",)), SETTINGS)
    text = gzip.decompress(taken.path.read_bytes())
    assert b"COPY public.companies" in text and b"public.outbox" not in text


def test_a_dump_that_dies_leaves_no_backup(shop: Server, tmp_path: Path) -> None:
    query(
        shop,
        "postgres",
        "CREATE ROLE weak LOGIN PASSWORD 'weak-pass'; GRANT CONNECT ON DATABASE email_shop TO weak",
    )
    source = live(shop, "email_shop")
    weak = replace(source, parameters={**source.parameters, "user": "weak"}, password=Secret("weak-pass"))
    with pytest.raises(ToolError, match="no privilege to read"):
        backup(weak, order(tmp_path, "daily", UTC), Choice(), SETTINGS)
    assert set(names(tmp_path)) <= {".provado.lock", "backup.log"}


def test_one_run_at_a_time_and_leftovers_go(shop: Server, tmp_path: Path) -> None:
    left = tmp_path / ".email-shop-daily-20260101-020000.sql.gz.0123.partial"
    left.write_bytes(b"half")
    with folder_lock(tmp_path), pytest.raises(ToolError, match="another backup"):
        backup(live(shop, "email_shop"), order(tmp_path, "daily", UTC), Choice(), SETTINGS)
    assert left.exists()
    backup(live(shop, "email_shop"), order(tmp_path, "daily", UTC), Choice(), SETTINGS)
    assert not left.exists()


def test_no_room_is_told_before_anything_is_written(shop: Server, tmp_path: Path) -> None:
    huge = tmp_path / "email-shop-daily-20260101-020000.sql.gz"
    with huge.open("wb") as file:
        file.truncate(1 << 43)  # sparse: the newest backup says that the next one will not fit
    with pytest.raises(ToolError, match="bytes are free"):
        backup(live(shop, "email_shop"), order(tmp_path, "daily", UTC), Choice(), SETTINGS)


def test_the_password_is_in_no_argument_list(
    shop: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []
    real = process.run

    def watch(argv: list[str], **more: object) -> process.Completed:
        seen.append(tuple(map(str, argv)))
        return real(argv, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "run", watch)
    backup(live(shop, "email_shop"), order(tmp_path, "daily", UTC), Choice(), SETTINGS)
    assert any("pg_dump" in argv[0] for argv in seen)
    assert shop.password.reveal() not in str(seen)
    assert SandboxSettings() == SETTINGS.sandbox
