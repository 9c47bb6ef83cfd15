"""Whose key the personal data of an event is sealed under."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import imported_event
from ledger.domain.subjects import find_subject
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
def test_the_subject_of_an_imported_event_is_the_customer_or_else_the_object(
    public_object: dict[str, Any], subject: str
) -> None:
    [event] = imported_event.create(
        event_id="evt_1", account="acct_1", livemode=False, type="charge.succeeded",
        object=public_object, previous_attributes=None, now=1,
    )  # fmt: skip
    assert find_subject(imported_event.evolve(None, event)) == subject


def test_every_other_event_has_its_customer_or_else_its_stream_as_subject() -> None:
    for history in HISTORIES:
        state = None
        for event in history:
            state = evolve(state, event)
            if not isinstance(state, imported_event.ImportedEvent):
                assert find_subject(state) == (getattr(state, "customer", None) or state.id)
