"""Answers of the routes of alerts and their receivers (internal API §8)."""

from __future__ import annotations

from ledger.alerts.conditions import REMEDIES, SEVERITIES
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
    nullable_text,
    number,
    text,
)

_RECEIVER_ID = "alrc_0352CZ5Gldsp6qNF5qNF1x"
_ATTEMPT: Fields = {
    "at": number("When, in unix seconds.", 1795000000.0),
    "status": integer("HTTP status of the answer.", 200).or_null(),
    "error": nullable_text("Why there was no answer, as a code."),
    "duration_ms": integer("How many milliseconds it took.", 40),
}
_NOTICE: Fields = {
    "receiver": text("Id of the receiver.", _RECEIVER_ID),
    "host": text("Scheme and host of its URL.", "https://alerts.example.com"),
    "removed": boolean("Whether the receiver was removed since then."),
    "state": choice(
        "failed: given up after a day. dropped: the receiver was removed.",
        ("pending", "delivered", "failed", "dropped"),
        "delivered",
    ),
    "attempts": integer("How many attempts were made.", 1),
    "attempted_at": number("When the last one was made, in unix seconds.").or_null(),
    "status": integer("HTTP status of the last answer.", 200).or_null(),
    "error": nullable_text("Why there was no answer, as a code."),
    "duration_ms": integer("How many milliseconds the last one took.", 40).or_null(),
    "next_attempt_at": number("Of a pending one: when it is due, in unix seconds.").or_null(),
}
_EVENT: Fields = {
    "id": text("Id of the event: the same in each attempt to send it.", "alev_0352CZ4Gldsp6qNF5qNF1x"),
    "type": choice("What happened.", ("raised", "elevated", "resolved", "cleared")),
    "at": number("When, in unix seconds.", 1795000000.0),
    "severity": choice("The alert's severity then.", SEVERITIES),
    "summary": text("What was wrong, in one line.", "New events are not sealed into the Merkle tree."),
    "cause": text("Why, as far as it was known.", "No worker is connected to the database."),
    "who": nullable_text("Of `cleared`: id of the key, or user@host of a shell."),
    "reason": nullable_text("Of `cleared`: why."),
    "notices": array("One for each receiver of that time.", hash_of("A notice.", _NOTICE)),
}
_REMEDY: Fields = {
    "action": text("What to do, in one line.", "Start a worker."),
    "see": text("The page and section that explain it.", "docs/operations.md, Sealing has stopped"),
}
_ALERT: Fields = {
    "id": text("Id of the alert.", "alrt_0352CZ3z1jWpJM7B8upbma"),
    "object": constant("alert"),
    "kind": choice("What kind of thing is wrong.", tuple(REMEDIES), "unsealed_events"),
    "key": text("What is wrong with what: one alert of a key is active at a time.", "unsealed_events"),
    "severity": choice("How bad it is.", SEVERITIES),
    "state": choice("cleared: closed by an operator.", ("active", "cleared", "resolved")),
    "summary": text("What is wrong, in one line.", "New events are not sealed into the Merkle tree."),
    "cause": text("Why, as far as it is known.", "No worker is connected to the database."),
    "remedy": hash_of("What to do about it.", _REMEDY),
    "details": document("Ids and counts, by kind.", {"size": 40210, "events": 3}),
    "raised_at": number("When it was raised, in unix seconds.", 1795000000.0),
    "ended_at": number("When it was resolved or cleared, in unix seconds.").or_null(),
    "condition_lasts": boolean("Whether the condition is still there; of a cleared alert it may be.", True),
    "cleared_by": nullable_text("Who cleared it: id of a key, or user@host of a shell."),
    "clear_reason": nullable_text("Why it was cleared."),
}
_RECEIVER: Fields = {
    "id": text("Id of the receiver.", _RECEIVER_ID),
    "object": constant("alert_receiver"),
    "host": text("Scheme and host of its URL; the rest is not shown.", "https://alerts.example.com"),
    "description": text("For people.", "pager"),
    "created_at": number("When it was added, in unix seconds.", 1795000000.0),
    "pending": integer("How many notices are to be sent to it."),
    "last_attempt": hash_of("How the last attempt went.", _ATTEMPT).or_null(),
}


def build_alert_schemas() -> dict[str, Json]:
    """The schemas by name."""
    secret = text("The secret that signs what it is sent, shown this once.", "whsec_…")
    looked = number("How many seconds ago the service was last looked at.", 1.2).or_null()
    objects: dict[str, tuple[str, Fields]] = {
        "service_alert": ("Something that is wrong with the service.", _ALERT),
        "alert_record": (
            "An alert with its events.",
            {**_ALERT, "events": array("The newest 100, the oldest first.", hash_of("An event.", _EVENT))},
        ),
        "alert_list": (
            "A page of alerts.",
            {**_make_page("service_alert"), "looked_seconds_ago": looked},
        ),
        "alert_receiver": ("Where alerts are sent.", _RECEIVER),
        "new_alert_receiver": ("A receiver that was just added.", {**_RECEIVER, "secret": secret}),
        "alert_receiver_list": ("All receivers.", _make_page("alert_receiver")),
        "deleted_alert_receiver": (
            "A receiver that was removed.",
            {
                "id": text("Its id.", _RECEIVER_ID),
                "object": constant("alert_receiver"),
                "deleted": boolean("Always true.", True),
            },
        ),
        "alert_receiver_test": (
            "How a test of a receiver went.",
            {
                "id": text("Id of the receiver.", _RECEIVER_ID),
                "object": constant("alert_receiver_test"),
                "event": text("Id of the event that was sent.", "alev_0352CZ4Gldsp6qNF5qNF1x"),
                "delivered": boolean("Whether it was accepted, with a status 2xx.", True),
                "status": integer("HTTP status of the answer.", 200).or_null(),
                "error": nullable_text("Why there was no answer, as a code."),
                "duration_ms": integer("How many milliseconds it took.", 40),
            },
        ),
    }
    return {name: build_schema(description, fields) for name, (description, fields) in objects.items()}


def _make_page(name: str) -> Fields:
    items: Field = array("The items of this page.", component("An item.", name))
    return {"data": items, "has_more": boolean("Whether there are more after this page.")}
