"""Derived secrets are the same for ever: one that was handed out is checked, and replayed, by deriving it
again, maybe by another release."""

from __future__ import annotations

import hmac
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ledger.commands.intent_secrets import PaymentIntentSecrets
from ledger.commands.session_secrets import SessionSecrets
from ledger.domain.customer_session import CustomerSession
from ledger.files.urls import FileLinkUrls
from ledger.ids import new_id

KEY = bytes(range(32))
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SESSION = CustomerSession(
    id="cuss_02usyDNX9NDJI8ZK5XVdgS",
    version=1,
    account="acct_1",
    livemode=False,
    created=1_700_000_000,
    customer="cus_02usyDNX9NDJI8ZK5XVdgT",
    component="payment_element",
    features={"payment_method_save": "enabled", "payment_method_redisplay_limit": 3},
    expires_at=1_700_001_800,
)

sessions = st.builds(
    CustomerSession,
    id=st.integers(0, 2**40).map(lambda at: new_id("cuss", at / 1000)),
    version=st.just(1),
    account=st.text(),
    livemode=st.booleans(),
    created=st.integers(0, 2**40),
    customer=st.text(),
    component=st.sampled_from(("buy_button", "payment_element")),
    features=st.none() | st.dictionaries(st.text(), st.none() | st.text() | st.integers(1, 10)),
    expires_at=st.integers(0, 2**40),
)


def make_digits(*parts: Any, key: bytes = KEY) -> str:
    """The digits of the parts of a session's secret, by the definition."""
    session_key = hmac.digest(key, b"ledger/customer_session/secret/1", "sha256")
    digest = hmac.digest(session_key, msgspec.json.encode(parts), "sha256")
    pairs = [int.from_bytes(digest[at : at + 2], "big") % 3844 for at in range(0, len(digest), 2)]
    return "".join(DIGITS[pair // 62] + DIGITS[pair % 62] for pair in pairs)


@given(sessions)
def test_a_client_secret_is_id_check_and_grant(state: CustomerSession) -> None:
    secrets = SessionSecrets(KEY)
    digits = state.id.removeprefix("cuss_")
    granted = [state.id, state.account, state.livemode, state.customer, state.component, state.features]
    grant = msgspec.json.encode([*granted, state.expires_at], order="deterministic").decode()
    check = make_digits("check", "cuss_secret_", digits, state.account, state.livemode)[:16]
    secret = f"cuss_secret_{digits}{check}{make_digits('grant', 'cuss_secret_', grant)}"
    assert secrets.derive_client_secret(state) == secret
    assert secrets.parse_client_secret(secret, state.account, state.livemode) == state.id
    assert secrets.parse_client_secret(secret, state.account, not state.livemode) is None
    assert SessionSecrets(b"other").parse_client_secret(secret, state.account, state.livemode) is None


@given(sessions)
def test_an_ephemeral_key_is_id_check_and_grant(state: CustomerSession) -> None:
    secrets = SessionSecrets(KEY)
    prefix = "ek_live_" if state.livemode else "ek_test_"
    digits = state.id.removeprefix("cuss_")
    granted = [state.id, state.account, state.livemode, state.customer, state.component, state.features]
    grant = msgspec.json.encode([*granted, state.expires_at], order="deterministic").decode()
    key = f"{prefix}{digits}{make_digits('check', prefix, digits)[:16]}{make_digits('grant', prefix, grant)}"
    assert secrets.derive_ephemeral_key(state) == key
    assert secrets.parse_ephemeral_key(key) == state.id


def test_derived_secrets_are_the_same_for_ever() -> None:
    """They are in the hands of callers: a change here would make every one of them invalid."""
    assert SessionSecrets(KEY).derive_client_secret(SESSION) == (
        "cuss_secret_02usyDNX9NDJI8ZK5XVdgSwA6qjk5bD5EVIUyZg0km9nYHZ7abO2Dj1OCoLBzKTb3dDBAd"
    )
    assert SessionSecrets(KEY).derive_ephemeral_key(SESSION) == (
        "ek_test_02usyDNX9NDJI8ZK5XVdgSbbDs30qSsGQ5f2PEedM3iscDz8bhT0tT6l6CaF1qJNP5NgL0"
    )
    assert PaymentIntentSecrets(KEY).derive("pi_02usyDNX9NDJI8ZK5XVdgS") == (
        "pi_02usyDNX9NDJI8ZK5XVdgS_secret_uy2wejTNauigaL7VuQgAZ5RJuAnzEAKM"
    )
    assert (
        FileLinkUrls(KEY).derive_digits("link_02usyDNX9NDJI8ZK5XVdgS") == "vYLuycn1GSvunmvjJg2eXmWkDElR91kK"
    )
