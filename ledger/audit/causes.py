"""Who and what caused a recorded event, as the audit API shows it."""

from __future__ import annotations

from ledger.wire.json_values import Json
from ledger.wire.thin_events import to_snapshot_id


def render_actor(
    key_id: str | None, name: str | None, kind: str | None, livemode: bool | None, last4: str | None
) -> Json | None:
    """The key, or `cli`; None when the time or the network caused the event. Of a key of another account,
    such as a platform's, only the id is known. `key` is all of the secret that is ever shown."""
    if key_id is None:
        return None
    masked = None if kind is None else f"{kind}_{'live' if livemode else 'test'}_***{last4}"
    return {"id": key_id, "name": name, "key": masked}


def render_causation(causation: str | None) -> Json | None:
    """Why something happened that no request asked for by itself, or to which Event the request's caller
    reacted: see `Change.causation`; else None."""
    if causation is None:
        return None
    kind, _, reference = causation.partition(":")
    if causation == "clock":
        return {"type": "clock"}
    if kind == "network":
        return {"type": "network_fact", "reference": reference}
    if kind == "import":
        return {"type": "import", "request_id": reference}
    if kind == "event":
        return {"type": "event", "event": reference, "snapshot_event": to_snapshot_id(reference) or reference}
    stream, _, version = causation.rpartition("/")
    return {"type": "change", "object": stream, "version": int(version) if version.isdecimal() else None}
