"""The test cards: the card behind each test token, and what happens to a charge on it (contract §3.4).

Source: https://docs.stripe.com/testing. Tokens exist in test mode only. A customer or a charge keeps its card
as a `SourceCard`, which includes the token, so a charge on a saved card behaves like a charge on the token.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TypedDict

from ledger.errors import CardError, InvalidParameter, UnknownReference
from ledger.ids import parse_id_time


@dataclass(frozen=True, kw_only=True)
class Decline:
    """Why the issuer declines a charge on the card.

    `code`, `decline_code`, `message` and `param` are those of the card error (contract §1.6).
    `declines_attachment`: whether the card cannot be saved on a customer either.
    """

    code: str
    message: str
    decline_code: str | None = None
    param: str | None = None
    declines_attachment: bool = True


@dataclass(frozen=True, kw_only=True)
class DisputeSpec:
    """The disputes that a charge on the card leads to: `dispute_count` of them share the amount equally."""

    kind: str
    reason: str
    network_reason_code: str | None
    eligibility: tuple[str, ...] = ()
    dispute_count: int = 1


@dataclass(frozen=True, kw_only=True)
class TestCard:
    """The card behind a token. `bypass_pending`: the funds of a charge are available at once."""

    __test__ = False  # tells pytest that this is not a test class

    number: str
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    decline: Decline | None = None
    dispute: DisputeSpec | None = None
    bypass_pending: bool = False
    cvc_check: str = "pass"
    risk_level: str = "normal"


class SourceCard(TypedDict):
    """A card as stored in the state of a customer or a charge. `token` is a key of TEST_CARDS."""

    id: str
    token: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int
    funding: str
    country: str
    fingerprint: str
    cvc_check: str


EXPIRY_MONTH, EXPIRY_YEAR = 12, 2034

_DECLINE_MESSAGE = "Your card was declined."
_FRAUDULENT_CHARGEBACK = DisputeSpec(kind="chargeback", reason="fraudulent", network_reason_code="10.4")


def _make_card_decline(
    decline_code: str, message: str = _DECLINE_MESSAGE, *, declines_attachment: bool = True
) -> Decline:
    return Decline(
        code="card_declined",
        decline_code=decline_code,
        message=message,
        declines_attachment=declines_attachment,
    )


def _make_coded_decline(code: str, message: str, param: str | None = None) -> Decline:
    return Decline(code=code, decline_code=code, message=message, param=param)


TEST_CARDS: dict[str, TestCard] = {
    "tok_visa": TestCard(number="4242424242424242"),
    "tok_visa_debit": TestCard(number="4000056655665556", funding="debit"),
    "tok_mastercard": TestCard(number="5555555555554444", brand="mastercard"),
    "tok_mastercard_debit": TestCard(number="5200828282828210", brand="mastercard", funding="debit"),
    "tok_mastercard_prepaid": TestCard(number="5105105105105100", brand="mastercard", funding="prepaid"),
    "tok_amex": TestCard(number="378282246310005", brand="amex"),
    "tok_discover": TestCard(number="6011111111111117", brand="discover"),
    "tok_diners": TestCard(number="3056930009020004", brand="diners"),
    "tok_jcb": TestCard(number="3566002020360505", brand="jcb", country="JP"),
    "tok_unionpay": TestCard(number="6200000000000005", brand="unionpay", country="CN"),
    "tok_us": TestCard(number="4242424242424242"),
    "tok_br": TestCard(number="4000000760000002", country="BR"),
    "tok_ca": TestCard(number="4000001240000000", country="CA"),
    "tok_mx": TestCard(number="4000004840008001", country="MX"),
    "tok_gb": TestCard(number="4000008260000000", country="GB"),
    "tok_de": TestCard(number="4000002760000016", country="DE"),
    "tok_fr": TestCard(number="4000002500000003", country="FR"),
    "tok_ie": TestCard(number="4000003720000005", country="IE"),
    "tok_au": TestCard(number="4000000360000006", country="AU"),
    "tok_jp": TestCard(number="4000003920000003", country="JP"),
    "tok_in": TestCard(number="4000003560000008", country="IN"),
    "tok_sg": TestCard(number="4000007020000003", country="SG"),
    "tok_bypassPending": TestCard(number="4000000000000077", bypass_pending=True),
    "tok_cvcCheckFail": TestCard(number="4000000000000101", cvc_check="fail"),
    "tok_riskLevelElevated": TestCard(number="4000000000009235", risk_level="elevated"),
    "tok_createIssuerFraudRecord": TestCard(number="4000000000005423"),
    "tok_createDispute": TestCard(number="4000000000000259", dispute=_FRAUDULENT_CHARGEBACK),
    "tok_createDisputeProductNotReceived": TestCard(
        number="4000000000002685",
        dispute=DisputeSpec(kind="chargeback", reason="product_not_received", network_reason_code="13.1"),
    ),
    "tok_createDisputeInquiry": TestCard(
        number="4000000000001976",
        dispute=DisputeSpec(kind="inquiry", reason="general", network_reason_code="10"),
    ),
    "tok_createMultipleDisputes": TestCard(
        number="4000000404000079",
        dispute=DisputeSpec(
            kind="chargeback", reason="fraudulent", network_reason_code="10.4", dispute_count=2
        ),
    ),
    "tok_createCe3EligibleDispute": TestCard(
        number="4000000404000038",
        dispute=DisputeSpec(
            kind="chargeback",
            reason="fraudulent",
            network_reason_code="10.4",
            eligibility=("visa_compelling_evidence_3",),
        ),
    ),
    "tok_createComplianceDispute": TestCard(
        number="4000008400000779",
        dispute=DisputeSpec(kind="compliance", reason="noncompliant", network_reason_code=None),
    ),
    "tok_chargeDeclined": TestCard(number="4000000000000002", decline=_make_card_decline("generic_decline")),
    "tok_chargeDeclinedInsufficientFunds": TestCard(
        number="4000000000009995",
        decline=_make_card_decline("insufficient_funds", "Your card has insufficient funds."),
    ),
    "tok_chargeDeclinedLostCard": TestCard(
        number="4000000000009987", decline=_make_card_decline("lost_card")
    ),
    "tok_chargeDeclinedStolenCard": TestCard(
        number="4000000000009979", decline=_make_card_decline("stolen_card")
    ),
    "tok_chargeDeclinedFraudulent": TestCard(
        number="4100000000000019", decline=_make_card_decline("fraudulent")
    ),
    "tok_chargeDeclinedExpiredCard": TestCard(
        number="4000000000000069",
        decline=_make_coded_decline("expired_card", "Your card has expired.", "exp_month"),
    ),
    "tok_chargeDeclinedIncorrectCvc": TestCard(
        number="4000000000000127",
        decline=_make_coded_decline("incorrect_cvc", "Your card's security code is incorrect.", "cvc"),
        cvc_check="fail",
    ),
    "tok_chargeDeclinedProcessingError": TestCard(
        number="4000000000000119",
        decline=_make_coded_decline(
            "processing_error", "An error occurred while processing your card. Try again later."
        ),
    ),
    "tok_chargeCustomerFail": TestCard(
        number="4000000000000341", decline=_make_card_decline("generic_decline", declines_attachment=False)
    ),
}

# Token by accepted source. Stripe also accepts tok_visa_createDispute for tok_createDispute, and likewise for
# each other token in camel case. tok_visa and tok_us share a number: it stands for the first, tok_visa.
_TOKENS = {
    **{card.number: token for token, card in reversed(TEST_CARDS.items())},
    **{f"tok_visa_{name[4:]}": name for name in TEST_CARDS if any(map(str.isupper, name))},
    **{name: name for name in TEST_CARDS},
}

_PAYMENT_METHOD_PREFIX = "pm_card_"
_THREE_D_SECURE = re.compile("threeDSecure|authenticationRequired")


def make_source_card(token: str, *, card_id: str, livemode: bool) -> SourceCard:
    """The card of `token` (a test token or test card number), under the id `card_id`.

    Raises UnknownReference, param `source`, for an unknown token, and in live mode for every token.
    """
    canonical_token = None if livemode else _TOKENS.get(token)
    if canonical_token is None:
        raise UnknownReference("token", token, param="source")
    card = TEST_CARDS[canonical_token]
    fingerprint = hashlib.blake2b(card.number.encode(), digest_size=8).hexdigest()
    return SourceCard(
        id=card_id,
        token=canonical_token,
        brand=card.brand,
        last4=card.number[-4:],
        exp_month=EXPIRY_MONTH,
        exp_year=EXPIRY_YEAR,
        funding=card.funding,
        country=card.country,
        fingerprint=fingerprint,
        cvc_check=card.cvc_check,
    )


def make_payment_method_card(payment_method: str, *, card_id: str, livemode: bool) -> SourceCard:
    """The card of a test payment method: `pm_card_visa` has the card of `tok_visa`, and so on.

    Raises InvalidParameter for one that asks for 3-D Secure, UnknownReference for an unknown one, and in live
    mode for every one; param `payment_method`.
    """
    name = payment_method.removeprefix(_PAYMENT_METHOD_PREFIX)
    if not livemode and name != payment_method:
        if _THREE_D_SECURE.search(name):
            text = f"The payment method '{payment_method}' is not supported here: there is no 3-D Secure."
            raise InvalidParameter(text, param="payment_method")
        if (token := f"tok_{name}") in _TOKENS:
            return make_source_card(token, card_id=card_id, livemode=livemode)
    raise UnknownReference("PaymentMethod", payment_method, param="payment_method")


def get_created(card: SourceCard, default: int) -> int:
    """When the card was made from its token, in unix seconds: its id contains the time. `default` for an id
    of another form."""
    created = parse_id_time(card["id"])
    return default if created is None else int(created)


def check_attachable(card: SourceCard) -> None:
    """Raises CardError for a card whose issuer does not let a customer save it."""
    decline = TEST_CARDS[card["token"]].decline
    if decline is not None and decline.declines_attachment:
        raise CardError(
            decline.message, code=decline.code, decline_code=decline.decline_code, param=decline.param
        )
