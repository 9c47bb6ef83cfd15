"""What must hold of every domain event: its name, its marks, and that it survives storage and erasure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ledger.domain import (
    charge,
    charge_decisions,
    customer,
    customer_session,
    dispute,
    dispute_decisions,
    file,
    file_link,
    imported_event,
    refund,
    refund_decisions,
    resource,
    webhook_endpoint,
    webhook_endpoint_quota,
)
from ledger.domain.cards import make_source_card
from ledger.domain.charge import ChargeRefunded
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement
from ledger.wire import render
from ledger.wire.public_events import (
    EVENTS_PER_CHANGE_MAX,
    EXTERNAL_EVENTS,
    PUBLIC_EVENT_TYPES,
    derive_public_events,
)
from tests.domain.builders import (
    NOW,
    TERMS,
    a_charge,
    a_customer,
    a_file,
    a_session,
    apply_steps,
    fold,
    open_a_dispute,
    upload_a_file,
)

ADA = {
    "name": "Ada",
    "email": "ada@example.com",
    "address": {"city": "Berlin"},
    "shipping": {"name": "Ada", "address": {"city": "Berlin"}},
    "metadata": {"a": "1"},
    "source": "tok_visa",
}


def customer_history() -> list[DomainEvent]:
    made = customer.create(
        customer_id="cus_1", account="acct_1", livemode=False, params=ADA, card_id="card_1", now=NOW
    )
    state = fold(customer.evolve, made)
    given = {"phone": "1", "source": "tok_amex", "metadata": {"b": "2"}}
    made += customer.update(state, given, card_id="card_2", now=NOW + 1)
    return made + customer.delete(fold(customer.evolve, made), now=NOW + 2)


def session_history(end_session: Callable[..., list[DomainEvent]]) -> list[DomainEvent]:
    made = customer_session.create(
        session_id="cuss_1",
        account="acct_1",
        livemode=False,
        customer="cus_1",
        components={"payment_element": {"enabled": True}},
        terms=TERMS,
        now=NOW,
    )
    return made + end_session(a_session(), now=NOW + 1)


def charge_history() -> list[DomainEvent]:
    made: list[DomainEvent] = charge_decisions.create(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "usd", "capture": False, "description": "Hats"},
        card=a_customer(source="tok_visa").sources[0],
        txn_id="txn_1",
        now=NOW,
    )
    made += charge_decisions.capture(
        fold(charge.evolve, made), {"receipt_email": "a@b.c"}, txn_id="txn_1", now=NOW
    )
    given = {"shipping": {"name": "Ada"}, "fraud_details": {"user_report": "safe"}}
    made += charge_decisions.update(fold(charge.evolve, made), given, now=NOW)
    made.append(charge_decisions.record_dispute(fold(charge.evolve, made), "du_1", 500, "net_1", now=NOW))
    movement = Movement(id="txn_2", amount=-1500, fee=0, currency="usd", created=NOW, available_on=NOW)
    made.append(
        ChargeRefunded(originator_id="ch_1", originator_version=5, at=NOW, refund="re_1", movement=movement)
    )
    return made


def expired_charge_history() -> list[DomainEvent]:
    made = charge_decisions.create(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "usd", "capture": False},
        card=a_customer(source="tok_visa").sources[0],
        txn_id="txn_1",
        now=NOW,
    )
    return made + charge_decisions.expire(fold(charge.evolve, made), now=NOW + 7 * 86_400)


def failed_charge_history() -> list[DomainEvent]:
    return charge_decisions.create(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "usd"},
        card=make_source_card("tok_chargeDeclined", card_id="card_1", livemode=False),
        txn_id="txn_1",
        now=NOW,
    )


def dispute_history(kind: str, *steps: str) -> list[DomainEvent]:
    events = apply_steps(open_a_dispute(kind), *steps)
    given = {"metadata": {"a": "1"}}
    return events + dispute_decisions.update(fold(dispute.evolve, events), given, file_bytes={}, now=NOW)


def refund_history() -> list[DomainEvent]:
    given = {"amount": 500, "reason": "duplicate", "metadata": {"a": "Ada"}}
    charged = a_charge(description="Hats for Ada", customer="cus_1")
    made = refund_decisions.create(charged, given, disputes=[], refund_id="re_1", txn_id="txn_2", now=NOW)[:1]
    return made + refund_decisions.update(fold(refund.evolve, made), {"metadata": {"b": "2"}}, now=NOW + 1)


def file_histories() -> tuple[list[DomainEvent], list[DomainEvent]]:
    """The events of a file and of a link to it."""
    made = upload_a_file()
    given = {"expires_at": NOW + 60, "metadata": {"who": "Ada"}}
    created, linked = file_link.create(
        a_file(), given, link_id="link_1", now=NOW, param="file", expires_param="expires_at"
    )
    state = fold(file_link.evolve, [created])
    updated = file_link.update(state, {"expires_at": "now", "metadata": {"by": "Ada"}}, now=NOW + 1)
    return [*made, linked], [created, *updated]


def webhook_histories() -> tuple[list[DomainEvent], list[DomainEvent]]:
    """The events of a webhook endpoint, and of the roster it is in."""
    created = webhook_endpoint.create(
        endpoint_id="we_1",
        account="acct_1",
        livemode=False,
        params={
            "url": "https://hooks.example.com/Ada",
            "enabled_events": ["charge.dispute.created", "*"],
            "api_version": "2026-10-28.endive",
            "connect": True,
            "description": "For Ada",
            "metadata": {"who": "Ada"},
        },
        now=NOW,
    )
    state = fold(webhook_endpoint.evolve, created)
    given = {"url": "https://hooks.example.com/Ada/2", "disabled": True, "metadata": {"by": "Ada"}}
    updated = webhook_endpoint.update(state, given, now=NOW + 1)
    state = fold(webhook_endpoint.evolve, created + updated)
    enrolled = webhook_endpoint_quota.reserve(
        None, account="acct_1", livemode=False, endpoint_id="we_1", endpoints_max=16, now=NOW
    )
    roster = fold(webhook_endpoint_quota.evolve, enrolled)
    struck = webhook_endpoint_quota.release(roster, endpoint_id="we_1", now=NOW + 2)
    return created + updated + webhook_endpoint.delete(state, now=NOW + 2), enrolled + struck


def resource_history() -> list[DomainEvent]:
    told: dict[str, Any] = {
        "resource_id": "in_1",
        "account": "acct_1",
        "livemode": False,
        "type": "invoice",
        "now": NOW,
    }
    shown = {"customer": "cus_1", "customer_name": "Ada", "lines": [{"amount": 5}], "paid": False}
    made = resource.publish(None, event_type="invoice.created", object=shown, **told)
    state = fold(resource.evolve, made)
    made += resource.publish(state, event_type="invoice.updated", object={"number": "Ada"}, **told)
    return made + resource.delete(fold(resource.evolve, made), "invoice.deleted", now=NOW + 1)


def imported_event_history() -> list[DomainEvent]:
    return imported_event.create(
        event_id="evt_1",
        account="acct_1",
        livemode=False,
        type="customer.updated",
        object={"id": "cus_1", "name": "Ada"},
        previous_attributes={"name": "Ada Byron"},
        now=NOW,
    )


History = tuple[Callable[[Any, DomainEvent], Any], list[DomainEvent]]
HISTORIES: list[History] = [
    (customer.evolve, customer_history()),
    (customer_session.evolve, session_history(customer_session.claim)),
    (customer_session.evolve, session_history(customer_session.revoke)),
    (charge.evolve, charge_history()),
    (charge.evolve, failed_charge_history()),
    (charge.evolve, expired_charge_history()),
    (dispute.evolve, dispute_history("chargeback", "stage", "submit", "won")),
    (
        dispute.evolve,
        dispute_history("inquiry", "submit", "escalated", "close", "appeal_opened", "submit", "lost"),
    ),
    (dispute.evolve, dispute_history("inquiry", "inquiry_closed")),
    (dispute.evolve, dispute_history("compliance", "submit")),
    (dispute.evolve, dispute_history("prevented")),
    (refund.evolve, refund_history()),
    (file.evolve, file_histories()[0]),
    (file_link.evolve, file_histories()[1]),
    (webhook_endpoint.evolve, webhook_histories()[0]),
    (webhook_endpoint_quota.evolve, webhook_histories()[1]),
    (resource.evolve, resource_history()),
    (imported_event.evolve, imported_event_history()),
]
ALL_EVENTS = [
    *customer.EVENTS,
    *customer_session.EVENTS,
    *charge.EVENTS,
    *dispute.EVENTS,
    *refund.EVENTS,
    *file.EVENTS,
    *file_link.EVENTS,
    *webhook_endpoint.EVENTS,
    *webhook_endpoint_quota.EVENTS,
    *resource.EVENTS,
    *imported_event.EVENTS,
]


def test_the_stories_tell_of_every_event() -> None:
    assert {type(event) for _, events in HISTORIES for event in events} == set(ALL_EVENTS)


def test_topics_are_distinct_and_named_after_their_aggregate() -> None:
    topics = [event.TOPIC for event in ALL_EVENTS]
    assert len(set(topics)) == len(topics)
    assert {topic.partition(".")[0] for topic in topics} == {
        "customer",
        "customer_session",
        "charge",
        "dispute",
        "refund",
        "file",
        "file_link",
        "webhook_endpoint",
        "webhook_roster",
        "resource",
        "past_event",
    }


def test_only_fields_that_exist_are_marked_personal() -> None:
    for event in ALL_EVENTS:
        assert {field.name for field in dataclasses.fields(event)} >= event.PERSONAL


def test_texts_of_people_are_marked_personal() -> None:
    marks = {event.TOPIC: event.PERSONAL for event in ALL_EVENTS}
    assert {"name", "email", "phone", "address", "shipping", "description"} <= marks["customer.created"]
    assert "changes" in marks["customer.updated"]
    assert {"billing_details", "receipt_email", "shipping", "description"} <= marks["charge.succeeded"]
    assert "evidence" in marks["dispute.evidence_submitted"]
    assert "evidence" in marks["dispute.evidence_staged"]
    assert "object" in marks["resource.published"]
    assert {"object", "previous_attributes"} <= marks["past_event.imported"]
    assert "url" in marks["webhook_endpoint.created"]
    assert "changes" in marks["webhook_endpoint.updated"]


@pytest.mark.parametrize(("evolve", "events"), HISTORIES)
def test_events_decode_from_json_to_the_same_values(evolve: Any, events: list[DomainEvent]) -> None:
    for event in events:
        stored = json.loads(json.dumps(vars(event)))
        assert stored == vars(event)
        assert type(event)(**stored) == event
    again = [type(event)(**msgspec.json.decode(msgspec.json.encode(vars(event)))) for event in events]
    state = fold(evolve, again)
    assert state == fold(evolve, events)
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state
    assert state.version == len(events) == events[-1].originator_version


@pytest.mark.parametrize(("evolve", "events"), HISTORIES)
def test_erased_events_still_fold_and_render(evolve: Any, events: list[DomainEvent]) -> None:
    state = None
    for event in events:
        erasure: dict[str, Any] = dict.fromkeys(event.PERSONAL)
        erased = dataclasses.replace(event, **erasure)
        before, state = state, evolve(state, erased)
        for _, shown, previous in derive_public_events(before, erased, state):
            assert "Ada" not in json.dumps((shown, previous))
    if isinstance(state, customer_session.CustomerSession):
        assert render.render_customer_session(state, "cuss_secret_x")["customer"] == "cus_1"


@pytest.mark.parametrize(("evolve", "events"), HISTORIES)
def test_no_change_makes_more_events_than_are_looked_for(evolve: Any, events: list[DomainEvent]) -> None:
    state = None
    for event in events:
        before, state = state, evolve(state, event)
        assert len(derive_public_events(before, event, state)) <= EVENTS_PER_CHANGE_MAX


def test_silent_events_are_the_contracts() -> None:
    silent = {
        event.TOPIC
        for event in ALL_EVENTS
        if event not in PUBLIC_EVENT_TYPES and event not in EXTERNAL_EVENTS
    }
    assert silent == {
        "charge.disputed",
        "customer_session.created",
        "customer_session.claimed",
        "customer_session.revoked",
        "file.uploaded",
        "file.linked",
        "file_link.created",
        "file_link.updated",
        "webhook_endpoint.created",
        "webhook_endpoint.updated",
        "webhook_endpoint.deleted",
        "webhook_roster.enrolled",
        "webhook_roster.struck",
    }
