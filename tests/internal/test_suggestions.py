"""An unknown field of a JSON body is answered with the one that was probably meant."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.commands.body_errors import validation_error
from ledger.commands.models import ChargeBody, CustomerBody, PublishBody
from tests.internal.conftest import InternalClient


@pytest.mark.parametrize(
    ("model", "path", "suggestion"),
    [
        (CustomerBody, ["nmae"], "name"),
        (CustomerBody, ["shipping", "adress"], "shipping[address]"),
        (
            CustomerBody,
            ["invoice_settings", "custom_fields", 0, "nam"],
            "invoice_settings[custom_fields][0][name]",
        ),
        (CustomerBody, ["zebra"], None),
        (CustomerBody, ["nothing", "here"], None),
        (ChargeBody, ["ammount"], "amount"),
        (PublishBody | None, ["event_typ"], "event_type"),
        (None, ["nmae"], None),
    ],
)
def test_the_nearest_field_is_named(model: Any, path: list[Any], suggestion: str | None) -> None:
    error = {"type": "extra_forbidden", "loc": ("body", *path), "msg": ""}
    refusal = validation_error(error, skip=1, model=model)
    first, *rest = map(str, path)
    name = first + "".join(f"[{each}]" for each in rest)
    assert refusal.param == name
    told = f". Did you mean {suggestion}?" if suggestion else ""
    assert refusal.message == f"Received unknown parameter: {name}{told}"


def test_a_call_is_answered_so(operator: InternalClient) -> None:
    answer = operator.post("/customers", {"nmae": "Jenny Rosen"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Received unknown parameter: nmae. Did you mean name?"


@pytest.mark.parametrize(
    ("method", "path", "body", "param", "message"),
    [
        ("POST", "/keys", {"kind": "rkk"}, "kind", "Invalid kind: must be one of sk, rk, or pk"),
        (
            "POST",
            "/charges",
            {"amount": 1, "currency": "us"},
            "currency",
            "Invalid currency: must be a three-letter ISO currency code",
        ),
        (
            "POST",
            "/charges",
            {"amount": "1", "currency": "usd"},
            "amount",
            "Invalid amount: must be an integer",
        ),
        ("POST", "/customers", {"name": 5}, "name", "Invalid name: must be a string"),
        (
            "POST",
            "/customers",
            {"id": "a b"},
            "id",
            "Invalid id: must be 1 to 255 letters, digits, _, - and .",
        ),
        ("POST", "/customers", {"address": []}, "address", "Invalid address: must be an object"),
        (
            "POST",
            "/customers",
            [],
            "body",
            "Invalid body: must be a JSON object, and its Content-Type application/json",
        ),
        ("POST", "/customers", None, "body", "The request has no body: send a JSON object, {} at least."),
        (
            "PUT",
            "/resources/invoice/in_1",
            {"event_typ": "invoice.paid", "object": {}},
            "event_typ",
            "Received unknown parameter: event_typ. Did you mean event_type?",
        ),
        ("GET", "/audit/journal?order=up", None, "order", "Invalid order: must be one of desc or asc"),
        ("GET", "/audit/log?limit=ten", None, "limit", "Invalid limit: must be an integer"),
        ("GET", "/audit/log?limit=0", None, "limit", "Invalid limit: must be greater than or equal to 1"),
    ],
)
def test_an_error_says_in_plain_words_what_a_value_must_be(
    operator: InternalClient, method: str, path: str, body: Any, param: str, message: str
) -> None:
    error = operator.call(method, path, body).json()["error"]
    assert (error["param"], error["message"]) == (param, message)


def test_an_unknown_scope_is_answered_with_the_nearest_ones(operator: InternalClient) -> None:
    answer = operator.post("/keys", {"kind": "rk", "scopes": ["publsh"]})
    message = answer.json()["error"]["message"]
    assert message.startswith("Invalid scope: must be one of publish, ")
    assert len(message) < 300
