"""`POST /v1/events/{id}/retry`, which the Stripe CLI calls (contract §4.5)."""

from __future__ import annotations

import json

import httpx
import stripe

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, ok
from tests.webhooks.conftest import Ask
from tests.webhooks.receiver import Receiver, wait_until


def create_endpoint(caller: Caller, url: str, **fields: str) -> str:
    return str(ok(caller.post("/v1/webhook_endpoints", {"url": url, **fields}))["id"])


def test_an_event_goes_to_an_endpoint_that_did_not_exist_then_and_is_not_subscribed_to_it(
    raw: Caller, receiver: Receiver, path: str
) -> None:
    raw.customer(name="Jenny")
    (event,) = raw.events()
    endpoint = create_endpoint(raw, receiver.url(path), **{"enabled_events[]": "charge.captured"})
    answer = ok(raw.post(f"/v1/events/{event['id']}/retry", {"webhook_endpoint": endpoint}))
    assert answer == {**event, "pending_webhooks": 1}
    (received,) = receiver.wait_for(path, 1)
    assert json.loads(received.body) == answer
    wait_until(lambda: raw.events()[0]["pending_webhooks"] == 0)
    again = ok(raw.post(f"/v1/events/{event['id']}/retry", {"webhook_endpoint": endpoint}))
    assert again == answer
    receiver.wait_for(path, 2)


def test_what_is_wrong_is_named_and_nothing_is_sent(
    raw: Caller,
    live: Caller,
    account: Account,
    registrar: Registrar,
    receiver: Receiver,
    endpoint: stripe.WebhookEndpoint,
    path: str,
) -> None:
    raw.customer()
    (event,) = raw.events()
    stranger = Caller(raw.http, registrar.account().secret)
    receiver.wait_for(path, 1)
    url = f"/v1/events/{event['id']}/retry"
    other_type = {"enabled_events[]": "file.created"}
    theirs = create_endpoint(stranger, receiver.url(path), **other_type)
    of_live = create_endpoint(live, "https://example.com/hooks/x", **other_type)
    for_connected = create_endpoint(raw, receiver.url(path), connect="true", **other_type)
    disabled = create_endpoint(raw, receiver.url(path), **other_type)
    ok(raw.post(f"/v1/webhook_endpoints/{disabled}", {"disabled": "true"}))
    missing = (404, "resource_missing", "webhook_endpoint")
    for form, refusal, message in (
        ({}, (400, None, "webhook_endpoint"), "Pass `webhook_endpoint`, or `for_stripecli=true`"),
        ({"for_stripecli": "false"}, (400, None, "webhook_endpoint"), "Pass `webhook_endpoint`"),
        ({"for_stripecli": "maybe"}, (400, None, "for_stripecli"), "Invalid boolean: maybe"),
        ({"webhook_endpoint": "we_x"}, missing, "No such webhook endpoint: 'we_x'"),
        ({"webhook_endpoint": theirs}, missing, f"'{theirs}'$"),
        ({"webhook_endpoint": of_live}, missing, "exists in live mode"),
        ({"webhook_endpoint": for_connected}, (400, None, "webhook_endpoint"), "connected accounts only"),
        ({"webhook_endpoint": disabled}, (400, None, "webhook_endpoint"), "is disabled: enable"),
        ({"for_stripecli": "true", "account": "acct_x"}, (404, "resource_missing", "account"), "acct_x"),
        ({"for_stripecli": "true", "endpoint": "x"}, (400, "parameter_unknown", "endpoint"), "endpoint"),
    ):
        status, code, param = refusal
        assert_refused(raw.post(url, form), status, code=code, param=param, message=message)
    form = {"webhook_endpoint": endpoint.id}
    for caller, path_of in ((raw, "/v1/events/evt_none/retry"), (stranger, url), (live, url)):
        assert_refused(
            caller.post(path_of, form), 404, code="resource_missing", param="id", message="No such event"
        )
    assert_refused(raw.get(url), 404, message="This URL takes POST")
    reader = Caller(raw.http, registrar.key(account.id, "rk", scopes=["rak_event_read"])[1])
    assert_refused(reader.post(url, form), 403, code="more_permissions_required", message="rak_event_write")
    assert raw.events()[0]["pending_webhooks"] == 0
    assert len(receiver.requests_to(path)) == 1


def test_a_platform_sends_an_event_of_a_connected_account_to_its_endpoint_for_these(
    raw: Caller, account: Account, service: Service, registrar: Registrar, receiver: Receiver, path: str
) -> None:
    connected = registrar.account(platform=account.id)
    theirs = Caller(raw.http, connected.secret)
    theirs.customer()
    (event,) = theirs.events()
    endpoint = create_endpoint(
        raw, receiver.url(path), connect="true", **{"enabled_events[]": "charge.captured"}
    )
    url = f"/v1/events/{event['id']}/retry"
    form = {"webhook_endpoint": endpoint}
    assert_refused(raw.post(url, form), 404, code="resource_missing", param="id", message="No such event")
    assert_refused(
        theirs.post(url, form),
        404, code="resource_missing", param="webhook_endpoint", message="No such webhook endpoint",
    )  # fmt: skip
    answer = ok(raw.post(url, {**form, "account": connected.id}))
    assert answer == {**event, "pending_webhooks": 1, "account": connected.id}
    (received,) = receiver.wait_for(path, 1)
    assert json.loads(received.body) == answer
    assert ok(raw.post(url, form, stripe_account=connected.id))["account"] == connected.id
    assert_refused(
        raw.post(url, {**form, "account": account.id}, stripe_account=connected.id),
        param="account", message="differs from the Stripe-Account header",
    )  # fmt: skip


def test_an_event_goes_to_the_open_listeners_of_the_stripe_cli(
    raw: Caller, live: Caller, service: Service, registrar: Registrar, ask: Ask
) -> None:
    """Those of its account and mode: it is queued for each."""
    raw.customer()
    (event,) = raw.events()
    form = {"device_name": "laptop", "websocket_features[]": "webhooks"}
    for key in (raw.key, raw.key, live.key, registrar.account().secret):
        headers = {"authorization": f"Bearer {key}"}
        ok(httpx.post(f"{service.url}/v1/stripecli/sessions", data=form, headers=headers))
    url = f"/v1/events/{event['id']}/retry"
    assert ok(raw.post(url, {"for_stripecli": "true"})) == event
    assert ask("SELECT count(*) FROM stripe_cli.resends WHERE event = %s", event["id"]) == [(2,)]
    assert raw.events()[0]["pending_webhooks"] == 0


def test_a_repetition_under_an_idempotency_key_sends_nothing_more(
    raw: Caller, receiver: Receiver, endpoint: stripe.WebhookEndpoint, path: str
) -> None:
    raw.customer()
    (event,) = raw.events()
    receiver.wait_for(path, 1)
    url, form = f"/v1/events/{event['id']}/retry", {"webhook_endpoint": endpoint.id}
    wait_until(lambda: raw.events()[0]["pending_webhooks"] == 0)
    answers = [raw.post(url, form, idempotency_key="k") for _ in range(3)]
    assert {answer.content for answer in answers} == {answers[0].content}
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
    receiver.wait_for(path, 2)
    assert_refused(
        raw.post(url, {"for_stripecli": "true"}, idempotency_key="k"),
        kind="idempotency_error", message="same parameters",
    )  # fmt: skip
    wait_until(lambda: raw.events()[0]["pending_webhooks"] == 0)
    assert len(receiver.requests_to(path)) == 2
