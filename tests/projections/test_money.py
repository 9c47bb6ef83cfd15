"""README, invariant 9: money balances, at every position and in every currency."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.call import Call, Cause
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute, DisputeWon
from ledger.domain.money import DAY_SECONDS, Movement
from ledger.domain.postings import MERCHANT_BALANCE, Posting, derive_postings
from ledger.domain.refund import Refund
from ledger.errors import UnknownObject
from ledger.postgres.connections import Conn, Pool, open_connection
from ledger.queries.balance_transactions import list_balance_transactions, retrieve
from ledger.store import log
from ledger.store.log import Recorded
from ledger.wire.aggregates import EVENT_CLASSES
from ledger.wire.balance_transactions import render_balance_transaction
from ledger.wire.disputes import render_dispute
from projections.engine.registration import register_missing
from projections.engine.status import load_statuses
from projections.projection import Projection, Row
from projections.read_models.catalog import PROJECTIONS
from projections.read_models.postings import BALANCE_TRANSACTIONS, POSTINGS
from tests.projections.histories import ACCOUNT, Author, catch_up, load_rows, run_story
from tests.projections.queries import open_queries

MONEY_COMMANDS = sorted(
    {"create_charge", "capture_charge", "refund_charge", "update_charge", "open_dispute", "respond"}
    | {"close_dispute", "report_fact"}
)
histories = st.lists(
    st.tuples(
        st.sampled_from([*MONEY_COMMANDS, "create_charge", "refund_charge"]),
        st.integers(0, 7),
        st.integers(0, 30),
    ),
    min_size=15,
    max_size=45,
)
# The sum of all postings up to each position, by account and currency: debits and credits are equal.
TRIAL_BALANCES = """
SELECT position, currency, sum(sum(amount)) OVER (PARTITION BY account, livemode, currency ORDER BY position)
FROM projections.postings GROUP BY account, livemode, currency, position
"""
BALANCES = """
SELECT currency, -sum(amount) FROM projections.postings WHERE ledger_account = %s GROUP BY currency
"""


def call(target: str = "", **parameters: Any) -> Call:
    return Call(Cause(ACCOUNT, False, "key_test", "req_test", None), target, {"limit": 100, **parameters})


def list_inline_transactions(states: Iterable[State], now: int) -> Iterator[dict[str, Any]]:
    """Every balance transaction, as its object shows it."""
    for state in states:
        match state:
            case Charge() | Refund() if state.balance_transaction is not None:
                yield render_balance_transaction(state.balance_transaction, now)
            case Dispute():
                yield from render_dispute(state, now)["balance_transactions"]


@settings(
    max_examples=8,
    derandomize=True,
    phases=[Phase.generate],  # shrinking against a log that only grows takes minutes
)
@given(history=histories)
def test_any_history_balances_at_every_position_and_shows_each_transaction_alike_everywhere(
    dsn: str, history: list[tuple[str, int, int]]
) -> None:
    async def story(author: Author) -> None:
        for subject in range(4):
            await author.run_command("create_charge", subject, 12)  # paid, in each currency
        for command in history:
            await author.run_command(*command)
        await catch_up(dsn)
        encode = msgspec.json.encode
        async with open_queries(author) as queries:
            listed: list[dict[str, Any]] = []
            more, after = True, dict[str, str]()
            while more:
                body = (await list_balance_transactions(call(**after), queries)).body
                listed += body["data"]
                more, after = body["has_more"], {"starting_after": listed[-1]["id"]}
            by_id = {shown["id"]: encode(shown) for shown in listed}
            # The log only grows from example to example; the author knows this one's objects.
            for shown in list_inline_transactions(author.states.values(), author.now):
                retrieved = (await retrieve(call(shown["id"]), queries)).body
                assert encode(shown) == encode(retrieved) == by_id[shown["id"]]

        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            trial = await (await conn.execute(TRIAL_BALANCES)).fetchall()
            assert {currency for _, currency, _ in trial} == {"usd", "eur", "jpy", "bhd"}
            assert all(total == 0 for _, _, total in trial)
            nets: dict[str, int] = {}
            for shown in listed:
                nets[shown["currency"]] = nets.get(shown["currency"], 0) + shown["net"]
            assert dict(await (await conn.execute(BALANCES, (MERCHANT_BALANCE,))).fetchall()) == nets
            assert not any(status.parked for status in await load_statuses(conn, now=author.now))

    run_story(dsn, story)


async def insert_postings(conn: Conn, entries: Iterable[tuple[str, int]]) -> str | None:
    """The constraint that refuses these amounts as postings of position 1, at the commit; else None."""
    statement = (
        "INSERT INTO projections.postings (generation, id, account, livemode, created, position, ordinal,"
        " ledger_account, currency, amount, transaction, source)"
        " VALUES (1, %(n)s::text, 'acct_1', false, 0, 1, %(n)s, 'network', %(c)s, %(a)s, 'txn_1', 'ch_1')"
    )
    try:
        async with conn.transaction():
            for n, (currency, amount) in enumerate(entries):
                await conn.execute(statement, {"n": n, "c": currency, "a": amount})
    except psycopg.errors.IntegrityError as error:
        return error.diag.constraint_name
    return None


def test_the_database_refuses_postings_that_do_not_balance_in_each_currency(dsn: str) -> None:
    async def story(author: Author) -> None:
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            await register_missing(conn, PROJECTIONS)
            for entries in (
                [("usd", 100)],
                [("usd", 100), ("usd", -99)],
                [("usd", 100), ("eur", -100)],
                [("usd", 100), ("usd", -100), ("eur", 1)],
            ):
                assert await insert_postings(conn, entries) == "postings_balance"
            assert await insert_postings(conn, [("usd", 0)]) == "postings_amount_not_zero"
            balanced = [("usd", 100), ("usd", -60), ("usd", -40), ("jpy", 7), ("jpy", -7)]
            assert await insert_postings(conn, balanced) is None
            with pytest.raises(psycopg.errors.CheckViolation, match="position 1 do not balance in usd"):
                await conn.execute("DELETE FROM projections.postings WHERE ordinal = 0")
            with pytest.raises(psycopg.errors.RestrictViolation):
                await conn.execute("UPDATE projections.postings SET amount = amount")
            assert len((await load_rows(conn, 1))["postings"]) == 5

    run_story(dsn, story)


def test_entries_that_do_not_balance_park_their_stream_and_no_other(dsn: str) -> None:
    def losing_a_cent_of(stream: str) -> list[Projection]:
        def apply(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
            rows = POSTINGS.apply(before, recorded, after)
            return [row if after.id != stream or row[4] else (*row[:7], row[7] - 1, *row[8:]) for row in rows]

        broken = dataclasses.replace(POSTINGS, apply=apply)
        return [broken if each is POSTINGS else each for each in PROJECTIONS]

    async def story(author: Author) -> None:
        charges = [await author.create_charge() for _ in range(5)]
        await catch_up(dsn, projections=losing_a_cent_of(charges[2]))
        async with open_connection(dsn, "ledger_projector", name="test") as conn:
            found = await load_statuses(conn, now=0.0)
            (parking,) = [parked for status in found for parked in status.parked]
            assert (parking.stream, parking.position) == (charges[2], 3)
            assert "postings_balance" in parking.error
            sources = {row["source"] for row in (await load_rows(conn, 1))["postings"]}
            assert sources == {*charges} - {charges[2]}
            assert len((await load_rows(conn, 1))["balance_transactions"]) == 5

    run_story(dsn, story)


def test_a_transaction_is_retrieved_while_no_projection_runs(dsn: str) -> None:
    async def story(author: Author) -> None:
        charge = await author.create_charge(description="as it was")
        await author.run_command("refund_charge", 0, 0)
        await author.run_command("update_charge", 0, 0)  # another description
        refund = next(state for state in author.states.values() if isinstance(state, Refund))
        async with open_queries(author) as queries:
            for shown in list_inline_transactions(author.states.values(), author.now):
                assert (await retrieve(call(shown["id"]), queries)).body == shown
            found = (await retrieve(call(refund.balance_transaction["id"]), queries)).body
            assert (found["source"], found["description"]) == (refund.id, "REFUND FOR CHARGE (as it was)")
            for unknown in (charge, refund.id, "txn_x", "movement"):
                with pytest.raises(UnknownObject):
                    await retrieve(call(unknown), queries)

    run_story(dsn, story)


def test_a_transaction_is_available_by_the_clock_wherever_it_is_shown(dsn: str) -> None:
    async def story(author: Author) -> None:
        charge = await author.create_charge()
        state = author.states[charge]
        assert isinstance(state, Charge)
        assert state.balance_transaction is not None
        transaction, available_on = state.balance_transaction["id"], state.balance_transaction["available_on"]
        assert available_on == (author.now // DAY_SECONDS + 2) * DAY_SECONDS
        await catch_up(dsn)
        async with open_queries(author) as queries:
            for days, status in ((0.0, "pending"), (2.0, "available")):
                await author.advance_clock(days=days)
                (listed,) = (await list_balance_transactions(call(), queries)).body["data"]
                assert listed == (await retrieve(call(transaction), queries)).body
                assert (listed["status"], listed["available_on"]) == (status, available_on)

    run_story(dsn, story)


def test_the_log_finds_a_transaction_by_its_index(dsn: str) -> None:
    async def story(author: Author) -> None:
        await author.create_charge()
        async with Pool(dsn) as pool, pool.connection() as conn:
            cur = await conn.execute(f"EXPLAIN {log._HISTORY_OF_TRANSACTION}".encode(), {"id": "txn_x"})
            plan = "\n".join(row[0] for row in await cur.fetchall())
        assert "events_movement" in plan
        assert "events_stream_version" in plan
        assert "Seq Scan" not in plan

    run_story(dsn, story)


def test_every_event_that_moves_money_is_in_both_projections() -> None:
    moving = {
        event_class
        for event_class in EVENT_CLASSES
        if any(field.name == "movement" for field in dataclasses.fields(event_class))
    }
    assert len(moving) >= 6
    assert moving <= POSTINGS.event_classes
    assert moving <= BALANCE_TRANSACTIONS.event_classes


@pytest.mark.parametrize(
    ("amount", "fee"), [(2000, 88), (-2000, 0), (-2000, 1500), (2000, 0), (2000, -1500), (0, 0)]
)
def test_the_merchant_gets_the_net_and_the_network_owes_the_amount(amount: int, fee: int) -> None:
    moved = Movement(id="txn_1", amount=amount, fee=fee, currency="usd", created=0, available_on=0)
    entries = derive_postings(
        DisputeWon(originator_id="du_1", originator_version=2, at=0, movement=moved, reference=None)
    )
    assert sum(entry.amount for entry in entries) == 0
    assert all(isinstance(entry, Posting) and entry.amount for entry in entries)
    by_account = {entry.account: entry.amount for entry in entries}
    assert by_account.get("network", 0) == amount
    assert -by_account.get(MERCHANT_BALANCE, 0) == amount - fee
    assert -by_account.get("dispute_fees", 0) == fee
