"""What ends a COPY over several connections before its time leaves nothing behind, and accuses no backup."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psycopg
import pytest
from test_pg_shared_copy import TABLE, copy, judged, lines, whole

from harness.errors import ArtifactError
from harness.model import Evidence, Verdict
from harness.postgres import copying, load
from harness.postgres.pool import Connection, Pool
from harness.postgres.rows import whole_rows
from harness.settings import Settings

Act = Callable[[Connection, list[Connection]], None]


@pytest.fixture
def amid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Act], list[Connection]]:
    """Have something happen after the first piece of rows of every shared COPY; gives its connections."""
    share = copying.share

    def begin(act: Act) -> list[Connection]:
        held: list[Connection] = []

        def watched(conn: Connection, others: list[Connection], *rest: object) -> object:
            held[:] = [conn, *others]
            return share(conn, others, *rest)  # type: ignore[arg-type]

        def pieces(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
            for number, piece in enumerate(whole_rows(blocks)):
                yield piece
                if number == 0:
                    act(held[0], held[1:])

        monkeypatch.setattr(copying, "share", watched)
        monkeypatch.setattr(copying, "whole_rows", pieces)
        monkeypatch.setattr(load, "EARLY_BYTES", 0)
        monkeypatch.setattr(copying, "SHARE_BYTES", 0)
        monkeypatch.setattr(Pool, "idle", lambda self: 3)
        return held

    return begin


def _drilled(tmp_path: Path, settings: Settings | None = None) -> tuple[Evidence, Verdict]:
    began = time.monotonic()
    found = judged(tmp_path / "a.sql", whole(TABLE + copy(lines(many=60_000))), settings)
    assert time.monotonic() - began < 30
    assert not [t for t in threading.enumerate() if t.name.startswith("provado-rows")]
    return found


def _ends(conn: Connection, others: list[Connection]) -> None:
    conn.execute("SELECT pg_terminate_backend(%s)", (others[0].info.backend_pid,))


def _crashes(conn: Connection, others: list[Connection]) -> None:
    with pytest.raises(psycopg.OperationalError):
        conn.execute(f"COPY (SELECT 1) TO PROGRAM 'kill -9 {others[0].info.backend_pid}'")
        for _ in range(100):
            time.sleep(0.1)
            conn.execute("SELECT 1")


def _loses_one(conn: Connection, others: list[Connection]) -> None:
    """Only the connection breaks; the server, and the one that looks after the table, live on."""
    os.dup2(os.open(os.devnull, os.O_RDWR), others[0].fileno())


@pytest.mark.parametrize("act", [_ends, _crashes, _loses_one])
def test_a_server_that_cannot_go_on_is_no_fault_of_the_backup(
    act: Act, tmp_path: Path, amid: Callable[[Act], list[Connection]]
) -> None:
    held = amid(act)
    evidence, verdict = _drilled(tmp_path)
    assert len(held) == 5
    assert all(one.closed for one in held)
    assert verdict is Verdict.INCONCLUSIVE, evidence.findings
    assert evidence.teardown is None or evidence.teardown.complete


def test_the_deadline_ends_it(tmp_path: Path, amid: Callable[[Act], list[Connection]]) -> None:
    held = amid(lambda conn, others: time.sleep(6))
    evidence, verdict = _drilled(tmp_path, Settings.model_validate({"sandbox": {"timeout": "5s"}}))
    assert len(held) == 5
    assert all(one.closed for one in held)
    assert verdict is Verdict.INCONCLUSIVE, evidence.findings


@pytest.mark.parametrize("error", [KeyboardInterrupt, ArtifactError("the file is damaged")])
def test_what_reads_the_file_ends_it(
    error: BaseException, tmp_path: Path, amid: Callable[[Act], list[Connection]]
) -> None:
    left: list[int] = []

    def raises(conn: Connection, others: list[Connection]) -> None:
        raise error

    def looked_at(conn: Connection, *rest: object) -> object:
        try:
            return share(conn, *rest)  # type: ignore[arg-type]
        finally:
            left.append(conn.execute("SELECT FROM public.t").rowcount)

    held = amid(raises)
    share = copying.share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "share", looked_at)
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                _drilled(tmp_path)
        else:
            assert _drilled(tmp_path)[1] is Verdict.FAIL
    assert left == [0]
    assert all(one.closed for one in held[1:])
    assert not [t for t in threading.enumerate() if t.name.startswith("provado-rows")]


def _copying(database: str) -> int:
    """Server processes of the database that take rows."""
    count = 0
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = process.read_bytes()
        except OSError:
            continue
        count += title.startswith(b"postgres:") and database.encode() in title and b" COPY" in title
    return count


WITH_IDLE_CORES = """
from harness.cli import main
from harness.postgres.pool import Pool
Pool.idle = lambda self: {cores}  # how many this machine has is not the test's matter
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("cores", [3, 0], ids=["shared", "alone"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(sent: signal.Signals, cores: int, tmp_path: Path) -> None:
    name = f"signalled{os.getpid()}_{int(sent)}_{cores}"
    (tmp_path / "tmp").mkdir()
    slow = "CREATE TABLE public.t (id int CHECK (pg_sleep(0.003) IS NOT NULL), s text);\n"
    text = f"CREATE DATABASE {name};\n\\connect {name}\n{slow}" + copy(lines(many=80_000))
    (tmp_path / "a.sql").write_text(whole(text))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("PROVADO_")}
    call = subprocess.Popen(
        [sys.executable, "-c", WITH_IDLE_CORES.format(cores=cores), "verify", "a.sql"],
        cwd=tmp_path,
        env=environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 30
        while _copying(name) < 1 + cores:
            assert time.monotonic() < until, "COPY did not begin"
            assert call.poll() is None
            time.sleep(0.05)
        call.send_signal(sent)
        assert call.communicate(timeout=20)[0] == ""
    finally:
        call.kill()
        call.communicate()
    assert call.returncode == 130
    assert not _copying(name)
    assert not [p for p in (tmp_path / "tmp").iterdir() if p.name.startswith("provado-scratch-")]
