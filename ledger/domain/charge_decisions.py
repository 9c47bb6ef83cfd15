"""Decisions on charges (contract §2.6): create, register, capture, update, expire, record a dispute.

A declined card is not an error here but an event, `ChargeFailed`, because the failed charge exists. After
appending it, the command answers the caller with `make_card_error(charge)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain import cards, merge_patch, money
from ledger.domain.aggregate import next_header
from ledger.domain.backdating import resolve_created_at
from ledger.domain.cards import TEST_CARDS, SourceCard
from ledger.domain.charge import (
    EMPTY_BILLING_DETAILS,
    Charge,
    ChargeCaptured,
    ChargeDisputed,
    ChargeExpired,
    ChargeFailed,
    ChargeReleased,
    ChargeSucceeded,
    ChargeUpdated,
)
from ledger.domain.customer import Customer
from ledger.domain.event import DomainEvent
from ledger.domain.money import Movement
from ledger.errors import CardError, InvalidParameter, InvalidState

CAPTURE_DAYS = 7
"""Days from creation within which an authorized charge must be captured."""

_CREATE_FIELDS = (
    "customer", "description", "payment_intent", "receipt_email", "statement_descriptor",
    "statement_descriptor_suffix", "transfer_group",
)  # fmt: skip
_CAPTURE_FIELDS = ("receipt_email", "statement_descriptor", "statement_descriptor_suffix", "transfer_group")
_UPDATE_FIELDS = ("description", "receipt_email", "transfer_group")
_SELLER_MESSAGES = {
    "declined": "The bank did not return any further details with this decline.",
    "normal": "Payment complete.",
    "elevated": "Stripe evaluated this payment as having elevated risk.",
}


def resolve_card(
    params: Mapping[str, Any], customer: Customer | None, *, card_id: str, livemode: bool
) -> SourceCard:
    """The card to charge: `params["source"]`, a token or the id of one of the customer's cards; if absent,
    the customer's default card. A card made from a token gets the id `card_id`.

    Raises UnknownReference for an unknown token, InvalidParameter (code `parameter_missing`) without source
    and customer, CardError (code `missing`) for a customer without a card.
    """
    source: str | None = params.get("source")
    if source is not None:
        customer_card = customer.find_source(source) if customer else None
        return customer_card or cards.make_source_card(source, card_id=card_id, livemode=livemode)
    if customer is None:
        raise InvalidParameter("Must provide source or customer.", code="parameter_missing")
    default_card = customer.find_source(customer.default_source)
    if default_card is None:
        text = "Cannot charge a customer that has no active card"
        raise CardError(text, code="missing", param="card")
    return default_card


def check_amount(amount: int, currency: str) -> None:
    """Raises InvalidParameter unless `amount` (minor units of `currency`) can be charged."""
    money.check_currency(currency)
    money.check_charge_amount(amount, currency)


def create(
    *,
    charge_id: str,
    account: str,
    livemode: bool,
    params: Mapping[str, Any],
    card: SourceCard,
    txn_id: str,
    now: int,
) -> list[DomainEvent]:
    """Charges `card`: ChargeSucceeded, or ChargeFailed if the card is declined.

    `params` are the parameters of `POST /v1/charges`, and `payment_intent` for the charge of one; `txn_id`
    becomes the id of the balance transaction. Raises InvalidParameter for an invalid amount, currency or
    metadata.
    """
    amount, currency = params["amount"], params["currency"].lower()
    check_amount(amount, currency)
    fields = _make_charge_fields(charge_id, account, livemode, params, created=now, now=now)
    fields["card"] = card
    test_card = TEST_CARDS[card["token"]]
    if test_card.decline is not None:
        outcome = _make_outcome("declined", reason=test_card.decline.decline_code)
        code, message = test_card.decline.code, test_card.decline.message
        return [ChargeFailed(outcome=outcome, failure_code=code, failure_message=message, **fields)]
    captured = params.get("capture", True)
    movement = _make_movement(txn_id, amount, currency, now, test_card.bypass_pending) if captured else None
    outcome = _make_outcome("authorized", risk_level=test_card.risk_level)
    return [ChargeSucceeded(outcome=outcome, movement=movement, **fields)]


def register(
    *, charge_id: str, account: str, livemode: bool, params: Mapping[str, Any], txn_id: str, now: int
) -> list[DomainEvent]:
    """Registers a charge that another system made (internal API): ChargeSucceeded or ChargeFailed, and
    ChargeCaptured if less than its amount was captured.

    `params` has `amount` and `currency`, and may have further members of the charge object: `created`,
    `captured` (default True), `amount_captured`, `status` (default succeeded), `payment_intent`,
    `payment_method_details`,
    `billing_details`, `failure_code`, `failure_message`, `customer`, `metadata` and others. Raises
    InvalidParameter for an invalid currency, amount, metadata or `created`.
    """
    amount, currency = params["amount"], params["currency"].lower()
    money.check_currency(currency)
    if not 1 <= amount <= money.CHARGE_AMOUNT_MAX:
        text = f"Amount must be between 1 and {money.CHARGE_AMOUNT_MAX}"
        raise InvalidParameter(text, param="amount")
    money.check_divisible(amount, currency)
    created = resolve_created_at(params, now)
    fields = _make_charge_fields(charge_id, account, livemode, params, created=created, now=now)
    fields |= {
        "payment_method_details": params.get("payment_method_details"),
        "billing_details": _make_billing_details(params.get("billing_details")),
    }
    if params.get("status") == "failed":
        code = params.get("failure_code") or "card_declined"
        message = params.get("failure_message") or "Your card was declined."
        outcome = params.get("outcome") or _make_outcome("declined", reason=code)
        return [ChargeFailed(outcome=outcome, failure_code=code, failure_message=message, **fields)]
    captured = params.get("captured") is not False
    amount_captured = params.get("amount_captured", amount)
    outcome = params.get("outcome") or _make_outcome("authorized")
    if amount_captured == amount:
        movement = _make_movement(txn_id, amount, currency, created, False) if captured else None
        return [ChargeSucceeded(outcome=outcome, movement=movement, **fields)]
    _check_captured_part(amount_captured, amount, currency, captured=captured)
    movement = _make_movement(txn_id, amount_captured, currency, created, False)
    authorized = ChargeSucceeded(outcome=outcome, movement=None, **fields)
    return [
        authorized,
        ChargeCaptured(originator_id=charge_id, originator_version=2, at=now, movement=movement, changes={}),
    ]


def _check_captured_part(amount_captured: int, amount: int, currency: str, *, captured: bool) -> None:
    """Raises InvalidParameter for a captured amount that a registered charge cannot have."""
    if not captured or amount_captured > amount:
        text = "amount_captured must be at most the amount, and is only of a charge that is captured."
        raise InvalidParameter(text, param="amount_captured")
    money.check_divisible(amount_captured, currency)


def make_card_error(state: Charge) -> CardError:
    """The error response to the request that created a failed charge (contract §1.6)."""
    decline = TEST_CARDS[state.card["token"]].decline if state.card else None
    return CardError(
        state.failure_message or "Your card was declined.",
        code=state.failure_code or "card_declined",
        decline_code=decline.decline_code if decline else None,
        param=decline.param if decline else None,
        charge=state.id,
    )


def capture(state: Charge, params: Mapping[str, Any], *, txn_id: str, now: int) -> list[DomainEvent]:
    """Captures `params["amount"]` (minor units) of the authorized amount; all of it if absent.

    Raises InvalidState if the charge is captured already (code `charge_already_captured`), has expired or was
    released (code `charge_expired_for_capture`) or failed, and, param `amount`, for less than 1 or more than
    was authorized; InvalidParameter for an amount that the currency does not have.
    """
    if state.captured:
        text = f"Charge {state.id} has already been captured."
        raise InvalidState(text, code="charge_already_captured")
    if state.status != "succeeded":
        raise InvalidState(f"Charge {state.id} failed; it cannot be captured.")
    if state.expired:
        text = f"Charge {state.id} was not captured within {CAPTURE_DAYS} days; it has expired."
        raise InvalidState(text, code="charge_expired_for_capture")
    if state.released:
        text = f"Charge {state.id} was released when its payment intent was canceled."
        raise InvalidState(text, code="charge_expired_for_capture")
    amount = params.get("amount")
    amount = state.amount if amount is None else amount
    if amount < 1:
        raise InvalidState("The amount to capture must be at least 1.", param="amount")
    if amount > state.amount:
        maximum = money.format_amount(state.amount, state.currency)
        raise InvalidState(f"You can capture at most the {maximum} authorized.", param="amount")
    if amount != state.amount:
        money.check_divisible(amount, state.currency)
    bypass_pending = state.card is not None and TEST_CARDS[state.card["token"]].bypass_pending
    movement = _make_movement(txn_id, amount, state.currency, now, bypass_pending)
    after = {name: params[name] for name in _CAPTURE_FIELDS if name in params}
    changes = merge_patch.find_changes(state, after)
    return [ChargeCaptured(**next_header(state, now), movement=movement, changes=changes)]


def update(state: Charge, params: Mapping[str, Any], *, now: int) -> list[DomainEvent]:
    """Changes the fields named in `params`: absent ones keep their values, None unsets, hashes are merged.

    Returns [] if nothing changes. Raises InvalidState, param `customer`, for a charge that belongs to another
    customer, InvalidParameter for metadata beyond its limits.
    """
    after: dict[str, Any] = {name: params[name] for name in _UPDATE_FIELDS if name in params}
    if params.get("customer") is not None:
        if state.customer not in (None, params["customer"]):
            text = "This charge already belongs to a customer, which cannot be changed."
            raise InvalidState(text, param="customer")
        after["customer"] = params["customer"]
    if "fraud_details" in params:
        report = params["fraud_details"]
        if report is None or "user_report" in report:
            after["fraud_report"] = (report or {}).get("user_report")
    if "shipping" in params:
        after["shipping"] = merge_patch.merge_shipping(state.shipping, params["shipping"], with_carrier=True)
    if "metadata" in params:
        after["metadata"] = merge_patch.merge_metadata(state.metadata, params["metadata"])
    changes = merge_patch.find_changes(state, after)
    return [ChargeUpdated(**next_header(state, now), changes=changes)] if changes else []


def is_awaiting_capture(state: Charge) -> bool:
    """Whether the charge is authorized and can still be captured."""
    return state.status == "succeeded" and not (state.captured or state.expired or state.released)


def expire(state: Charge, *, now: int) -> list[DomainEvent]:
    """ChargeExpired for an authorization not captured within CAPTURE_DAYS; [] before that, or if captured."""
    if not is_awaiting_capture(state) or now < state.created + CAPTURE_DAYS * money.DAY_SECONDS:
        return []
    return [ChargeExpired(**next_header(state, now))]


def release_authorization(state: Charge, *, now: int) -> list[DomainEvent]:
    """ChargeReleased for an authorization that will not be captured; [] for any other charge."""
    return [ChargeReleased(**next_header(state, now))] if is_awaiting_capture(state) else []


def record_dispute(
    state: Charge, dispute_id: str, amount: int, reference: str | None, *, now: int
) -> ChargeDisputed:
    """Records on the charge's stream that a dispute is opened, or escalated, over `amount`.

    `dispute_decisions` has checked the amount; the event is appended together with that of the dispute.
    """
    return ChargeDisputed(**next_header(state, now), dispute=dispute_id, amount=amount, reference=reference)


def _make_charge_fields(
    charge_id: str, account: str, livemode: bool, params: Mapping[str, Any], *, created: int, now: int
) -> dict[str, Any]:
    """The fields that ChargeSucceeded and ChargeFailed have in common."""
    return {
        "originator_id": charge_id,
        "originator_version": 1,
        "at": now,
        "account": account,
        "livemode": livemode,
        "created": created,
        "amount": params["amount"],
        "currency": params["currency"].lower(),
        **{name: params.get(name) for name in _CREATE_FIELDS},
        "metadata": merge_patch.merge_metadata({}, params.get("metadata")),
        "shipping": merge_patch.merge_shipping(None, params.get("shipping"), with_carrier=True),
    }


def _make_billing_details(params: Mapping[str, Any] | None) -> dict[str, Any]:
    details = merge_patch.merge_hash(None, params or {}, EMPTY_BILLING_DETAILS)
    assert details is not None
    details["address"] = merge_patch.merge_address(None, details["address"] or {})
    return details


def _make_movement(txn_id: str, amount: int, currency: str, created: int, bypass_pending: bool) -> Movement:
    return Movement(
        id=txn_id,
        amount=amount,
        fee=money.compute_processing_fee(amount, currency),
        currency=currency,
        created=created,
        available_on=money.compute_available_on(created, bypass_pending),
    )


def _make_outcome(kind: str, *, reason: str | None = None, risk_level: str = "normal") -> dict[str, Any]:
    is_declined = kind == "declined"
    return {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if is_declined else "approved_by_network",
        "reason": reason if is_declined else ("elevated_risk_level" if risk_level == "elevated" else None),
        "risk_level": risk_level,
        "risk_score": 68 if risk_level == "elevated" else 20,
        "seller_message": _SELLER_MESSAGES["declined" if is_declined else risk_level],
        "type": "issuer_declined" if is_declined else "authorized",
    }
