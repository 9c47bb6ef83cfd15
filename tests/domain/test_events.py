"""Rules for every domain event: its topic, its personal fields, and that it survives storage and erasure."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest

from ledger.domain.event import DomainEvent
from ledger.store.codec import evolve, fold
from ledger.wire.aggregates import AGGREGATES, AGGREGATES_BY_EVENT, AGGREGATES_BY_STATE, EVENT_CLASSES
from ledger.wire.public_events import EVENTS_PER_CHANGE_MAX, derive_public_events
from tests.domain.builders import NOW
from tests.domain.histories import HISTORIES
from tests.work import count_calls


def test_the_histories_have_every_class_of_event() -> None:
    assert {type(event) for events in HISTORIES for event in events} == set(EVENT_CLASSES)


def test_topics_are_distinct_and_each_aggregate_has_a_prefix_of_its_own() -> None:
    topics = [event_class.TOPIC for event_class in EVENT_CLASSES]
    assert len(set(topics)) == len(topics)
    prefixes = [{cls.TOPIC.partition(".")[0] for cls in row.module.EVENTS} for row in AGGREGATES]
    assert all(len(prefix) == 1 for prefix in prefixes)
    assert len(set.union(*prefixes)) == len(AGGREGATES)


def test_only_fields_that_exist_are_marked_personal() -> None:
    for event_class in EVENT_CLASSES:
        assert {field.name for field in dataclasses.fields(event_class)} >= event_class.PERSONAL


def test_texts_of_people_are_marked_personal() -> None:
    marks = {event_class.TOPIC: event_class.PERSONAL for event_class in EVENT_CLASSES}
    assert {"name", "email", "phone", "address", "shipping", "description"} <= marks["customer.created"]
    assert "changes" in marks["customer.updated"]
    assert {"billing_details", "receipt_email", "shipping", "description"} <= marks["charge.succeeded"]
    assert "evidence" in marks["dispute.evidence_submitted"]
    assert "evidence" in marks["dispute.evidence_staged"]
    assert "object" in marks["resource.published"]
    assert {"object", "previous_attributes"} <= marks["past_event.imported"]
    assert "url" in marks["webhook_endpoint.created"]
    assert "changes" in marks["webhook_endpoint.updated"]


@pytest.mark.parametrize("event", {type(event): event for events in HISTORIES for event in events}.values())
def test_making_an_event_calls_nothing_for_each_field(event: DomainEvent) -> None:
    assert count_calls(lambda: type(event)(**vars(event))) <= 6


@pytest.mark.parametrize("events", HISTORIES)
def test_events_decode_from_json_to_the_same_values(events: list[DomainEvent]) -> None:
    for event in events:
        stored = json.loads(json.dumps(vars(event)))
        assert stored == vars(event)
        assert type(event)(**stored) == event
    again = [type(event)(**msgspec.json.decode(msgspec.json.encode(vars(event)))) for event in events]
    state = fold(again)
    assert state is not None
    assert state == fold(events)
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state
    assert state.version == len(events) == events[-1].originator_version


@pytest.mark.parametrize("events", HISTORIES)
def test_erased_events_still_fold_and_render(events: list[DomainEvent]) -> None:
    state = None
    for event in events:
        erasure: dict[str, Any] = dict.fromkeys(event.PERSONAL)
        erased = dataclasses.replace(event, **erasure)
        before, state = state, evolve(state, erased)
        for _, rendered, previous in derive_public_events(before, erased, state):
            assert "Ada" not in json.dumps((rendered, previous))
        assert "Ada" not in json.dumps(AGGREGATES_BY_STATE[type(state)].render(state, NOW))


@pytest.mark.parametrize("events", HISTORIES)
def test_no_change_makes_more_public_events_than_the_maximum(events: list[DomainEvent]) -> None:
    state = None
    for event in events:
        before, state = state, evolve(state, event)
        assert len(derive_public_events(before, event, state)) <= EVENTS_PER_CHANGE_MAX


def test_events_without_a_public_event_are_those_of_the_contract() -> None:
    silent = {
        event_class.TOPIC
        for event_class, row in AGGREGATES_BY_EVENT.items()
        if event_class not in row.public_event_types and row.make_public_event is None
    }
    assert silent == {
        "charge.disputed",
        "charge.released",
        "payment_intent.updated",
        "customer_session.created",
        "customer_session.claimed",
        "customer_session.revoked",
        "file.uploaded",
        "file.linked",
        "file_link.created",
        "file_link.updated",
        "webhook_endpoint.created",
        "webhook_endpoint.destination_created",
        "webhook_endpoint.updated",
        "webhook_endpoint.configured",
        "webhook_endpoint.secret_rotated",
        "webhook_endpoint.disabled",
        "webhook_endpoint.deleted",
        "redaction_job.validation_started",
        "redaction_job.updated",
        "redaction_job.run_requested",
        "redaction_job.cancel_requested",
        "legal_hold.placed",
        "legal_hold.released",
        "webhook_roster.enrolled",
        "webhook_roster.struck",
    }
