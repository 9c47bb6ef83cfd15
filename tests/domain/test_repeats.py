"""What is reported again of an erased object is compared with what stayed of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ledger.domain import charge_decisions, customer, imported_event, repeats, resource
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported
from ledger.errors import ObjectRedacted
from ledger.store.codec import evolve
from tests.domain.builders import NOW
from tests.domain.redacted_events import erase, redact

ADA = {
    "name": "Ada",
    "email": "ada@example.com",
    "address": {"city": "Berlin", "country": "DE"},
    "balance": 5,
}
PAYMENT = {
    "amount": 900,
    "currency": "usd",
    "description": "A hat",
    "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242", "name": "Ada"}},
}
INVOICE = {"object": "invoice", "customer_name": "Ada", "total": 900, "status": "open"}


def report_customer(**changes: Any) -> DomainEvent:
    (event,) = customer.create(
        customer_id="cus_1", account="acct_1", livemode=False, params=ADA | changes, card_id="", now=NOW
    )
    return event


def report_charge(**changes: Any) -> DomainEvent:
    (event,) = charge_decisions.register(
        charge_id="ch_1", account="acct_1", livemode=False, params=PAYMENT | changes, txn_id="txn_1", now=NOW
    )
    return event


def report_event(**changes: Any) -> EventImported:
    (event,) = imported_event.create(
        event_id="evt_1",
        account="acct_1",
        livemode=False,
        type="invoice.updated",
        object=INVOICE | changes,
        previous_attributes={"customer_name": "Bea"},
        now=NOW,
    )
    assert isinstance(event, EventImported)
    return event


def test_the_same_report_is_the_same_after_the_erasure() -> None:
    for report in (report_customer(), report_charge()):
        for read in (redact, erase):
            assert repeats.find_creation_difference(read(report), report, {}) is None
    for read in (redact, erase):
        recorded = read(report_event())
        assert isinstance(recorded, EventImported)
        assert repeats.find_event_difference(recorded, report_event()) is None


def test_what_stayed_is_still_compared() -> None:
    customer_before, charge_before = redact(report_customer()), redact(report_charge())
    for name, other in (("balance", 6), ("address", {"country": "FR"}), ("email", None)):
        report = report_customer(**{name: other})
        assert repeats.find_creation_difference(customer_before, report, {}) == name
    card = {"payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "1881"}}}
    report = report_charge(**card)
    assert repeats.find_creation_difference(charge_before, report, {}) == "payment_method_details"
    recorded = redact(report_event())
    assert isinstance(recorded, EventImported)
    assert repeats.find_event_difference(recorded, report_event(total=901)) == "object"
    assert repeats.find_event_difference(recorded, report_event(customer_name="Ben")) is None


def test_an_event_that_is_being_erased_is_compared_by_its_type() -> None:
    recorded = erase(report_event())
    assert isinstance(recorded, EventImported)
    assert repeats.find_event_difference(recorded, report_event(total=901)) is None
    other = replace(report_event(), type="invoice.paid")
    assert repeats.find_event_difference(recorded, other) == "type"


def test_a_redacted_resource_may_be_published_again_as_it_was_and_not_changed() -> None:
    def publish(state: Any, **changes: Any) -> list[DomainEvent]:
        return resource.publish(
            state,
            resource_id="in 1",
            account="acct_1",
            livemode=False,
            type="invoice",
            event_type="invoice.updated",
            object={**INVOICE, "id": "in 1", **changes},
            now=NOW,
        )

    (published,) = publish(None)
    state = evolve(None, redact(published))
    assert publish(state) == []
    with pytest.raises(ObjectRedacted) as caught:
        publish(state, total=901)
    assert caught.value.param == "object"
