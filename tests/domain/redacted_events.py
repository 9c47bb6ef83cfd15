"""Domain events as the codec reads them once their subject's data is erased."""

from __future__ import annotations

import dataclasses
from typing import Any

from ledger.domain.event import DomainEvent
from ledger.domain.redaction.remnants import make_remnant


def redact(event: DomainEvent) -> DomainEvent:
    """The event after the erasure: what stays is known."""
    return _conceal(event, "redacted", make_remnant(event))


def erase(event: DomainEvent) -> DomainEvent:
    """The event during the erasure: the key is given up, and what stays is not known yet."""
    return _conceal(event, "processing", dict.fromkeys(event.PERSONAL))


def _conceal(event: DomainEvent, redaction: str, personal: dict[str, Any]) -> DomainEvent:
    if all(getattr(event, name) is None for name in event.PERSONAL):
        return event  # nothing is sealed in it
    concealed = dataclasses.replace(event, **personal)
    concealed.__dict__["redaction"] = redaction
    return concealed
