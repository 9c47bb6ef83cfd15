"""The log is append-only: neither its owner nor the service's roles may rewrite it."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.store.stores import create_customer, open_store, read_positions

REWRITES = [
    "UPDATE ledger.events SET topic = 'forged'",
    "UPDATE ledger.events SET topic = 'forged' WHERE false",
    "DELETE FROM ledger.events",
    "TRUNCATE ledger.events",
]


def append_one(dsn: str) -> None:
    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_1"))

    asyncio.run(main())


@pytest.mark.parametrize("statement", REWRITES)
def test_the_owner_of_the_log_cannot_rewrite_it(dsn: str, statement: str) -> None:
    append_one(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn, pytest.raises(psycopg.errors.RestrictViolation):
        conn.execute(statement.encode())
    assert read_positions(dsn) == [(1, "cus_1", 1)]


@pytest.mark.parametrize("role", ["ledger_api", "ledger_projector"])
@pytest.mark.parametrize("statement", [*REWRITES, "ALTER TABLE ledger.events DISABLE TRIGGER ALL"])
def test_the_services_roles_may_not_rewrite_the_log(dsn: str, role: str, statement: str) -> None:
    append_one(dsn)
    acting = psycopg.connect(dsn, options=f"-c role={role}", autocommit=True)
    with acting as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.encode())
    assert read_positions(dsn) == [(1, "cus_1", 1)]


def test_the_projector_may_not_append(dsn: str) -> None:
    with psycopg.connect(dsn, options="-c role=ledger_projector", autocommit=True) as conn:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(b"SELECT ledger.append(gen_random_uuid(), 1, 0, '[]', NULL, NULL)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(b"UPDATE ledger.head SET position = 0")
