"""Example streams: every class of domain event at least once, made by the decisions themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ledger.domain import (
    charge,
    charge_decisions,
    customer,
    customer_session,
    dispute,
    dispute_decisions,
    file_link,
    imported_event,
    legal_hold,
    payment_intent,
    payment_intent_decisions,
    redaction_job,
    redaction_job_decisions,
    refund,
    refund_decisions,
    resource,
    webhook_endpoint,
    webhook_endpoint_decisions,
    webhook_endpoint_quota,
)
from ledger.domain.cards import make_source_card
from ledger.domain.charge import ChargeRefunded
from ledger.domain.dispute_money import PaidCharge
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement
from ledger.domain.redaction_job import RedactionJob
from ledger.domain.redaction_job_decisions import Obstacle, Scope, end_validation
from tests.domain.builders import (
    NOW,
    TERMS,
    a_charge,
    a_customer,
    a_file,
    a_session,
    apply_steps,
    close_dispute,
    create_refund_events,
    fold,
    open_a_dispute,
    report_fact,
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
    events = customer.create(
        customer_id="cus_1", account="acct_1", livemode=False, params=ADA, card_id="card_1", now=NOW
    )
    state = fold(customer.evolve, events)
    params = {"phone": "1", "source": "tok_amex", "metadata": {"b": "2"}}
    events += customer.update(state, params, card_id="card_2", now=NOW + 1)
    return events + customer.delete(fold(customer.evolve, events), now=NOW + 2)


def session_history(end_session: Callable[..., list[DomainEvent]]) -> list[DomainEvent]:
    events = customer_session.create(
        session_id="cuss_1",
        account="acct_1",
        livemode=False,
        customer="cus_1",
        components={"payment_element": {"enabled": True}},
        terms=TERMS,
        now=NOW,
    )
    return events + end_session(a_session(), now=NOW + 1)


def charge_history() -> list[DomainEvent]:
    events: list[DomainEvent] = charge_decisions.create(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "usd", "capture": False, "description": "Hats"},
        card=a_customer(source="tok_visa").sources[0],
        txn_id="txn_1",
        now=NOW,
    )
    events += charge_decisions.capture(
        fold(charge.evolve, events), {"receipt_email": "a@b.c"}, txn_id="txn_1", now=NOW
    )
    params = {"shipping": {"name": "Ada"}, "fraud_details": {"user_report": "safe"}}
    events += charge_decisions.update(fold(charge.evolve, events), params, now=NOW)
    events.append(charge_decisions.record_dispute(fold(charge.evolve, events), "du_1", 500, "net_1", now=NOW))
    movement = Movement(id="txn_2", amount=-1500, fee=0, currency="usd", created=NOW, available_on=NOW)
    events.append(
        ChargeRefunded(originator_id="ch_1", originator_version=5, at=NOW, refund="re_1", movement=movement)
    )
    return events


def expired_charge_history() -> list[DomainEvent]:
    events = charge_decisions.create(
        charge_id="ch_1",
        account="acct_1",
        livemode=False,
        params={"amount": 2000, "currency": "usd", "capture": False},
        card=a_customer(source="tok_visa").sources[0],
        txn_id="txn_1",
        now=NOW,
    )
    return events + charge_decisions.expire(fold(charge.evolve, events), now=NOW + 7 * 86_400)


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


def intent_histories() -> list[list[DomainEvent]]:
    """The events of payment intents, and of a charge that one of them released."""
    card = make_source_card("tok_visa", card_id="pm_1", livemode=False)
    failed = fold_of_intent(create_intent_events(token="tok_chargeDeclined"))
    declined = payment_intent_decisions.confirm(failed, charge_id="ch_1", txn_id="txn_1", now=NOW)[1:]
    failed = payment_intent.evolve(failed, declined[0])
    updated = payment_intent_decisions.update(failed, {"metadata": {"by": "Ada"}}, card=card, now=NOW + 1)
    paid = payment_intent_decisions.confirm(
        payment_intent.evolve(failed, updated[0]), charge_id="ch_2", txn_id="txn_2", now=NOW + 2
    )[1:]
    held = create_intent_events(capture_method="manual")
    state = fold_of_intent(held)
    charged, authorized = payment_intent_decisions.confirm(state, charge_id="ch_3", txn_id="txn_3", now=NOW)
    state = payment_intent.evolve(state, authorized)
    params = {"cancellation_reason": "duplicate"}
    released, canceled = payment_intent_decisions.cancel(
        state, charge.evolve(None, charged), params, now=NOW + 3
    )
    created = create_intent_events(token="tok_chargeDeclined")
    return [[*created, *declined, *updated, *paid], [*held, authorized, canceled], [charged, released]]


def create_intent_events(token: str = "tok_visa", **params: Any) -> list[DomainEvent]:
    """A new payment intent with a card."""
    shipping = {"name": "Ada", "address": {"city": "Berlin"}}
    return payment_intent_decisions.create(
        intent_id="pi_1",
        account="acct_1",
        livemode=False,
        params={
            "amount": 2000,
            "currency": "usd",
            "description": "Hats for Ada",
            "receipt_email": "ada@example.com",
            "shipping": shipping,
            "metadata": {"who": "Ada"},
            **params,
        },
        card=make_source_card(token, card_id="pm_0", livemode=False),
        now=NOW,
    )


def fold_of_intent(events: list[DomainEvent]) -> payment_intent.PaymentIntent:
    """The payment intent after `events`."""
    return fold(payment_intent.evolve, events)


def dispute_history(kind: str, *steps: str) -> list[DomainEvent]:
    events = apply_steps(open_a_dispute(kind), *steps)
    params = {"metadata": {"a": "1"}}
    return events + dispute_decisions.update(fold(dispute.evolve, events), params, file_bytes={}, now=NOW)


def dispute_history_after_refund(end_dispute: Callable[..., list[DomainEvent]]) -> list[DomainEvent]:
    """A dispute over the whole charge, of which 500 had been refunded, that is lost."""
    paid = a_charge()
    paid = charge.evolve(paid, create_refund_events(paid, 500)[1])
    events = open_a_dispute()
    state = fold(dispute.evolve, events)
    return events + end_dispute(state, paid=PaidCharge(charge=paid, disputes=[state]))


def refund_history() -> list[DomainEvent]:
    params = {"amount": 500, "reason": "duplicate", "metadata": {"a": "Ada"}}
    charged = a_charge(description="Hats for Ada", customer="cus_1")
    events = refund_decisions.create(charged, params, disputes=[], refund_id="re_1", txn_id="txn_2", now=NOW)[
        :1
    ]
    return events + refund_decisions.update(
        fold(refund.evolve, events), {"metadata": {"b": "2"}}, now=NOW + 1
    )


def file_histories() -> tuple[list[DomainEvent], list[DomainEvent]]:
    """The events of a file and of a link to it."""
    events = upload_a_file()
    params = {"expires_at": NOW + 60, "metadata": {"who": "Ada"}}
    created, linked = file_link.create(
        a_file(), params, link_id="link_1", now=NOW, param="file", expires_param="expires_at"
    )
    state = fold(file_link.evolve, [created])
    updated = file_link.update(state, {"expires_at": "now", "metadata": {"by": "Ada"}}, now=NOW + 1)
    return [*events, linked], [created, *updated]


def destination_history() -> list[DomainEvent]:
    """The events of an event destination of thin events."""
    created = webhook_endpoint_decisions.create_destination(
        endpoint_id="ed_1",
        account="acct_1",
        livemode=False,
        params={
            "name": "Books of Ada",
            "url": "https://hooks.example.com/Ada",
            "thin": True,
            "enabled_events": ["v1.charge.dispute.created", "*"],
            "events_from": ["@self", "@accounts"],
            "description": "For Ada",
            "metadata": {"who": "Ada"},
        },
        now=NOW,
    )
    state = fold(webhook_endpoint.evolve, created)
    renamed = webhook_endpoint_decisions.update(state, {"name": "Books of Ada 2"}, now=NOW + 1)
    state = fold(webhook_endpoint.evolve, created + renamed)
    return created + renamed + webhook_endpoint_decisions.delete(state, now=NOW + 2)


def webhook_histories() -> tuple[list[DomainEvent], list[DomainEvent]]:
    """The events of a webhook endpoint, and of the quota that counts it."""
    created = webhook_endpoint_decisions.create(
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
    params = {"url": "https://hooks.example.com/Ada/2", "disabled": True, "metadata": {"by": "Ada"}}
    updated = webhook_endpoint_decisions.update(state, params, now=NOW + 1)
    state = fold(webhook_endpoint.evolve, created + updated)
    for decide in (
        lambda state: webhook_endpoint_decisions.configure(
            state, {"ordered": True, "standard_webhooks": True}, now=NOW + 2
        ),
        lambda state: webhook_endpoint_decisions.rotate_secret(state, 3600, now=NOW + 2),
        lambda state: webhook_endpoint_decisions.update(state, {"disabled": False}, now=NOW + 2),
        lambda state: webhook_endpoint_decisions.disable_failing(
            state,
            failing_since=NOW,
            failed_attempts=9,
            after_seconds=2,
            status=None,
            error="refused",
            now=NOW + 4,
        ),
        lambda state: webhook_endpoint_decisions.update(state, {"disabled": False}, now=NOW + 5),
    ):
        updated += decide(state)
        state = fold(webhook_endpoint.evolve, created + updated)
    reserved = webhook_endpoint_quota.reserve(
        None, account="acct_1", livemode=False, endpoint_id="we_1", endpoints_max=16, now=NOW
    )
    quota = fold(webhook_endpoint_quota.evolve, reserved)
    released = webhook_endpoint_quota.release(quota, endpoint_id="we_1", now=NOW + 2)
    return created + updated + webhook_endpoint_decisions.delete(state, now=NOW + 5), reserved + released


def resource_history() -> list[DomainEvent]:
    fields: dict[str, Any] = {
        "resource_id": "in_1",
        "account": "acct_1",
        "livemode": False,
        "type": "invoice",
        "now": NOW,
    }
    invoice = {"customer": "cus_1", "customer_name": "Ada", "lines": [{"amount": 5}], "paid": False}
    events = resource.publish(None, event_type="invoice.created", object=invoice, **fields)
    state = fold(resource.evolve, events)
    events += resource.publish(state, event_type="invoice.updated", object={"number": "Ada"}, **fields)
    return events + resource.delete(fold(resource.evolve, events), "invoice.deleted", now=NOW + 1)


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


def redaction_job_history(*steps: Callable[[RedactionJob], list[DomainEvent]]) -> list[DomainEvent]:
    events = redaction_job_decisions.create(
        job_id="prj_1",
        account="acct_1",
        livemode=False,
        objects={"customers": ["cus_1"], "charges": []},
        validation_behavior="error",
        reason="Ada asked for it",
        requested_by="ops",
        first_requested_at=1_600_000_000,
        now=NOW,
    )
    for step in steps:
        events = events + step(fold(redaction_job.evolve, events))
    return events


def find_obstacles(job: RedactionJob) -> list[DomainEvent]:
    obstacle = Obstacle("invalid_state", "dp_1 is open", "dp_1", "dispute")
    scope = Scope(7, {}, [obstacle], [])
    return end_validation(job, scope, new_error_id=lambda: "prjve_1", now=NOW + 1)


def find_no_obstacle(job: RedactionJob) -> list[DomainEvent]:
    scope = Scope(7, {"customer": 1, "charge": 2}, [], ["pi_1"])
    return end_validation(job, scope, new_error_id=lambda: "prjve_1", now=NOW + 1)


def run_job(job: RedactionJob) -> list[DomainEvent]:
    return redaction_job_decisions.run(job, ["cus_1"], [], new_error_id=lambda: "prjve_1", now=NOW + 2)


def legal_hold_history() -> list[DomainEvent]:
    events = legal_hold.place(
        None,
        account="acct_1",
        livemode=False,
        object_id="cus_1",
        object_type="customer",
        reason="Ada is sued",
        by="ops",
        now=NOW,
    )
    hold = fold(legal_hold.evolve, events)
    return events + legal_hold.release(hold, reason="Ada won", by="ops", now=NOW + 1)


HISTORIES: list[list[DomainEvent]] = [
    customer_history(),
    session_history(customer_session.claim),
    session_history(customer_session.revoke),
    charge_history(),
    failed_charge_history(),
    expired_charge_history(),
    dispute_history("chargeback", "stage", "submit", "won"),
    dispute_history("inquiry", "submit", "escalated", "close", "appeal_opened", "submit", "lost"),
    dispute_history("inquiry", "inquiry_closed"),
    dispute_history("compliance", "submit"),
    dispute_history("prevented"),
    dispute_history_after_refund(partial(report_fact, fact="lost", reference="net_2")),
    dispute_history_after_refund(close_dispute),
    refund_history(),
    *intent_histories(),
    *file_histories(),
    *webhook_histories(),
    destination_history(),
    resource_history(),
    imported_event_history(),
    redaction_job_history(
        find_obstacles,
        partial(redaction_job_decisions.update, validation_behavior="fix", now=NOW + 1),
        partial(redaction_job_decisions.validate, now=NOW + 1),
        find_no_obstacle,
        run_job,
        partial(redaction_job_decisions.complete, counts={"events": 3}, now=NOW + 3),
    ),
    redaction_job_history(find_obstacles, partial(redaction_job_decisions.cancel, now=NOW + 2)),
    legal_hold_history(),
]
"""Streams that together have every class of domain event. Their personal texts contain the name Ada."""
