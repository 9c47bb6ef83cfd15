"""The money of the log twice: as double entries (`postings`), and as the balance transactions of the wire.

Both come from one rule, `domain.postings`, and from one event each, so they cannot disagree. Rows never
change once they are there. Entries that do not balance are refused by the database under the name
`postings_balance` (README, invariant 9), which parks their stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import charge, dispute
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.postings import balance_transaction, postings
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Column, Projection, Row

# At the commit it would be too late to tell which stream is at fault.
_CHECKED = "SET CONSTRAINTS projections.postings_balance IMMEDIATE"
# What fills a new generation is not seen by the constraint.
_BROKEN = """
SELECT 'postings_balance at position ' || position FROM projections.postings
WHERE generation = %(generation)s GROUP BY position, currency HAVING sum(amount) <> 0 LIMIT 1
"""


def _postings(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, (Charge, Dispute))
    fact = balance_transaction(recorded.event, after)
    if fact is None:
        return ()
    return [
        (
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
        for ordinal, (ledger_account, currency, amount) in enumerate(postings(recorded.event))
    ]


def _transactions(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, (Charge, Dispute))
    fact = balance_transaction(recorded.event, after)
    if fact is None:
        return ()
    return [
        (
            fact["id"],
            after.account,
            after.livemode,
            fact["created"],
            fact["type"],
            fact["currency"],
            fact["source"],
            fact,
        )
    ]


POSTINGS = Projection(
    name="postings",
    aggregates=(charge, dispute),
    columns=(
        Column("id", "text"),
        Column("account", "text"),
        Column("livemode", "boolean"),
        Column("created", "bigint"),
        Column("ordinal", "smallint"),
        Column("ledger_account", "text"),
        Column("currency", "text"),
        Column("amount", "bigint"),
        Column("transaction", "text"),
        Column("source", "text"),
    ),
    apply=_postings,
    checked=_CHECKED,
    broken=_BROKEN,
)
BALANCE_TRANSACTIONS = Projection(
    name="balance_transactions",
    aggregates=(charge, dispute),
    columns=(
        Column("id", "text"),
        Column("account", "text"),
        Column("livemode", "boolean"),
        Column("created", "bigint"),
        Column("type", "text"),
        Column("currency", "text"),
        Column("source", "text"),
        Column("fact", "json"),
    ),
    apply=_transactions,
)
