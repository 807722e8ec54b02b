"""Which functions of a dump may change rows, and what in it may call them."""

from __future__ import annotations

import pytest

from harness.postgres.side_effects import calls, may_write


@pytest.mark.parametrize(
    ("sql", "may"),
    [
        ("REFRESH MATERIALIZED VIEW public.v", True),
        ("CREATE INDEX i ON public.t USING btree (public.f(a))", True),
        ("CREATE INDEX i ON public.t USING btree (lower(a))", False),
        ("CREATE TABLE public.t (a int, CONSTRAINT c CHECK ((public.f(a) > 0)))", True),
        ("CREATE TABLE public.t (a int CHECK (a > 0), b numeric(10,2) DEFAULT 1.5)", False),
        ("CREATE TABLE public.t (a int)", False),
        ("CREATE TABLE public.t (a int) PARTITION BY LIST (public.f(a))", True),
        ("ALTER TABLE ONLY public.t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES public.u(a)", False),
        ("CREATE DOMAIN public.d AS text CONSTRAINT c CHECK (public.f(VALUE))", True),
        ("CREATE TABLE public.t (a int" + " CHECK (a.b" * 100_000, False),  # in no time
    ],
)
def test_what_may_call_functions(sql: str, may: bool) -> None:
    assert calls(sql.encode()) is may


@pytest.mark.parametrize(
    ("sql", "may"),
    [
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ UPDATE t SET a = 1 RETURNING 1 $$", True),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE x; END $$", True),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpython3u AS $$ pass $$", True),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$", False),
        ("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM t; END $$", False),
        ("CREATE PROCEDURE p() LANGUAGE sql AS $$ DELETE FROM t $$", False),
    ],
)
def test_functions_that_may_write(sql: str, may: bool) -> None:
    assert may_write(sql.encode()) is may
