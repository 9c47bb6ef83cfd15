"""The commands of a random history: each acts on one of the author's objects, or makes one.

`subject` picks the object, `detail` varies what is done. Raises LedgerError where the domain refuses, and
IndexError when there is no object yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ledger.domain import (
    charge,
    charge_decisions,
    customer,
    customer_session,
    dispute_decisions,
    evidence,
    imported_event,
    payment_intent,
    payment_intent_decisions,
    refund_decisions,
    resource,
    webhook_endpoint_decisions,
    webhook_endpoint_quota,
)
from ledger.domain.cards import make_source_card
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.customer_session import CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.domain.payment_intent import PaymentIntent
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota

if TYPE_CHECKING:
    from tests.projections.histories import Author

TERMS = Terms()
CURRENCIES = ("usd", "jpy", "eur", "bhd")  # of two, no, and three decimals
TOKENS = ("tok_visa", "tok_mastercard", "tok_chargeDeclined", "tok_createDispute")


async def _create_customer(author: Author, subject: int, detail: int) -> None:
    params: dict[str, Any] = {"email": f"jenny.{detail}@example.com", "metadata": {"detail": str(detail)}}
    if detail % 2:
        params |= {"name": f"Jenny {detail} “Rosen” \\ \u2028", "source": "tok_visa"}
    await author.create_customer(**params)


async def _update_customer(author: Author, subject: int, detail: int) -> None:
    params = {"email": f"rosen.{detail}@example.com", "metadata": {f"k{detail % 3}": str(detail)}}
    await author.update_customer(author.pick(Customer, subject).id, **params)


async def _delete_customer(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Customer, subject)
    await author.append(customer.delete(state, now=author.now))


async def _create_charge(author: Author, subject: int, detail: int) -> None:
    currency = CURRENCIES[subject % len(CURRENCIES)]
    params: dict[str, Any] = {"amount": 1000 + 10 * detail, "currency": currency, "capture": detail % 5 != 0}
    if detail % 3:
        params["customer"] = author.pick(Customer, subject).id
    await author.create_charge(TOKENS[detail % len(TOKENS)], **params)


async def _capture_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    events = charge_decisions.capture(state, {}, txn_id=author._id("txn"), now=author.now)
    await author.append([*events, *_follow_charge(author, charge.evolve(state, events[0]))])


def _follow_charge(author: Author, changed: Charge) -> list[DomainEvent]:
    intent = author.states.get(changed.payment_intent or "")
    if not isinstance(intent, PaymentIntent):
        return []
    return payment_intent_decisions.follow_charge(intent, changed, now=author.now)


async def _update_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    params = {"description": f"Order {detail}", "transfer_group": f"group_{detail % 2}"}
    await author.append(charge_decisions.update(state, params, now=author.now))


async def _create_intent(author: Author, subject: int, detail: int) -> None:
    params: dict[str, Any] = {"amount": 1000 + detail, "currency": CURRENCIES[subject % len(CURRENCIES)]}
    if detail % 3:
        params["customer"] = author.pick(Customer, subject).id
    if detail % 2:
        params |= {"capture_method": "manual", "metadata": {"name": f"Jenny {detail}"}}
    events = payment_intent_decisions.create(
        intent_id=author._id("pi"),
        account=author.account,
        livemode=False,
        params=params,
        card=None,
        now=author.now,
    )
    await author.append(events)


async def _confirm_intent(author: Author, subject: int, detail: int) -> None:
    state = author.pick(PaymentIntent, subject)
    card = make_source_card(TOKENS[detail % len(TOKENS)], card_id=author._id("pm"), livemode=False)
    updated = payment_intent_decisions.update(state, {}, card=card, now=author.now)
    state = payment_intent.evolve(state, updated[0])
    charged = payment_intent_decisions.confirm(
        state, charge_id=author._id("ch"), txn_id=author._id("txn"), now=author.now
    )
    await author.append([*updated, *charged])


async def _end_intent(author: Author, subject: int, detail: int) -> None:
    """Capture the intent, or cancel it."""
    state = author.pick(PaymentIntent, subject)
    newest = author.states.get(state.latest_charge or "")
    assert newest is None or isinstance(newest, Charge)
    if detail % 3:
        events = payment_intent_decisions.capture(
            state, newest, {"amount_to_capture": 500}, txn_id=author._id("txn"), now=author.now
        )
    else:
        events = payment_intent_decisions.cancel(state, newest, {}, now=author.now)
    await author.append(events)


async def _publish_intent(author: Author, subject: int, detail: int) -> None:
    """Publish a payment intent of another service, or publish one again, with or without its time."""
    known = author.states.get(f"pi_{author.account}_{subject}")
    assert known is None or isinstance(known, Resource)
    body: dict[str, Any] = {"amount": detail, "customer": "cus_1" if detail % 3 else {"id": detail}}
    if detail % 2:
        body["created"] = 1_700_000_000 + detail
    if known is not None and not known.deleted and detail % 5 == 0:
        await author.append(resource.delete(known, "payment_intent.deleted", now=author.now))
        return
    events = resource.publish(
        known,
        resource_id=f"pi_{author.account}_{subject}",
        account=author.account,
        livemode=False,
        type="payment_intent",
        event_type="payment_intent.processing",
        object=body,
        now=author.now,
    )
    await author.append(events)


async def _refund_charge(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Charge, subject)
    disputes = [candidate for candidate in author.states.values() if isinstance(candidate, Dispute)]
    events = refund_decisions.create(
        state,
        {"amount": 100 + 10 * detail, "metadata": {"detail": str(detail)}},
        disputes=[dispute for dispute in disputes if dispute.charge == state.id],
        refund_id=author._id("re"),
        txn_id=author._id("txn"),
        now=author.now,
    )
    await author.append(events)


async def _update_refund(author: Author, subject: int, detail: int) -> None:
    params = {"metadata": {f"k{detail % 3}": str(detail)}}
    await author.append(refund_decisions.update(author.pick(Refund, subject), params, now=author.now))


async def _open_dispute(author: Author, subject: int, detail: int) -> None:
    kind = ("chargeback", "inquiry", "compliance", "prevented")[detail % 4]
    await author.open_dispute(author.pick(Charge, subject).id, kind, 1000)


async def _respond(author: Author, subject: int, detail: int) -> None:
    field = sorted(evidence.LONG_TEXT_FIELDS)[detail % len(evidence.LONG_TEXT_FIELDS)]
    await author.respond(
        author.pick(Dispute, subject).id, submit=detail % 3 == 0, **{field: f"text {detail}"}
    )


async def _close_dispute(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Dispute, subject)
    events = dispute_decisions.close(
        state, paid=author.find_paid_charge(state), txn_id=author._id("txn"), now=author.now
    )
    await author.append(events)


async def _report_fact(author: Author, subject: int, detail: int) -> None:
    await author.report_fact(
        author.pick(Dispute, subject).id,
        sorted(dispute_decisions.FACTS)[detail % len(dispute_decisions.FACTS)],
    )


async def _create_session(author: Author, subject: int, detail: int) -> None:
    events = customer_session.create(
        session_id=author._id("cuss"),
        account=author.account,
        livemode=False,
        customer=author.pick(Customer, subject).id,
        components={"pricing_table": {"enabled": True}},
        terms=TERMS,
        now=author.now,
    )
    await author.append(events)


async def _claim_session(author: Author, subject: int, detail: int) -> None:
    await author.append(customer_session.claim(author.pick(CustomerSession, subject), now=author.now))


async def _create_endpoint(author: Author, subject: int, detail: int) -> None:
    endpoint_id = author._id("we")
    roster = author.states.get(webhook_endpoint_quota.get_stream_id(author.account, False))
    assert roster is None or isinstance(roster, WebhookEndpointQuota)
    quota_events = webhook_endpoint_quota.reserve(
        roster,
        account=author.account,
        livemode=False,
        endpoint_id=endpoint_id,
        endpoints_max=4,
        now=author.now,
    )
    events = webhook_endpoint_decisions.create(
        endpoint_id=endpoint_id,
        account=author.account,
        livemode=False,
        params={
            "url": f"https://hooks.example.com/{detail}",
            "enabled_events": ["*"],
            "connect": detail % 2 == 0,
        },
        now=author.now,
    )
    await author.append([*quota_events, *events])


async def _update_endpoint(author: Author, subject: int, detail: int) -> None:
    params = {
        "url": f"https://example.com/{detail}",
        "disabled": detail % 2 == 0,
        "metadata": {"detail": "1"},
    }
    await author.append(
        webhook_endpoint_decisions.update(author.pick(WebhookEndpoint, subject), params, now=author.now)
    )


async def _delete_endpoint(author: Author, subject: int, detail: int) -> None:
    state = author.pick(WebhookEndpoint, subject)
    roster = author.states[webhook_endpoint_quota.get_stream_id(author.account, False)]
    assert isinstance(roster, WebhookEndpointQuota)
    events = webhook_endpoint_decisions.delete(state, now=author.now)
    await author.append(
        [*webhook_endpoint_quota.release(roster, endpoint_id=state.id, now=author.now), *events]
    )


async def _publish_resource(author: Author, subject: int, detail: int) -> None:
    """Publish a new resource, or one again: unchanged, changed, or after its deletion."""
    resources = [
        state
        for state in author.states.values()
        if isinstance(state, Resource) and state.type == "invoice"  # a resource keeps its type
    ]
    state = resources[subject % len(resources)] if resources and detail % 4 else None
    events = resource.publish(
        state,
        resource_id=author._id("in") if state is None else state.id,
        account=author.account,
        livemode=False,
        type="invoice",
        event_type=("invoice.created", "invoice.updated", "invoice.paid")[detail % 3],
        object={
            "total": detail % 2,
            "lines": [detail],
            "name": f"Jenny {detail} \u2028",
            "customer": (None, "cus_1", {"id": "cus_2"})[detail % 3],
            "created": (None, detail, "never")[detail % 3],
            "status": ("open", "paid")[detail % 2],
        },
        now=author.now,
    )
    await author.append(events)


async def _delete_resource(author: Author, subject: int, detail: int) -> None:
    state = author.pick(Resource, subject)
    if not state.deleted:
        await author.append(resource.delete(state, "invoice.deleted", now=author.now))


async def _import_event(author: Author, subject: int, detail: int) -> None:
    events = imported_event.create(
        event_id=f"evt_of_old_{len(author.states)}",
        account=author.account,
        livemode=False,
        type="charge.refunded" if detail % 2 else "balance.available",
        object={"id": f"ch_{detail}"} if detail % 2 else {"object": "balance"},
        previous_attributes={"refunded": False} if detail % 2 else None,
        now=author.now,
    )
    await author.append(events)


COMMANDS: dict[str, Callable[[Author, int, int], Awaitable[None]]] = {
    "create_customer": _create_customer,
    "update_customer": _update_customer,
    "delete_customer": _delete_customer,
    "create_charge": _create_charge,
    "capture_charge": _capture_charge,
    "update_charge": _update_charge,
    "refund_charge": _refund_charge,
    "update_refund": _update_refund,
    "open_dispute": _open_dispute,
    "respond": _respond,
    "close_dispute": _close_dispute,
    "report_fact": _report_fact,
    "create_intent": _create_intent,
    "confirm_intent": _confirm_intent,
    "end_intent": _end_intent,
    "publish_intent": _publish_intent,
    "create_session": _create_session,
    "claim_session": _claim_session,
    "publish_resource": _publish_resource,
    "delete_resource": _delete_resource,
    "import_event": _import_event,
    "create_endpoint": _create_endpoint,
    "update_endpoint": _update_endpoint,
    "delete_endpoint": _delete_endpoint,
}
