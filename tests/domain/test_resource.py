"""Resources of other services, and Events from elsewhere: what makes an Event, and what it says."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import imported_event, resource
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import PastEvent
from ledger.domain.resource import Resource, ResourceDeleted, ResourcePublished
from ledger.errors import InvalidParameter
from ledger.ids import derived_id
from ledger.wire.event_types import EVENT_TYPES, check_event_type, made_here
from ledger.wire.public_events import TYPES, event_id, is_of, public_events
from tests.domain.builders import NOW, fold

INVOICE = {"status": "draft", "total": 100, "lines": [{"amount": 100}]}
WHOLE = {"id": "in_1", "object": "invoice", **INVOICE}


def published(state: Resource | None = None, **given: Any) -> list[DomainEvent]:
    told: dict[str, Any] = {"event_type": "invoice.created", "object": INVOICE, "type": "invoice", **given}
    return resource.publish(state, resource_id="in_1", account="acct_1", livemode=False, now=NOW, **told)


def a_resource(**given: Any) -> Resource:
    return fold(resource.evolve, published(**given))


def test_what_is_published_is_whole() -> None:
    (event,) = published()
    assert isinstance(event, ResourcePublished)
    assert (event.object, event.event_type, event.originator_version) == (WHOLE, "invoice.created", 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, False),
        ({"event_type": "invoice.updated"}, False),
        ({"object": dict(reversed(WHOLE.items()))}, False),
        ({"object": INVOICE | {"total": 100.0}}, False),
        ({"event_type": "invoice.sent"}, True),
        ({"object": INVOICE | {"total": True}}, True),
        ({"object": INVOICE | {"lines": []}}, True),
        ({"object": {"status": "draft"}, "event_type": "invoice.updated"}, True),
    ],
)
def test_only_what_is_new_is_an_event(given: dict[str, Any], told: bool) -> None:
    assert bool(published(a_resource(), **given)) is told


def test_a_deleted_one_begins_anew() -> None:
    (deleted,) = resource.delete(a_resource(), "invoice.deleted", now=NOW + 1)
    assert isinstance(deleted, ResourceDeleted)
    gone = resource.evolve(a_resource(), deleted)
    assert (gone.deleted, gone.object, gone.version) == (True, WHOLE, 2)
    (event,) = published(gone, event_type="invoice.updated")
    again = resource.evolve(gone, event)
    assert (again.deleted, again.version) == (False, 3)
    assert public_events(gone, event, again) == [("invoice.updated", WHOLE, {})]


def test_the_event_says_what_was_told() -> None:
    before = a_resource()
    (event,) = published(before, event_type="invoice.updated", object=INVOICE | {"total": 5, "new": 1})
    after = resource.evolve(before, event)
    previous = {"total": 100, "new": None}
    assert public_events(before, event, after) == [("invoice.updated", after.object, previous)]
    (event,) = resource.delete(after, "invoice.deleted", now=NOW)
    gone = resource.evolve(after, event)
    assert public_events(after, event, gone) == [("invoice.deleted", after.object, None)]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"type": "customer"}, "type"),
        ({"type": "webhook_endpoint"}, "type"),
        ({"event_type": "invoice.deleted"}, "event_type"),
        ({"object": {"id": "in_2"}}, "object[id]"),
        ({"object": {"object": "quote"}}, "object[object]"),
        ({"object": {"livemode": True}}, "object[livemode]"),
        ({"object": {"livemode": None}}, "object[livemode]"),
    ],
)
def test_what_is_another_one_is_refused(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        published(**given)
    assert refusal.value.param == param


def test_a_deletion_tells_of_one() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        resource.delete(a_resource(), "invoice.paid", now=NOW)
    assert refusal.value.param == "event_type"


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("cus_1", "cus_1"),
        ({"id": "cus_1"}, "cus_1"),
        (5, None),
        ({"id": 5}, None),
        ("x" * 256, None),
        (None, None),
    ],
)
def test_the_customer_it_names_is_known_if_it_can_be_one(named: Any, found: str | None) -> None:
    assert a_resource(object={"customer": named}).customer == found
    assert a_resource(object={"payment_intent": named}).payment_intent == found


def imported(**given: Any) -> DomainEvent:
    told: dict[str, Any] = {
        "event_id": "evt_1", "type": "invoice.paid", "object": WHOLE, "previous_attributes": None, "now": NOW,
    }  # fmt: skip
    return imported_event.tell(account="acct_1", livemode=False, **told | given)[0]


def a_past_event(**given: Any) -> PastEvent:
    return imported_event.evolve(None, imported(**given))


def test_an_event_from_elsewhere_is_shown_as_told_under_its_id() -> None:
    event = imported(previous_attributes={"total": 5})
    after = imported_event.evolve(None, event)
    assert public_events(None, event, after) == [("invoice.paid", WHOLE, {"total": 5})]
    assert event_id(event, 0, NOW) == "evt_1"


def test_the_same_event_is_known_by_what_it_says() -> None:
    told = a_past_event()
    assert a_past_event(object=dict(reversed(WHOLE.items())), now=NOW + 9) == told
    assert a_past_event(object={}) != told
    assert a_past_event(type="invoice.sent") != told
    assert a_past_event(previous_attributes={}) != told


def test_an_event_of_a_stream_is_told_from_its_id() -> None:
    made = derived_id("evt", 1_700_000_000.123, "cus_1", 3, 1)
    assert is_of(made, "cus_1", 3)
    assert is_of(made, "cus_1", 4)
    assert not is_of(made, "cus_1", 2)
    assert not is_of(made, "cus_2", 3)
    assert not is_of("evt_1", "cus_1", 3)


def test_what_this_ledger_makes_nobody_else_can() -> None:
    made = {name for names in TYPES.values() for name in names}
    assert all(map(made_here, made))
    assert {name for name in EVENT_TYPES if made_here(name)} - made == {"charge.pending", "refund.failed"}
    assert not made_here("customer.subscription.updated")


@pytest.mark.parametrize("name", ["invoice.vanished", "invoice", "magic", "", "*", "invoice.*"])
def test_an_unknown_event_type_is_told_what_it_may_be(name: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        check_event_type(name, "event_type")
    assert "invoice.paid" in refusal.value.message
    assert len(refusal.value.message) < 700
