"""The barrier: shared by who waits, without effect where nothing waits for standbys, and ended when it takes
too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from ledger.api.composition import build_execution, build_queries
from ledger.call import Call
from ledger.commands.context import DecisionContext
from ledger.commands.execution import CommandResult, Decision, Execution
from ledger.config import load_settings
from ledger.errors import Unavailable
from ledger.postgres.connections import Conn, Pool, connect, fetch_one
from ledger.store import durability
from ledger.store.durability import Durability, run_barrier
from ledger.store.journal import Append
from ledger.store.replies import Reply
from ledger.store.store import Store
from tests.postgres.standby import ReplicatedServers
from tests.store.stores import CAUSE, create_customer, fetch_rows, open_store, wait_until

_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ledger durability'"
_WAITING = f"{_SESSIONS} AND wait_event = 'SyncRep'"


def test_an_append_runs_no_barrier(dsn: str) -> None:
    """On a server without standbys, an append is the one statement that it was."""

    async def main() -> None:
        async with open_store(dsn) as store:
            for number in range(5):
                await store.journal.append(create_customer(f"cus_{number}"))
            assert store.notifier.acknowledged_position == 5
            assert fetch_rows(dsn, _count_sessions(dsn)) == [(0,)]
            await store.durability.confirm()
            assert fetch_rows(dsn, _count_sessions(dsn)) == [(1,)]

    asyncio.run(main())


def test_a_barrier_without_standbys_writes_nothing(dsn: str) -> None:
    async def main() -> None:
        async with await connect(dsn, "ledger_api", name="test") as conn, conn.transaction():
            assert await run_barrier(conn) == 0
            assert await fetch_one(conn, "SELECT pg_current_xact_id_if_assigned()") == (None,)

    asyncio.run(main())


def test_all_who_wait_share_a_barrier_that_begins_after_they_came(servers: ReplicatedServers) -> None:
    async def main() -> None:
        barriers = Durability(servers.primary.dsn(), "ledger_api")
        servers.pause_standby()
        first = asyncio.ensure_future(barriers.confirm())
        await wait_until(lambda: servers.primary.fetch_value(_WAITING) == 1)
        others = [asyncio.ensure_future(barriers.confirm()) for _ in range(10)]
        await asyncio.sleep(0)
        before = _count_transactions(servers)
        servers.resume_standby()
        await asyncio.gather(first, *others)
        assert _count_transactions(servers) == before + 2  # the first barrier, and one for all others
        assert servers.primary.fetch_value(_SESSIONS) == 1
        await barriers.close()

    asyncio.run(main())


def test_a_barrier_that_takes_too_long_leaves_no_session(
    servers: ReplicatedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each of them would occupy a session of the server until the standby is back."""
    monkeypatch.setattr(durability, "BARRIER_SECONDS_MAX", 0.2)

    async def main() -> None:
        barriers = Durability(servers.primary.dsn(), "ledger_api")
        servers.pause_standby()
        for _ in range(3):
            with pytest.raises(Unavailable):
                await barriers.confirm()
        await wait_until(lambda: servers.primary.fetch_value(_WAITING) == 0)
        servers.resume_standby()
        await barriers.confirm()
        await barriers.close()

    asyncio.run(main())


def test_who_ends_with_a_barrier_leaves_no_session(servers: ReplicatedServers) -> None:
    """As a command does that gives up."""

    async def main() -> None:
        barriers = Durability(servers.primary.dsn(), "ledger_api")
        servers.pause_standby()
        confirming = asyncio.ensure_future(barriers.confirm())
        await wait_until(lambda: servers.primary.fetch_value(_WAITING) == 1)
        confirming.cancel()
        await barriers.close()
        await wait_until(lambda: servers.primary.fetch_value(_WAITING) == 0)

    asyncio.run(main())


def test_a_follower_goes_on_with_what_is_known(
    servers: ReplicatedServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "FOLLOWER_SECONDS_MAX", 0.2)

    async def main() -> None:
        dsn = servers.primary.dsn()
        async with open_store(dsn) as store:
            known = await store.journal.append(create_customer("cus_followed"))
            servers.pause_standby()
            assert await store.durability.limit(known, waits_for_standbys=True) == known
            assert await store.durability.limit(known + 1, waits_for_standbys=True) == known
            servers.resume_standby()
            assert await store.durability.limit(known + 1, waits_for_standbys=False) == known + 1

    asyncio.run(main())


def _count_sessions(dsn: str) -> str:
    return f"{_SESSIONS} AND datname = '{psycopg.conninfo.conninfo_to_dict(dsn)['dbname']}'"


def _count_transactions(servers: ReplicatedServers) -> int:
    """Transactions that wrote something, and have ended."""
    return int(str(servers.primary.fetch_value("SELECT pg_snapshot_xmax(pg_current_snapshot())")))


@pytest.mark.parametrize("key", [None, "key"])
def test_what_was_decided_on_a_lost_primary_is_decided_again(dsn: str, key: str | None) -> None:
    """There may be nothing to change because of what a failover has taken back meanwhile."""
    runs = 0

    async def main() -> CommandResult:
        async with open_execution(dsn) as (store, execution, _):

            async def decide(call: Call, context: DecisionContext, now: int) -> Decision:
                nonlocal runs
                runs += 1
                if runs == 1:
                    store.durability.failovers += 1
                    if key is not None:  # another request under the same key was faster
                        reply = Reply("", 200, "by another request")
                        await store.journal.append(Append(call.cause, (), reply, {}))
                return Decision([], {"run": runs})

            return await execution.run(
                Call(CAUSE._replace(idempotency_key=key), "", {}), decide, fingerprint=""
            )

    result = asyncio.run(main())
    assert result.body == ("by another request" if key else '{"run":2}')
    assert runs == (1 if key else 2)


def test_a_change_over_a_failover_is_made_once_and_answered(dsn: str) -> None:
    """Its answer may have a secret that no repetition gets."""
    runs = 0

    async def main() -> CommandResult:
        async with open_execution(dsn) as (store, execution, pool):

            async def change(conn: Conn) -> dict[str, Any]:
                nonlocal runs
                runs += 1
                store.durability.failovers += 1
                return {"secret": runs}

            return await execution.change_once(
                pool,
                CAUSE._replace(idempotency_key="key"),
                change,
                fingerprint="",
                replay_answer=lambda answer: {"secret": None},
            )

    assert asyncio.run(main()).body == '{"secret":1}'
    assert runs == 1


@asynccontextmanager
async def open_execution(dsn: str) -> AsyncIterator[tuple[Store, Execution, Pool]]:
    settings = load_settings()
    async with open_store(dsn) as store, Pool(dsn) as pool:
        yield store, build_execution(store, build_queries(store, pool, settings), settings), pool
