"""Resources of other services and imported Events: which of them make an Event, and its content."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import imported_event, resource
from ledger.domain.aggregate import State
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import ImportedEvent
from ledger.domain.resource import Resource, ResourceDeleted, ResourcePublished
from ledger.errors import InvalidParameter
from ledger.ids import derive_id
from ledger.store.codec import evolve
from ledger.wire.aggregates import AGGREGATES_BY_EVENT
from ledger.wire.event_types import EVENT_TYPES, check_event_type
from ledger.wire.public_events import (
    derive_event_id,
    derive_public_events,
    is_event_of_stream,
    is_ledger_event_type,
)
from tests.domain.builders import NOW, fold
from tests.domain.histories import HISTORIES

INVOICE = {"status": "draft", "total": 100, "lines": [{"amount": 100}]}
FULL_INVOICE = {"id": "in_1", "object": "invoice", **INVOICE}


def publish_resource(state: Resource | None = None, **overrides: Any) -> list[DomainEvent]:
    arguments: dict[str, Any] = {
        "event_type": "invoice.created",
        "object": INVOICE,
        "type": "invoice",
        **overrides,
    }
    return resource.publish(state, resource_id="in_1", account="acct_1", livemode=False, now=NOW, **arguments)


def a_resource(**given: Any) -> Resource:
    return fold(resource.evolve, publish_resource(**given))


def test_a_publication_contains_the_whole_resource() -> None:
    (event,) = publish_resource()
    assert isinstance(event, ResourcePublished)
    assert (event.object, event.event_type, event.originator_version) == (FULL_INVOICE, "invoice.created", 1)


@pytest.mark.parametrize(
    ("params", "is_new"),
    [
        ({}, False),
        ({"event_type": "invoice.updated"}, False),
        ({"object": dict(reversed(FULL_INVOICE.items()))}, False),
        ({"object": INVOICE | {"total": 100.0}}, False),
        ({"event_type": "invoice.sent"}, True),
        ({"object": INVOICE | {"total": True}}, True),
        ({"object": INVOICE | {"lines": []}}, True),
        ({"object": {"status": "draft"}, "event_type": "invoice.updated"}, True),
    ],
)
def test_only_what_is_new_is_an_event(params: dict[str, Any], is_new: bool) -> None:
    assert bool(publish_resource(a_resource(), **params)) is is_new


def test_a_deleted_resource_can_be_published_again() -> None:
    (deleted,) = resource.delete(a_resource(), "invoice.deleted", now=NOW + 1)
    assert isinstance(deleted, ResourceDeleted)
    gone = resource.evolve(a_resource(), deleted)
    assert (gone.deleted, gone.object, gone.version) == (True, FULL_INVOICE, 2)
    (event,) = publish_resource(gone, event_type="invoice.updated")
    again = resource.evolve(gone, event)
    assert (again.deleted, again.version) == (False, 3)
    assert derive_public_events(gone, event, again) == [("invoice.updated", FULL_INVOICE, {})]


def test_the_event_has_the_published_object() -> None:
    before = a_resource()
    (event,) = publish_resource(before, event_type="invoice.updated", object=INVOICE | {"total": 5, "new": 1})
    after = resource.evolve(before, event)
    previous = {"total": 100, "new": None}
    assert derive_public_events(before, event, after) == [("invoice.updated", after.object, previous)]
    (event,) = resource.delete(after, "invoice.deleted", now=NOW)
    gone = resource.evolve(after, event)
    assert derive_public_events(after, event, gone) == [("invoice.deleted", after.object, None)]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"event_type": "invoice.deleted"}, "event_type"),
        ({"object": {"id": "in_2"}}, "object[id]"),
        ({"object": {"object": "quote"}}, "object[object]"),
        ({"object": {"livemode": True}}, "object[livemode]"),
        ({"object": {"livemode": None}}, "object[livemode]"),
    ],
)
def test_a_publication_that_contradicts_its_path_is_refused(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        publish_resource(**given)
    assert refusal.value.param == param


def test_a_deletion_needs_a_deleted_event_type() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        resource.delete(a_resource(), "invoice.paid", now=NOW)
    assert refusal.value.param == "event_type"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("cus_1", "cus_1"),
        ({"id": "cus_1"}, "cus_1"),
        (5, None),
        ({"id": 5}, None),
        ("x" * 256, None),
        (None, None),
    ],
)
def test_a_valid_customer_reference_is_indexed(reference: Any, expected: str | None) -> None:
    assert a_resource(object={"customer": reference}).customer == expected
    assert a_resource(object={"payment_intent": reference}).payment_intent == expected


def import_event(**overrides: Any) -> DomainEvent:
    defaults: dict[str, Any] = {
        "event_id": "evt_1", "type": "invoice.paid", "object": FULL_INVOICE, "previous_attributes": None,
        "now": NOW,
    }  # fmt: skip
    return imported_event.create(account="acct_1", livemode=False, **defaults | overrides)[0]


def an_imported_event(**given: Any) -> ImportedEvent:
    return imported_event.evolve(None, import_event(**given))


def test_an_imported_event_is_rendered_as_received_under_its_id() -> None:
    event = import_event(previous_attributes={"total": 5})
    after = imported_event.evolve(None, event)
    assert derive_public_events(None, event, after) == [("invoice.paid", FULL_INVOICE, {"total": 5})]
    assert derive_event_id(event, 0, NOW) == "evt_1"


def test_the_digest_distinguishes_imported_events() -> None:
    imported = an_imported_event()
    assert an_imported_event(object=dict(reversed(FULL_INVOICE.items())), now=NOW + 9) == imported
    assert an_imported_event(object={}) != imported
    assert an_imported_event(type="invoice.sent") != imported
    assert an_imported_event(previous_attributes={}) != imported


def test_the_id_of_an_event_shows_its_stream() -> None:
    made = derive_id("evt", 1_700_000_000.123, "cus_1", 3, 1)
    assert is_event_of_stream(made, "cus_1", 3)
    assert is_event_of_stream(made, "cus_1", 4)
    assert not is_event_of_stream(made, "cus_1", 2)
    assert not is_event_of_stream(made, "cus_2", 3)
    assert not is_event_of_stream("evt_1", "cus_1", 3)


def test_other_services_cannot_publish_events_of_the_ledgers_own_objects() -> None:
    made: set[str] = set()
    for events in HISTORIES:
        state: State | None = None
        for event in events:
            before, state = state, evolve(state, event)
            row = AGGREGATES_BY_EVENT[type(event)]
            if row.make_public_event is None and not row.published_too:
                made.update(name for name, _, _ in derive_public_events(before, event, state))
    assert all(map(is_ledger_event_type, made))
    assert {name for name in EVENT_TYPES if is_ledger_event_type(name)} - made == {
        "charge.pending",
        "refund.failed",
    }
    assert not is_ledger_event_type("customer.subscription.updated")
    assert not is_ledger_event_type("payment_intent.succeeded")  # a service may keep its own intents


@pytest.mark.parametrize("name", ["invoice.vanished", "invoice", "magic", "", "*", "invoice.*"])
def test_the_error_for_an_unknown_event_type_suggests_others(name: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        check_event_type(name, "event_type")
    assert "invoice.paid" in refusal.value.message
    assert len(refusal.value.message) < 700
