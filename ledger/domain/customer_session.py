"""Customer sessions: access of a front end to one customer, once and for a limited time (contract §2.1, §6).

The client secret is not stored. `commands/session_secrets` derives it from `encode_grant`, so it cannot leak
from an event, and a session that grants anything else has another secret. A claim is an event: of
several concurrent claims the version check accepts exactly one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from ledger.domain.aggregate import State, next_header
from ledger.domain.event import DomainEvent, domain_event
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter, InvalidState

CLIENT_SECRET_PARAM = "customer_session_client_secret"  # noqa: S105 (no secret)

_DISABLED = "disabled"
# Contract §2.1: the features of an enabled component, where a caller sets no others. None: it has no
# features.
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


@domain_event
class CustomerSessionCreated(DomainEvent):
    """`component` is the enabled one; `features` are its features, defaults included, or None if it has none.
    `expires_at` is in unix seconds."""

    TOPIC: ClassVar[str] = "customer_session.created"

    account: str
    livemode: bool
    customer: str
    component: str
    features: dict[str, Any] | None
    expires_at: int


@domain_event
class CustomerSessionClaimed(DomainEvent):
    """A front end exchanged the client secret; it cannot be used again."""

    TOPIC: ClassVar[str] = "customer_session.claimed"


@domain_event
class CustomerSessionRevoked(DomainEvent):
    """The session was withdrawn before it was used."""

    TOPIC: ClassVar[str] = "customer_session.revoked"


EVENTS: tuple[type[DomainEvent], ...] = (
    CustomerSessionCreated,
    CustomerSessionClaimed,
    CustomerSessionRevoked,
)


class CustomerSession(State, frozen=True, kw_only=True):
    """A customer session. Times are in unix seconds; its status follows from them (`get_status`)."""

    created: int
    customer: str
    component: str
    features: dict[str, Any] | None
    expires_at: int
    claimed_at: int | None = None
    revoked_at: int | None = None


def evolve(state: CustomerSession | None, event: DomainEvent) -> CustomerSession:
    """The session after `event`. Raises TypeError for an event of another aggregate."""
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
    raise TypeError(f"{type(event).__name__} is not a customer session event")


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
    """A session for the customer with the id `customer`; the caller has checked that it exists.

    `components` maps component names to `{"enabled": bool, "features": {…}}`. Raises InvalidParameter, param
    `components`, unless exactly one is enabled (contract §2.1).
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
    """Claims the session when its client secret is exchanged; it can be claimed once. Raises InvalidState,
    with the messages of contract §6.2, for a session that is already claimed, revoked or expired."""
    status = get_status(state, now)
    if status == "claimed":
        raise InvalidState("This customer session has already been used.", param=CLIENT_SECRET_PARAM)
    if status == "revoked":
        raise InvalidState("This customer session has been revoked.", param=CLIENT_SECRET_PARAM)
    if status == "expired":
        raise InvalidState("This customer session has expired.", param=CLIENT_SECRET_PARAM)
    return [CustomerSessionClaimed(**next_header(state, now))]


def revoke(state: CustomerSession, *, now: int) -> list[DomainEvent]:
    """Withdraws an unused session. Returns [] if it is revoked or expired already.

    Raises InvalidState for a session that has been used.
    """
    status = get_status(state, now)
    if status == "claimed":
        raise InvalidState("This customer session has already been used; it cannot be revoked.")
    if status != "open":
        return []
    return [CustomerSessionRevoked(**next_header(state, now))]


def get_status(state: CustomerSession, now: int) -> str:
    """`open`, `claimed`, `revoked` or `expired` at `now`; a used or revoked session does not expire."""
    if state.claimed_at is not None:
        return "claimed"
    if state.revoked_at is not None:
        return "revoked"
    return "expired" if now >= state.expires_at else "open"


_grant_encoder = msgspec.json.Encoder(order="deterministic")


def encode_grant(state: CustomerSession) -> bytes:
    """Everything that the session grants, as canonical bytes: the client secret is derived from them.

    Never change the order or the members: every existing secret would become invalid.
    """
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
