"""What may happen to a charge: made on a test card or registered from elsewhere, captured, updated.

A declined card is no error here but an event, `ChargeFailed`, because the failed charge exists. Whoever
appends it then tells the caller with `refusal(charge)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain import cards, merge_patch, money
from ledger.domain.backdating import created_at
from ledger.domain.cards import TEST_CARDS, SourceCard
from ledger.domain.charge import (
    NO_BILLING_DETAILS,
    Charge,
    ChargeCaptured,
    ChargeDisputed,
    ChargeExpired,
    ChargeFailed,
    ChargeSucceeded,
    ChargeUpdated,
)
from ledger.domain.customer import Customer
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement
from ledger.errors import CardRefused, InvalidParameter, StateForbids

CAPTURE_DAYS = 7
_ON_CREATE = (
    "description", "receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group",
)  # fmt: skip
_ON_CAPTURE = ("receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group")
_ON_UPDATE = ("description", "receipt_email", "transfer_group")


def charged_card(
    given: Mapping[str, Any], customer: Customer | None, *, card_id: str, livemode: bool
) -> SourceCard:
    """The card to charge: `given["source"]` (a token, or a card of the customer), else its default.

    Raises UnknownReference for no such token, InvalidParameter if neither was given; CardRefused, code
    `missing`, for a customer without a card.
    """
    source: str | None = given.get("source")
    if source is not None:
        kept = customer.source(source) if customer else None
        return kept or cards.source_card(source, card_id=card_id, livemode=livemode)
    if customer is None:
        raise InvalidParameter("Must provide source or customer.", code="parameter_missing")
    default = customer.source(customer.default_source)
    if default is None:
        text = "Cannot charge a customer that has no active card"
        raise CardRefused(text, code="missing", param="card")
    return default


def create(
    *,
    charge_id: str,
    account: str,
    livemode: bool,
    given: Mapping[str, Any],
    card: SourceCard,
    txn_id: str,
    now: int,
) -> list[DomainEvent]:
    """Charges `card`: ChargeSucceeded, or ChargeFailed if it declines.

    `given` are the contract's parameters. Raises InvalidParameter for amount, currency or metadata.
    """
    amount, currency = given["amount"], given["currency"].lower()
    money.check_currency(currency)
    money.check_charge_amount(amount, currency)
    facts: dict[str, Any] = {name: given.get(name) for name in _ON_CREATE}
    facts |= {
        "originator_id": charge_id,
        "originator_version": 1,
        "at": now,
        "account": account,
        "livemode": livemode,
        "created": now,
        "amount": amount,
        "currency": currency,
        "customer": given.get("customer"),
        "metadata": merge_patch.merged({}, given.get("metadata")),
        "shipping": merge_patch.merged_shipping(None, given.get("shipping"), parcel=True),
        "card": card,
    }
    test_card = TEST_CARDS[card["token"]]
    if test_card.decline is not None:
        outcome = _outcome("declined", reason=test_card.decline.decline_code)
        code, message = test_card.decline.code, test_card.decline.message
        return [ChargeFailed(outcome=outcome, failure_code=code, failure_message=message, **facts)]
    captured = given.get("capture", True)
    movement = _movement(txn_id, amount, currency, now, test_card.funds_at_once) if captured else None
    outcome = _outcome("authorized", risk_level=test_card.risk_level)
    return [ChargeSucceeded(outcome=outcome, movement=movement, **facts)]


def register(
    *, charge_id: str, account: str, livemode: bool, given: Mapping[str, Any], txn_id: str, now: int
) -> list[DomainEvent]:
    """A charge made elsewhere. `given` has `amount` and `currency`, and may have what the charge object
    shows: `created`, `captured` (true), `status` (succeeded), `payment_intent`, `payment_method_details`,
    `billing_details`, `failure_code`, `failure_message`, `customer`, `metadata` and so on.

    Raises InvalidParameter for currency, amount, metadata or `created`.
    """
    amount, currency = given["amount"], given["currency"].lower()
    money.check_currency(currency)
    if not 1 <= amount <= money.CHARGE_AMOUNT_MAX:
        text = f"Amount must be between 1 and {money.CHARGE_AMOUNT_MAX}"
        raise InvalidParameter(text, param="amount")
    created = created_at(given, now)
    facts: dict[str, Any] = {name: given.get(name) for name in _ON_CREATE}
    facts |= {name: given.get(name) for name in ("customer", "payment_intent", "payment_method_details")}
    facts |= {
        "originator_id": charge_id,
        "originator_version": 1,
        "at": now,
        "account": account,
        "livemode": livemode,
        "created": created,
        "amount": amount,
        "currency": currency,
        "metadata": merge_patch.merged({}, given.get("metadata")),
        "shipping": merge_patch.merged_shipping(None, given.get("shipping"), parcel=True),
        "billing_details": _billing_details(given.get("billing_details")),
    }
    if given.get("status") == "failed":
        code = given.get("failure_code") or "card_declined"
        message = given.get("failure_message") or "Your card was declined."
        outcome = given.get("outcome") or _outcome("declined", reason=code)
        return [ChargeFailed(outcome=outcome, failure_code=code, failure_message=message, **facts)]
    captured = given.get("captured") is not False
    movement = _movement(txn_id, amount, currency, created, False) if captured else None
    outcome = given.get("outcome") or _outcome("authorized")
    return [ChargeSucceeded(outcome=outcome, movement=movement, **facts)]


def refusal(state: Charge) -> CardRefused:
    """The error that tells the caller of a failed charge."""
    decline = TEST_CARDS[state.card["token"]].decline if state.card else None
    return CardRefused(
        state.failure_message or "Your card was declined.",
        code=state.failure_code or "card_declined",
        decline_code=decline.decline_code if decline else None,
        param=decline.param if decline else None,
        charge=state.id,
    )


def capture(state: Charge, given: Mapping[str, Any], *, txn_id: str, now: int) -> list[DomainEvent]:
    """Takes `given["amount"]`, or all, of what was authorized.

    Raises StateForbids if captured already (code `charge_already_captured`), expired or failed,
    and for more than was authorized.
    """
    if state.captured:
        text = f"Charge {state.id} has already been captured."
        raise StateForbids(text, code="charge_already_captured")
    if state.status != "succeeded":
        raise StateForbids(f"Charge {state.id} failed; it cannot be captured.")
    if state.expired:
        text = f"Charge {state.id} was not captured within {CAPTURE_DAYS} days; it has expired."
        raise StateForbids(text, code="charge_expired_for_capture")
    amount = given.get("amount")
    amount = state.amount if amount is None else amount
    if not 1 <= amount <= state.amount:
        most = money.format_amount(state.amount, state.currency)
        raise StateForbids(f"You can capture at most the {most} authorized.", param="amount")
    at_once = state.card is not None and TEST_CARDS[state.card["token"]].funds_at_once
    return [
        ChargeCaptured(
            originator_id=state.id,
            originator_version=state.version + 1,
            at=now,
            movement=_movement(txn_id, amount, state.currency, now, at_once),
            changes=_changes(state, {name: given[name] for name in _ON_CAPTURE if name in given}),
        )
    ]


def update(state: Charge, given: Mapping[str, Any], *, now: int) -> list[DomainEvent]:
    """Changes the fields `given`; absent is unchanged, None unset; `shipping` is merged.

    Raises StateForbids for another customer than the one it has, InvalidParameter for metadata past its
    limits.
    """
    after: dict[str, Any] = {name: given[name] for name in _ON_UPDATE if name in given}
    if given.get("customer") is not None:
        if state.customer not in (None, given["customer"]):
            text = "This charge already belongs to a customer, which cannot be changed."
            raise StateForbids(text, param="customer")
        after["customer"] = given["customer"]
    if "fraud_details" in given:
        report = given["fraud_details"]
        if report is None or "user_report" in report:
            after["fraud_report"] = (report or {}).get("user_report")
    if "shipping" in given:
        after["shipping"] = merge_patch.merged_shipping(state.shipping, given["shipping"], parcel=True)
    if "metadata" in given:
        after["metadata"] = merge_patch.merged(state.metadata, given["metadata"])
    changes = _changes(state, after)
    if not changes:
        return []
    return [
        ChargeUpdated(originator_id=state.id, originator_version=state.version + 1, at=now, changes=changes)
    ]


def uncaptured(state: Charge) -> bool:
    """Whether it waits to be captured."""
    return state.status == "succeeded" and not state.captured and not state.expired


def expire(state: Charge, *, now: int) -> list[DomainEvent]:
    """What time does: an authorization that was not captured expires. [] before that, or if it was."""
    if not uncaptured(state) or now < state.created + CAPTURE_DAYS * money.DAY_SECONDS:
        return []
    return [ChargeExpired(originator_id=state.id, originator_version=state.version + 1, at=now)]


def dispute_opened(
    state: Charge, dispute: str, amount: int, reference: str | None, *, now: int
) -> ChargeDisputed:
    """Records `dispute` over `amount`, which the opening decision has checked."""
    return ChargeDisputed(
        originator_id=state.id,
        originator_version=state.version + 1,
        at=now,
        dispute=dispute,
        amount=amount,
        reference=reference,
    )


def _changes(state: Charge, after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if getattr(state, name) != value}


def _billing_details(given: Mapping[str, Any] | None) -> dict[str, Any]:
    details = merge_patch.merged_hash(None, given or {}, NO_BILLING_DETAILS)
    assert details is not None
    details["address"] = merge_patch.merged_address(None, details["address"] or {})
    return details


def _movement(txn_id: str, amount: int, currency: str, now: int, at_once: bool) -> Movement:
    return Movement(
        id=txn_id,
        amount=amount,
        fee=money.processing_fee(amount, currency),
        currency=currency,
        created=now,
        available_on=money.charge_available_on(now, at_once),
    )


def _outcome(kind: str, *, reason: str | None = None, risk_level: str = "normal") -> dict[str, Any]:
    declined = kind == "declined"
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if declined else "approved_by_network",
        "reason": reason if declined else ("elevated_risk_level" if risk_level == "elevated" else None),
        "risk_level": risk_level,
        "risk_score": 68 if risk_level == "elevated" else 20,
        "seller_message": _SELLER_MESSAGES["declined" if declined else risk_level],
        "type": "issuer_declined" if declined else "authorized",
    }


_SELLER_MESSAGES = {
    "declined": "The bank did not return any further details with this decline.",
    "normal": "Payment complete.",
    "elevated": "Stripe evaluated this payment as having elevated risk.",
}
