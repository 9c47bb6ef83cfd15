"""What a process keeps in memory is not what a failover takes back: it would be shown until the process ends,
and every change of the object would be refused."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from ledger.domain.customer import Customer
from ledger.errors import Unavailable
from ledger.store.store import Store
from tests.postgres.standby import ReplicatedServers
from tests.store.stores import create_customer, open_store, rename_customer, wait_until

_CANCEL = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE wait_event = 'SyncRep' AND application_name = 'ledger journal'
"""
_LOSE_CONNECTIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name IN ('ledger streams', 'ledger journal')
"""


def test_what_no_standby_has_is_read_but_not_cached(servers: ReplicatedServers) -> None:
    async def main() -> None:
        dsn = servers.primary.dsn()
        async with open_store(dsn) as store, open_store(dsn) as other:
            await store.journal.append(create_customer("cus_read"))
            state = await other.streams.read("cus_read")
            servers.pause_standby()
            change = asyncio.ensure_future(store.journal.append(rename_customer(state, "Eve")))
            await wait_until(lambda: servers.primary.fetch_value(_CANCEL))
            with pytest.raises(Unavailable):
                await change
            assert await read_customer(other, "cus_read") == ("Eve", 2)
            assert cached_version(other, "cus_read") in (None, 1)
            servers.resume_standby()
            await other.journal.append(create_customer("cus_next"))
            assert await read_customer(other, "cus_read") == ("Eve", 2)
            assert cached_version(other, "cus_read") == 2

    asyncio.run(main())


def test_what_another_server_does_not_have_is_forgotten(dsn: str) -> None:
    """As after a failover that lost the last change: where nothing waits for standbys, it may."""

    async def main() -> None:
        async with open_store(dsn) as store:
            await store.journal.append(create_customer("cus_lost"))
            state = await store.streams.read("cus_lost")
            await store.journal.append(rename_customer(state, "Eve"))
            assert await read_customer(store, "cus_lost") == ("Eve", 2)
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("SET session_replication_role = replica")
                conn.execute("DELETE FROM ledger.events WHERE originator_version = 2")
                conn.execute(_LOSE_CONNECTIONS)
            assert await read_customer(store, "cus_lost") == ("Ada", 1)
            assert cached_version(store, "cus_lost") == 1

    asyncio.run(main())


async def read_customer(store: Store, id: str) -> tuple[str | None, int]:
    state = await store.streams.read(id)
    assert isinstance(state, Customer)
    return state.name, state.version


def cached_version(store: Store, id: str) -> int | None:
    state = store.streams.get_cached(id)
    return None if state is None else state.version
