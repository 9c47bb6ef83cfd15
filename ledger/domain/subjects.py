"""Whose key the personal data of an event is sealed under: the data subject's.

That is the customer, where the aggregate has one; else the object itself. So a customer's key seals its
charges, payment intents, disputes and refunds, the Events imported about them, and what other services
publish about them; one erasure destroys all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported

_is_plain = re.compile(r"[!#-9;-\[\]-~]{1,255}").fullmatch
"""Printable ASCII without quotes, colons and backslashes: as every id that Stripe makes. It can stand before
what is sealed."""


def find_subject(event: DomainEvent, state: State) -> str:
    """The data subject of `event`, which led to `state`."""
    if isinstance(event, EventImported):
        return find_subject_of_object(event.object or {}, event.originator_id)
    customer = getattr(state, "customer", None)
    return _choose(customer, event.originator_id)


def find_subject_of_object(public_object: Mapping[str, Any], stream: str) -> str:
    """The data subject of an object as JSON has it, in an Event that is the stream `stream`."""
    object_id = public_object.get("id")
    own_id = object_id if isinstance(object_id, str) else stream
    if public_object.get("object") == "customer":
        return _choose(own_id, stream)
    customer = public_object.get("customer")
    if isinstance(customer, Mapping):  # an expanded object
        customer = customer.get("id")
    return _choose(customer if isinstance(customer, str) and _is_plain(customer) else own_id, stream)


def _choose(subject: Any, stream: str) -> str:
    """`subject` if it can be one, else the stream."""
    return subject if isinstance(subject, str) and _is_plain(subject) else stream
