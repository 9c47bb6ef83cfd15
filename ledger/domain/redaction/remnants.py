"""What stays of the personal fields of a domain event once its data is erased: its remnant.

Each event class has a rule for each of its personal fields. What stays is what the contract needs, and
docs/erasure.md lists it: ids, amounts, codes, the country of an address, the brand and the last four digits
of a card, and that a text was there at all.
"""

from __future__ import annotations

from typing import Any

from ledger.domain.event import DomainEvent


def make_remnant(event: DomainEvent) -> dict[str, Any]:
    """The personal fields of `event` as they are once its data is erased; {} of an event that has none."""
    return {name: rule(getattr(event, name)) for name, rule in event.REDACTION.items()}
