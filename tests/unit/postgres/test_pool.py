"""Work beside the load: waited for by kind, and nothing of it lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from harness.postgres.pool import Connection, Pool


def _none(database: str) -> Connection:
    raise psycopg.OperationalError(f"no server for {database}")


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(_none, 2)
    yield made
    made.close()


def test_waiting_for_one_kind_does_not_wait_for_another(pool: Pool) -> None:
    go, built = threading.Event(), threading.Event()
    pool.submit("read", lambda: [None][not go.wait(30)])  # IndexError where nobody lets it go
    pool.submit("build", built.set)
    pool.wait("build")
    assert built.is_set()
    assert not go.is_set()
    go.set()
    pool.wait("read")


def test_work_that_work_submits_is_waited_for_too(pool: Pool) -> None:
    done: list[int] = []

    def more(left: int) -> None:
        done.append(left)
        if left:
            pool.submit("build", lambda: more(left - 1))

    pool.submit("build", lambda: more(20))
    pool.wait("build")
    assert done == list(range(20, -1, -1))


def test_what_work_raises_comes_out_where_its_kind_is_waited_for(pool: Pool) -> None:
    def work() -> None:
        with pool.connection("gone"):
            pass

    pool.submit("read", work)
    pool.wait("build")
    with pytest.raises(psycopg.OperationalError, match="no server for gone"):
        pool.wait("read")
    pool.wait("read")


def test_closing_drops_what_has_not_begun() -> None:
    pool, go, began, done = Pool(_none, 1), threading.Event(), threading.Event(), []

    def first() -> None:
        began.set()
        go.wait(30)

    pool.submit("build", first)
    began.wait(30)
    pool.submit("build", lambda: done.append("second"))
    threading.Timer(0.05, go.set).start()
    pool.close()
    assert done == []
