"""Answers of the routes that send again all deliveries that match (internal API §4)."""

from __future__ import annotations

from typing import get_args

from ledger.api.openapi.webhook_schemas import make_page
from ledger.webhooks.replays.progress import ReplayState
from ledger.webhooks.retries.filters import RETRIED_STATES
from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema
from ledger.wire.schemas.fields import (
    Fields,
    array,
    boolean,
    choice,
    constant,
    document,
    hash_of,
    integer,
    livemode,
    make_reference,
    nullable_text,
    number,
    text,
    unix_time,
)

_ENDPOINT = "we_1Mr5jULkdIwHu7ix1ibLTM0x"
_CREATED: Fields = {
    "gt": unix_time("After this time.").or_missing(),
    "gte": unix_time("At this time or later.").or_missing(),
    "lt": unix_time("Before this time.").or_missing(),
    "lte": unix_time("At this time or earlier.").or_missing(),
}
_FILTERS: Fields = {
    "endpoint": nullable_text("Only deliveries to this endpoint; null: to all of the account."),
    "event": nullable_text("Only deliveries of this Event."),
    "state": array("In these states.", choice("A state.", RETRIED_STATES)),
    "types": array("Of these types, as they were asked for; none: all.", text("A type.", "charge.*")),
    "created": hash_of("Made at these times.", _CREATED),
    "status": integer("Last attempt answered with this HTTP status; null: any.", 503).or_null(),
    "error": nullable_text("Last attempt without an answer for this reason; null: any."),
}
_LEFT_OUT = document(
    "How many are not made due, by why: `endpoint_disabled`, `endpoint_deleted`, `in_other_job` (a replay or "
    "retry that has not ended), `attempts_exhausted` (attempted as often as one may be).",
    {"endpoint_disabled": 3},
)
_PART: Fields = {
    "endpoint": text("The endpoint.", _ENDPOINT),
    "matched": integer("Deliveries to it that match; null until they are counted.", 500).or_null(),
    "made_due": integer("How many of them became due so far.", 120),
    "left_out": _LEFT_OUT,
    "waits_for": array("Codes of why it does not go on.", text("A code.", "endpoint_unreadable")),
}
_RETRY: Fields = {
    "id": text("Id of the retry.", "wrt_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("webhook_retry"),
    "account": text("The account of the endpoints.", "acct_1Nv0FGQ9RKHgCVdK"),
    "livemode": livemode(),
    "filters": hash_of("Which deliveries it takes.", _FILTERS),
    "created": unix_time("When it was started.", 1795003600),
    "created_by": text("Who started it: id of a key, or user@host of a shell.", "key_0352CZ3z1jWpJM7B8upbma"),
    "reason": text("Why it was started.", "the receiver is back"),
    "state": choice("How it stands.", get_args(ReplayState), "running"),
    "waits_for": array("Codes of why a running one does not go on.", text("A code.", "paused")),
    "ended": unix_time("When it ended.").or_null(),
    "matched": integer("Deliveries that match; null until they are counted.", 500).or_null(),
    "made_due": integer("How many became due so far.", 120),
    "left_out": _LEFT_OUT,
    "pending": integer("How many of those made due are to be sent."),
    "delivered": integer("How many were accepted.", 120),
    "failed": integer("How many were given up again."),
    "dropped": integer("How many are owed no more."),
    "returned": integer("How many got their former state back, because it was cancelled."),
    "rate": number("Deliveries a second that were settled while it ran.").or_null(),
    "eta_seconds": integer("In how many seconds it ends at its rate so far.").or_null(),
    "endpoints": array("By endpoint.", hash_of("One endpoint.", _PART)),
}
_PREVIEW_PART: Fields = {
    "endpoint": text("The endpoint.", _ENDPOINT),
    "by_state": document("How many match, by state.", {"failed": 500}),
    "due": integer("How many would become due.", 500),
    "left_out": _LEFT_OUT,
}
_PREVIEW: Fields = {
    "object": constant("webhook_retry_preview"),
    "dry_run": boolean("Always true: nothing was changed.", True),
    "account": text("The account of the endpoints.", "acct_1Nv0FGQ9RKHgCVdK"),
    "livemode": livemode(),
    "filters": hash_of("Which deliveries it would take.", _FILTERS),
    "due": integer("How many would become due.", 500),
    "matched": integer("How many match, those left out included.", 500),
    "is_complete": boolean("Whether all were counted: false when the first 50,000 were looked at.", True),
    "endpoints": array("By endpoint.", hash_of("One endpoint.", _PREVIEW_PART)),
}


def build_retry_schemas() -> dict[str, Json]:
    """The schemas by name."""
    either = [make_reference("webhook_retry"), make_reference("webhook_retry_preview")]
    return {
        "webhook_retry": build_schema("A retry of all deliveries that match.", _RETRY),
        "webhook_retry_preview": build_schema("What a retry would make due.", _PREVIEW),
        "webhook_retry_list": build_schema("A page of retries.", make_page("webhook_retry")),
        "webhook_retry_answer": {"description": "The retry, or what it would make due.", "anyOf": either},
    }
