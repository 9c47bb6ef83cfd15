"""The JSON of customer sessions (contract §2.1)."""

from __future__ import annotations

from typing import Any

from ledger.domain.customer_session import DEFAULT_FEATURES, CustomerSession
from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {"components": {}, "customer": "customer"}
_COMPONENTS_TEMPLATE: Json = {
    name: {"enabled": False} if features is None else {"enabled": False, "features": None}
    for name, features in DEFAULT_FEATURES.items()
}


def render_customer_session(state: CustomerSession, client_secret: str) -> Json:
    """A customer session. Only the response to its creation has the `client_secret`; elsewhere it is ''."""
    return {
        "object": "customer_session",
        "client_secret": client_secret,
        "components": render_components(state),
        "created": state.created,
        "customer": state.customer,
        "customer_account": None,
        "expires_at": state.expires_at,
        "livemode": state.livemode,
    }


def render_components(state: CustomerSession) -> Json:
    """All seven components; the enabled one with its features."""
    enabled: Json = {"enabled": True}
    if state.features is not None:
        enabled["features"] = state.features
    return {**_COMPONENTS_TEMPLATE, state.component: enabled}
