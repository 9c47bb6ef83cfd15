"""The schemas of answers are those of what is rendered, in every state that a history leads to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs
import pytest

from ledger.domain import imported_event, resource
from ledger.domain.aggregate import State
from ledger.domain.customer_session import DEFAULT_FEATURES
from ledger.domain.event import DomainEvent
from ledger.objects import render_object
from ledger.store.codec import evolve
from ledger.wire.accounts import render_account
from ledger.wire.aggregates import AGGREGATES_BY_STATE
from ledger.wire.balance import Funds, render_balance
from ledger.wire.elements import render_elements_customer, render_elements_session
from ledger.wire.expansion import EXPANDABLE_FIELDS
from ledger.wire.payment_methods import render_payment_method
from ledger.wire.schemas.catalog import EXPANSION, OBJECTS, build_public_schemas, list_kinds
from ledger.wire.schemas.fields import Field, Fields, make_reference
from tests.domain.builders import NOW, a_charge, a_session
from tests.domain.histories import HISTORIES
from tests.domain.redacted_events import erase, redact
from tests.wire.closed_schemas import AnswerSchemas

COMPONENTS = build_public_schemas()
SCHEMAS = AnswerSchemas(COMPONENTS)
# Objects that other systems made, and a quota that no route shows.
WITHOUT_SCHEMA = (resource.Resource, imported_event.ImportedEvent)


# Members that are missing in some answers, and that no state in the histories has. Tests of the API see them.
ELSEWHERE = {
    # only if expanded
    "charge.refunds",
    "customer.cash_balance",
    "customer.sources",
    "customer.subscriptions",
    "customer.tax",
    "customer.tax_ids",
    "privacy.redaction_job.objects",
    # in answers that are not the state of one aggregate
    "elements_session.customer",
    "event.account",
    "event.data.previous_attributes",
    "thin_event.related_object.id",
    "webhook_endpoint.secret",
    # of other kinds of disputes and payments: see test_render
    "dispute.evidence.enhanced_evidence.mastercard_compliance",
    "dispute.evidence.enhanced_evidence.mastercard_compliance.fee_acknowledged",
    "dispute.evidence.enhanced_evidence.visa_compelling_evidence_3",
    "dispute.evidence.enhanced_evidence.visa_compliance",
    "dispute.evidence.enhanced_evidence.visa_compliance.fee_acknowledged",
    "dispute.evidence_details.enhanced_eligibility.mastercard_compliance",
    "dispute.evidence_details.enhanced_eligibility.visa_compelling_evidence_3",
    "dispute.payment_method_details.amazon_pay",
    "dispute.payment_method_details.klarna",
    "dispute.payment_method_details.paypal",
    "payment_intent.last_payment_error.param",
}


def check(name: str, answer: Any) -> None:
    SCHEMAS.check({"anyOf": [make_reference(each) for each in list_kinds(name)]}, answer)


def fold_all(history: list[DomainEvent]) -> Iterator[State]:
    """The states of a history, and those of the same objects while they are erased and afterwards."""
    for read in (lambda event: event, erase, redact):
        state: State | None = None
        for event in history:
            state = evolve(state, read(event))
            yield state


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history[-1].TOPIC)
def test_every_state_of_every_history_has_the_schema_of_its_type(history: list[DomainEvent]) -> None:
    for state in fold_all(history):
        object_type = AGGREGATES_BY_STATE[type(state)].object_type
        if object_type is not None and not isinstance(state, WITHOUT_SCHEMA):
            check(object_type, render_object(state, NOW))


def test_objects_that_are_no_aggregates_have_their_schemas() -> None:
    charge = a_charge()
    assert charge.card is not None
    check("payment_method", render_payment_method(charge.card, charge, "cus_1"))
    check("balance", render_balance({"usd": Funds(1, -2)}, "usd", livemode=False))
    check("account", render_account("acct_1", "Berlin branch", NOW))
    session = render_elements_session("elements_session_1", "deferred_intent", livemode=False)
    check("elements_session", session)
    for component in DEFAULT_FEATURES:
        state = a_session(**{component: {"enabled": True}})
        check("elements_session", {**session, "customer": render_elements_customer(state, "ek_test_1")})


def list_members(fields: Fields, expandable: Mapping[str, Any], path: str) -> Iterator[str]:
    """The paths that `expand[]` may name and that no field has as an id, a list or a hash."""
    for name, expansion in expandable.items():
        field = fields.get(name)
        while field is not None and field.item is not None:
            field = field.item
        if field is None:
            yield f"{path}.{name}"
        elif isinstance(expansion, dict) and field.members is not None:
            yield from list_members(field.members, expansion, f"{path}.{name}")
        elif isinstance(expansion, str) and not (field.is_id or _is_list_or_null(field)):
            yield f"{path}.{name}"


def _is_list_or_null(field: Field) -> bool:
    return field.schema is None or "$ref" in field.schema or field.optional or field.nullable


def test_what_can_be_expanded_is_described_as_such() -> None:
    missing = [
        path
        for name, described in OBJECTS.items()
        for path in list_members(described.fields, EXPANDABLE_FIELDS.get(name, {}), name)
    ]
    # Stripe's classes have these members; its renderings of a charge and an account leave them out.
    assert missing == [
        "account.company",
        "account.individual",
        "charge.transfer",
    ]
    described = COMPONENTS["charge"]["properties"]["customer"]
    assert described["anyOf"][:2] == [{"type": "string"}, make_reference("customer")]
    assert [each["$ref"] for each in EXPANSION.list_schemas("source")] == [
        make_reference(name)["$ref"] for name in ("charge", "dispute", "refund")
    ]


def test_the_schemas_are_valid_and_so_are_their_examples() -> None:
    for name, schema in COMPONENTS.items():
        jsonschema_rs.meta.validate(schema)
        assert schema["description"], name
        assert schema["examples"], name
        for example in schema["examples"]:
            SCHEMAS.check(make_reference(name), example)
        for place, member in _list_described(schema, name):
            assert member.get("description") or "$ref" in member, place
            for example in member.get("examples", ()):
                SCHEMAS.check(member, example)


def _list_described(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every member of an object, at every level."""
    if isinstance(schema, list):
        for item in schema:
            yield from _list_described(item, place)
    elif isinstance(schema, dict):
        for name, member in schema.get("properties", {}).items():
            yield f"{place}.{name}", member
            yield from _list_described(member, f"{place}.{name}")
        for part in ("items", "anyOf"):
            yield from _list_described(schema.get(part, []), place)


def test_every_member_is_rendered_by_something() -> None:
    """Members that are always there are: an answer without them does not have its schema. The others are."""
    seen: set[str] = set()
    for history in HISTORIES:
        for state in fold_all(history):
            object_type = AGGREGATES_BY_STATE[type(state)].object_type
            if object_type in OBJECTS:
                seen.update(_list_paths(render_object(state, NOW), object_type))
    missing = {
        path
        for name, described in OBJECTS.items()
        for path in _list_optional(described.fields, name)
        if path not in seen
    }
    assert missing == ELSEWHERE


def _list_paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _list_paths(item, path)
    elif isinstance(value, dict):
        for name, member in value.items():
            yield f"{path}.{name}"
            yield from _list_paths(member, f"{path}.{name}")


def _list_optional(fields: Fields, path: str) -> Iterator[str]:
    for name, field in fields.items():
        if field.optional:
            yield f"{path}.{name}"
        inner = field.item if field.item is not None else field
        yield from _list_optional(inner.members or {}, f"{path}.{name}")
