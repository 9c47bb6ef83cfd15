"""What `ledger trigger` does for each type of Event: the requests of an application, and the facts that lead
to one, as data. A path or value names by `{charge}` the object of that type that an earlier step made.

tests/events/test_trigger.py compares SCENARIOS with the types of Event that the ledger makes, and runs all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ledger.domain.charge_decisions import CAPTURE_DAYS


class Request(NamedTuple):
    """A request of the public API. `form`: its parameters, named as in a form. `is_declined`: the card is
    declined, which is what the scenario is about."""

    method: str
    path: str
    form: Mapping[str, str]
    is_declined: bool = False


class OldAuthorization(NamedTuple):
    """A charge that another system authorised so many days ago and nobody captured, reported only now."""

    days: int


class DueDate(NamedTuple):
    """The due date of an object of this type, which has passed, takes effect."""

    object_type: str


Step = Request | OldAuthorization | DueDate

_NOTE = "made by ledger trigger"
_UPDATE = {"metadata[made_by]": "ledger trigger"}
_TEXT = "evidence[uncategorized_text]"


def _charge(source: str, **further: str) -> Request:
    form = {"amount": "2000", "currency": "usd", "source": source, "description": _NOTE, **further}
    return Request("POST", "/v1/charges", form, is_declined=source == "tok_chargeDeclined")


def _intent(payment_method: str, **further: str) -> Request:
    form = {
        "amount": "2000", "currency": "usd", "payment_method": payment_method, "confirm": "true",
        "payment_method_types[]": "card", "description": _NOTE, **further,
    }  # fmt: skip
    return Request(
        "POST", "/v1/payment_intents", form, is_declined=payment_method == "pm_card_chargeDeclined"
    )


_CUSTOMER = Request("POST", "/v1/customers", {"description": _NOTE, "email": "jenny.rosen@example.com"})
_PAID = _charge("tok_visa")
_AUTHORIZED = _charge("tok_visa", capture="false")
_REFUNDED = (_PAID, Request("POST", "/v1/refunds", {"charge": "{charge}"}))
_REFUND_UPDATED = (*_REFUNDED, Request("POST", "/v1/refunds/{refund}", _UPDATE))
_DISPUTED = _charge("tok_createDispute")

SCENARIOS: dict[str, tuple[Step, ...]] = {
    "charge.captured": (_AUTHORIZED, Request("POST", "/v1/charges/{charge}/capture", {})),
    "charge.dispute.closed": (_DISPUTED, Request("POST", "/v1/disputes/{dispute}/close", {})),
    "charge.dispute.created": (_DISPUTED,),
    "charge.dispute.funds_reinstated": (
        _DISPUTED,
        Request("POST", "/v1/disputes/{dispute}", {_TEXT: "winning_evidence"}),
    ),
    "charge.dispute.funds_withdrawn": (_DISPUTED,),
    "charge.dispute.updated": (_DISPUTED, Request("POST", "/v1/disputes/{dispute}", {_TEXT: _NOTE})),
    "charge.expired": (OldAuthorization(CAPTURE_DAYS), DueDate("charge")),
    "charge.failed": (_charge("tok_chargeDeclined"),),
    "charge.refund.updated": _REFUND_UPDATED,
    "charge.refunded": _REFUNDED,
    "charge.succeeded": (_PAID,),
    "charge.updated": (_PAID, Request("POST", "/v1/charges/{charge}", _UPDATE)),
    "customer.created": (_CUSTOMER,),
    "customer.deleted": (_CUSTOMER, Request("DELETE", "/v1/customers/{customer}", {})),
    "customer.updated": (_CUSTOMER, Request("POST", "/v1/customers/{customer}", _UPDATE)),
    "payment_intent.amount_capturable_updated": (_intent("pm_card_visa", capture_method="manual"),),
    "payment_intent.canceled": (
        _intent("pm_card_visa", capture_method="manual"),
        Request("POST", "/v1/payment_intents/{payment_intent}/cancel", {}),
    ),
    "payment_intent.created": (_intent("pm_card_visa"),),
    "payment_intent.payment_failed": (_intent("pm_card_chargeDeclined"),),
    "payment_intent.succeeded": (_intent("pm_card_visa"),),
    "refund.created": _REFUNDED,
    "refund.updated": _REFUND_UPDATED,
}
"""The steps that make an Event, by its type: every type that the ledger makes by itself."""
