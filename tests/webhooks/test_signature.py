"""The signatures, against the contract's vector, the official client (contract §5.4), and the library of
Standard Webhooks."""

from __future__ import annotations

import time
from typing import Any

import pytest
import stripe
from standardwebhooks import Webhook, WebhookVerificationError

from ledger.domain.webhook_endpoint import Dispatch, WebhookEndpoint
from ledger.webhooks.secrets import WebhookSecrets
from ledger.webhooks.signature import sign, sign_standard

SECRET = "whsec_0123456789abcdefghijklmnopqrstuv"
BODY = '{"id":"evt_1","object":"event","note":"é"}'.encode()
DIGEST = "2937710d1bcf45a548a3605528803bb6c0916a74857859f73bba5cf54d8a1c71"


def test_the_signature_is_that_of_the_example_in_the_contract() -> None:
    assert sign([SECRET], 1_700_000_000, BODY) == f"t=1700000000,v1={DIGEST}"


def test_while_a_secret_is_replaced_both_verify() -> None:
    signed = sign([SECRET, "whsec_next"], int(time.time()), BODY)
    for secret in (SECRET, "whsec_next"):
        assert stripe.Webhook.construct_event(BODY, signed, secret).id == "evt_1"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(BODY, signed, "whsec_other")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(BODY + b" ", signed, SECRET)


def make_endpoint(**given: Any) -> WebhookEndpoint:
    return WebhookEndpoint(
        id="we_1", version=1, account="acct_1", livemode=False, created=0, url="", enabled_events=["*"],
        api_version=None, connect=False, disabled=False, description=None, metadata={},
        own_dispatch=Dispatch(**given),
    )  # fmt: skip


@pytest.mark.parametrize("version", [1, 2, 3])
def test_one_secret_verifies_by_both_libraries(version: int) -> None:
    """Standard Webhooks asks for base64 of 24 bytes or more; the secrets of Stripe's form are that, too."""
    secret = WebhookSecrets(b"key").derive("we_1", version)
    now = int(time.time())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign_standard([secret], "evt_1", now, BODY),
    }
    assert Webhook(secret).verify(BODY, headers)["id"] == "evt_1"
    assert stripe.Webhook.construct_event(BODY, sign([secret], now, BODY), secret).id == "evt_1"
    for name, value in (("webhook-id", "evt_2"), ("webhook-timestamp", str(now - 1))):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(BODY, headers | {name: value})
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)


def test_while_a_secret_is_replaced_the_newest_signs_first_and_the_previous_one_until_its_time() -> None:
    secrets = WebhookSecrets(b"key")
    endpoint = make_endpoint(secret_version=3, previous_secret_valid_until=1000)
    newest, previous = secrets.derive_valid(endpoint, 999.9)
    assert (newest, previous) == (secrets.derive("we_1", 3), secrets.derive("we_1", 2))
    assert secrets.derive_valid(endpoint, 1000) == [newest]
    assert secrets.derive_valid(make_endpoint(), 0) == [secrets.derive("we_1")]
    now = int(time.time())
    signed = sign_standard([newest, previous], "evt_1", now, BODY)
    assert [part.partition(",")[0] for part in signed.split(" ")] == ["v1", "v1"]
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(now), "webhook-signature": signed}
    for secret in (newest, previous):
        assert Webhook(secret).verify(BODY, headers)["id"] == "evt_1"
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets.derive("we_1", 1)).verify(BODY, headers)
