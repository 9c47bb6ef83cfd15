"""Why deliveries and replays do not go on, in words."""

from __future__ import annotations

_REASONS = {
    "paused": "webhooks are paused (ledger webhooks status)",
    "copy": "this database is a copy (ledger webhooks status)",
    "endpoint_disabled": "the endpoint is disabled",
    "endpoint_deleted": "the endpoint is deleted",
    "endpoint_unreadable": "the endpoint cannot be read at the moment (its record is in the log of a worker)",
    "breaker_open": "the endpoint has failed over and over, and is tried now and then",
    "retry_after": "the receiver has asked for a pause",
    "earlier_event": "an earlier Event of the same object is not delivered yet",
    "event_not_in_feed": "its Event cannot be read at the moment (ledger projections status)",
    "fan_out": "newer Events are not fanned out yet (ledger webhooks status)",
}


def describe_wait(code: str) -> str:
    """What a code of `waits_for` means."""
    return _REASONS.get(code, code)
