"""The member `redaction`: in preview versions of every object that can be redacted, in others nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.api.errors import V1_ANSWERS
from ledger.domain.event import DomainEvent
from ledger.errors import InvalidState
from ledger.objects import render_object
from ledger.store.codec import fold
from ledger.wire.json_values import make_list_object
from tests.domain.builders import NOW, a_charge, a_customer
from tests.domain.histories import HISTORIES
from tests.domain.redacted_events import erase, redact

HISTORY_OF = {history[0].TOPIC: history for history in HISTORIES}


def render(history: list[DomainEvent], read: Any = redact) -> dict[str, Any]:
    state = fold(read(event) for event in history)
    assert state is not None
    return render_object(state, NOW)


def show(answer: Any) -> tuple[Any, Any]:
    """The answer in a stable version and in a preview."""
    (_, stable), (_, preview) = V1_ANSWERS.stable(answer), V1_ANSWERS.preview(answer)
    return json.loads(stable), json.loads(preview)


@pytest.mark.parametrize("topic", ["charge.succeeded", "payment_intent.created"])
def test_only_a_preview_version_says_that_an_object_is_redacted(topic: str) -> None:
    rendered = render(HISTORY_OF[topic])
    assert rendered["redaction"] == {"status": "redacted"}
    stable, preview = show(rendered)
    assert preview == rendered
    assert stable == {name: value for name, value in rendered.items() if name != "redaction"}
    assert render(HISTORY_OF[topic], erase)["redaction"] == {"status": "processing"}


def test_in_a_preview_version_all_others_say_that_they_are_not() -> None:
    rendered = render_object(a_customer(), NOW)
    stable, preview = show(make_list_object([rendered], "/v1/customers"))
    assert stable["data"] == [rendered]
    assert preview["data"] == [{**rendered, "redaction": None}]


def test_objects_inside_others_say_it_too() -> None:
    redacted = render(HISTORY_OF["customer.created"][:1])
    assert redacted["redaction"] == {"status": "redacted"}
    charge = {**render_object(a_charge(), NOW), "customer": redacted}
    stable, preview = show({"object": "dispute", "charge": charge})
    assert "redaction" not in stable["charge"]
    assert "redaction" not in stable["charge"]["customer"]
    assert preview["charge"]["redaction"] is None
    assert preview["charge"]["customer"]["redaction"] == {"status": "redacted"}


def test_what_others_published_what_was_deleted_and_events_stay_as_they_are() -> None:
    invoice = {"object": "invoice", "customer": {"id": "cus_1", "object": "customer", "redaction": {}}}
    deleted = {"id": "cus_1", "object": "customer", "deleted": True}
    event = {"object": "event", "data": {"object": {"id": "cus_1", "object": "customer"}}}
    for answer in (invoice, deleted, event):
        assert show(answer) == (answer, answer)
    assert render(HISTORY_OF["customer.created"]) == {"id": "cus_1", "object": "customer", "deleted": True}


def test_metadata_may_have_any_name() -> None:
    answer = {**render_object(a_customer(), NOW), "metadata": {"redaction": '"redaction":{'}}
    stable, preview = show(answer)
    assert stable == answer
    assert preview["metadata"] == answer["metadata"]


def test_an_error_is_the_same_in_every_version() -> None:
    refusal = InvalidState("No.")
    assert V1_ANSWERS.stable(refusal) == V1_ANSWERS.preview(refusal)
