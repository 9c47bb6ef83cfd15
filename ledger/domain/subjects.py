"""Whose key the personal data of an event is sealed under: the data subject's.

That is the customer, where the aggregate has one; else the object itself. So a customer's key seals its
charges, payment intents, disputes and refunds, the Events imported about them, and what other services
publish about them; one erasure destroys all of it.
"""

from __future__ import annotations

import re

from ledger.domain.aggregate import State

_is_plain = re.compile(r"[!#-9;-\[\]-~]{1,255}").fullmatch
"""Printable ASCII without quotes, colons and backslashes: as every id that Stripe makes. What another service
names may be anything."""


def find_subject(state: State) -> str:
    """The data subject of the aggregate, and of the event that led to it."""
    return choose_subject(getattr(state, "customer", None), getattr(state, "object_id", None), state.id)


def choose_subject(*candidates: str | None) -> str:
    """The first that can be a subject; else the last, which is a stream."""
    for candidate in candidates:
        if candidate is not None and _is_plain(candidate):
            return candidate
    assert candidate is not None
    return candidate
