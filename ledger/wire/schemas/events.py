"""Events, the endpoints that they are delivered to, and objects of other services."""

from __future__ import annotations

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
    metadata,
    nullable_text,
    rfc3339_time,
    text,
    unix_time,
    unused,
)

_DATA: Fields = {
    "object": document(
        "The object right after the change. Its member `object` says of which kind it is.",
        {"id": "cus_NffrFeUfNV2Hib", "object": "customer"},
    ),
    "previous_attributes": document("Of an update: the old values of what changed.").or_missing(),
}
_REQUEST: Fields = {
    "id": nullable_text("Id of the request that caused it.", "req_0352CZ3z1jWpJM7B8upbma"),
    "idempotency_key": nullable_text("Its Idempotency-Key."),
}
EVENT: Fields = {
    "id": text("Id of the Event.", "evt_1NG8Du2eZvKYlo2CUI79vXWy"),
    "object": constant("event"),
    "account": text("Of a connected account, in answers to its platform: its id.", "acct_1").or_missing(),
    "api_version": nullable_text("The API version in which `data` is.", "2026-10-28.endive"),
    "created": unix_time("When it happened."),
    "data": hash_of("What happened.", _DATA),
    "livemode": livemode(),
    "pending_webhooks": integer("Deliveries that have not succeeded yet.", 0),
    "request": hash_of("What caused it.", _REQUEST).or_null(),
    "type": text("What happened to what.", "customer.created"),
}
_REASON: Fields = {
    "type": choice("What kind of cause it was.", ("request",)),
    "request": hash_of("The request that caused it.", _REQUEST),
}
_RELATED_OBJECT: Fields = {
    "id": text("Its id; absent where an account or customer has only one.", "ch_1").or_missing(),
    "type": text("Of which kind it is.", "charge"),
    "url": text("Where it is retrieved as it is now, relative to the API.", "/v1/charges/ch_1"),
}
_CHANGES: Fields = {
    "before": document("The old values of what changed.", {"description": "Boots"}),
    "after": document("The new values of the same members.", {"description": "Blue boots"}),
}
THIN_EVENT: Fields = {
    "id": text("Id of the thin event.", "evt_thin_1NG8Du2eZvKYlo2CUI79vXWy"),
    "object": constant("v2.core.event"),
    "context": nullable_text("In answers to a platform: the connected account whose event it is.", "acct_1"),
    "created": rfc3339_time("When it happened."),
    "livemode": livemode(),
    "reason": hash_of("What caused it; null if it was no request.", _REASON).or_null(),
    "related_object": hash_of("The object that it is about.", _RELATED_OBJECT).or_null(),
    "type": text("What happened to what.", "v1.charge.updated"),
    "changes": hash_of("Of an update: what changed.", _CHANGES).or_null(),
    "snapshot_event": nullable_text(
        "Id of the Event that has the object in it; null for a ping.", "evt_1NG8Du2eZvKYlo2CUI79vXWy"
    ),
}
WEBHOOK_ENDPOINT: Fields = {
    "id": text("Id of the endpoint.", "we_1Mr5jULkdIwHu7ix1ibLTM0x"),
    "object": constant("webhook_endpoint"),
    "api_version": nullable_text("The API version of its Events.", "2026-10-28.endive"),
    "application": unused(),
    "created": unix_time("When it was created."),
    "description": nullable_text("Your description."),
    "enabled_events": array("The types of its Events; `*` is all.", text("A type.", "charge.succeeded")),
    "livemode": livemode(),
    "metadata": metadata(),
    "secret": text(
        "Verifies the signature of deliveries. Only in the answer to the creation.", "whsec_…"
    ).or_missing(),
    "status": choice("Whether Events are delivered to it.", ("enabled", "disabled")),
    "url": text("Where Events are delivered to.", "https://example.com/my/webhook/endpoint"),
}
PUBLISHED_OBJECT: Fields = {
    "id": text("Its id.", "in_1NXWPnCo6bFb1KQto6C8OWvE").or_missing(),
    "object": text("Of which kind it is.", "invoice").or_missing(),
    "deleted": boolean("Always true: of a deleted object, its id and kind remain.").or_missing(),
}
"""An object of another service: it has whatever that service published."""
