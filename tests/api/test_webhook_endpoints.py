"""Webhook endpoints through the official client: create, update, list, delete, and their limit."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest
import stripe

from ledger.api.composition import build_execution, build_queries
from ledger.call import Call, Cause
from ledger.commands import webhook_endpoints
from ledger.config import load_settings
from ledger.postgres.connections import Pool
from tests.api.service import (
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    create_client,
    ok,
    read_stored_replies,
)
from tests.store.stores import open_store

PATH = "/v1/webhook_endpoints"
URL = "https://hooks.example.com/ledger?token=a_token_in_an_address"
FORM = {"url": URL, "enabled_events[]": "*"}
MEMBERS = {
    "id", "object", "api_version", "application", "created", "description", "enabled_events", "livemode",
    "metadata", "status", "url",
}  # fmt: skip


def test_an_endpoints_life_in_class_style(configured: Account) -> None:
    made = stripe.WebhookEndpoint.create(
        url=URL,
        enabled_events=["charge.dispute.created", "*"],
        description="Ours",
        metadata={"a": "1", "b": "2"},
    )
    assert made.id.startswith("we_")
    assert set(made.to_dict()) == MEMBERS | {"secret"}
    assert made.secret is not None
    assert (made.secret[:6], len(made.secret)) == ("whsec_", 38)
    assert (made.object, made.livemode, made.status) == ("webhook_endpoint", False, "enabled")
    assert (made.api_version, made.application) == (None, None)
    assert made.enabled_events == ["charge.dispute.created", "*"]
    assert made.metadata.to_dict() == {"a": "1", "b": "2"}

    shown = stripe.WebhookEndpoint.retrieve(made.id)
    assert set(shown.to_dict()) == MEMBERS
    assert shown.to_dict() | {"secret": made.secret} == made.to_dict()
    assert stripe.WebhookEndpoint.list().data == [shown]

    changed = stripe.WebhookEndpoint.modify(
        made.id,
        url="http://localhost:4243/other",
        enabled_events=["invoice.paid"],
        description="",
        disabled=True,
        metadata={"a": "", "c": "3"},
    )
    assert "secret" not in changed
    assert (changed.url, changed.enabled_events) == ("http://localhost:4243/other", ["invoice.paid"])
    assert (changed.description, changed.status) == (None, "disabled")
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert stripe.WebhookEndpoint.list().data == [changed]
    assert stripe.WebhookEndpoint.modify(made.id, disabled=False, metadata="").status == "enabled"

    shown = stripe.WebhookEndpoint.retrieve(made.id)
    assert shown.metadata.to_dict() == {}
    shown.description = "Saved"
    shown.save()
    assert stripe.WebhookEndpoint.retrieve(made.id).description == "Saved"

    gone = shown.delete()
    assert gone.to_dict() == {"id": made.id, "object": "webhook_endpoint", "deleted": True}
    assert stripe.WebhookEndpoint.list().data == []
    for again in (
        lambda: stripe.WebhookEndpoint.retrieve(made.id),
        lambda: stripe.WebhookEndpoint.modify(made.id, disabled=True),
        lambda: stripe.WebhookEndpoint.delete(made.id),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint: 'we_") as refusal:
            again()
        assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")
    assert stripe.Event.list().data == []


def test_endpoints_asynchronously(service: Service, account: Account) -> None:
    endpoints = create_client(service, account.secret).v1.webhook_endpoints

    async def flow() -> None:
        made = await endpoints.create_async(
            {"url": URL, "enabled_events": ["*"], "connect": True, "api_version": "2024-06-20"}
        )
        assert (made.api_version, "connect" in made) == ("2024-06-20", False)
        assert made.secret
        changed = await endpoints.update_async(made.id, {"disabled": True})
        assert (changed.status, await endpoints.retrieve_async(made.id)) == ("disabled", changed)
        assert [each.id async for each in (await endpoints.list_async()).auto_paging_iter()] == [made.id]
        assert (await endpoints.delete_async(made.id)).deleted

    asyncio.run(flow())


def test_a_replayed_create_shows_the_same_secret_even_after_a_deletion(
    client: stripe.StripeClient, raw: Caller
) -> None:
    made = [raw.post(PATH, FORM, idempotency_key="one") for _ in range(2)]
    assert made[0].content == made[1].content
    assert made[1].headers["idempotent-replayed"] == "true"
    endpoint = ok(made[0])
    assert endpoint["secret"] in made[0].text
    ok(raw.delete(f"{PATH}/{endpoint['id']}"))
    assert raw.post(PATH, FORM, idempotency_key="one").content == made[0].content
    other = FORM | {"url": "https://other.example.com"}
    assert_refused(raw.post(PATH, other, idempotency_key="one"), kind="idempotency_error", message="one")
    assert client.v1.webhook_endpoints.list().data == []
    assert ok(raw.post(PATH, FORM))["secret"] != endpoint["secret"]


def test_a_refused_parameter_leaves_the_idempotency_key_unused(raw: Caller) -> None:
    assert_refused(
        raw.post(PATH, FORM | {"url": "hooks.example.com"}, idempotency_key="typo"),
        code="url_invalid",
        param="url",
        message="^Invalid URL: ",
    )
    ok(raw.post(PATH, FORM, idempotency_key="typo"))


def test_a_refusal_names_the_parameter_and_changes_nothing(raw: Caller) -> None:
    endpoint = ok(raw.post(PATH, FORM))
    del endpoint["secret"]
    path = f"{PATH}/{endpoint['id']}"
    events = {f"enabled_events[{number}]": name for number, name in enumerate(("charge.failed", "charge.*"))}
    told = "^Invalid enabled_events.1.: must be one of "
    for target in (PATH, path):
        given = FORM if target == PATH else {}
        assert_refused(raw.post(target, {"url": URL, **events}), param="enabled_events[1]", message=told)
        assert_refused(raw.post(target, given | {"url": ""}), code="parameter_invalid_empty", param="url")
        assert_refused(raw.post(target, given | {"url": "https://a:b@c.de"}), code="url_invalid", param="url")
        assert_refused(raw.post(target, given | {"secret": "x"}), code="parameter_unknown", param="secret")
        assert_refused(
            raw.post(target, given | {"metadata[" + "k" * 41 + "]": "v"}), param=f"metadata[{'k' * 41}]"
        )
        assert_refused(raw.post(target, given | {"description": "x" * 5001}), param="description")
        assert_refused(raw.post(target, given | {"expand[]": "secret"}), message="cannot be expanded")
    assert_refused(
        raw.post(path, {"api_version": "2024-06-20"}), code="parameter_unknown", param="api_version"
    )
    assert_refused(raw.post(path, {"connect": "true"}), code="parameter_unknown", param="connect")
    assert_refused(raw.post(PATH, FORM | {"disabled": "true"}), code="parameter_unknown", param="disabled")
    assert_refused(raw.post(PATH, FORM | {"api_version": "2024-06-21"}), param="api_version")
    many = {f"metadata[k{number}]": "v" for number in range(51)}
    assert_refused(raw.post(path, many), param="metadata")
    assert ok(raw.get(PATH))["data"] == [endpoint]


def test_live_mode_accepts_only_public_https_urls(live: Caller, raw: Caller) -> None:
    made = ok(live.post(PATH, FORM))
    assert made["livemode"] is True
    for url in ("http://hooks.example.com/", "https://localhost:4243/"):
        for target in (PATH, f"{PATH}/{made['id']}"):
            given = FORM if target == PATH else {}
            assert_refused(live.post(target, given | {"url": url}), code="url_invalid", param="url")
        assert ok(raw.post(PATH, FORM | {"url": url}))["url"] == url
    missing = raw.get(f"{PATH}/{made['id']}")
    hint = "a similar object exists in live mode, but a test mode key was used"
    assert_refused(missing, 404, code="resource_missing", param="webhook_endpoint", message=hint)
    assert [each["id"] for each in ok(live.get(PATH))["data"]] == [made["id"]]


def test_pages_go_both_ways_and_a_deleted_endpoint_is_still_a_cursor(
    client: stripe.StripeClient, raw: Caller
) -> None:
    ids = [ok(raw.post(PATH, FORM))["id"] for _ in range(5)][::-1]
    endpoints = client.v1.webhook_endpoints
    first = endpoints.list({"limit": 2})
    assert ([each.id for each in first], first.has_more, first.url) == (ids[:2], True, PATH)
    assert [each.id for each in first.auto_paging_iter()] == ids
    before = endpoints.list({"limit": 3, "ending_before": ids[4]})
    assert [each.id for each in before.auto_paging_iter()] == ids[3::-1]
    ok(raw.delete(f"{PATH}/{ids[2]}"))
    assert [each.id for each in endpoints.list({"starting_after": ids[2]})] == ids[3:]
    assert [each.id for each in endpoints.list()] == ids[:2] + ids[3:]
    assert_refused(raw.get(f"{PATH}?starting_after=we_x"), code="resource_missing", param="starting_after")
    assert_refused(raw.get(f"{PATH}?created=1"), code="parameter_unknown", param="created")


def test_a_restricted_key_needs_the_permission_of_webhooks(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    made = ok(raw.post(PATH, FORM))
    path = f"{PATH}/{made['id']}"

    def holder(*scopes: str) -> Caller:
        return Caller(raw.http, registrar.key(account.id, "rk", scopes=scopes)[1])

    reader, writer, other = holder("rak_webhook_read"), holder("rak_webhook_write"), holder("rak_event_write")
    for caller in (reader, writer):
        assert ok(caller.get(path))["id"] == made["id"]
        ok(caller.get(PATH))
    for caller in (reader, other, Caller(raw.http, account.publishable)):
        for answer in (caller.post(PATH, FORM), caller.post(path, {"disabled": "true"}), caller.delete(path)):
            assert answer.status_code == 403
    told = "'rak_webhook_read' permission"
    assert_refused(other.get(PATH), 403, code="more_permissions_required", message=told)
    assert ok(writer.post(path, {"disabled": "true"}))["status"] == "disabled"
    assert ok(writer.delete(path))["deleted"]


def test_endpoints_belong_to_the_account_acted_on(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    made = ok(raw.post(PATH, FORM, stripe_account=connected.id))
    assert ok(raw.get(PATH))["data"] == []
    assert [each["id"] for each in ok(Caller(raw.http, connected.secret).get(PATH))["data"]] == [made["id"]]
    assert_refused(raw.delete(f"{PATH}/{made['id']}"), 404, code="resource_missing", param="webhook_endpoint")
    assert ok(raw.delete(f"{PATH}/{made['id']}", stripe_account=connected.id))["deleted"]


def test_an_account_has_sixteen_in_each_mode(raw: Caller, live: Caller) -> None:
    ids = [ok(raw.post(PATH, FORM))["id"] for _ in range(16)]
    assert_refused(raw.post(PATH, FORM), message="maximum of 16 test webhook endpoints")
    ok(live.post(PATH, FORM))
    ok(raw.post(f"{PATH}/{ids[0]}", {"disabled": "true"}))
    assert_refused(raw.post(PATH, FORM))
    ok(raw.delete(f"{PATH}/{ids[1]}"))
    ok(raw.post(PATH, FORM))
    assert_refused(raw.post(PATH, FORM))
    assert len(ok(raw.get(f"{PATH}?limit=100"))["data"]) == 16


def test_concurrent_creates_on_two_processes_stay_within_the_limit(dsn: str) -> None:
    settings = load_settings(webhook_endpoints_max=3)
    cause = Cause("acct_1", False, "key_1", "req_1", None)

    def call(target: str = "") -> Call:
        given = {"url": URL, "enabled_events": ["*"]}
        return Call(cause, target, given)

    async def story() -> None:
        async with open_store(dsn) as here, open_store(dsn) as there:
            executions = [
                build_execution(store, build_queries(store, Pool(dsn), settings), settings)
                for store in (here, there)
            ]

            async def round_of(count: int) -> list[str]:
                """Ids of the endpoints that `count` concurrent requests created; the others were refused."""
                answers = await asyncio.gather(
                    *(
                        executions[n % 2].run(call(), webhook_endpoints.create, fingerprint="")
                        for n in range(count)
                    )
                )
                for answer in answers:
                    assert answer.status == 200 or "maximum of 3 test webhook endpoints" in answer.body
                return [json.loads(answer.body)["id"] for answer in answers if answer.status == 200]

            ids = await round_of(20)
            assert len(ids) == 3
            deleted = [
                executions[n].run(call(ids[n]), webhook_endpoints.delete, fingerprint="") for n in (0, 1)
            ]
            assert [answer.status for answer in await asyncio.gather(*deleted)] == [200, 200]
            assert len(await round_of(20)) == 2

    asyncio.run(story())


def test_neither_the_url_nor_the_secret_is_in_the_recorded_events(
    raw: Caller, service: Service, account: Account
) -> None:
    made = ok(raw.post(PATH, FORM | {"description": "For Ada Lovelace"}, idempotency_key="sealed"))
    ok(raw.post(f"{PATH}/{made['id']}", {"url": URL + "_more", "metadata[who]": "Ada Lovelace"}))
    with psycopg.connect(service.dsn) as conn:
        rows: list[Any] = conn.execute(
            "SELECT topic, state FROM ledger.events WHERE account = %s", (account.id,)
        ).fetchall()
    assert sorted(topic for topic, _ in rows) == [
        "webhook_endpoint.created",
        "webhook_endpoint.updated",
        "webhook_roster.enrolled",
    ]
    for _, state in rows:
        for text in (b"hooks.example.com", b"a_token_in", b"Ada Lovelace", b"whsec_"):
            assert text not in bytes(state)
    stored = read_stored_replies(service, account.id)
    assert made["id"] in stored["sealed"]
    assert "whsec_" not in stored["sealed"]
    assert "a_token_in" not in service.log
