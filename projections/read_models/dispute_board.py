"""The board of disputes: one row a dispute, as an overview shows it, without its evidence.

Read by status and due date (`ledger/queries/dispute_board.py`). Beside the list `disputes` and not part of
it: that list has none of these columns, and an operator would have to rebuild it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ledger.domain import dispute
from ledger.domain.aggregate import State
from ledger.domain.dispute import NEVER_DUE, Dispute
from ledger.store.log import Recorded
from projections.projection import OBJECT_COLUMNS, Column, Projection, Row


def _make_row(state: Dispute) -> Row:
    return (
        state.id,
        state.account,
        state.livemode,
        state.created,
        state.status,
        state.due_by or NEVER_DUE,
        state.amount,
        state.currency,
        state.reason,
        state.network_reason_code,
        state.case_type,
        state.charge,
        state.customer,
        state.payment_intent,
        state.submission_count,
        bool(state.evidence),
        state.past_due,
    )


def _apply_dispute(before: State | None, recorded: Recorded, after: State) -> Sequence[Row]:
    if not isinstance(after, Dispute):
        return ()
    row = _make_row(after)
    # Most changes are to the text of the evidence, which is not here.
    return () if isinstance(before, Dispute) and _make_row(before) == row else (row,)


DISPUTE_BOARD = Projection(
    name="dispute_board",
    aggregates=(dispute,),
    columns=(
        *OBJECT_COLUMNS,
        Column("status", "text"),
        Column("due_by", "bigint"),
        Column("amount", "bigint"),
        Column("currency", "text"),
        Column("reason", "text"),
        Column("network_reason_code", "text"),
        Column("case_type", "text"),
        Column("charge", "text"),
        Column("customer", "text"),
        Column("payment_intent", "text"),
        Column("submission_count", "integer"),
        Column("has_evidence", "boolean"),
        Column("past_due", "boolean"),
    ),
    apply=_apply_dispute,
    mutable_columns=(
        "status",
        "due_by",
        "amount",
        "case_type",
        "submission_count",
        "has_evidence",
        "past_due",
    ),
)
