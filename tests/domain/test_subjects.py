"""Whose key the personal data of an event is sealed under."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain.subjects import find_subject, find_subject_of_object
from ledger.store.codec import evolve
from tests.domain.histories import HISTORIES


@pytest.mark.parametrize(
    ("public_object", "subject"),
    [
        ({"id": "cus_1", "object": "customer"}, "cus_1"),
        ({"id": "cus_1", "object": "customer", "customer": "cus_2"}, "cus_1"),
        ({"id": "ch_1", "object": "charge", "customer": "cus_1"}, "cus_1"),
        ({"id": "ch_1", "object": "charge", "customer": {"id": "cus_1"}}, "cus_1"),
        ({"id": "ch_1", "object": "charge", "customer": None}, "ch_1"),
        ({"id": "ch_1", "object": "charge", "customer": {"deleted": True}}, "ch_1"),
        ({"id": "in_1", "object": "invoice", "customer": "cus:1"}, "in_1"),
        ({"id": "in_1", "object": "invoice", "customer": 'cus"1'}, "in_1"),
        ({"object": "balance", "customer": ["cus_1"]}, "evt_1"),
        ({"id": 7}, "evt_1"),
        ({"id": "kunde 1"}, "evt_1"),
    ],
)
def test_the_subject_of_an_object_is_its_customer_or_else_itself(
    public_object: dict[str, Any], subject: str
) -> None:
    assert find_subject_of_object(public_object, "evt_1") == subject


def test_every_event_has_its_customer_or_else_its_stream_as_subject() -> None:
    for history in HISTORIES:
        state = None
        for event in history:
            state = evolve(state, event)
            subject = find_subject(event, state)
            customer = getattr(state, "customer", None)
            if customer is not None:
                assert subject == customer
            elif event.TOPIC == "past_event.imported":
                assert subject == find_subject_of_object(event.object, event.originator_id)  # type: ignore[attr-defined]
            else:
                assert subject == event.originator_id
