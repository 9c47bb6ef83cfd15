"""Whose key the personal data of an event is sealed under."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ledger.domain import imported_event, resource
from ledger.domain.subjects import find_subject
from ledger.store.codec import evolve
from tests.domain.histories import HISTORIES

OF_CUS_1: list[dict[str, Any]] = [
    {"customer": "cus_1", "related_customer": "cus_2"},
    {"related_customer": "cus_1"},
    {"customer": None, "related_customer": {"id": "cus_1", "object": "customer"}},
    {"related_customer": None, "account_holder": {"type": "customer", "customer": "cus_1"}},
    {"account_holder": "", "customer_details": {"customer": "cus_1"}},
    {"owner": {"type": "customer", "customer": "cus_1"}},
]
OF_NOBODY: list[dict[str, Any]] = [
    {"related_customer": 7, "account_holder": {"type": "account", "account": "acct_1"}},
    {"customer_details": {"customer": None}, "owner": ["cus_1"]},
]


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
    assert find_subject(imported_event.evolve(None, import_event(public_object))) == subject


@pytest.mark.parametrize("members", [*OF_CUS_1, *OF_NOBODY])
def test_an_object_belongs_to_the_customer_whom_it_names_wherever_it_does(members: dict[str, Any]) -> None:
    subject = "cus_1" if members in OF_CUS_1 else "obj_1"
    published = publish(members)
    assert find_subject(resource.evolve(None, published)) == subject
    imported = import_event({"id": "obj_1", "object": "thing", **members})
    assert find_subject(imported_event.evolve(None, imported)) == subject


@pytest.mark.parametrize("members", OF_CUS_1[1:])
def test_what_an_earlier_release_has_stored_keeps_its_subject(members: dict[str, Any]) -> None:
    """It was sealed for the object itself."""
    published = replace(publish(members), owner=None)
    assert find_subject(resource.evolve(None, published)) == "obj_1"
    imported = replace(import_event({"id": "obj_1", "object": "thing", **members}), owner=None)
    assert find_subject(imported_event.evolve(None, imported)) == "obj_1"


@pytest.mark.parametrize(
    ("public_object", "previous", "subject"),
    [
        ({"id": "pm_1", "customer": None}, {"customer": "cus_1"}, "cus_1"),
        ({"id": "pm_1", "customer": None}, {"related_customer": "cus_1"}, "cus_1"),
        ({"id": "pm_1", "customer": "cus_2"}, {"customer": "cus_1"}, "cus_2"),
        ({"id": "pm_1", "related_customer": "cus_2"}, {"customer": "cus_1"}, "cus_2"),
        ({"id": "cus_2", "object": "customer"}, {"customer": "cus_1"}, "cus_2"),
        ({"id": "pm_1", "customer": None}, {"customer": None}, "pm_1"),
    ],
)
def test_an_imported_event_belongs_to_whom_its_object_named_before(
    public_object: dict[str, Any], previous: dict[str, Any], subject: str
) -> None:
    assert find_subject(imported_event.evolve(None, import_event(public_object, previous))) == subject


@pytest.mark.parametrize("members", OF_CUS_1[1:])
def test_the_subject_stays_while_the_data_is_being_erased(members: dict[str, Any]) -> None:
    assert find_subject(resource.evolve(None, replace(publish(members), object=None))) == "cus_1"


def publish(members: dict[str, Any]) -> resource.ResourcePublished:
    [event] = resource.publish(
        None, resource_id="obj_1", account="acct_1", livemode=False, type="thing",
        event_type="thing.created", object=members, now=1,
    )  # fmt: skip
    assert isinstance(event, resource.ResourcePublished)
    return event


def import_event(
    public_object: dict[str, Any], previous: dict[str, Any] | None = None
) -> imported_event.EventImported:
    [event] = imported_event.create(
        event_id="evt_1", account="acct_1", livemode=False, type="charge.succeeded",
        object=public_object, previous_attributes=previous, now=1,
    )  # fmt: skip
    assert isinstance(event, imported_event.EventImported)
    return event


def test_every_other_event_has_its_customer_or_else_its_stream_as_subject() -> None:
    for history in HISTORIES:
        state = None
        for event in history:
            state = evolve(state, event)
            if not isinstance(state, imported_event.ImportedEvent):
                assert find_subject(state) == (getattr(state, "customer", None) or state.id)
