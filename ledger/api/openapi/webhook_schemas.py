"""Answers of the routes with which operators look after webhooks (internal API §4)."""

from __future__ import annotations

from typing import get_args

from ledger.webhooks.history.filters import STATES
from ledger.webhooks.replays.progress import ReplayState
from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema
from ledger.wire.schemas.fields import (
    Field,
    Fields,
    array,
    boolean,
    choice,
    component,
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

_ATTEMPT: Fields = {
    "number": integer("1 for the first one of the delivery.", 1),
    "at": number("When it was made, in unix seconds.", 1795000000.0),
    "duration_ms": integer("How many milliseconds it took.", 120),
    "status": integer("HTTP status of the answer.", 200).or_null(),
    "error": nullable_text("Why there was no answer, as a code."),
}
_ANSWERED_ATTEMPT: Fields = {
    **_ATTEMPT,
    "answer": nullable_text("The first 2 KiB of the answer; bytes that are no UTF-8 as `\\xNN`."),
    "answer_is_text": boolean("Whether all of `answer` is UTF-8.").or_null(),
    "answer_is_cut": boolean("Whether the answer may have been longer.").or_null(),
}
_DELIVERY: Fields = {
    "id": text("Id of the delivery.", "dlv_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("webhook_delivery"),
    "account": text("The account of the Event.", "acct_1Nv0FGQ9RKHgCVdK"),
    "attempt_count": integer("How many attempts were due until now.", 1),
    "created": number("When the delivery was made, in unix seconds.", 1795000000.0),
    "endpoint": text("The endpoint; `wsl_…`: a listener of the Stripe CLI.", "we_1Mr5jULkdIwHu7ix1ibLTM0x"),
    "event": text("The Event, or the thin event, that is sent.", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
    "event_created": unix_time("When the Event was recorded."),
    "in_flight": boolean("Whether an attempt is under way."),
    "last_attempt": hash_of("The newest attempt.", _ATTEMPT).or_null(),
    "livemode": livemode(),
    "next_attempt_at": number("Of a pending delivery: when it is due, in unix seconds.").or_null(),
    "replay": nullable_text("The replay (`whr_…`) or retry of many (`wrt_…`) that made it pending last."),
    "state": choice("How it stands.", tuple(STATES), "delivered"),
    "type": text("The type of the Event.", "customer.created"),
}
_RECORD: Fields = {
    **_DELIVERY,
    "attempts": array("The newest 100, the oldest first.", hash_of("An attempt.", _ANSWERED_ATTEMPT)),
    "waits_for": array("Codes of what a pending delivery waits for.", text("A code.", "endpoint_disabled")),
}
_RECENT: Fields = {
    "count": integer("How many: the last 1,000 of the last 24 hours, at most.", 120),
    "median_ms": integer("Half of them took at most so many milliseconds.", 40).or_null(),
    "p95_ms": integer("All but one in twenty took at most so many milliseconds.", 120).or_null(),
    "since": number("When the first of them was made, in unix seconds.").or_null(),
    "success_share": number("Which part of them succeeded, from 0 to 1.", 1.0).or_null(),
}
_BREAKER: Fields = {
    "state": choice(
        "open: none are made. half_open: one is, or may be.", ("closed", "open", "half_open"), "closed"
    ),
    "opened_at": number("Since when it is open, in unix seconds.").or_null(),
    "next_probe_at": number("When the next attempt may be made, in unix seconds.").or_null(),
    "failed_probes": integer("How many attempts have failed since it opened."),
    "asked_until": number("Until when the receiver asked by Retry-After for no attempts.").or_null(),
}
_LAST_FAILURE: Fields = {
    "at": number("When, in unix seconds.", 1795000000.0),
    "status": integer("HTTP status of the answer.", 500).or_null(),
    "error": nullable_text("Why there was no answer, as a code."),
}
_LAST_SUCCESS: Fields = {
    "delivery": text("Id of the delivery.", "dlv_0352CZ3z1jWpJM7B8upbma"),
    "at": number("When, in unix seconds.", 1795000000.0),
    "status": integer("HTTP status of the answer.", 200),
    "duration_ms": integer("How many milliseconds it took.", 120),
}
_HEALTH: Fields = {
    "id": text("Id of the endpoint.", "we_1Mr5jULkdIwHu7ix1ibLTM0x"),
    "object": constant("webhook_endpoint_health"),
    "account": text("Its account.", "acct_1Nv0FGQ9RKHgCVdK"),
    "breaker": hash_of("Whether attempts are made while it fails.", _BREAKER),
    "due": integer("How many of the pending deliveries are overdue."),
    "failed_attempts": integer("How many attempts have failed since it began to fail."),
    "failing": boolean("Whether its last attempt failed."),
    "failing_since": number("When it began to fail, in unix seconds.").or_null(),
    "given_up": integer("How many deliveries of the last 30 days are given up; they can be replayed."),
    "last_failure": hash_of("The last attempt that failed.", _LAST_FAILURE).or_null(),
    "last_success": hash_of("The last attempt that was accepted.", _LAST_SUCCESS).or_null(),
    "livemode": livemode(),
    "next_attempt_at": number("When the next pending delivery is due, in unix seconds.").or_null(),
    "oldest_due_at": number("Since when the oldest overdue one is due, in unix seconds.").or_null(),
    "pending": integer("How many deliveries are pending; counted up to 100,000."),
    "recent_attempts": hash_of("How the last attempts went.", _RECENT),
    "status": choice("Whether Events are sent to it.", ("enabled", "disabled", "deleted")),
    "waits_for": array("Codes of why nothing is sent to it now.", text("A code.", "endpoint_disabled")),
}
_SUMMARY: Fields = {
    "id": _HEALTH["id"],
    "object": constant("webhook_endpoint_summary"),
    "account": _HEALTH["account"],
    "breaker": _HEALTH["breaker"],
    "created": unix_time("When it was created."),
    "due": integer("How many of the pending deliveries are overdue; counted up to 1,000."),
    "event_payload": choice(
        "What is sent to it; null while it cannot be read.", ("snapshot", "thin"), "snapshot"
    ).or_null(),
    "failed_attempts": _HEALTH["failed_attempts"],
    "failing": _HEALTH["failing"],
    "failing_since": _HEALTH["failing_since"],
    "given_up": integer("How many deliveries of the last 30 days are given up; counted up to 1,000."),
    "last_failure": _HEALTH["last_failure"],
    "livemode": livemode(),
    "next_attempt_at": _HEALTH["next_attempt_at"],
    "ordered": boolean("Whether the Events of one object are sent in order; null as above.").or_null(),
    "pending": integer("How many deliveries are pending; counted up to 1,000."),
    "status": choice(
        "Whether Events are sent to it; null as above.", ("enabled", "disabled"), "enabled"
    ).or_null(),
    "waits_for": _HEALTH["waits_for"],
}
_REPLAYED: Fields = {
    "account": text("The account of the endpoint.", "acct_1Nv0FGQ9RKHgCVdK"),
    "endpoint": text("Where the Events go.", "we_1Mr5jULkdIwHu7ix1ibLTM0x"),
    "from": unix_time("The window's beginning, included."),
    "livemode": livemode(),
    "object_id": nullable_text("Only Events of this object."),
    "only_failed": boolean("Whether only Events are sent whose delivery was given up or dropped."),
    "to": unix_time("The window's end, not included.", 1795003600),
}
_REPLAY: Fields = {
    "id": text("Id of the replay.", "whr_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("webhook_replay"),
    **_REPLAYED,
    "created": unix_time("When it was started.", 1795003600),
    "created_by": text("Who started it: id of a key, or user@host of a shell.", "key_0352CZ3z1jWpJM7B8upbma"),
    "delivered": integer("Deliveries that the endpoint accepted.", 120),
    "dropped": integer("Deliveries that are owed no more."),
    "ended": unix_time("When it ended.").or_null(),
    "eta_seconds": integer("In how many seconds it ends at its rate so far.").or_null(),
    "failed": integer("Deliveries that were given up after the last attempt."),
    "left_alone": integer("Events that were pending to the endpoint for another reason."),
    "pending": integer("Deliveries that are to be sent."),
    "queued": integer("Events of which it has made deliveries so far.", 120),
    "rate": number("Deliveries a second that were settled while it ran.").or_null(),
    "reason": text("Why it was started.", "the receiver lost an hour"),
    "state": choice("How it stands.", get_args(ReplayState), "running"),
    "total": integer("Events that it found; null until they are counted.", 500).or_null(),
    "types": array("Types as they were asked for; none: all the endpoint's.", text("A type.", "charge.*")),
    "unreadable": integer("Events that cannot be made from the log: not sent."),
    "waits_for": array("Codes of why a running one does not go on.", text("A code.", "endpoint_disabled")),
}
_EVENT: Fields = {
    "id": text("Id of the Event.", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
    "created": unix_time("When it was recorded."),
    "type": text("Its type.", "charge.succeeded"),
}
_PREVIEW: Fields = {
    "object": constant("webhook_replay_preview"),
    **_REPLAYED,
    "by_type": document("How many Events of each type.", {"charge.succeeded": 500}),
    "dry_run": boolean("Always true: nothing was changed.", True),
    "events": array("Ids of the first ten.", text("An id.", "evt_1NG8Du2eZvKYlo2CUI79vXWy")),
    "first": hash_of("The first Event.", _EVENT).or_null(),
    "last": hash_of("The last Event.", _EVENT).or_null(),
    "total": integer("How many Events would be sent.", 500),
    "unreadable": integer("How many more cannot be made from the log."),
}


_SETTINGS: Fields = {
    "id": text("The endpoint.", "we_1Mr5jULkdIwHu7ix1ibLTM0x"),
    "object": constant("webhook_endpoint_settings"),
    "event_payload": choice("What is sent to it.", ("snapshot", "thin"), "snapshot"),
    "livemode": livemode(),
    "ordered": boolean("Whether the Events of one object are sent one after another, in order."),
    "previous_secret_valid_until": unix_time("Until when the previous secret signs, too.").or_null(),
    "secret_version": integer("Number of the signing secret; one more with each rotation.", 1),
    "standard_webhooks": boolean("Whether the headers of Standard Webhooks are sent, too."),
    "status": choice("Whether anything is sent to it.", ("enabled", "disabled"), "enabled"),
}


def build_webhook_schemas() -> dict[str, Json]:
    """The schemas by name."""
    secret = text("The new signing secret, which is shown this once.", "whsec_…")
    objects: dict[str, tuple[str, Fields]] = {
        "webhook_delivery": ("A delivery of an Event to an endpoint.", _DELIVERY),
        "webhook_delivery_record": ("A delivery with its attempts.", _RECORD),
        "webhook_endpoint_health": ("How deliveries to an endpoint go.", _HEALTH),
        "webhook_endpoint_summary": ("An endpoint with its health, in a list.", _SUMMARY),
        "webhook_endpoint_summary_list": ("A page of endpoints.", make_page("webhook_endpoint_summary")),
        "webhook_endpoint_settings": ("How Events are sent to an endpoint.", _SETTINGS),
        "rotated_webhook_secret": (
            "The settings of an endpoint, with its new secret.",
            {**_SETTINGS, "secret": secret},
        ),
        "webhook_replay": ("A replay of Events to an endpoint.", _REPLAY),
        "webhook_replay_preview": ("What a replay would send.", _PREVIEW),
        "webhook_replay_list": ("A page of replays.", make_page("webhook_replay")),
        "webhook_delivery_list": ("A page of deliveries.", make_page("webhook_delivery")),
    }
    either = [make_reference("webhook_replay"), make_reference("webhook_replay_preview")]
    return {
        **{name: build_schema(description, fields) for name, (description, fields) in objects.items()},
        "webhook_replay_answer": {"description": "The replay, or what it would send.", "anyOf": either},
    }


def make_page(name: str) -> Fields:
    """The members of a page of these items."""
    items: Field = array("The items of this page.", component("An item.", name))
    return {"data": items, "has_more": boolean("Whether there are more after this page.")}
