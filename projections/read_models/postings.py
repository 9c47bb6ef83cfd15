"""The money of the log in three projections: double entries (`postings`), public balance transactions, and
what each of these changes in the balance.

All come from one rule, `domain.postings`, and each row from one event, so they cannot disagree. Rows never
change. The database refuses entries that do not balance by the constraint `postings_balance` (README,
invariant 9), which parks their stream.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import charge, dispute
from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.dispute import Dispute
from ledger.domain.postings import derive_postings, get_balance_transaction
from ledger.store.log import Recorded
from projections.projection import OBJECT_COLUMNS, Column, Projection, Row

# Checked with each write: at the commit it would be unknown which stream is at fault.
_CHECK_CONSTRAINTS = "SET CONSTRAINTS projections.postings_balance IMMEDIATE"
# The constraint does not see the rows that a rebuild copies into a detached table.
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


def _apply_balance_changes(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
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
            transaction["currency"],
            # What `merchant_balance` was credited with: that account is a debt of the ledger.
            transaction["amount"] - transaction["fee"],
            transaction["available_on"],
        )
    ]


POSTINGS = Projection(
    name="postings",
    aggregates=(charge, dispute),
    columns=(
        *OBJECT_COLUMNS,
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
        *OBJECT_COLUMNS,
        Column("type", "text"),
        Column("currency", "text"),
        Column("source", "text"),
        Column("fact", "json", compressed=True, sealed=True),
    ),
    apply=_apply_balance_transactions,
)
BALANCE_CHANGES = Projection(
    name="balance_changes",
    aggregates=(charge, dispute),
    columns=(
        *OBJECT_COLUMNS,
        Column("currency", "text"),
        Column("net", "bigint"),
        Column("available_on", "bigint"),
    ),
    apply=_apply_balance_changes,
)
