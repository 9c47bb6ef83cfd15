"""Resources as JSON, checked against the SDK's classes, and the public Events of a domain event."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain import (
    charge,
    charge_decisions,
    customer,
    customer_session,
    dispute,
    dispute_decisions,
    imported_event,
)
from ledger.domain.aggregate import State
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.objects import render_object
from ledger.store.codec import evolve
from ledger.wire import charges
from ledger.wire.aggregates import AGGREGATES_BY_STATE
from ledger.wire.balance_transactions import render_balance_transaction
from ledger.wire.customer_sessions import render_customer_session
from ledger.wire.customers import render_customer
from ledger.wire.disputes import render_dispute
from ledger.wire.events import render_event, render_event_data
from ledger.wire.payment_intents import render_payment_intent
from ledger.wire.previous_attributes import diff_attributes
from ledger.wire.public_events import derive_public_events
from ledger.wire.refunds import render_refund
from tests.domain.builders import (
    DUE_BY,
    NOW,
    STATUS_PATHS,
    TERMS,
    a_charge,
    a_customer,
    a_dispute,
    a_refund,
    a_session,
    apply_steps,
    close_dispute,
    days,
    fold,
    open_a_dispute,
    report_fact,
)
from tests.domain.histories import HISTORIES, create_intent_events, fold_of_intent

# Contract §2.5, §2.6: keys of the SDK's class that may be absent: they appear only in expanded or deleted
# objects.
OPTIONAL_FIELDS = {
    "Customer": {
        "cash_balance", "deleted", "invoice_credit_balance", "sources", "subscriptions", "tax", "tax_ids",
    },
    "Charge": {"authorization_code", "level3", "presentment_details", "radar_options", "refunds", "transfer"},
    "Card": {
        "account", "available_payout_methods", "currency", "default_for_currency", "deleted", "description",
        "iin", "issuer", "networks", "status",
    },
    "Event": {"account", "context"},
    "Refund": {
        "description", "failure_balance_transaction", "failure_reason", "instructions_email", "next_action",
        "pending_reason", "presentment_details",
    },
    "Evidence": {"appeal"},
    "PaymentIntent": {
        "hooks", "managed_payments", "payment_details", "payment_record", "presentment_details",
    },
}  # fmt: skip


def sdk_fields(resource: type[Any]) -> set[str]:
    declared = inspect.get_annotations(resource)
    return {name for name in declared if not name.startswith("_") and name != "OBJECT_NAME"}


def required_fields(resource: type[Any]) -> set[str]:
    return sdk_fields(resource) - OPTIONAL_FIELDS.get(resource.__name__, set())


a_card = a_customer(source="tok_visa").sources[0]
A_CHARGE = charges.render_charge(a_charge(customer="cus_1"))
A_DISPUTE = render_dispute(a_dispute("won"), NOW)
A_REFUND = render_refund(a_refund())
AN_INTENT = render_payment_intent(fold_of_intent(create_intent_events()))
AN_EVENT = render_event(
    event_id="evt_1",
    event_type="charge.succeeded",
    created=NOW,
    livemode=False,
    api_version="2026-10-28.endive",
    data=render_event_data(A_CHARGE, None),
    request_id="req_1",
    idempotency_key=None,
    pending_webhooks=0,
)


@pytest.mark.parametrize(
    ("shown", "resource"),
    [
        (render_customer(a_customer()), stripe.Customer),
        (render_customer_session(a_session(), "cuss_secret_x"), stripe.CustomerSession),
        (A_CHARGE, stripe.Charge),
        (A_CHARGE["billing_details"], stripe.Charge.BillingDetails),
        (A_REFUND, stripe.Refund),
        (AN_INTENT, stripe.PaymentIntent),
        (A_REFUND["destination_details"]["card"], stripe.Refund.DestinationDetails.Card),
        (A_DISPUTE, stripe.Dispute),
        (A_DISPUTE["evidence"], stripe.Dispute.Evidence),
        (A_DISPUTE["evidence_details"], stripe.Dispute.EvidenceDetails),
        (A_DISPUTE["payment_method_details"]["card"], stripe.Dispute.PaymentMethodDetails.Card),
        (A_DISPUTE["balance_transactions"][0], stripe.BalanceTransaction),
        (AN_EVENT, stripe.Event),
    ],
)
def test_every_member_that_the_sdk_declares_is_present(shown: dict[str, Any], resource: type[Any]) -> None:
    assert set(shown) == required_fields(resource)


@pytest.mark.parametrize(
    "shown", [render_customer(a_customer()), charges.render_card(a_card, None), A_CHARGE, AN_INTENT]
)
def test_names_come_in_an_order_that_never_changes(shown: dict[str, Any]) -> None:
    """Another order would change the bytes in the feed: rebuilt rows would differ from live ones."""
    assert list(shown) == ["id", "object", *sorted(set(shown) - {"id", "object"})]


def test_a_card_has_what_the_sdk_declares_and_a_wallet() -> None:
    assert set(charges.render_card(a_card, "cus_1")) == required_fields(stripe.Card) | {"wallet"}


def test_the_details_of_a_card_payment() -> None:
    details = A_CHARGE["payment_method_details"]
    declared = sdk_fields(stripe.Charge.PaymentMethodDetails.Card)
    assert set(details) == {"card", "type"}
    assert set(details["card"]) <= declared
    assert (details["card"]["brand"], details["card"]["checks"]["cvc_check"]) == ("visa", "pass")


def test_a_paid_charge() -> None:
    assert (A_CHARGE["paid"], A_CHARGE["captured"], A_CHARGE["refunded"]) == (True, True, False)
    assert (A_CHARGE["balance_transaction"], A_CHARGE["disputed"]) == ("txn_charge", False)
    assert (A_CHARGE["source"]["brand"], A_CHARGE["source"]["customer"]) == ("Visa", "cus_1")
    assert A_CHARGE["fraud_details"] == {}


def test_a_disputed_charge_is_rendered_as_disputed() -> None:
    state = a_charge()
    state = charge.evolve(state, charge_decisions.record_dispute(state, "du_1", 1, None, now=NOW))
    assert charges.render_charge(state)["disputed"] is True


def test_a_registered_charge_renders_its_details_as_received() -> None:
    details = {"type": "klarna", "klarna": {"payer_details": None}}
    made = charge_decisions.register(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 1, "currency": "eur", "payment_method_details": details},
        txn_id="txn_1",
        now=NOW,
    )
    state = charge.evolve(None, made[0])
    shown = charges.render_charge(state)
    assert (shown["payment_method_details"], shown["source"]) == (details, None)
    reported = dispute_decisions.open_dispute(
        state,
        dispute_decisions.DisputeReport(kind="chargeback"),
        dispute_id="du_1",
        txn_id="txn_2",
        terms=TERMS,
        now=NOW,
    )
    disputed = render_dispute(fold(dispute.evolve, reported[1:]), NOW)
    assert disputed["payment_method_details"] == {
        "type": "klarna",
        "klarna": {"chargeback_loss_reason_code": None, "reason_code": None},
    }


def test_a_session_shows_all_seven_components() -> None:
    shown = render_customer_session(a_session(buy_button={"enabled": True}), "cuss_secret_x")
    assert shown["client_secret"] == "cuss_secret_x"
    assert shown["components"] == {
        "active_entitlements": {"enabled": False},
        "buy_button": {"enabled": True},
        "customer_portal": {"enabled": False},
        "customer_sheet": {"enabled": False, "features": None},
        "mobile_payment_element": {"enabled": False, "features": None},
        "payment_element": {"enabled": False, "features": None},
        "pricing_table": {"enabled": False},
    }


@pytest.mark.parametrize("component", customer_session.DEFAULT_FEATURES)
def test_an_enabled_component_shows_its_features(component: str) -> None:
    shown = render_customer_session(a_session(**{component: {"enabled": True}}), "cuss_secret_x")
    features = customer_session.DEFAULT_FEATURES[component]
    expected = {"enabled": True} if features is None else {"enabled": True, "features": features}
    assert shown["components"][component] == expected
    assert sum(member["enabled"] for member in shown["components"].values()) == 1


def test_a_balance_transaction_is_pending_until_available() -> None:
    fact = a_charge(description="Hats").balance_transaction
    assert fact is not None
    shown = render_balance_transaction(fact, NOW)
    assert (shown["net"], shown["status"], shown["description"]) == (1912, "pending", "Hats")
    assert shown["fee_details"] == [
        {
            "amount": 88,
            "application": None,
            "currency": "usd",
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    assert render_balance_transaction(fact, fact["available_on"])["status"] == "available"


def test_the_reversal_has_no_fee() -> None:
    reversal = A_DISPUTE["balance_transactions"][1]
    assert (reversal["net"], reversal["fee"], reversal["fee_details"]) == (2000, 0, [])
    assert (reversal["type"], reversal["reporting_category"]) == ("adjustment", "dispute_reversal")


@pytest.mark.parametrize("status", STATUS_PATHS)
def test_every_status_renders(status: str) -> None:
    shown = render_dispute(a_dispute(status), NOW)
    assert shown["status"] == status
    submitted = shown["evidence_details"]["submission_count"] > 0
    answered = submitted and not status.startswith("appeal")  # only the appeal was
    assert shown["evidence_details"]["has_evidence"] is submitted
    assert shown["evidence_details"]["submission_method"] == ("manual" if answered else "not_submitted")


def render_staged_dispute(
    kind: str = "chargeback", eligibility: tuple[str, ...] = (), steps: tuple[str, ...] = (), **evidence: Any
) -> dict[str, Any]:
    state = fold(dispute.evolve, apply_steps(open_a_dispute(kind, eligibility=eligibility), *steps))
    update = {"evidence": evidence, "submit": False}
    for event in dispute_decisions.update(state, update, file_bytes={"file_1": 1}, now=NOW):
        state = dispute.evolve(state, event)
    return render_dispute(state, NOW)


def test_enhanced_evidence_and_eligibility() -> None:
    shown = render_staged_dispute("compliance")
    assert shown["evidence"]["enhanced_evidence"] == {}
    assert shown["enhanced_eligibility_types"] == ["visa_compliance"]
    eligibility = shown["evidence_details"]["enhanced_eligibility"]
    assert eligibility == {"visa_compliance": {"status": "requires_fee_acknowledgement"}}
    acknowledged = {"visa_compliance": {"fee_acknowledged": True}}
    shown = render_staged_dispute("compliance", enhanced_evidence=acknowledged)
    assert shown["evidence"]["enhanced_evidence"] == acknowledged
    eligibility = shown["evidence_details"]["enhanced_eligibility"]
    assert eligibility == {"visa_compliance": {"status": "fee_acknowledged"}}


def test_compelling_evidence_is_rendered_with_all_members() -> None:
    compelling = {
        "disputed_transaction": {"shipping_address": {"city": "Berlin"}},
        "prior_undisputed_transactions": [{"charge": "ch_0"}],
    }
    program = "visa_compelling_evidence_3"
    shown = render_staged_dispute(eligibility=(program,), enhanced_evidence={program: compelling})
    transactions = stripe.Dispute.Evidence.EnhancedEvidence.VisaCompellingEvidence3
    seen = shown["evidence"]["enhanced_evidence"][program]
    assert set(seen["disputed_transaction"]) == sdk_fields(transactions.DisputedTransaction)
    assert set(seen["prior_undisputed_transactions"][0]) == sdk_fields(
        transactions.PriorUndisputedTransaction
    )
    assert seen["disputed_transaction"]["shipping_address"]["line1"] is None
    eligible = shown["evidence_details"]["enhanced_eligibility"][program]
    assert eligible["status"] == "requires_action"
    assert "missing_prior_undisputed_transactions" in eligible["required_actions"]


def test_an_appeal_is_rendered_only_if_there_is_one() -> None:
    assert "appeal" not in render_staged_dispute()["evidence"]
    appeal = {"card": {"supporting_files": ["file_1"]}}
    shown = render_staged_dispute(steps=("lost", "appeal_opened"), appeal=appeal)
    assert shown["evidence"]["appeal"] == {
        "card": {"reason_for_filing": None, "supporting_files": ["file_1"]}
    }


def test_a_deleted_customer_is_rendered_as_a_stub() -> None:
    (event,) = customer.delete(a_customer(), now=NOW)
    deleted = customer.evolve(a_customer(), event)
    assert render_object(deleted, NOW) == {"id": "cus_1", "object": "customer", "deleted": True}


def test_an_event_names_its_account_only_for_a_platform() -> None:
    assert AN_EVENT["data"] == {"object": A_CHARGE}
    assert AN_EVENT["request"] == {"id": "req_1", "idempotency_key": None}
    rendered = render_event(
        event_id="evt_1",
        event_type="customer.updated",
        created=NOW,
        livemode=False,
        api_version=None,
        data=render_event_data({}, {}),
        request_id=None,
        idempotency_key=None,
        pending_webhooks=2,
        account="acct_2",
    )
    assert (rendered["account"], rendered["data"]) == ("acct_2", {"object": {}, "previous_attributes": {}})


def public_events_of(before: Dispute, events: list[DomainEvent]) -> list[tuple[str, dict[str, Any] | None]]:
    """Type and previous attributes of the public Events of one decision."""
    public = []
    for event in events:
        state = dispute.evolve(before, event)
        for name, resource, previous in derive_public_events(before, event, state):
            assert resource == render_dispute(state, event.at)
            public.append((name.removeprefix("charge.dispute."), previous))
        before = state
    return public


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("chargeback", ["created", "funds_withdrawn"]),
        ("compliance", ["created", "funds_withdrawn"]),
        ("inquiry", ["created"]),
        ("prevented", ["created"]),
    ],
)
def test_events_of_an_opening(kind: str, types: list[str]) -> None:
    event = open_a_dispute(kind)[0]
    state = dispute.evolve(None, event)
    made = derive_public_events(None, event, state)
    assert [name for name, _, _ in made] == [f"charge.dispute.{name}" for name in types]
    assert all(previous is None for _, _, previous in made)
    assert len(made[0][1]["balance_transactions"]) == len(types) - 1


def test_events_of_an_escalation() -> None:
    before = a_dispute("warning_under_review")
    later = NOW + days(1)
    assert public_events_of(before, report_fact(before, "escalated", now=later)) == [
        (
            "updated",
            {
                "balance_transactions": [],
                "evidence_details": {"due_by": DUE_BY},
                "is_charge_refundable": True,
                "payment_method_details": {"card": {"case_type": "inquiry"}},
                "status": "warning_under_review",
            },
        ),
        ("funds_withdrawn", None),
    ]


@pytest.mark.parametrize(
    ("status", "fact", "types"),
    [
        ("under_review", "won", ["funds_reinstated", "closed"]),
        ("under_review", "lost", ["closed"]),
        ("needs_response", "lost", ["closed"]),
        ("warning_needs_response", "inquiry_closed", ["closed"]),
        ("appeal_under_review", "won", ["funds_reinstated", "closed"]),
    ],
)
def test_events_of_an_outcome(status: str, fact: str, types: list[str]) -> None:
    before = a_dispute(status)
    assert public_events_of(before, report_fact(before, fact)) == [(name, None) for name in types]


def test_events_of_an_appeal_and_of_closing() -> None:
    lost = a_dispute("lost")
    previous = {"status": "lost", "evidence_details": {"due_by": DUE_BY}}
    assert public_events_of(lost, report_fact(lost, "appeal_opened", due_by=DUE_BY + 1)) == [
        ("updated", previous)
    ]
    state = a_dispute()
    assert public_events_of(state, close_dispute(state)) == [("closed", None)]


def test_events_of_a_submission() -> None:
    before = fold(dispute.evolve, apply_steps(open_a_dispute(), "stage"))
    given = {"evidence": {"customer_name": "Bob", "service_date": "1"}, "metadata": {"a": "1"}}
    assert public_events_of(
        before, dispute_decisions.update(before, given, file_bytes={}, now=DUE_BY + 1)
    ) == [
        (
            "updated",
            {
                "evidence": {"customer_name": "Jenny 1", "service_date": None},
                "evidence_details": {
                    "past_due": False,
                    "submission_count": 0,
                    "submission_method": "not_submitted",
                },
                "metadata": {"a": None},
                "status": "needs_response",
            },
        )
    ]


def test_events_of_a_customer() -> None:
    before = a_customer(name="Ada", address={"city": "Berlin"}, metadata={"a": "1", "b": "2"})
    changes = {"address": {"city": "Bonn"}, "metadata": {"a": "", "b": "3", "c": "4"}, "phone": "1"}
    event = customer.update(before, changes, card_id="card_2", now=NOW)[0]
    state = customer.evolve(before, event)
    previous = {"address": {"city": "Berlin"}, "metadata": {"a": "1", "b": "2", "c": None}, "phone": None}
    assert derive_public_events(before, event, state) == [
        ("customer.updated", render_customer(state), previous)
    ]
    event = customer.delete(state, now=NOW)[0]
    deleted = customer.evolve(state, event)
    assert derive_public_events(state, event, deleted) == [("customer.deleted", render_customer(state), None)]


def test_silent_domain_events_make_no_public_event() -> None:
    state = a_charge()
    event = charge_decisions.record_dispute(state, "du_1", 1, None, now=NOW)
    assert derive_public_events(state, event, charge.evolve(state, event)) == []
    claimed = customer_session.claim(a_session(), now=NOW)[0]
    assert derive_public_events(a_session(), claimed, customer_session.evolve(a_session(), claimed)) == []


def revert(new: dict[str, Any], previous: dict[str, Any]) -> dict[str, Any]:
    """`new` with `previous` applied: a hash member by member, any other value as a whole."""
    old = dict(new)
    for name, value in previous.items():
        both = isinstance(value, dict) and isinstance(new.get(name), dict)
        old[name] = revert(new[name], value) if both else value
    return old


def drop_nulls(value: Any) -> Any:
    """Without null members: a member that did not exist is null in previous attributes."""
    if isinstance(value, dict):
        return {name: drop_nulls(member) for name, member in value.items() if member is not None}
    return value


@pytest.mark.parametrize(
    "events", [events for events in HISTORIES if not isinstance(events[0], imported_event.EventImported)]
)
def test_previous_attributes_lead_back_to_the_old_object(events: list[DomainEvent]) -> None:
    state: State | None = None
    for event in events:
        before, state = state, evolve(state, event)
        for name, rendered, previous in derive_public_events(before, event, state):
            assert (previous is not None) == name.endswith(".updated")
            if previous is not None:
                assert previous
                assert before is not None
                old = AGGREGATES_BY_STATE[type(before)].render(before, event.at)
                assert drop_nulls(revert(rendered, previous)) == drop_nulls(old)


HASHES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2) | st.lists(st.integers(0, 1), max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), st.integers(0, 2) | inner, max_size=3),
    max_leaves=6,
)


@given(HASHES, HASHES)
def test_applying_previous_attributes_to_the_new_gives_the_old(old: Any, new: Any) -> None:
    previous = diff_attributes(old, new)
    assert drop_nulls(revert(new, previous)) == drop_nulls(old)
    assert (previous == {}) == (old == new)
    assert all(name not in new or new[name] != old.get(name) for name in previous)
