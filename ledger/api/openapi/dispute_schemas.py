"""Answers of the board of disputes (internal API §9)."""

from __future__ import annotations

from ledger.domain.dispute_decisions import REASONS
from ledger.domain.dispute_states import STATUSES
from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema, make_list_fields
from ledger.wire.schemas.fields import (
    Fields,
    amount,
    array,
    boolean,
    choice,
    component,
    constant,
    currency,
    document,
    hash_of,
    integer,
    livemode,
    nullable_text,
    text,
    unix_time,
)

_OVERVIEW: Fields = {
    "id": text("Id of the dispute.", "du_1MtJUT2eZvKYlo2CNaw2HvEv"),
    "object": constant("dispute_overview"),
    "account": text("Its account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "amount": amount("The disputed amount."),
    "case_type": choice("What kind of case.", ("chargeback", "inquiry", "compliance", "block")),
    "charge": text("The disputed charge.", "ch_1MtJUT2eZvKYlo2CNaw2HvEv"),
    "created": unix_time("When the network opened it."),
    "currency": currency(),
    "customer": nullable_text("The charge's customer when it was opened.", "cus_NffrFeUfNV2Hib"),
    "due_by": unix_time("By when evidence must be submitted; null if none can be.", 1795691199).or_null(),
    "has_evidence": boolean("Whether any evidence is staged or submitted."),
    "livemode": livemode(),
    "network_reason_code": nullable_text("The network's code of the reason.", "10.4"),
    "past_due": boolean("Whether the last submission came after `due_by`."),
    "payment_intent": nullable_text("The payment intent of the charge."),
    "reason": choice("Its category.", REASONS, "fraudulent"),
    "status": choice("How it stands.", STATUSES, "needs_response"),
    "submission_count": integer("How often evidence was submitted."),
}
_OF_STATUS: Fields = {
    "status": choice("The status.", STATUSES, "needs_response"),
    "amounts": document(
        "Disputed minor units by currency; null if not all are counted.", {"usd": 2000}
    ).or_null(),
    "count": integer("How many disputes have it, counted up to `count_max`.", 1),
    "due_within_24_hours": integer("How many of them are due in the next 24 hours.").or_null(),
    "due_within_72_hours": integer("How many in the next 72 hours, the former included.").or_null(),
    "has_more": boolean("Whether there are more than were counted."),
    "past_due": integer(
        "How many were due before now. Null, as all due dates, where no response is awaited."
    ).or_null(),
}
_SUMMARY: Fields = {
    "object": constant("dispute_summary"),
    "at": unix_time("The time by which is said what is due."),
    "count_max": integer("Up to how many disputes of a status are counted.", 2_000),
    "statuses": array("Each status, in the order of a dispute's life.", hash_of("A status.", _OF_STATUS)),
}


def build_dispute_schemas() -> dict[str, Json]:
    """The schemas by name."""
    page = make_list_fields(component("A dispute.", "dispute_overview"))
    return {
        "dispute_overview": build_schema("A dispute as an overview shows it.", _OVERVIEW),
        "dispute_overview_list": build_schema("A page of disputes.", page),
        "dispute_summary": build_schema("How many disputes have each status.", _SUMMARY),
    }
