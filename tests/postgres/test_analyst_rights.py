"""What `ledger_analyst` may do, on a real login of it: read the schema `reporting`, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.config import load_settings
from ledger.postgres.deployment import ANALYST, open_own_database

OWN_SCHEMAS = ("ledger", "projections", "webhooks")
TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'v', 'S') ORDER BY 1, 2"""
UNDOCUMENTED = """
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'reporting'::regnamespace AND c.relkind = 'v' AND a.attnum >= 0
AND col_description(c.oid, a.attnum) IS NULL
UNION ALL SELECT relname, '' FROM pg_class
WHERE relnamespace = 'reporting'::regnamespace AND relkind = 'v'
AND obj_description(oid, 'pg_class') IS NULL"""
ESCALATING_FUNCTIONS = """
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND has_function_privilege(p.oid, 'EXECUTE')"""
CALLABLE_FUNCTIONS = """
SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = ANY (%s)
AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')"""
REFUSED = [
    "CREATE TABLE reporting.other ()",
    "CREATE TABLE public.other ()",
    "CREATE VIEW reporting.other AS SELECT 1",
    "CREATE OR REPLACE FUNCTION reporting.read_state(bytea) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL'",
    "DROP VIEW reporting.accounts",
    "INSERT INTO reporting.accounts (id, name) VALUES ('acct_1', '')",
    "UPDATE reporting.accounts SET name = ''",
    "DELETE FROM reporting.customers",
    "SET ROLE postgres",
    "SET ROLE ledger_api",
    "SET ROLE ledger_projector",
    "CREATE ROLE other",
    "SELECT FROM pg_authid",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
]


@pytest.fixture(scope="module")
def dsn(place: Path) -> Iterator[str]:
    with open_own_database(load_settings(data_dir=place / "analyst")) as (dsn, _):
        yield make_conninfo(dsn, user=ANALYST)


@pytest.fixture
def analyst(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the login that an embedded database has for analysts, which may try to write."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET default_transaction_read_only = off")
        yield conn


def test_all_views_can_be_read_and_each_column_says_what_it_means(analyst: psycopg.Connection[Any]) -> None:
    views = analyst.execute(TABLES, (["reporting"],)).fetchall()
    assert len(views) >= 18
    for view in views:
        analyst.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*view)))
    assert analyst.execute(UNDOCUMENTED).fetchall() == []


def test_every_table_outside_is_refused(analyst: psycopg.Connection[Any]) -> None:
    """Also where a function would reach it: none that it may call runs with the rights of its owner."""
    tables = analyst.execute(TABLES, (list(OWN_SCHEMAS),)).fetchall()
    assert len(tables) > 40
    for table in tables:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(*table)))
    assert analyst.execute(ESCALATING_FUNCTIONS).fetchall() == []
    assert analyst.execute(CALLABLE_FUNCTIONS, (list(OWN_SCHEMAS),)).fetchall() == []


@pytest.mark.parametrize("statement", REFUSED)
def test_nothing_can_be_changed(analyst: psycopg.Connection[Any], statement: str) -> None:
    refusals = (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.ObjectNotInPrerequisiteState,  # a view of several tables
        psycopg.errors.FeatureNotSupported,
    )
    with pytest.raises(refusals):
        analyst.execute(statement.encode())


def test_a_session_begins_read_only_with_limits(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        names = (
            "default_transaction_read_only", "timezone", "statement_timeout",
            "idle_in_transaction_session_timeout",
        )  # fmt: skip
        shown = [conn.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone() for name in names]
    assert shown == [("on",), ("UTC",), ("5min",), ("1min",)]
