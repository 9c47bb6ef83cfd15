"""Event destinations, and what is left of a deleted one."""

from __future__ import annotations

from ledger.wire.schemas.fields import (
    Fields,
    array,
    choice,
    constant,
    hash_of,
    livemode,
    metadata,
    nullable_text,
    rfc3339_time,
    text,
    unused,
)

_ID = text("Id of the destination.", "ed_1Mr5jULkdIwHu7ix1ibLTM0x")
_DISABLED: Fields = {
    "reason": choice(
        "Who disabled it: you, or the service after failures for too long.",
        ("user", "delivery_failures"),
    )
}
_WEBHOOK_ENDPOINT: Fields = {
    "signing_secret": nullable_text(
        "Verifies the signature of deliveries. Only in the answer to a creation that includes it.", "whsec_…"
    ),
    "url": nullable_text("Where events are sent to; null unless included.", "https://example.com/events"),
}
EVENT_DESTINATION: Fields = {
    "id": _ID,
    "object": constant("v2.core.event_destination"),
    "amazon_eventbridge": unused(),
    "azure_event_grid": unused(),
    "created": rfc3339_time("When it was created."),
    "description": text("Your description."),
    "enabled_events": array("The types of its events; `*` is all.", text("A type.", "v1.charge.succeeded")),
    "event_payload": choice("What it is sent.", ("snapshot", "thin"), "thin"),
    "events_from": array("Whose events it is sent.", choice("Of whom.", ("@self", "@accounts"))),
    "livemode": livemode(),
    "metadata": metadata(),
    "name": text("Your name for it; its id, if API v1 has made it.", "Books"),
    "snapshot_api_version": nullable_text("The API version of snapshots; null: that of the account."),
    "status": choice("Whether events are sent to it.", ("enabled", "disabled"), "enabled"),
    "status_details": hash_of(
        "Why it has its status.", {"disabled": hash_of("Why it is disabled.", _DISABLED)}
    ).or_null(),
    "type": constant("webhook_endpoint"),
    "updated": rfc3339_time("When it was changed last."),
    "webhook_endpoint": hash_of("Where events are sent to.", _WEBHOOK_ENDPOINT),
}
DELETED_EVENT_DESTINATION: Fields = {"id": _ID, "object": constant("v2.core.event_destination")}
