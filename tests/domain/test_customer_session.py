"""Customer sessions: decisions in the form given, when, then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ledger.domain import customer_session
from ledger.domain.customer_session import CustomerSession, CustomerSessionClaimed, CustomerSessionRevoked
from ledger.domain.money import Terms
from ledger.errors import InvalidParameter, InvalidState
from tests.domain.builders import NOW, a_session

EXPIRES = NOW + 1800


def a_claimed_session() -> CustomerSession:
    state = a_session()
    return customer_session.evolve(state, customer_session.claim(state, now=NOW + 1)[0])


def a_revoked_session() -> CustomerSession:
    state = a_session()
    return customer_session.evolve(state, customer_session.revoke(state, now=NOW + 1)[0])


@pytest.mark.parametrize("component", customer_session.DEFAULT_FEATURES)
def test_each_component_can_be_enabled(component: str) -> None:
    state = a_session(**{component: {"enabled": True}})
    assert state.component == component
    assert state.features == customer_session.DEFAULT_FEATURES[component]
    assert state.expires_at == EXPIRES


def test_given_features_replace_defaults() -> None:
    features = {"payment_method_redisplay_limit": 10, "payment_method_save": "enabled"}
    state = a_session(payment_element={"enabled": True, "features": features})
    assert state.features == {
        "payment_method_allow_redisplay_filters": ["always"],
        "payment_method_redisplay": "disabled",
        "payment_method_redisplay_limit": 10,
        "payment_method_remove": "disabled",
        "payment_method_save": "enabled",
        "payment_method_save_usage": None,
    }
    assert customer_session.DEFAULT_FEATURES["payment_element"] != state.features


@pytest.mark.parametrize(
    "components",
    [
        {"buy_button": {"enabled": False}},
        {"buy_button": {"enabled": True}, "pricing_table": {"enabled": True}},
        {name: {"enabled": True} for name in customer_session.DEFAULT_FEATURES},
    ],
)
def test_exactly_one_component_must_be_enabled(components: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter) as refused:
        a_session(**components)
    assert (refused.value.code, refused.value.param) == (None, "components")
    assert refused.value.message == "Exactly 1 component must be enabled."


def test_a_disabled_component_may_be_named_beside_the_enabled_one() -> None:
    state = a_session(buy_button={"enabled": False}, pricing_table={"enabled": True})
    assert (state.component, state.features) == ("pricing_table", None)


def test_the_lifetime_is_a_setting() -> None:
    made = customer_session.create(
        session_id="cuss_1",
        account="acct_1",
        livemode=True,
        customer="cus_1",
        components={"buy_button": {"enabled": True}},
        terms=Terms(session_seconds=60),
        now=NOW,
    )
    assert customer_session.evolve(None, made[0]).expires_at == NOW + 60


def test_a_session_is_claimed_once_until_the_second_it_expires() -> None:
    assert isinstance(customer_session.claim(a_session(), now=EXPIRES - 1)[0], CustomerSessionClaimed)
    assert a_claimed_session().claimed_at == NOW + 1


@pytest.mark.parametrize(
    ("state", "now", "message"),
    [
        (a_claimed_session(), NOW + 2, "already been used"),
        (a_claimed_session(), EXPIRES + 1, "already been used"),
        (a_revoked_session(), NOW + 2, "revoked"),
        (a_revoked_session(), EXPIRES + 1, "revoked"),
        (a_session(), EXPIRES, "expired"),
        (a_session(), EXPIRES + 1, "expired"),
    ],
)
def test_a_refused_claim_names_the_reason(state: CustomerSession, now: int, message: str) -> None:
    with pytest.raises(InvalidState) as refused:
        customer_session.claim(state, now=now)
    assert message in refused.value.message
    assert refused.value.param == "customer_session_client_secret"


def test_an_unused_session_can_be_revoked() -> None:
    assert isinstance(customer_session.revoke(a_session(), now=NOW)[0], CustomerSessionRevoked)


def test_revoking_again_or_after_expiry_does_nothing() -> None:
    assert customer_session.revoke(a_revoked_session(), now=NOW + 5) == []
    assert customer_session.revoke(a_session(), now=EXPIRES) == []


def test_a_used_session_cannot_be_revoked() -> None:
    with pytest.raises(InvalidState):
        customer_session.revoke(a_claimed_session(), now=NOW + 5)


@pytest.mark.parametrize(
    ("state", "now", "status"),
    [
        (a_session(), NOW, "open"),
        (a_session(), EXPIRES, "expired"),
        (a_claimed_session(), EXPIRES, "claimed"),
        (a_revoked_session(), EXPIRES, "revoked"),
    ],
)
def test_status_by_time(state: CustomerSession, now: int, status: str) -> None:
    assert customer_session.get_status(state, now) == status


GRANT_CHANGES: dict[str, Any] = {
    "id": "cuss_2",
    "account": "acct_2",
    "livemode": True,
    "customer": "cus_2",
    "component": "customer_portal",
    "features": {"payment_method_remove": "enabled"},
    "expires_at": EXPIRES + 1,
}


@pytest.mark.parametrize("member", GRANT_CHANGES)
def test_the_encoded_grant_contains_everything_granted(member: str) -> None:
    state = a_session()
    other = msgspec.structs.replace(state, **{member: GRANT_CHANGES[member]})
    assert customer_session.encode_grant(other) != customer_session.encode_grant(state)


def test_the_encoding_of_a_grant_is_canonical() -> None:
    state = a_session(customer_sheet={"enabled": True, "features": {"payment_method_remove": "enabled"}})
    assert state.features is not None
    shuffled = dict(reversed(state.features.items()))
    assert customer_session.encode_grant(
        msgspec.structs.replace(state, features=shuffled)
    ) == customer_session.encode_grant(state)
    assert customer_session.encode_grant(
        customer_session.evolve(state, customer_session.claim(state, now=NOW)[0])
    ) == customer_session.encode_grant(state)
