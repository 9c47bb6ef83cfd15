"""Kept replies as they are once their data is erased."""

from __future__ import annotations

import json

import msgspec
import pytest

from ledger.erasure.replies import redact_reply

SECRET = "cuss_secret_0123456789"


def make_reply(document: object, secret: str | None) -> tuple[str, int | None]:
    """A reply as it is kept: without the secret, and where that was."""
    body = msgspec.json.encode(document).decode()
    at = None if secret is None else body.index(secret)
    return (body, None) if at is None or secret is None else (body.replace(secret, "", 1), at)


def restore(body: str, at: int | None) -> object:
    """What is sent: the body with the secret at its place."""
    return json.loads(body if at is None else body[:at] + SECRET + body[at:])


def test_a_reply_keeps_its_ids_and_loses_what_is_said_of_a_person() -> None:
    customer = {"id": "cus_1", "object": "customer", "name": "Ada Ü", "balance": 5, "metadata": {"k": "Ada"}}
    body, at = redact_reply(*make_reply(customer, None))
    assert json.loads(body) == {**customer, "name": "[redacted]", "metadata": {}}
    assert at is None


@pytest.mark.parametrize("name", ["Ada", "Ädä 🎉", 'with "quotes" and \\', ""])
def test_a_secret_stays_at_its_place_whatever_changes_before_it(name: str) -> None:
    session = {
        "customer": {"id": "cus_1", "object": "customer", "name": name},
        "client_secret": SECRET,
        "components": {"pricing_table": {"enabled": True}},
        "id": "cuss_1",
    }
    reply = redact_reply(*make_reply(session, SECRET))
    redacted_name = "[redacted]" if name else ""
    assert restore(*reply) == {**session, "customer": {**session["customer"], "name": redacted_name}}  # type: ignore[dict-item]


def test_a_secret_within_an_address_stays() -> None:
    link = {
        "id": "link_1",
        "object": "file_link",
        "url": f"https://files.example/{SECRET}?x",
        "metadata": {"a": "b"},
    }
    assert restore(*redact_reply(*make_reply(link, SECRET))) == {**link, "metadata": {}}


def test_an_error_keeps_its_codes_and_not_its_words() -> None:
    intent = {"id": "pi_1", "object": "payment_intent", "description": "for Ada"}
    error = {
        "code": "card_declined", "decline_code": "generic_decline", "charge": "ch_1", "type": "card_error",
        "message": "Ada's card was declined.", "payment_intent": intent,
    }  # fmt: skip
    body, _ = redact_reply(*make_reply({"error": error}, None))
    redacted = {**error, "message": "[redacted]", "payment_intent": {**intent, "description": "[redacted]"}}
    assert json.loads(body) == {"error": redacted}
