"""The server and database that recovery has, as provado.yaml declares them: whether a backup fits there."""

from typing import Any

import pytest
from live_servers import SETTINGS, postgres, query, url
from pydantic import ValidationError
from test_pg_load import END, HEAD, T, judged, toc  # noqa: F401

from harness import process
from harness.model import Status, Verdict
from harness.sandbox import find_tools
from harness.settings import SandboxSettings, Settings

BOOKS = toc("books", "TABLE", "CREATE TABLE public.books (id int PRIMARY KEY, title text);") + (
    "--\n-- Data for Name: books; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n"
    "COPY public.books (id, title) FROM stdin;\n1\tção\n2\t日本\n\\.\n\n"
)
LOANS = toc("loans", "TABLE", "CREATE TABLE public.loans (book int);") + toc(
    "loans", "TABLE DATA", "COPY public.loans (book) FROM stdin;\n1\n\\.",
).replace("-- Name: loans; Type: TABLE DATA", "-- Data for Name: loans; Type: TABLE DATA") + toc(
    "loans loans_book", "FK CONSTRAINT", "ALTER TABLE ONLY public.loans ADD CONSTRAINT loans_book"
    " FOREIGN KEY (book) REFERENCES public.books(id);",
)  # fmt: skip
DUMP = HEAD + T + BOOKS + LOANS + END
CREATE = (
    "--\n-- Name: shop; Type: DATABASE; Schema: -; Owner: -\n--\n\n"
    "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8';\n\n\\connect shop\n\n"
)


def declare(**target: Any) -> Settings:
    return SETTINGS.model_copy(
        update={"postgres": Settings.model_validate({"postgres": {"target": target}}).postgres}
    )


def told(evidence, check="pg.target-database"):
    return [f.object for f in evidence.findings if f.check == check and f.severity == "high"]


def state(evidence, check="pg.target-database"):
    return next(c for c in evidence.checks if c.id == check)


def test_a_database_of_another_encoding_loses_tables(judged) -> None:  # noqa: F811
    evidence, verdict = judged(DUMP, settings=declare(encoding="latin1", locale="C"))
    assert verdict is Verdict.FAIL
    assert told(evidence) == ["TABLE DATA public.books", "FK CONSTRAINT public.loans loans_book"]
    assert {f.check for f in evidence.findings if f.severity in ("high", "critical")} == {
        "pg.target-database"
    }
    assert "日" not in str(evidence.findings)


@pytest.mark.parametrize("target", [{"encoding": "UTF-8"}, {"encoding": "UTF8", "locale": "C"}])
def test_one_that_holds_every_character(target, judged) -> None:  # noqa: F811
    evidence, verdict = judged(DUMP, settings=declare(**target))
    assert verdict is Verdict.PASS, evidence.findings
    assert state(evidence).status is Status.PASS


def test_the_characters_that_are_there_decide(judged) -> None:  # noqa: F811
    evidence, verdict = judged(DUMP.replace("日本", "é"), settings=declare(encoding="LATIN1"))
    assert verdict is Verdict.PASS, evidence.findings


def test_a_dump_that_creates_its_database_uses_no_other(judged) -> None:  # noqa: F811
    text = HEAD + CREATE + T + BOOKS + END
    evidence, verdict = judged(text, settings=declare(encoding="LATIN1", locale="C"))
    assert verdict is Verdict.PASS
    [said] = [f for f in evidence.findings if f.check == "pg.target-database"]
    assert "creates its own database" in said.message


def test_a_database_that_cannot_be_made(judged) -> None:  # noqa: F811
    evidence, verdict = judged(DUMP, settings=declare(encoding="LATIN1", locale="C.UTF-8"))
    assert verdict is Verdict.FAIL and told(evidence) == ["x.sql"]


def test_a_locale_that_is_not_here_proves_nothing(judged) -> None:  # noqa: F811
    evidence, verdict = judged(DUMP, settings=declare(locale="xx_YY.utf8"))
    assert verdict is Verdict.PASS and state(evidence).status is Status.NOT_RUN
    assert any("xx_YY.utf8" in reason for reason in evidence.unproven)


def test_an_archive_is_restored_into_the_database_that_is_there(judged, tmp_path) -> None:  # noqa: F811
    with postgres() as server:
        query(server, "postgres", "CREATE DATABASE shop TEMPLATE template0")
        query(server, "shop", "CREATE TABLE books AS SELECT 1 AS id, '日本' AS title")
        tool = find_tools("pg_dump", SandboxSettings())[0]
        env = {"PGPASSWORD": server.password.reveal()}
        done = process.run([tool, "-Fc", "-d", url(server, "shop")], timeout_s=60, env=env)
    assert done.code == 0, done.error_text()
    evidence, verdict = judged(done.stdout, "x.dump", settings=declare(encoding="LATIN1"))
    assert verdict is Verdict.FAIL and told(evidence) == ["TABLE DATA public.books"]


def test_version_and_extensions(judged) -> None:  # noqa: F811
    text = (
        HEAD
        + "CREATE EXTENSION IF NOT EXISTS hstore SCHEMA public;\nCREATE EXTENSION citext SCHEMA public;\n"
        + T
        + END
    )
    evidence, verdict = judged(text, settings=declare(version=14, extensions=["hstore"]))
    assert verdict is Verdict.FAIL
    assert told(evidence, "pg.target-version") == ["x.sql"]
    assert told(evidence, "pg.target-extensions") == ["extension citext"]
    evidence, verdict = judged(text, settings=declare(version=15, extensions=["hstore", "citext"]))
    assert verdict is Verdict.PASS, evidence.findings


def test_what_is_not_declared_is_said(judged) -> None:  # noqa: F811
    evidence, _ = judged(DUMP)
    assert state(evidence).status is Status.NOT_RUN
    with pytest.raises(ValidationError, match="encoding"):
        declare(encoding="KLINGON")
