"""JSON for front ends (contract §6.1), and the customer session as operators see it (internal API)."""

from __future__ import annotations

from ledger.domain import customer_session
from ledger.domain.customer_session import CustomerSession
from ledger.wire.customer_sessions import render_components
from ledger.wire.json_values import Json

_ON, _OFF = "enabled", "disabled"


def render_elements_session(session_id: str, intent_type: str, *, livemode: bool) -> Json:
    """The configuration of a payment form, without a customer. `intent_type` is the request's `type`."""
    return {
        "session_id": session_id,
        "object": "elements_session",
        "livemode": livemode,
        "payment_method_preference": {
            "object": "payment_method_preference",
            "country_code": "US",
            "ordered_payment_method_types": ["card"],
            "type": intent_type,
        },
        "merchant_country": "US",
        "payment_method_specs": None,
        "unactivated_payment_method_types": [],
        "link_settings": None,
        "google_pay_preference": _OFF,
        "card_brand_choice": None,
    }


def render_elements_customer(state: CustomerSession, api_key: str) -> Json:
    """The `customer` of an elements session, which a front end receives for its client secret.

    `api_key` is the ephemeral key of the session.
    """
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
            "components": _render_components(state),
        },
    }


def render_session_record(state: CustomerSession, now: int) -> Json:
    """A customer session with its status at `now` (unix seconds), for operators; it never has the secret."""
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
        "state": customer_session.get_status(state, now),
    }


def _render_components(state: CustomerSession) -> Json:
    """The seven components; the mobile ones with the features that the mobile SDKs know."""
    components = render_components(state)
    features = state.features or {}
    mobile_features: Json | None = None
    if state.component == "customer_sheet":
        mobile_features = {
            "payment_method_remove": features["payment_method_remove"],
            "payment_method_remove_last": _ON,
            "payment_method_sync_default": _OFF,
        }
    elif state.component == "mobile_payment_element":
        override_name = "payment_method_save_allow_redisplay_override"
        mobile_features = {
            "payment_method_save": features["payment_method_save"],
            "payment_method_remove": features["payment_method_remove"],
            "payment_method_remove_last": _ON,
            "payment_method_set_as_default": _OFF,
            override_name: features[override_name],
        }
    if mobile_features is not None:
        components[state.component] = {"enabled": True, "features": mobile_features}
    return components
