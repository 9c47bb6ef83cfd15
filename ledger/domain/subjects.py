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
    for subject in (getattr(state, "customer", None), getattr(state, "object_id", None)):
        if isinstance(subject, str) and _is_plain(subject):
            return subject
    return state.id
