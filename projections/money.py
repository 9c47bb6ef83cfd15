"""The money of the log twice: as double entries (`postings`), and as the balance transactions of the wire.

Both come from one rule, `domain.postings`, and from one event each, so they cannot disagree. Rows never
change once they are there. Entries that do not balance are refused by the database under the name
`postings_balance` (README, invariant 9), which parks their stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from ledger.domain import charge, dispute
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.postings import balance_transaction, postings
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Change, Projection, Row

_COPY_POSTINGS = """
COPY projections.postings
    (generation, position, id, account, livemode, created, ordinal, ledger_account, currency, amount,
     transaction, source)
FROM STDIN (FORMAT BINARY)
"""
_POSTING_TYPES = (
    "int4",
    "int8",
    "text",
    "text",
    "bool",
    "int8",
    "int2",
    "text",
    "text",
    "int8",
    "text",
    "text",
)
# At the commit it would be too late to tell which stream is at fault.
_BALANCE = "SET CONSTRAINTS projections.postings_balance IMMEDIATE"

_COPY_TRANSACTIONS = """
COPY projections.balance_transactions
    (generation, position, id, account, livemode, created, type, currency, source, fact)
FROM STDIN (FORMAT BINARY)
"""
_TRANSACTION_TYPES = ("int4", "int8", "text", "text", "bool", "int8", "text", "text", "text", "bytea")


def _postings(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, Charge | Dispute)
    fact = balance_transaction(recorded.event, after)
    if fact is None:
        return
    for ordinal, (ledger_account, currency, amount) in enumerate(postings(recorded.event)):
        yield (
            f"{fact['id']}/{ordinal}",
            after.account,
            after.livemode,
            fact["created"],
            ordinal,
            ledger_account,
            currency,
            amount,
            fact["id"],
            fact["source"],
        )


def _transactions(before: State | None, recorded: Recorded, after: State) -> Iterable[Row]:
    assert isinstance(after, Charge | Dispute)
    fact = balance_transaction(recorded.event, after)
    if fact is not None:
        yield (
            fact["id"],
            after.account,
            after.livemode,
            fact["created"],
            fact["type"],
            fact["currency"],
            fact["source"],
            msgspec.json.encode(fact),
        )


async def _write_postings(
    conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]
) -> None:
    async with conn.cursor() as cur:
        async with cur.copy(_COPY_POSTINGS) as copy:
            copy.set_types(_POSTING_TYPES)
            for position, row in changes:
                await copy.write_row((generation, position, *row))
        await cur.execute(_BALANCE)


async def _write_transactions(
    conn: AsyncConnection[TupleRow], generation: int, changes: Sequence[Change]
) -> None:
    async with conn.cursor() as cur, cur.copy(_COPY_TRANSACTIONS) as copy:
        copy.set_types(_TRANSACTION_TYPES)
        for position, row in changes:
            await copy.write_row((generation, position, *row))


POSTINGS = Projection(name="postings", aggregates=(charge, dispute), apply=_postings, write=_write_postings)
BALANCE_TRANSACTIONS = Projection(
    name="balance_transactions", aggregates=(charge, dispute), apply=_transactions, write=_write_transactions
)
