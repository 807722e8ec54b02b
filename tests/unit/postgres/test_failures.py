"""What a server's refusal means; its words never carry values."""

import psycopg
import pytest
from psycopg import errors

from harness.postgres.dump import Entry
from harness.postgres.failures import explain, failure, harmless, label, lacked


class _Diagnosis:
    """The parts of an error report as the server sends them."""

    def __init__(self, **parts: str) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> str | None:
        return self._parts.get(name)


def refused(kind: type[psycopg.Error], **parts: str) -> psycopg.Error:
    made = type(kind.__name__, (kind,), {"diag": _Diagnosis(**parts)})
    error: psycopg.Error = made(parts.get("message_primary", ""))
    return error


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SET transaction_timeout = 0", errors.UndefinedObject),
        ("DROP TABLE public.t", errors.UndefinedTable),
        ("ALTER TABLE ONLY public.t DROP CONSTRAINT k", errors.UndefinedTable),
        ("ALTER TABLE ONLY public.t ALTER COLUMN a DROP DEFAULT", errors.UndefinedTable),
        ("SELECT pg_catalog.lo_unlink('42')", errors.UndefinedObject),
        ("DROP ROLE bob", errors.UndefinedObject),
        ("CREATE ROLE postgres", errors.DuplicateObject),
        ("CREATE EXTENSION plpgsql", errors.DuplicateObject),
        ("CREATE SCHEMA public", errors.DuplicateSchema),
        ('ALTER TABLE ONLY "a b".t ALTER COLUMN c SET (pg_attver=28066320)', errors.InvalidParameterValue),
    ],
)
def test_what_every_good_dump_may_cause(sql, error):
    assert harmless(sql.encode(), error())


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("CREATE TABLE public.t (a int)", errors.DuplicateTable),
        ("SET ROLE bob", errors.InvalidParameterValue),
        ("SET client_encoding = 'X'", errors.InvalidParameterValue),
        ("ALTER TABLE public.t ADD CONSTRAINT k CHECK (a > 1)", errors.UndefinedTable),
        ("SELECT pg_catalog.lo_open('42', 1)", errors.UndefinedObject),
        ("CREATE SCHEMA app", errors.DuplicateSchema),
        ("ALTER TABLE public.t ALTER COLUMN c SET (n_distinct=x)", errors.InvalidParameterValue),
        ("ALTER TABLE public.t ALTER c SET (pg_attver=1), DROP COLUMN d", errors.InvalidParameterValue),
        ("DROP TABLE public.t", errors.DependentObjectsStillExist),
    ],
)
def test_what_means_a_loss(sql, error):
    assert not harmless(sql.encode(), error())


def test_a_lack_of_this_machine_is_no_fault_of_the_backup():
    told = refused(errors.FeatureNotSupported, message_primary='extension "postgis" is not available')
    assert failure(3, None, b"CREATE EXTENSION postgis", told).kind == "lacking"
    assert failure(3, None, b"CREATE EXTENSION x", errors.UndefinedFile()).kind == "lacking"
    assert failure(3, None, b"CREATE TABLE t ()", errors.DuplicateTable()).kind == "error"


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (refused(errors.UndefinedObject, message_primary='role "a b" does not exist'), ("role", "a b")),
        (
            refused(errors.UndefinedObject, message_primary='tablespace "x" does not exist'),
            ("tablespace", "x"),
        ),
        (
            refused(
                errors.InvalidParameterValue,
                message_primary='invalid value for parameter "default_tablespace": "x"',
            ),
            ("tablespace", "x"),
        ),
        (refused(errors.UndefinedObject, message_primary='type "x" does not exist'), None),
        (refused(errors.SyntaxError, message_primary='role "x" does not exist'), None),
    ],
)
def test_what_a_placeholder_can_stand_for(error, wanted):
    assert lacked(error) == wanted


def test_values_in_messages_are_not_passed_on():
    told = refused(
        errors.UniqueViolation,
        message_primary="duplicate key (cpf)=(SECRET)",
        message_detail="SECRET",
        table_name="people",
        constraint_name="people_key",
    )
    assert explain(told) == "unique violation in table people, constraint people_key (SQLSTATE 23505)"
    assert explain(refused(errors.InvalidTextRepresentation, message_primary="invalid: SECRET")) == (
        "invalid text representation (SQLSTATE 22P02)"
    )


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("CREATE TABLE public.t (a int)", "CREATE TABLE public.t"),
        ("SELECT 'SECRET'::date", "SELECT"),
        ("INSERT INTO t SELECT 'SECRET'", "INSERT INTO t SELECT"),
        ("SET x = $$SECRET$$", "SET x ="),
        ("SECRET", "a statement"),
    ],
)
def test_what_a_statement_is_called_holds_no_literal(sql, wanted):
    assert label(None, sql.encode()) == wanted


def test_the_table_of_contents_names_it_best():
    assert label(Entry("TABLE", "t", "public", None, 1), b"CREATE TABLE public.t ()") == "TABLE public.t"
