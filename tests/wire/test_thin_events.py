"""Thin events: their ids and types, and what they refer to, compared with the classes of the SDK."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import stripe
import stripe.events
from hypothesis import example, given
from hypothesis import strategies as st
from stripe.events._event_classes import get_v2_event_notification_class
from stripe.v2.core._event import EventNotification, UnknownEventNotification

from ledger.domain.event import DomainEvent
from ledger.store.codec import evolve
from ledger.wire.event_types import ORDERED_EVENT_TYPES, PREVIEW_EVENT_TYPES
from ledger.wire.object_urls import make_object_url
from ledger.wire.public_event_rows import PublicEventRow, derive_public_event_rows
from ledger.wire.public_events import FIXED_EVENT_TYPES
from ledger.wire.thin_events import (
    ORDERED_THIN_TYPES,
    render_notification,
    render_thin_event,
    to_snapshot_id,
    to_snapshot_type,
    to_thin_id,
    to_thin_type,
)
from tests.domain.histories import HISTORIES

ids = st.from_regex(r"[A-Za-z0-9_.\-]{1,255}", fullmatch=True)
CLIENT = stripe.StripeClient("sk_test_1")


class Recorded(NamedTuple):
    """A recorded event with all that a row of the feed needs."""

    event: DomainEvent
    account: str = "acct_1"
    livemode: bool = False
    request_id: str | None = "req_1"
    idempotency_key: str | None = "key"
    recorded_at: float = 1795000000.25


def derive_rows() -> Iterator[PublicEventRow]:
    """The public Events of every class of domain event."""
    for history in HISTORIES:
        states: dict[str, Any] = {}
        for event in history:
            before = states.get(event.originator_id)
            after = states[event.originator_id] = evolve(before, event)
            yield from derive_public_event_rows(before, Recorded(event), after)


@given(ids)
@example("evt_")
def test_a_thin_id_leads_back_to_its_snapshot(snapshot_id: str) -> None:
    thin_id = to_thin_id(snapshot_id)
    assert thin_id.startswith("evt_thin_")
    assert to_snapshot_id(thin_id) == snapshot_id


@given(ids, ids)
def test_two_snapshots_have_two_thin_ids(one: str, other: str) -> None:
    others = {other, one.removeprefix("evt_"), f"evt_{one}", f"thin_{one}", f"evt_thin_{one}"} - {one}
    assert to_thin_id(one) not in {to_thin_id(each) for each in others}


@pytest.mark.parametrize(
    "other_id", ["", "evt_", "evt_1", "evt_thin", "evt_thin_~", "evt_thin_~evt_1", "cus_1"]
)
def test_other_ids_lead_to_no_snapshot(other_id: str) -> None:
    assert to_snapshot_id(other_id) is None


def test_types_have_a_version_before_them() -> None:
    assert to_thin_type("charge.captured") == "v1.charge.captured"
    assert [to_snapshot_type(name) for name in ORDERED_THIN_TYPES] == list(ORDERED_EVENT_TYPES)
    assert to_snapshot_type("v2.core.event_destination.ping") is None


def test_every_domain_event_makes_notifications_that_the_sdk_has_a_class_for() -> None:
    seen = set()
    for row in derive_rows():
        whole = msgspec.json.decode(row.data)["object"]
        if "object" not in whole:  # an import that does not say what it is about
            continue
        if row.type in PREVIEW_EVENT_TYPES:
            continue
        notification = render_notification(row, row.data, context=None)
        parsed = EventNotification.from_json(msgspec.json.encode(notification), CLIENT)
        assert type(parsed) is get_v2_event_notification_class(to_thin_type(row.type))
        assert not isinstance(parsed, UnknownEventNotification), row.type
        related: Any = parsed.related_object  # type: ignore[attr-defined]
        assert (related.id, related.type) == (whole["id"], whole["object"])
        assert related.id in related.url
        assert parsed.reason is not None
        assert parsed.reason.request is not None
        assert (parsed.reason.request.id, parsed.reason.request.idempotency_key) == ("req_1", "key")
        assert parsed.created == "2026-11-18T11:06:40.000Z"
        seen.add(row.type)
    made = {name for names in FIXED_EVENT_TYPES.values() for name in names}
    assert made <= seen | PREVIEW_EVENT_TYPES


def test_a_retrieved_thin_event_has_all_of_the_notification_and_what_changed() -> None:
    for row in derive_rows():
        notification = render_notification(row, row.data, context="acct_2")
        thin = render_thin_event(row, row.data, context="acct_2")
        assert {name: thin[name] for name in notification} == notification
        assert set(thin) - set(notification) == {"changes", "snapshot_event"}
        assert thin["snapshot_event"] == row.id == to_snapshot_id(thin["id"])
        data = msgspec.json.decode(row.data)
        before = data.get("previous_attributes")
        if before is None:
            assert thin["changes"] is None
        else:
            assert thin["changes"]["before"] == before
            assert list(thin["changes"]["after"]) == list(before)
            assert thin["changes"]["after"] != before
            assert _overlay(data["object"], thin["changes"]["after"]) == data["object"]


def _overlay(whole: Any, part: Any) -> Any:
    """`whole` with the members of `part`; those that are null where it has none are none."""
    for name, value in part.items():
        if isinstance(value, dict) and isinstance(whole.get(name), dict):
            _overlay(whole[name], value)
        elif value is not None or name in whole:
            whole[name] = value
    return whole


class SdkEvent(NamedTuple):
    """A type of thin event of the SDK: the object that it is about, and where the SDK's class of that has its
    list; None for what has no id. Both None: it is about nothing."""

    type: str
    object_type: str | None
    list_url: str | None
    is_singleton: bool


def read_sdk_events() -> Iterator[SdkEvent]:
    for file in sorted(Path(stripe.events.__file__).parent.glob("_v1_*_event.py")):
        source = file.read_text()
        event_type = re.search(r'LOOKUP_TYPE = \(?\s*"([^"]+)"', source)
        assert event_type is not None
        fetched = re.search(r'def fetch_related_object\(self\) -> "?(\w+)', source)
        if fetched is None:
            yield SdkEvent(event_type[1], None, None, False)
            continue
        module = re.search(rf"from (stripe[\w.]*) import \(?\s*{fetched[1]}\b", source)
        assert module is not None
        resource = getattr(importlib.import_module(module[1]), fetched[1])
        list_url = resource.class_url() if hasattr(resource, "class_url") else None
        yield SdkEvent(event_type[1], resource.OBJECT_NAME, list_url, "RelatedSingletonObject" in source)


# What the SDK's class says of these paths is not what Stripe has.
_OWN_URLS = {
    "capability": "/v1/accounts/acct_9/capabilities/id_1",
    "cash_balance": "/v1/customers/cus_9/cash_balance",
    "customer_cash_balance_transaction": "/v1/customers/cus_9/cash_balance_transactions/id_1",
    "discount": "/v1/customers/cus_9/discount",
    "fee_refund": "/v1/application_fees/fee_9/refunds/id_1",
    "person": "/v1/accounts/acct_9/persons/id_1",
}
_MEMBERS = {"id": "id_1", "customer": "cus_9", "account": "acct_9", "fee": "fee_9"}


def test_every_type_of_the_sdk_is_parsed_with_the_url_of_its_object() -> None:
    compared = 0
    for event in read_sdk_events():
        if event.object_type is None:
            continue
        whole = {"object": event.object_type, **({} if event.is_singleton else _MEMBERS)}
        if event.object_type in ("cash_balance", "discount"):
            whole["customer"] = "cus_9"
        data = msgspec.json.encode({"object": whole})
        snapshot = PublicEventRow(
            "evt_1", "acct_1", True, 0, 0, event.type.removeprefix("v1."), "id_1", "", None, None, data
        )
        notification = render_notification(snapshot, data, context=None)
        parsed: Any = EventNotification.from_json(msgspec.json.encode(notification), CLIENT)
        expected = event.list_url if event.is_singleton else f"{event.list_url}/id_1"
        assert parsed.related_object.url == _OWN_URLS.get(event.object_type, expected), event
        assert parsed.related_object.type == event.object_type
        compared += 1
    assert compared > 200


def test_what_stripe_retrieves_nowhere_has_no_related_object() -> None:
    for whole in ({"object": "invoice"}, {"object": 5, "id": "x"}, {"id": "x"}, {"object": "x", "id": "y"}):
        data = msgspec.json.encode({"object": whole})
        row = PublicEventRow("e", "acct_1", True, 0, 0, "invoice.upcoming", "", "", None, None, data)
        notification = render_notification(row, data, context=None)
        assert notification["related_object"] is None
        assert notification["reason"] is None
        EventNotification.from_json(msgspec.json.encode(notification), CLIENT)


def test_an_id_in_a_url_is_one_segment() -> None:
    assert make_object_url("invoice", {"id": "in/1?x"}) == "/v1/invoices/in%2F1%3Fx"
    assert make_object_url("card", {"id": "card_1", "customer": None}) is None
