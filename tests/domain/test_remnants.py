"""What stays of erased events: each personal field has a rule, no text survives, and streams still fold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain import charge_decisions, customer, payment_intent_decisions
from ledger.domain.charge import ChargeSucceeded
from ledger.domain.customer import CustomerCreated
from ledger.domain.dispute import EvidenceStaged
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported
from ledger.domain.redaction.documents import KEPT_TEXTS, NUMBER_NAMES, REDACTED, redact_document
from ledger.domain.redaction.remnants import make_remnant
from ledger.domain.redaction.rules import redact_locales
from ledger.domain.resource import ResourcePublished
from ledger.store.codec import evolve
from ledger.wire.aggregates import AGGREGATES_BY_STATE, EVENT_CLASSES
from ledger.wire.public_events import derive_public_events
from tests.domain.builders import NOW
from tests.domain.histories import HISTORIES
from tests.domain.redacted_events import erase, redact

EVENTS = [event for events in HISTORIES for event in events if event.PERSONAL]
IDS = [f"{event.TOPIC}-{number}" for number, event in enumerate(EVENTS)]
ADDRESS = {
    "city": "Quedlinburg",
    "country": "DE",
    "line1": "Steinweg 8",
    "line2": None,
    "postal_code": "06484",
    "state": "Harz",
}

texts = st.text(min_size=3)
names = st.one_of(
    st.sampled_from([*KEPT_TEXTS, "name", "email", "dob", "day", "year", "metadata", "lines", "data", "url"]),
    st.sampled_from(["amount", "available", "eur", "value", "payload", "postal_code"]),
    st.text(),
)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(names, values, max_size=5),
    max_leaves=25,
)


def list_leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each text, number, boolean and null in a value of JSON, by the name of the member that it is in."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from list_leaves(member, key)
    elif isinstance(value, list):
        for item in value:
            yield from list_leaves(item, name)
    else:
        yield name, value


def list_texts(value: Any) -> Iterator[tuple[str, str]]:
    return ((name, leaf) for name, leaf in list_leaves(value) if isinstance(leaf, str))


def list_numbers(value: Any) -> Iterator[tuple[str, int]]:
    return ((name, leaf) for name, leaf in list_leaves(value) if type(leaf) is int)


def test_each_personal_field_of_each_event_class_has_a_rule() -> None:
    for event_class in EVENT_CLASSES:
        assert set(event_class.REDACTION) == event_class.PERSONAL, event_class.TOPIC


def test_whatever_a_command_may_change_has_a_rule() -> None:
    changeable = {
        "customer.updated": {*customer._SIMPLE_FIELDS, "address", "shipping", "metadata", "default_source"},
        "charge.updated": {*charge_decisions._UPDATE_FIELDS, "customer", "fraud_report", "shipping"},
        "charge.captured": set(charge_decisions._CAPTURE_FIELDS),
        "payment_intent.updated": {*payment_intent_decisions._UPDATE_FIELDS, "currency", "card", "metadata"},
        "dispute.updated": {"metadata", "intended_submission_method"},
    }
    changeable["customer.updated"] |= {"invoice_settings"}
    for event_class in EVENT_CLASSES:
        for name in changeable.get(event_class.TOPIC, ()):
            event = event_class.__new__(event_class)
            event.__dict__.update(dict.fromkeys(event_class.PERSONAL) | {"changes": {name: None}})
            assert make_remnant(event)["changes"] == {name: None}, (event_class.TOPIC, name)
    recorded = [event for event in EVENTS if getattr(event, "changes", None)]
    assert all(make_remnant(event)["changes"].keys() == vars(event)["changes"].keys() for event in recorded)


@pytest.mark.parametrize("event", EVENTS, ids=IDS)
def test_a_remnant_is_that_of_the_redacted_event_too(event: DomainEvent) -> None:
    remnant = make_remnant(event)
    assert set(remnant) == event.PERSONAL
    assert make_remnant(redact(event)) == remnant
    nothing: dict[str, Any] = dict.fromkeys(event.PERSONAL)
    erased = dataclasses.replace(event, **nothing)
    assert make_remnant(erased) == nothing
    assert json.loads(json.dumps(remnant)) == remnant


@pytest.mark.parametrize("events", HISTORIES)
@pytest.mark.parametrize("erased_until", [0, 1, 2, 100])
def test_a_stream_folds_and_renders_whatever_of_it_is_redacted(
    events: list[DomainEvent], erased_until: int
) -> None:
    """The first events have a remnant already, of the others the key is destroyed."""
    state = None
    for number, event in enumerate(events):
        shown = redact(event) if number < erased_until else erase(event)
        before, state = state, evolve(state, shown)
        rendered = AGGREGATES_BY_STATE[type(state)].render(state, NOW)
        answers = json.dumps((rendered, derive_public_events(before, shown, state)))
        assert "Ada" not in answers
        assert "Berlin" not in answers
        assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state


def test_of_a_customer_stay_the_country_and_what_tells_its_card() -> None:
    (created,) = customer.create(
        customer_id="cus_1",
        account="acct_1",
        livemode=False,
        params={"name": "Ada", "email": "ada@example.com", "address": ADDRESS, "source": "tok_visa"},
        card_id="card_1",
        now=NOW,
    )
    assert isinstance(created, CustomerCreated)
    remnant = make_remnant(created)
    assert (remnant["name"], remnant["email"], remnant["phone"]) == (REDACTED, REDACTED, None)
    assert remnant["metadata"] == {}
    assert remnant["address"] == {**dict.fromkeys(ADDRESS, REDACTED), "country": "DE", "line2": None}
    assert created.card is not None
    assert remnant["card"] == {**created.card, "fingerprint": REDACTED}


def test_a_country_that_is_no_code_is_redacted() -> None:
    event = next(event for event in EVENTS if isinstance(event, CustomerCreated))
    written_out = dataclasses.replace(event, address={**ADDRESS, "country": "Ada's island"})
    assert make_remnant(written_out)["address"]["country"] == REDACTED


def test_of_evidence_stay_the_ids_of_files_and_which_texts_were_given() -> None:
    staged = EvidenceStaged(
        originator_id="dp_1",
        originator_version=2,
        at=NOW,
        evidence={
            "customer_name": "Ada",
            "receipt": "file_1",
            "service_date": None,
            "appeal": {"card": {"reason_for_filing": "Ada paid", "supporting_files": ["file_2"]}},
            "enhanced_evidence": {
                "visa_compelling_evidence_3": {
                    "disputed_transaction": {
                        "customer_purchase_ip": "127.0.0.1",
                        "merchandise_or_services": "merchandise",
                        "shipping_address": ADDRESS,
                    },
                    "prior_undisputed_transactions": [{"charge": "ch_2", "product_description": "Ada's hat"}],
                },
                "visa_compliance": {"fee_acknowledged": True},
            },
        },
        changes={"intended_submission_method": "manual", "metadata": {"of": "Ada"}},
    )
    assert make_remnant(staged) == {
        "evidence": {
            "customer_name": REDACTED,
            "receipt": "file_1",
            "service_date": None,
            "appeal": {"card": {"reason_for_filing": REDACTED, "supporting_files": ["file_2"]}},
            "enhanced_evidence": {
                "visa_compelling_evidence_3": {
                    "disputed_transaction": {
                        "customer_purchase_ip": REDACTED,
                        "merchandise_or_services": "merchandise",
                        "shipping_address": {
                            **dict.fromkeys(ADDRESS, REDACTED),
                            "country": "DE",
                            "line2": None,
                        },
                    },
                    "prior_undisputed_transactions": [{"charge": "ch_2", "product_description": REDACTED}],
                },
                "visa_compliance": {"fee_acknowledged": True},
            },
        },
        "changes": {"intended_submission_method": "manual", "metadata": {}},
    }


def test_of_an_invoice_stay_ids_amounts_codes_and_times() -> None:
    invoice = {
        "id": "in_1",
        "object": "invoice",
        "amount_due": 1900,
        "created": 1700000000,
        "currency": "eur",
        "customer": "cus_1",
        "customer_address": ADDRESS,
        "customer_name": "Ada",
        "customer_tax_ids": [{"type": "eu_vat", "value": "DE123456789"}],
        "dob": {"day": 10, "month": 12, "year": 1815},
        "livemode": False,
        "lines": {"object": "list", "data": [{"id": "il_1", "amount": 1900, "description": "Ada's hat"}]},
        "metadata": {"Ada": "Lovelace"},
        "number": "ADA-0001",
        "phone": 493012345,
        "status": "paid",
        "custom": {"Ada Lovelace": 1},
    }
    assert redact_document(invoice) == {
        "id": "in_1",
        "object": "invoice",
        "amount_due": 1900,
        "created": 1700000000,
        "currency": "eur",
        "customer": "cus_1",
        "customer_address": {**dict.fromkeys(ADDRESS, REDACTED), "country": "DE", "line2": None},
        "customer_name": REDACTED,
        "customer_tax_ids": [{"type": "eu_vat", "value": REDACTED}],
        "dob": {"day": None, "month": None, "year": None},
        "livemode": False,
        "lines": {"object": "list", "data": [{"id": "il_1", "amount": 1900, "description": REDACTED}]},
        "metadata": {},
        "number": REDACTED,
        "phone": None,
        "status": "paid",
        "custom": {},
    }


def test_a_resource_keeps_the_id_under_which_it_was_published() -> None:
    published = ResourcePublished(
        originator_id="GOLD plan",
        originator_version=1,
        at=NOW,
        account="acct_1",
        livemode=False,
        type="plan",
        event_type="plan.created",
        object={"id": "GOLD plan", "object": "plan", "nickname": "Ada's"},
        owner=None,
    )
    assert make_remnant(published)["object"] == {"id": "GOLD plan", "object": "plan", "nickname": REDACTED}


def test_a_payment_that_another_system_reported_keeps_the_kind_of_its_card() -> None:
    event = next(event for event in EVENTS if isinstance(event, ChargeSucceeded))
    details = {
        "type": "card",
        "card": {
            "brand": "visa",
            "last4": "4242",
            "exp_month": 12,
            "country": "US",
            "fingerprint": "Xt5EWLLDS7FJjR1c",
            "checks": {"cvc_check": "pass"},
            "wallet": {"type": "apple_pay", "dynamic_last4": "Ada"},
        },
    }
    billing_details = {"name": "Ada", "email": None, "phone": None, "tax_id": "1", "address": ADDRESS}
    remnant = make_remnant(
        dataclasses.replace(event, payment_method_details=details, billing_details=billing_details)
    )
    assert remnant["payment_method_details"]["card"] == {
        "brand": "visa",
        "last4": "4242",
        "exp_month": 12,
        "country": "US",
        "fingerprint": REDACTED,
        "checks": {"cvc_check": "pass"},
        "wallet": {"type": "apple_pay", "dynamic_last4": REDACTED},
    }
    assert remnant["billing_details"]["name"] == remnant["billing_details"]["tax_id"] == REDACTED


@pytest.mark.parametrize(
    "name",
    [
        "postal_code", "zip", "number", "routing_number", "account_number", "id_number", "phone", "day",
        "month", "year", "dob_year", "latitude", "longitude", "tax_id", "value", "last4", "ip_address", "cvc",
    ],
)  # fmt: skip
def test_a_number_that_may_be_of_a_person_goes(name: str) -> None:
    assert redact_document({name: 4242424242424242, "object": {name: [1.5]}}) == {
        name: None,
        "object": {name: [None]},
    }


@pytest.mark.parametrize(
    "name",
    [
        "card_number", "national_id", "tel", "cell", "salary", "coordinates", "lat", "lon", "ssn",
        "external_metadata", "ada", "ada_lovelace",
    ],
)  # fmt: skip
def test_a_member_that_no_api_has_goes_with_its_name(name: str) -> None:
    assert redact_document({name: 1, "custom": {name: {"amount": 5}}}) == {"custom": {}}


def test_amounts_counts_times_and_versions_stay() -> None:
    kept = {
        "amount": 1900,
        "created": 1700000000,
        "current_period_end": 1700000000,
        "discount": {"percent_off": 12.5},
        "exp_month": 12,
        "exp_year": 2034,
        "invoice_credit_balance": {"eur": -500},
        "monetary": {"currency": "eur", "value": 500},
        "paid": True,
        "quantity": 3,
        "tax_percent": 19.0,
        "version": 2,
    }
    assert redact_document(kept) == kept


def test_what_callers_name_is_emptied() -> None:
    assert redact_document({"payload": {"ada": 1, "amount": 5}}) == {"payload": {}}


@pytest.mark.parametrize("locale", ["de", "pt-BR", "en-gb", "fil", "zh-Hant-HK", "es-419", ""])
def test_a_locale_stays(locale: str) -> None:
    assert redact_locales([locale]) == [locale]
    assert redact_document({"locale": locale, "preferred_locales": [locale]}) == {
        "locale": locale,
        "preferred_locales": [locale],
    }


@pytest.mark.parametrize("text", ["Ada", "Ada-Lovelace", "ada-lovelace", "de DE", "x" * 36, "de\n"])
def test_a_locale_that_has_no_such_form_is_redacted(text: str) -> None:
    assert redact_locales(["de", text]) == ["de", REDACTED]
    assert redact_document({"preferred_locales": [text]}) == {"preferred_locales": [REDACTED]}


def test_of_the_locales_of_a_customer_those_stay_that_are_some() -> None:
    made = customer.create(
        customer_id="cus_1",
        account="acct_1",
        livemode=False,
        params={"preferred_locales": ["de", "Ada Lovelace"]},
        card_id="card_1",
        now=NOW,
    )
    state = evolve(None, made[0])
    assert isinstance(state, customer.Customer)
    changed = customer.update(state, {"preferred_locales": ["Ada Lovelace"]}, card_id="card_2", now=NOW)
    remnants = [make_remnant(event) for event in (*made, *changed)]
    assert remnants[0]["preferred_locales"] == ["de", REDACTED]
    assert remnants[1]["changes"] == {"preferred_locales": [REDACTED]}


@given(documents)
def test_no_number_of_a_document_stays_but_where_objects_have_one(document: Any) -> None:
    kept = redact_document({"object": document})
    for name, _ in list_numbers(kept):
        assert name in NUMBER_NAMES or name == "value"


@given(documents)
def test_no_text_of_a_document_stays_but_what_is_listed(document: Any) -> None:
    kept = redact_document(document)
    for name, text in list_texts(kept):
        listed = name in KEPT_TEXTS and KEPT_TEXTS[name].fullmatch(text)
        assert text in ("", REDACTED) or listed
    assert redact_document(kept) == kept
    assert len(json.dumps(kept)) <= 5 * len(json.dumps(document)) + 12


@given(st.dictionaries(names, documents), st.dictionaries(names, documents))
def test_an_imported_event_is_redacted_and_still_shown(
    document: dict[str, Any], previous: dict[str, Any]
) -> None:
    imported = EventImported(
        originator_id="evt_1",
        originator_version=1,
        at=NOW,
        account="acct_1",
        livemode=False,
        type="invoice.paid",
        object=document,
        previous_attributes=previous,
        owner=None,
    )
    shown = redact(imported)
    state = evolve(None, shown)
    ((_, rendered, old_values),) = derive_public_events(None, shown, state)
    assert (rendered, old_values) == (redact_document(document), redact_document(previous))
