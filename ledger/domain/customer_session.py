"""Customer sessions: what a front end may do for one customer, once and for a limited time.

The client secret is nowhere here. It is derived elsewhere from `grant`, so it cannot leak from an event,
and a session whose grant differed would have another secret. A claim is an event, so of any number of
claims at once the version check lets one through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from ledger.domain.event import DomainEvent
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter, StateForbids

EXCHANGE_PARAM = "customer_session_client_secret"

_OFF = "disabled"
# Contract 2.1: features by component when enabled and not given; None means it has none.
FEATURES: dict[str, dict[str, Any] | None] = {
    "active_entitlements": None,
    "buy_button": None,
    "customer_portal": None,
    "customer_sheet": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_remove": _OFF,
    },
    "mobile_payment_element": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": _OFF,
        "payment_method_remove": _OFF,
        "payment_method_save": _OFF,
        "payment_method_save_allow_redisplay_override": None,
    },
    "payment_element": {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": _OFF,
        "payment_method_redisplay_limit": 3,
        "payment_method_remove": _OFF,
        "payment_method_save": _OFF,
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
    param `components`, unless exactly one is enabled (the seed's rule).
    """
    enabled = [name for name, component in components.items() if component["enabled"]]
    if len(enabled) != 1:
        raise InvalidParameter("Exactly 1 component must be enabled.", param="components")
    name = enabled[0]
    features = FEATURES[name]
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
    """The one exchange of the secret. Raises StateForbids saying used, revoked or expired (contract 6.2)."""
    standing = state_at(state, now)
    if standing == "claimed":
        raise StateForbids("This customer session has already been used.", param=EXCHANGE_PARAM)
    if standing == "revoked":
        raise StateForbids("This customer session has been revoked.", param=EXCHANGE_PARAM)
    if standing == "expired":
        raise StateForbids("This customer session has expired.", param=EXCHANGE_PARAM)
    return [CustomerSessionClaimed(originator_id=state.id, originator_version=state.version + 1, at=now)]


def revoke(state: CustomerSession, *, now: int) -> list[DomainEvent]:
    """Takes an unused session back; nothing happens if it was revoked or has expired.

    Raises StateForbids once it has been used.
    """
    standing = state_at(state, now)
    if standing == "claimed":
        raise StateForbids("This customer session has already been used; it cannot be revoked.")
    if standing != "open":
        return []
    return [CustomerSessionRevoked(originator_id=state.id, originator_version=state.version + 1, at=now)]


def state_at(state: CustomerSession, now: int) -> str:
    """`open`, `claimed`, `revoked` or `expired`, the first that ever came true among the last three."""
    if state.claimed_at is not None:
        return "claimed"
    if state.revoked_at is not None:
        return "revoked"
    return "expired" if now >= state.expires_at else "open"


_GRANT = msgspec.json.Encoder(order="deterministic")


def grant(state: CustomerSession) -> bytes:
    """All that the session grants, in one form only: what its secret is derived from and bound to."""
    return _GRANT.encode(
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
