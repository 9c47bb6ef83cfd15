"""The parameters to create a customer session (contract §2.1).

The decision checks that exactly one component is enabled.
"""

from __future__ import annotations

from ledger.wire.parameters import EXPAND, Array, Hash, ParameterTable, Unsupported
from ledger.wire.scalars import Boolean, Choice, Integer, Parameter, Text

REDISPLAY_LIMIT_MAX = 10

_DISABLED_OR_ENABLED = ("disabled", "enabled")
_ALLOW_REDISPLAY_VALUES = ("always", "limited", "unspecified")

_ALLOW_REDISPLAY_FILTERS = Array(
    Choice(_ALLOW_REDISPLAY_VALUES),
    items_max=10,
    description="Show only saved payment methods with one of these `allow_redisplay` values.",
)
_PAYMENT_METHOD_REMOVE = Choice(
    _DISABLED_OR_ENABLED, description="Whether a saved payment method can be removed."
)
_PAYMENT_METHOD_REDISPLAY = Choice(
    _DISABLED_OR_ENABLED, description="Whether saved payment methods are shown."
)
_PAYMENT_METHOD_SAVE = Choice(
    _DISABLED_OR_ENABLED, description="Whether the customer can save a new payment method."
)


def _make_component(component_name: str, features: dict[str, Parameter] | None = None) -> Hash:
    members: dict[str, Parameter] = {
        "enabled": Boolean(required=True, description=f"Whether {component_name} is enabled.")
    }
    if features is not None:
        members["features"] = Hash(features, description=f"Features of {component_name}.")
    return Hash(members, description=f"Configuration of {component_name}.")


_COMPONENTS: dict[str, Parameter] = {
    "active_entitlements": _make_component("the list of active entitlements"),
    "buy_button": _make_component("the buy button"),
    "customer_portal": _make_component("the customer portal"),
    "customer_sheet": _make_component(
        "the customer sheet",
        {
            "payment_method_allow_redisplay_filters": _ALLOW_REDISPLAY_FILTERS,
            "payment_method_remove": _PAYMENT_METHOD_REMOVE,
        },
    ),
    "mobile_payment_element": _make_component(
        "the mobile payment element",
        {
            "payment_method_allow_redisplay_filters": _ALLOW_REDISPLAY_FILTERS,
            "payment_method_redisplay": _PAYMENT_METHOD_REDISPLAY,
            "payment_method_remove": _PAYMENT_METHOD_REMOVE,
            "payment_method_save": _PAYMENT_METHOD_SAVE,
            "payment_method_save_allow_redisplay_override": Choice(
                _ALLOW_REDISPLAY_VALUES,
                description="`allow_redisplay` of a payment method saved while saving is disabled.",
            ),
        },
    ),
    "payment_element": _make_component(
        "the Payment Element",
        {
            "payment_method_allow_redisplay_filters": _ALLOW_REDISPLAY_FILTERS,
            "payment_method_redisplay": _PAYMENT_METHOD_REDISPLAY,
            "payment_method_redisplay_limit": Integer(
                minimum=1,
                maximum=REDISPLAY_LIMIT_MAX,
                description="Largest number of payment methods to show. Default: 3.",
            ),
            "payment_method_remove": _PAYMENT_METHOD_REMOVE,
            "payment_method_save": _PAYMENT_METHOD_SAVE,
            "payment_method_save_usage": Choice(
                ("off_session", "on_session"), description="Intended use of a saved payment method."
            ),
        },
    ),
    "pricing_table": _make_component("the pricing table"),
}

CREATE = ParameterTable(
    {
        "components": Hash(
            _COMPONENTS, required=True, description="Configuration of each component; exactly one is enabled."
        ),
        "customer": Text(required=True, description="Id of the customer to whom the session gives access."),
        "customer_account": Unsupported("sessions are for customers; pass 'customer'"),
        "expand": EXPAND,
    }
)
