"""Customer sessions: what a front end may do for one customer, once and for a limited time.

The client secret is nowhere here. It is derived elsewhere from `encode_grant`, so it cannot leak from an
event, and a session whose grant differed would have another secret. A claim is an event, so of any number of
claims at once the version check lets one through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter, InvalidState

CLIENT_SECRET_PARAM = "customer_session_client_secret"  # noqa: S105 (no secret)

_DISABLED = "disabled"
# Contract §2.1: features by component when enabled and not given; None means it has none.
DEFAULT_FEATURES: dict[str, dict[str, Any] | None] = {
    "active_entitlements": None,
    "buy_button": None,
    "customer_portal": None,
    "customer_sheet": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_remove": _DISABLED,
    },
    "mobile_payment_element": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": _DISABLED,
        "payment_method_remove": _DISABLED,
        "payment_method_save": _DISABLED,
        "payment_method_save_allow_redisplay_override": None,
    },
    "payment_element": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": _DISABLED,
        "payment_method_redisplay_limit": 3,
        "payment_method_remove": _DISABLED,
        "payment_method_save": _DISABLED,
        "payment_method_save_usage": None,
    },
    "pricing_table": None,
}


@dataclass(frozen=True, kw_only=True)
class CustomerSessionCreated(DomainEvent):
    """`component` is the one enabled; `features` its features with defaults filled in, or None."""

    TOPIC: ClassVar[str] = "customer_session.created"

    account: str
    livemode: bool
    customer: str
    component: str
    features: dict[str, Any] | None
    expires_at: int


@dataclass(frozen=True, kw_only=True)
class CustomerSessionClaimed(DomainEvent):
    TOPIC: ClassVar[str] = "customer_session.claimed"


@dataclass(frozen=True, kw_only=True)
class CustomerSessionRevoked(DomainEvent):
    TOPIC: ClassVar[str] = "customer_session.revoked"


EVENTS: tuple[type[DomainEvent], ...] = (
    CustomerSessionCreated,
    CustomerSessionClaimed,
    CustomerSessionRevoked,
)


class CustomerSession(msgspec.Struct, frozen=True, kw_only=True):
    """A customer session as of `version`."""

    id: str
    version: int
    account: str
    livemode: bool
    created: int
    customer: str
    component: str
    features: dict[str, Any] | None
    expires_at: int
    claimed_at: int | None = None
    revoked_at: int | None = None


def evolve(state: CustomerSession | None, event: DomainEvent) -> CustomerSession:
    match event:
        case CustomerSessionCreated():
            return CustomerSession(
                id=event.originator_id,
                version=event.originator_version,
                account=event.account,
                livemode=event.livemode,
                created=event.at,
                customer=event.customer,
                component=event.component,
                features=event.features,
                expires_at=event.expires_at,
            )
        case CustomerSessionClaimed():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, claimed_at=event.at)
        case CustomerSessionRevoked():
            assert state is not None
            return msgspec.structs.replace(state, version=event.originator_version, revoked_at=event.at)
    raise TypeError(f"{type(event).__name__} is no event of a customer session")


def create(
    *,
    session_id: str,
    account: str,
    livemode: bool,
    customer: str,
    components: Mapping[str, Mapping[str, Any]],
    terms: Terms,
    now: int,
) -> list[DomainEvent]:
    """A session for `customer`, which the caller knows to exist.

    `components` maps known names to `{"enabled": bool, "features": {...}}`. Raises InvalidParameter,
    param `components`, unless exactly one is enabled (contract §2.1).
    """
    enabled_names = [name for name, component in components.items() if component["enabled"]]
    if len(enabled_names) != 1:
        raise InvalidParameter("Exactly 1 component must be enabled.", param="components")
    name = enabled_names[0]
    features = DEFAULT_FEATURES[name]
    if features is not None:
        features = features | (components[name].get("features") or {})
    return [
        CustomerSessionCreated(
            originator_id=session_id,
            originator_version=1,
            at=now,
            account=account,
            livemode=livemode,
            customer=customer,
            component=name,
            features=features,
            expires_at=now + terms.session_seconds,
        )
    ]


def claim(state: CustomerSession, *, now: int) -> list[DomainEvent]:
    """The one exchange of the secret. Raises InvalidState saying used, revoked or expired (contract §6.2)."""
    status = get_status(state, now)
    if status == "claimed":
        raise InvalidState("This customer session has already been used.", param=CLIENT_SECRET_PARAM)
    if status == "revoked":
        raise InvalidState("This customer session has been revoked.", param=CLIENT_SECRET_PARAM)
    if status == "expired":
        raise InvalidState("This customer session has expired.", param=CLIENT_SECRET_PARAM)
    return [CustomerSessionClaimed(originator_id=state.id, originator_version=state.version + 1, at=now)]


def revoke(state: CustomerSession, *, now: int) -> list[DomainEvent]:
    """Takes an unused session back; nothing happens if it was revoked or has expired.

    Raises InvalidState once it has been used.
    """
    status = get_status(state, now)
    if status == "claimed":
        raise InvalidState("This customer session has already been used; it cannot be revoked.")
    if status != "open":
        return []
    return [CustomerSessionRevoked(originator_id=state.id, originator_version=state.version + 1, at=now)]


def get_status(state: CustomerSession, now: int) -> str:
    """`open`, `claimed`, `revoked` or `expired`, the first that ever came true among the last three."""
    if state.claimed_at is not None:
        return "claimed"
    if state.revoked_at is not None:
        return "revoked"
    return "expired" if now >= state.expires_at else "open"


_grant_encoder = msgspec.json.Encoder(order="deterministic")


def encode_grant(state: CustomerSession) -> bytes:
    """All that the session grants, in one form only: what its secret is derived from and bound to."""
    return _grant_encoder.encode(
        (
            state.id,
            state.account,
            state.livemode,
            state.customer,
            state.component,
            state.features,
            state.expires_at,
        )
    )
