"""A real drill of a hostile backup: its names do nothing in either report, its values are in no output."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NAMES = (
    "<img src=x onerror=document.title='owned'>",
    "\u202egnp.exe",
    "a\x01b\x1b[31m",
    "\"'><script>document.title='owned'</script>",
)
BACKUP = os.fsdecode(b"no-utf8-\xff-daily-20261124-020000.sql")
ROW, NUMBER, CPF, ENVIRONMENT = "canary-row-4711", "canary-number-99", "529.982.247-25", "canary-env-5150"


def dump() -> str:
    """A plain dump whose rows the server refuses with messages that would quote them."""

    def table(name: str) -> str:
        return 'public."' + name.replace('"', '""') + '"'

    parts = [
        "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 15.18\n"
        "-- Dumped by pg_dump version 15.18\n\nSET client_encoding = 'UTF8';\n"
    ]
    parts += [f"CREATE TABLE {table(n)} (\n    id integer NOT NULL,\n    note text\n);\n\n" for n in NAMES]
    for n in NAMES:
        bad = f"{NUMBER}\t{CPF}\n" if n == NAMES[0] else ""
        parts.append(f"COPY {table(n)} (id, note) FROM stdin;\n1\t{ROW}\n2\t{ROW}\n{bad}\\.\n\n\n")
    parts.append(f"CREATE UNIQUE INDEX dup ON {table(NAMES[1])} USING btree (note);\n\n")
    parts.append(f"ALTER TABLE ONLY {table(NAMES[2])}\n    ADD PRIMARY KEY (note);\n\n")
    return "".join([*parts, "--\n-- PostgreSQL database dump complete\n--\n\n"])


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / BACKUP).write_text(dump(), encoding="utf-8")
    secrets = {"PGPASSWORD": ENVIRONMENT, "DATABASE_URL": f"postgres://u:{ENVIRONMENT}@db/x"}
    done = subprocess.run(
        [
            Path(sys.executable).with_name("provado"),
            "verify",
            BACKUP,
            "--output",
            "out",
        ],
        cwd=folder,
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr  # what the server refused is lost: the backup is bad
    return folder / "out", done


def test_canaries_are_in_no_output(drilled: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, done = drilled
    written = [f for f in output.rglob("*") if f.is_file()]
    assert {"evidence.json", "report.html", "pytest.html", "junit.xml", "provado.prom"} <= {
        f.name for f in written
    }
    for canary in (ROW, NUMBER, CPF, ENVIRONMENT):
        assert canary not in done.stdout + done.stderr
        assert [f.name for f in written if canary.encode() in f.read_bytes()] == []


def test_control_characters_do_not_reach_the_terminal(
    drilled: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = drilled
    assert "gnp.exe" in done.stdout
    assert not set(done.stdout + done.stderr) & set("\x1b\x01\u202e")


@pytest.mark.parametrize("name", ["report.html", "pytest.html"])
def test_hostile_names_do_nothing(
    name: str, drilled: tuple[Path, subprocess.CompletedProcess[str]], opened: Callable[..., Any]
) -> None:
    """With scripts allowed, since pytest.html shows nothing without them."""
    output, _ = drilled
    with opened((output / name).read_text(encoding="utf-8"), scripts=True) as (page, requests):
        page.wait_for_timeout(500)
        assert "owned" not in page.title()
        text = page.locator("body").inner_text()
        assert "Fail" in text
        assert not set(text) & set("\x1b\x01\u202e")
        assert page.locator("img[src=x]").count() == 0
        assert [r for r in requests if not r.startswith(("file:", "data:"))] == []
