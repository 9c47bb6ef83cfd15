"""JSON for front ends (CONTRACT 6.1), and of a customer session for those who look after it.

Pure: the same state gives the same bytes. Only what is handed in as a key or secret is one.
"""

from __future__ import annotations

from typing import Any

from ledger.domain import customer_session
from ledger.domain.customer_session import CustomerSession
from ledger.wire import render

Json = dict[str, Any]

_ON, _OFF = "enabled", "disabled"


def elements_session(session_id: str, intent: str, *, livemode: bool) -> Json:
    """What a payment form is set up with, without a customer. `intent` is the request's `type`."""
    return {
        "session_id": session_id,
        "object": "elements_session",
        "livemode": livemode,
        "payment_method_preference": {
            "object": "payment_method_preference",
            "country_code": "US",
            "ordered_payment_method_types": ["card"],
            "type": intent,
        },
        "merchant_country": "US",
        "payment_method_specs": None,
        "unactivated_payment_method_types": [],
        "link_settings": None,
        "google_pay_preference": _OFF,
        "card_brand_choice": None,
    }


def granted(state: CustomerSession, api_key: str) -> Json:
    """The `customer` of an elements session: what the exchange of the client secret gives."""
    return {
        "payment_methods": [],
        "default_payment_method": None,
        "customer_session": {
            "id": state.id,
            "object": "customer_session",
            "livemode": state.livemode,
            "customer": state.customer,
            "api_key": api_key,
            "api_key_expiry": state.expires_at,
            "components": _components(state),
        },
    }


def session_record(state: CustomerSession, now: int) -> Json:
    """A customer session with its state at `now` (unix seconds), and never with its secret."""
    return {
        "id": state.id,
        "object": "customer_session",
        "claimed_at": state.claimed_at,
        "component": state.component,
        "created": state.created,
        "customer": state.customer,
        "expires_at": state.expires_at,
        "livemode": state.livemode,
        "revoked_at": state.revoked_at,
        "state": customer_session.state_at(state, now),
    }


def _components(state: CustomerSession) -> Json:
    """The seven components; of the mobile ones, the features that the mobile SDKs know."""
    components: Json = render.customer_session(state, "")["components"]
    given = state.features or {}
    shown: Json | None = None
    if state.component == "customer_sheet":
        shown = {
            "payment_method_remove": given["payment_method_remove"],
            "payment_method_remove_last": _ON,
            "payment_method_sync_default": _OFF,
        }
    elif state.component == "mobile_payment_element":
        override = "payment_method_save_allow_redisplay_override"
        shown = {
            "payment_method_save": given["payment_method_save"],
            "payment_method_remove": given["payment_method_remove"],
            "payment_method_remove_last": _ON,
            "payment_method_set_as_default": _OFF,
            override: given[override],
        }
    if shown is not None:
        components[state.component] = {"enabled": True, "features": shown}
    return components
