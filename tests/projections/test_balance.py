"""The balance is the sum of the balance transactions, at every moment and however it was read before."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.domain.aggregate import State
from ledger.postgres.connections import open_connection
from ledger.queries import balance
from ledger.queries.balance_transactions import list_balance_transactions
from ledger.queries.context import QueryContext
from ledger.store.log import Recorded
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.postings import BALANCE_CHANGES
from tests.projections.histories import ACCOUNT, Author, catch_up, create_generation, open_engine, run_story
from tests.projections.queries import open_queries
from tests.projections.rebuilds import OPERATOR
from tests.projections.test_money import MONEY_COMMANDS, call

steps = st.lists(
    st.tuples(
        st.lists(
            st.tuples(
                st.sampled_from([*MONEY_COMMANDS, "create_charge", "refund_charge"]),
                st.integers(0, 7),
                st.integers(0, 30),
            ),
            max_size=8,
        ),
        st.sampled_from([0.0, 0.4, 1.0, 2.0]),
    ),
    min_size=4,
    max_size=6,
)


async def read_balance(queries: QueryContext) -> dict[str, dict[str, int]]:
    body = (await balance.retrieve(call(), queries)).body
    return {
        part: {each["currency"]: each["amount"] for each in body[part]} for part in ("available", "pending")
    }


async def add_up_transactions(queries: QueryContext) -> dict[str, dict[str, int]]:
    """The sums of all listed balance transactions, by status and currency."""
    sums: dict[str, Counter[str]] = {"available": Counter(), "pending": Counter()}
    cursor: dict[str, Any] = {}
    while True:
        body = (await list_balance_transactions(call(**cursor), queries)).body
        for shown in body["data"]:
            for part, amounts in sums.items():
                amounts[shown["currency"]] += shown["net"] if shown["status"] == part else 0
        if not body["has_more"]:
            return {part: dict(amounts) for part, amounts in sums.items()}
        cursor = {"starting_after": body["data"][-1]["id"]}


@settings(
    max_examples=6,
    derandomize=True,
    phases=[Phase.generate],
)
@given(history=steps)
def test_the_balance_is_the_sum_of_the_transactions_at_every_moment(
    dsn: str, history: list[tuple[list[tuple[str, int, int]], float]]
) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_api", name="test") as conn:
            await author.store.clock.refresh(conn)  # earlier examples have moved it
        async with open_queries(author) as queries:  # one process, which remembers what it read
            for commands, days in history:
                await author.run_command("create_charge", 0, 12)
                for command in commands:
                    await author.run_command(*command)
                await catch_up(dsn)
                for moved in (0.0, days):
                    await author.advance_clock(days=moved)
                    expected = await add_up_transactions(queries)
                    assert await read_balance(queries) == expected
                    async with open_queries(author) as others:  # a process that has read nothing yet
                        assert await read_balance(others) == expected

    run_story(dsn, story)


def test_a_stream_that_is_retried_later_is_in_the_balance(dsn: str) -> None:
    def refusing(stream: str) -> list[Projection]:
        def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
            if after.id == stream:
                raise ValueError("refused by the test")
            return BALANCE_CHANGES.apply(before, recorded, after)

        broken = dataclasses.replace(BALANCE_CHANGES, apply=apply)
        return [broken if each is BALANCE_CHANGES else each for each in PROJECTIONS]

    async def story(author: Author) -> None:
        charges = [await author.create_charge("tok_bypassPending") for _ in range(2)]
        async with open_queries(author) as queries:
            await catch_up(dsn)
            assert (await read_balance(queries))["available"] == {"usd": 2 * 1912}
            remembered = queries.totals.get((ACCOUNT, False))
            assert remembered is not None
            assert (remembered.position, remembered.amounts) == (2, {"usd": 2 * 1912})
            broken = await author.create_charge("tok_bypassPending")
            charges.append(await author.create_charge("tok_bypassPending"))
            await catch_up(dsn, projections=refusing(broken))
            for _ in range(2):
                found = await balance.retrieve(call(), queries)
                assert (found.incomplete, found.body["available"][0]["amount"]) == (True, 3 * 1912)
                assert queries.totals.get((ACCOUNT, False)) is remembered
            async with open_engine(dsn) as repaired:
                assert await repaired.retry("balance_changes", broken, OPERATOR)
            found = await balance.retrieve(call(), queries)
            assert (found.incomplete, found.body["available"][0]["amount"]) == (False, 4 * 1912)

    run_story(dsn, story)


def test_a_balance_read_before_a_switch_is_read_anew_from_the_other_generation(dsn: str) -> None:
    async def story(author: Author) -> None:
        for _ in range(3):
            await author.create_charge("tok_bypassPending")
        async with (
            open_queries(author) as queries,
            open_connection(dsn, "ledger_projector", name="test") as conn,
        ):
            await catch_up(dsn)
            before = await read_balance(queries)
            generation = await create_generation(conn)
            await catch_up(dsn)
            await conn.execute("UPDATE projections.live SET generation = %s", (generation,))
            assert (
                await read_balance(queries) == before == {"available": {"usd": 5736}, "pending": {"usd": 0}}
            )
            await author.create_charge("tok_bypassPending")
            await catch_up(dsn)
            assert (await read_balance(queries))["available"] == {"usd": 4 * 1912}

    run_story(dsn, story)
