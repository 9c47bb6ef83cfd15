"""Who and what caused a recorded event, as the audit API shows it."""

from __future__ import annotations

from ledger.wire.json_values import Json


def render_actor(key_id: str | None, name: str | None) -> Json | None:
    """The key, or `cli`; None when the time or the network caused the event. `name`: of a key of the caller's
    account."""
    return None if key_id is None else {"id": key_id, "name": name}


def render_causation(causation: str | None) -> Json | None:
    """What caused an event besides a request. None when a request asked for just this."""
    if causation is None:
        return None
    kind, _, reference = causation.partition(":")
    if causation == "clock":
        return {"type": "clock"}
    if kind == "network":
        return {"type": "network_fact", "reference": reference}
    if kind == "import":
        return {"type": "import", "request_id": reference}
    stream, _, version = causation.rpartition("/")
    return {"type": "change", "object": stream, "version": int(version) if version.isdecimal() else None}
