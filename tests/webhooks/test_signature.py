"""The signature, against the contract's vector and the official client (contract §5.4)."""

from __future__ import annotations

import time

import pytest
import stripe

from ledger.webhooks.signature import sign

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
