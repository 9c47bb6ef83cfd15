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
from ledger.domain.postings import derive_postings, get_balance_transaction
from ledger.store.codec import State
from ledger.store.log import Recorded
from projections.projection import Column, Projection, Row

# At the commit it would be too late to tell which stream is at fault.
_CHECK_CONSTRAINTS = "SET CONSTRAINTS projections.postings_balance IMMEDIATE"
# What fills a new generation is not seen by the constraint.
_VIOLATIONS = """
SELECT 'postings_balance at position ' || position FROM projections.postings
WHERE generation = %(generation)s GROUP BY position, currency HAVING sum(amount) <> 0 LIMIT 1
"""


def _apply_postings(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, (Charge, Dispute))
    transaction = get_balance_transaction(recorded.event, after)
    if transaction is None:
        return ()
    return [
        (
            f"{transaction['id']}/{ordinal}",
            after.account,
            after.livemode,
            transaction["created"],
            ordinal,
            ledger_account,
            currency,
            amount,
            transaction["id"],
            transaction["source"],
        )
        for ordinal, (ledger_account, currency, amount) in enumerate(derive_postings(recorded.event))
    ]


def _apply_balance_transactions(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    assert isinstance(after, (Charge, Dispute))
    transaction = get_balance_transaction(recorded.event, after)
    if transaction is None:
        return ()
    return [
        (
            transaction["id"],
            after.account,
            after.livemode,
            transaction["created"],
            transaction["type"],
            transaction["currency"],
            transaction["source"],
            transaction,
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
    apply=_apply_postings,
    constraint_check_sql=_CHECK_CONSTRAINTS,
    violation_query=_VIOLATIONS,
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
    apply=_apply_balance_transactions,
)
