"""`stripe logs tail`: the account's requests as they are answered, filtered by the service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.service import Caller, Registrar, Service, ok
from tests.stripe_cli.cli import BackgroundCommand, RefusingProxy, StripeCli, needs_stripe_cli

pytestmark = needs_stripe_cli


def make_requests(raw: Caller) -> str:
    """A POST, a GET, a DELETE, one refused for a parameter, a declined card. Returns the customer."""
    customer: str = raw.customer(name="Jenny Rosen")["id"]
    ok(raw.get(f"/v1/customers/{customer}"))
    ok(raw.delete(f"/v1/customers/{customer}"))
    raw.post("/v1/customers", {"nmae": "Jenny"})
    raw.post("/v1/charges", {"amount": 100, "currency": "usd", "source": "tok_chargeDeclined"})
    return customer


def read_requests(tail: BackgroundCommand, count: int) -> list[Any]:
    """The requests that `--format JSON` has printed, once there are `count`."""
    tail.wait_for(r'"request_id"', count)
    return [json.loads(line) for line in tail.output if line.startswith("{")]


def test_requests_are_shown_as_they_are_answered(cli: StripeCli, raw: Caller) -> None:
    with cli.start("logs", "tail", "--format", "JSON") as tail:
        tail.wait_for("Ready!")
        customer = make_requests(raw)
        shown = read_requests(tail, 5)
    assert {(entry["method"], entry["url"], entry["status"]) for entry in shown} == {
        ("POST", "/v1/customers", 200),
        ("GET", f"/v1/customers/{customer}", 200),
        ("DELETE", f"/v1/customers/{customer}", 200),
        ("POST", "/v1/customers", 400),
        ("POST", "/v1/charges", 402),
    }
    errors = {entry["error"]["code"]: entry["error"] for entry in shown if entry.get("error")}
    assert errors.keys() == {"parameter_unknown", "card_declined"}
    assert errors["parameter_unknown"]["param"] == "nmae"
    assert errors["card_declined"]["decline_code"] == "generic_decline"
    assert {entry["livemode"] for entry in shown} == {False}
    assert "Jenny" not in "\n".join(tail.output)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--filter-status-code-type", "4XX"), {("POST", 400), ("POST", 402)}),
        (("--filter-http-method", "POST,DELETE", "--filter-status-code", "402"), {("POST", 402)}),
    ],
    ids=["kind of status", "two at once"],
)
def test_the_service_filters(
    options: tuple[str, ...], expected: set[tuple[str, int]], cli: StripeCli, raw: Caller
) -> None:
    with cli.start("logs", "tail", "--format", "JSON", *options) as tail:
        tail.wait_for("Ready!")
        make_requests(raw)
        shown = read_requests(tail, len(expected))
    assert {(entry["method"], entry["status"]) for entry in shown} == expected


def test_the_requests_of_others_are_not_shown(
    cli: StripeCli, raw: Caller, service: Service, registrar: Registrar, proxy: RefusingProxy
) -> None:
    """Not those of another account; and the lines for people name method, path, status and request."""
    other = StripeCli(cli.home, service.url, registrar.account().secret, proxy)
    with cli.start("logs", "tail") as tail:
        tail.wait_for("Ready!")
        other.call("get", "/v1/charges")
        response = raw.get("/v1/disputes")
        tail.wait_for(rf"\[200\] GET /v1/disputes.*{response.headers['request-id']}")
        assert not tail.find("/v1/charges")
