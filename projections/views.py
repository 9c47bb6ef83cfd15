"""The list views: customers, charges, disputes and refunds, a row an object.

`state` is the folded aggregate as JSON, as of the last recorded event applied; a list is rendered from it
by the functions that render one object. The columns beside it are what lists filter and order by. A
deleted customer keeps its row: a cursor may name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.domain import charge, customer, dispute, refund
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.dispute import Dispute
from ledger.domain.refund import Refund
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Change, Projection, Row

# What never changes is not updated: `position` stays that of the creation.
_WRITE_CUSTOMERS = """
INSERT INTO projections.customers
    (generation, position, id, account, livemode, created, deleted, email, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::boolean[], %b::text[], %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE
SET deleted = excluded.deleted, email = excluded.email, state = excluded.state
"""

_WRITE_CHARGES = """
INSERT INTO projections.charges
    (generation, position, id, account, livemode, created, customer, payment_intent, transfer_group, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::text[], %b::text[], %b::text[],
    %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE
SET customer = excluded.customer, payment_intent = excluded.payment_intent,
    transfer_group = excluded.transfer_group, state = excluded.state
"""

_WRITE_DISPUTES = """
INSERT INTO projections.disputes
    (generation, position, id, account, livemode, created, charge, payment_intent, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::text[], %b::text[], %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE
SET payment_intent = excluded.payment_intent, state = excluded.state
"""

_WRITE_REFUNDS = """
INSERT INTO projections.refunds
    (generation, position, id, account, livemode, created, charge, payment_intent, state)
SELECT %b::integer, * FROM unnest(
    %b::bigint[], %b::text[], %b::text[], %b::boolean[], %b::bigint[], %b::text[], %b::text[], %b::bytea[])
ON CONFLICT (generation, id) DO UPDATE SET state = excluded.state
"""


def _customer(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, Customer)
    yield after.id, after.account, after.livemode, after.created, after.deleted, after.email, after


def _charge(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, Charge)
    yield (
        after.id,
        after.account,
        after.livemode,
        after.created,
        after.customer,
        after.payment_intent,
        after.transfer_group,
        after,
    )


def _dispute(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, Dispute)
    yield after.id, after.account, after.livemode, after.created, after.charge, after.payment_intent, after


def _refund(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, Refund)
    yield after.id, after.account, after.livemode, after.created, after.charge, after.payment_intent, after


def _columns(changes: Sequence[Change]) -> list[list[Any]]:
    """Position and columns, the aggregate encoded: here, so of many changes in a batch only the last is."""
    positions, rows = zip(*changes, strict=True)
    *columns, states = zip(*rows, strict=True)
    encode = msgspec.json.encode
    return [list(positions), *map(list, columns), [encode(state) for state in states]]


async def _write_customers(
    conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]
) -> None:
    await conn.execute(_WRITE_CUSTOMERS, [generation, *_columns(changes)])


async def _write_charges(conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]) -> None:
    await conn.execute(_WRITE_CHARGES, [generation, *_columns(changes)])


async def _write_disputes(
    conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]
) -> None:
    await conn.execute(_WRITE_DISPUTES, [generation, *_columns(changes)])


async def _write_refunds(conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]) -> None:
    await conn.execute(_WRITE_REFUNDS, [generation, *_columns(changes)])


CUSTOMERS = Projection(name="customers", aggregates=(customer,), apply=_customer, write=_write_customers)
CHARGES = Projection(name="charges", aggregates=(charge,), apply=_charge, write=_write_charges)
DISPUTES = Projection(name="disputes", aggregates=(dispute,), apply=_dispute, write=_write_disputes)
REFUNDS = Projection(name="refunds", aggregates=(refund,), apply=_refund, write=_write_refunds)
