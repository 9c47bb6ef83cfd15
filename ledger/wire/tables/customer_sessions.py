"""What the creation of a customer session accepts (CONTRACT 2.1).

That exactly one component is enabled is a rule of the domain, not of the form.
"""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, Array, Hash, Table, Unserved
from ledger.wire.scalars import Boolean, Choice, Integer, Parameter, Text

REDISPLAY_LIMIT_MAX = 10

_SWITCH = ("disabled", "enabled")
_REDISPLAY = ("always", "limited", "unspecified")

_FILTERS = Array(
    Choice(_REDISPLAY),
    items_max=10,
    description="Shows only saved payment methods whose `allow_redisplay` is among these.",
)
_REMOVE = Choice(_SWITCH, description="Whether a saved payment method can be removed.")
_SHOW = Choice(_SWITCH, description="Whether saved payment methods are shown.")
_SAVE = Choice(_SWITCH, description="Whether saving a new payment method is offered.")


def _component(what: str, features: dict[str, Parameter] | None = None) -> Hash:
    members: dict[str, Parameter] = {
        "enabled": Boolean(required=True, description=f"Whether {what} is enabled.")
    }
    if features is not None:
        members["features"] = Hash(features, description=f"What {what} offers.")
    return Hash(members, description=f"Configuration of {what}.")


_COMPONENTS: dict[str, Parameter] = {
    "active_entitlements": _component("the list of active entitlements"),
    "buy_button": _component("the buy button"),
    "customer_portal": _component("the customer portal"),
    "customer_sheet": _component(
        "the customer sheet",
        {"payment_method_allow_redisplay_filters": _FILTERS, "payment_method_remove": _REMOVE},
    ),
    "mobile_payment_element": _component(
        "the mobile payment element",
        {
            "payment_method_allow_redisplay_filters": _FILTERS,
            "payment_method_redisplay": _SHOW,
            "payment_method_remove": _REMOVE,
            "payment_method_save": _SAVE,
            "payment_method_save_allow_redisplay_override": Choice(
                _REDISPLAY,
                description="`allow_redisplay` of a payment method saved while saving is disabled.",
            ),
        },
    ),
    "payment_element": _component(
        "the Payment Element",
        {
            "payment_method_allow_redisplay_filters": _FILTERS,
            "payment_method_redisplay": _SHOW,
            "payment_method_redisplay_limit": Integer(
                minimum=1,
                maximum=REDISPLAY_LIMIT_MAX,
                description="How many are shown at most; 3 when absent.",
            ),
            "payment_method_remove": _REMOVE,
            "payment_method_save": _SAVE,
            "payment_method_save_usage": Choice(
                ("off_session", "on_session"), description="What a saved payment method is for."
            ),
        },
    ),
    "pricing_table": _component("the pricing table"),
}

CREATE = Table(
    {
        "components": Hash(
            _COMPONENTS, required=True, description="Configuration of each component; exactly one is enabled."
        ),
        "customer": Text(required=True, description="Id of the customer the session gives access to."),
        "customer_account": Unserved("sessions are for customers; pass 'customer'"),
        "expand": EXPAND,
    }
)
