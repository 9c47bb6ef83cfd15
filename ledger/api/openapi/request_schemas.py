"""Answers of the routes of the request log (internal API §7)."""

from __future__ import annotations

from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema
from ledger.wire.schemas.fields import (
    Fields,
    array,
    boolean,
    choice,
    component,
    constant,
    hash_of,
    integer,
    livemode,
    nullable_text,
    number,
    text,
    unix_time,
)

_REQUEST_ID = "req_0352CZ3z1jWpJM7B8upbma"
_OPERATION = text("Method and route; `none` if none was found.", "POST /v1/customers")
_KEPT = choice("Which requests this process keeps.", ("all", "errors", "none"), "errors")
_ERROR: Fields = {
    "type": text("The kind of error.", "invalid_request_error"),
    "code": nullable_text("What is wrong, for programs."),
    "param": nullable_text("The parameter that is wrong."),
    "message": nullable_text("What is wrong, in words; what the client sent is cut out."),
}
_REQUEST: Fields = {
    "id": text("Id of the request, as in its Request-Id.", _REQUEST_ID),
    "object": constant("request"),
    "account": nullable_text("The account that it acted on; null without a valid key."),
    "created": number("When it was answered, in unix seconds.", 1795000000.0),
    "duration_ms": number("How many milliseconds it took until its answer began.", 12.5),
    "error": hash_of("The error that it was answered with.", _ERROR).or_null(),
    "group": text("The group that it belongs to.", "rgr_5d3a0c4f9be2718c6a90"),
    "key": nullable_text("Id of the API key."),
    "livemode": livemode(),
    "method": text("Its method.", "POST"),
    "operation": _OPERATION,
    "path": text("Its path, without what can be no id.", "/v1/customers"),
    "status": integer("HTTP status of the answer.", 400),
}
_LIST: Fields = {
    "object": constant("list"),
    "data": array("The requests of this page.", component("A request.", "kept_request")),
    "has_more": boolean("Whether there may be more after this page."),
    "next_request": nullable_text("The next `starting_after`, while there may be more."),
    "kept": _KEPT,
}
_GROUP: Fields = {
    "id": text("Id of the group.", "rgr_5d3a0c4f9be2718c6a90"),
    "object": constant("request_group"),
    "code": nullable_text("Code of the error."),
    "count": integer("How many requests ended so.", 12),
    "error_type": nullable_text("Its kind; null if no request of the group is kept."),
    "first_at": number("When the first one was, in unix seconds, to a second.", 1795000000.0),
    "last_at": number("When the last one was, in unix seconds, to a second.", 1795000000.0),
    "message": nullable_text("The message of the newest one; what the client sent is cut out."),
    "newest": array("Ids of the newest three that are kept.", text("An id.", _REQUEST_ID)),
    "operation": _OPERATION,
    "param": nullable_text("The parameter that is wrong."),
    "status": integer("HTTP status of the answers.", 400),
}
_DURATION: Fields = {
    "at_most_ms": integer("The longest duration of this bucket; null for the last.", 5).or_null(),
    "count": integer("How many took so long, and longer than those of the bucket before.", 120),
}
_TOTALS: Fields = {
    "total": integer("How many requests there were.", 125),
    "failed": integer("How many of them were answered with an error.", 5),
    "faults": integer("How many of these because the service has failed.", 0),
    "left_out": integer("How many are counted, and not in the list.", 0),
}
_COUNT: Fields = {
    "start": unix_time("When the minute or hour begins."),
    **_TOTALS,
    "duration_ms_mean": number("Their mean duration in milliseconds.", 3.5),
    "duration_ms_max": number("The longest one.", 120.0),
    "durations": array("How many took how long.", hash_of("A bucket of durations.", _DURATION)),
}
_GROUPS: Fields = {
    "object": constant("request_groups"),
    "from": unix_time("When the first minute or hour begins."),
    "to": unix_time("When the last one ends."),
    "period": integer("Seconds of one count: 60 or 3600.", 60),
    **_TOTALS,
    "counts": array(
        "The counts, oldest first; a time without requests has none.", hash_of("A count.", _COUNT)
    ),
    "groups": array("The groups of failed requests, the largest first.", component("One.", "request_group")),
    "has_more_groups": boolean("Whether there are more than 200 groups."),
    "kept": _KEPT,
}


def build_request_schemas() -> dict[str, Json]:
    """The schemas by name."""
    objects: dict[str, tuple[str, Fields]] = {
        "kept_request": ("A request as the request log keeps it.", _REQUEST),
        "kept_request_list": ("A page of requests.", _LIST),
        "request_group": ("Requests of one operation that failed alike.", _GROUP),
        "request_groups": ("How many requests there were, and how they failed.", _GROUPS),
    }
    return {name: build_schema(description, fields) for name, (description, fields) in objects.items()}
