"""A page reads the objects that it expands level by level: one statement a level, however many items it has
(contract §1.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from ledger.call import Call, Cause
from ledger.domain import refund_decisions
from ledger.domain.charge import Charge
from ledger.objects import READS_AT_ONCE_MAX, run_together, share_reads
from ledger.postgres.statements import StatementPool
from ledger.queries.balance_transactions import list_balance_transactions
from ledger.queries.charges import list_charges
from ledger.queries.context import QueryContext
from ledger.queries.customers import list_customers
from ledger.queries.disputes import list_disputes
from ledger.queries.pages import QueryResult
from ledger.queries.payment_intents import list_payment_intents
from ledger.queries.payment_methods import list_payment_methods
from ledger.queries.refunds import list_refunds
from ledger.wire.expansion import parse_expand
from tests.projections.histories import ACCOUNT, Author, catch_up, run_story
from tests.projections.queries import open_queries
from tests.work import record_runs

ITEMS = 8
List = Callable[[Call, QueryContext], Awaitable[QueryResult]]
CASES: dict[str, tuple[List, str, list[str], int]] = {
    "one level": (list_balance_transactions, "balance_transaction", ["source"], 1),
    "two levels": (list_balance_transactions, "balance_transaction", ["source.customer.sources"], 2),
    "an object shown twice": (
        list_balance_transactions,
        "balance_transaction",
        ["source.customer", "source.payment_method.customer"],
        2,
    ),
    "several members": (list_charges, "charge", ["customer", "balance_transaction.source"], 1),
    "a list in each item": (list_charges, "charge", ["refunds.data.charge"], 2),
    "what a member needs": (list_refunds, "refund", ["payment_method", "charge"], 2),
    "three levels": (list_disputes, "dispute", ["charge.customer.default_source.customer"], 2),
    "of payment intents": (list_payment_intents, "payment_intent", ["latest_charge", "customer"], 1),
    "beside a secret": (list_payment_intents, "payment_intent", ["latest_charge.customer"], 2),
    "what the page has": (list_payment_methods, "payment_method", ["customer.subscriptions"], 0),
    "nothing to read": (list_customers, "customer", ["sources", "tax"], 0),
}
"""The list, the type of its items, what is expanded, and the levels of reads beyond the page itself."""


async def write_payments(author: Author) -> None:
    """Customers with a card, each with a charge that is refunded in part and then disputed, and with a paid
    payment intent."""
    for number in range(ITEMS):
        customer = await author.create_customer(name=f"Jenny {number}", source="tok_visa")
        charge_id = await author.create_charge(customer=customer)
        charge = author.states[charge_id]
        assert isinstance(charge, Charge)
        await author.append(
            refund_decisions.create(
                charge,
                {"amount": 100},
                disputes=[],
                refund_id=author._id("re"),
                txn_id=author._id("txn"),
                now=author.now,
            )
        )
        await author.open_dispute(charge_id, amount=500)
        await author.pay_intent(customer)
    await catch_up(author.dsn)


async def count_statements(list_page: List, queries: QueryContext, expand: Any, limit: int) -> int:
    """How many statements a page of `limit` items takes."""
    call = Call(Cause(ACCOUNT, False, "key_test", "req_test", None), "", {"limit": limit}, expand)
    with record_runs(psycopg.AsyncCursor.execute, StatementPool.fetch) as statements:
        answer = await list_page(call, queries)
    assert len(answer.body["data"]) == limit
    return len(statements)


def test_each_level_of_a_page_is_read_by_one_statement(dsn: str) -> None:
    async def story(author: Author) -> None:
        await write_payments(author)
        async with open_queries(author) as queries:
            for name, (list_page, object_type, paths, levels) in CASES.items():
                tree = parse_expand(paths, object_type, in_list=False)
                await count_statements(list_page, queries, {}, ITEMS)  # loads the keys of the page
                plain = await count_statements(list_page, queries, {}, ITEMS)
                assert plain == (2 if list_page is list_payment_methods else 1), name
                for limit in (2, ITEMS):
                    expanded = await count_statements(list_page, queries, tree, limit)
                    assert expanded == plain + levels, (name, limit)

    run_story(dsn, story)


@pytest.mark.parametrize("failing", [False, True])
def test_reads_are_shared_and_bounded(dsn: str, failing: bool) -> None:
    """One read of each object, and never so many at a time that others find the queue full."""

    async def story(author: Author) -> None:
        reads: list[str] = []
        under_way = most = 0

        async def fetch(stream: str) -> None:
            nonlocal under_way, most
            reads.append(stream)
            under_way += 1
            most = max(most, under_way)
            await author.store.streams.read(stream)
            under_way -= 1
            if failing:
                raise LookupError(stream)

        shared = share_reads(fetch)
        streams = [f"cus_{number}" for number in range(3 * READS_AT_ONCE_MAX)]
        try:
            await run_together([shared(stream) for stream in streams * 2])
            assert not failing
        except LookupError:
            assert failing
        assert most <= READS_AT_ONCE_MAX
        if not failing:
            assert sorted(reads) == sorted(streams)

    run_story(dsn, story)
