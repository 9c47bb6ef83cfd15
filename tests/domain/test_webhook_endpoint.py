"""Webhook endpoints: valid URLs, updates, and the limit on their number."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.domain import webhook_endpoint, webhook_endpoint_decisions, webhook_endpoint_quota
from ledger.domain.webhook_endpoint import WebhookEndpoint, WebhookEndpointUpdated
from ledger.domain.webhook_endpoint_quota import WebhookEndpointQuota
from ledger.domain.webhook_urls import check_url
from ledger.errors import InvalidParameter, InvalidState, UnknownObject
from tests.domain.builders import NOW, fold

URL = "https://hooks.example.com/ledger?token=abc"


def an_endpoint(**given: Any) -> WebhookEndpoint:
    livemode = given.pop("livemode", False)
    made = webhook_endpoint_decisions.create(
        endpoint_id="we_1",
        account="acct_1",
        livemode=livemode,
        params={"url": URL, "enabled_events": ["*"], **given},
        now=NOW,
    )
    return fold(webhook_endpoint.evolve, made)


def a_quota(*endpoints: str) -> WebhookEndpointQuota | None:
    state = None
    for endpoint in endpoints:
        (event,) = reserve_quota(state, endpoint, len(endpoints))
        state = webhook_endpoint_quota.evolve(state, event)
    return state


def reserve_quota(state: WebhookEndpointQuota | None, endpoint: str, endpoints_max: int) -> list[Any]:
    return webhook_endpoint_quota.reserve(
        state, account="acct_1", livemode=False, endpoint_id=endpoint, endpoints_max=endpoints_max, now=NOW
    )


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "http://hooks.example.com",
        "HTTPS://Hooks.Example.COM./#part",
        "http://localhost:4243/webhook",
        "http://127.0.0.1:65535/",
        "http://[::1]:8080/?a[]=1",
        "http://receiver_1:8080/with%20space",
        "https://xn--bcher-kva.example:443/~a/(b);c,d/$&'+!*=@:",
        "https://10.0.0.1:/",
        "https://h.example/" + "a" * (2048 - 18),
    ],
)
def test_web_urls_are_accepted_in_test_mode(url: str) -> None:
    check_url(url, livemode=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com/ledger",
        "//hooks.example.com",
        "ftp://hooks.example.com",
        "javascript:alert(1)",
        "https:/hooks.example.com",
        "https://",
        "https:///path",
        "https://:443/",
        "https://?a=b",
        "https://user:pass@hooks.example.com/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com\\@evil.example/",
        "https://hooks.example.com:port/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[hooks.example.com]/",
        "https://[127.0.0.1.1]/",
        "https://::1/",
        "https://300.1.2.3/",
        "https://1.2.3/",
        "https://hooks..example.com/",
        "https://-hooks.example.com/",
        "https://hooks-.example.com/",
        "https://" + "a" * 64 + ".example.com/",
        "https://" + "a." * 127 + "com/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\n",
        " https://hooks.example.com/",
        "https://bücher.example/",
        "https://hooks.example.com/\x7f",
        "https://h.example/" + "a" * (2048 - 17),
    ],
)
def test_an_invalid_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^Invalid URL: ") as refusal:
        check_url(url, livemode=False)
    assert (refusal.value.code, refusal.value.param) == ("url_invalid", "url")
    assert not url or url not in refusal.value.message


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://app.localhost/",
        "https://127.0.0.1/",
        "https://127.255.0.9:8443/",
        "https://[::1]/",
    ],
)
def test_live_mode_accepts_only_https_and_no_loopback(url: str) -> None:
    check_url(url, livemode=False)
    for change in (
        lambda: an_endpoint(livemode=True, url=url),
        lambda: webhook_endpoint_decisions.update(an_endpoint(livemode=True), {"url": url}, now=NOW),
    ):
        with pytest.raises(InvalidParameter) as refusal:
            change()
        assert (refusal.value.code, refusal.value.param) == ("url_invalid", "url")
    assert an_endpoint(livemode=True, url="https://notlocalhost.example/").livemode


def test_an_update_records_only_what_changed() -> None:
    state = an_endpoint(description="one", metadata={"a": "1", "b": "2"})
    given = {
        "url": URL,
        "enabled_events": ["charge.failed", "*"],
        "description": None,
        "disabled": True,
        "metadata": {"a": "", "c": "3"},
    }
    (event,) = webhook_endpoint_decisions.update(state, given, now=NOW + 1)
    assert isinstance(event, WebhookEndpointUpdated)
    assert event.changes == {
        "enabled_events": ["charge.failed", "*"],
        "description": None,
        "disabled": True,
        "metadata": {"b": "2", "c": "3"},
    }
    state = webhook_endpoint.evolve(state, event)
    assert (state.version, state.disabled, state.url) == (2, True, URL)
    assert webhook_endpoint_decisions.update(state, given | {"metadata": {"a": ""}}, now=NOW + 2) == []


def test_an_update_without_changes_makes_no_event() -> None:
    state = an_endpoint(metadata={"a": "1"})
    for given in ({}, {"disabled": False}, {"description": None}, {"url": URL}, {"metadata": {"a": "1"}}):
        assert webhook_endpoint_decisions.update(state, given, now=NOW) == []


def test_a_deleted_endpoint_is_gone_for_every_decision() -> None:
    state = an_endpoint()
    (deleted,) = webhook_endpoint_decisions.delete(state, now=NOW)
    state = webhook_endpoint.evolve(state, deleted)
    assert (state.deleted, state.url) == (True, URL)
    for decide in (
        lambda: webhook_endpoint_decisions.update(state, {"disabled": True}, now=NOW),
        lambda: webhook_endpoint_decisions.delete(state, now=NOW),
    ):
        with pytest.raises(UnknownObject, match="No such webhook endpoint: 'we_1'") as refusal:
            decide()
        assert (refusal.value.code, refusal.value.param) == ("resource_missing", "webhook_endpoint")


def test_a_full_quota_accepts_no_endpoint_until_one_is_released() -> None:
    state = a_quota("we_1", "we_2")
    assert state is not None
    with pytest.raises(InvalidState, match="maximum of 2 test webhook endpoints"):
        reserve_quota(state, "we_3", 2)
    (released,) = webhook_endpoint_quota.release(state, endpoint_id="we_1", now=NOW)
    state = webhook_endpoint_quota.evolve(state, released)
    assert (state.version, state.endpoints) == (3, ["we_2"])
    (event,) = reserve_quota(state, "we_3", 2)
    assert webhook_endpoint_quota.evolve(state, event).endpoints == ["we_2", "we_3"]


def test_lowering_the_limit_removes_no_endpoint() -> None:
    state = a_quota("we_1", "we_2", "we_3")
    assert state is not None
    with pytest.raises(InvalidState):
        reserve_quota(state, "we_4", 1)
    assert state.endpoints == ["we_1", "we_2", "we_3"]


def test_each_account_and_mode_has_a_quota_whose_id_no_object_can_have() -> None:
    names = {
        webhook_endpoint_quota.get_stream_id(account, mode)
        for account in ("acct_1", "a_2")
        for mode in (True, False)
    }
    assert len(names) == 4
    assert all(":" in name for name in names)


DESTINATION: dict[str, Any] = {"name": "Books", "url": URL, "thin": True, "enabled_events": ["*"]}


def a_destination(**given: Any) -> WebhookEndpoint:
    made = webhook_endpoint_decisions.create_destination(
        endpoint_id="ed_1", account="acct_1", livemode=False, params=DESTINATION | given, now=NOW
    )
    return fold(webhook_endpoint.evolve, made)


def test_a_destination_is_an_endpoint_with_a_name_and_sources() -> None:
    thin = a_destination(events_from=["@accounts", "@self"])
    assert (thin.name, thin.is_thin, thin.thin, thin.connect) == ("Books", True, True, True)
    assert [thin.gets_events_of(account) for account in ("acct_1", "acct_2")] == [True, True]
    own = a_destination(thin=False, api_version="2024-06-20")
    assert (own.is_thin, own.thin, own.connect, own.api_version) == (False, None, False, "2024-06-20")
    assert [own.gets_events_of(account) for account in ("acct_1", "acct_2")] == [True, False]
    plain = an_endpoint(connect=True)
    assert (plain.name, plain.is_thin, plain.destination.events_from) == ("we_1", False, ["@accounts"])
    assert [plain.gets_events_of(account) for account in ("acct_1", "acct_2")] == [False, True]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"url": "ftp://hooks.example.com"}, "url"),
        ({"api_version": "2024-06-20"}, "snapshot_api_version"),
        ({"thin": False, "events_from": ["@self", "@accounts"]}, "events_from"),
        ({"metadata": {"k" * 41: "v"}}, f"metadata[{'k' * 41}]"),
    ],
)
def test_a_destination_that_cannot_be_served_is_refused(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        a_destination(**given)
    assert refusal.value.param == param


def test_an_endpoint_gets_a_name_and_a_destination_keeps_what_it_was_created_with() -> None:
    (event,) = webhook_endpoint_decisions.update(an_endpoint(), {"name": "Books"}, now=NOW + 1)
    named = webhook_endpoint.evolve(an_endpoint(), event)
    assert (named.name, named.destination.events_from, named.is_thin) == ("Books", ["@self"], False)
    assert webhook_endpoint_decisions.update(named, {"name": "Books"}, now=NOW + 2) == []
    thin = a_destination(events_from=["@accounts"])
    (event,) = webhook_endpoint_decisions.update(thin, {"name": "Other"}, now=NOW + 1)
    renamed = webhook_endpoint.evolve(thin, event)
    assert (renamed.name, renamed.is_thin, renamed.destination.events_from) == ("Other", True, ["@accounts"])


def test_a_name_that_was_erased_is_empty() -> None:
    (event,) = webhook_endpoint_decisions.create_destination(
        endpoint_id="ed_1", account="acct_1", livemode=False, params=DESTINATION, now=NOW
    )
    for name in event.PERSONAL:
        setattr(event, name, None)
    erased = webhook_endpoint.evolve(None, event)
    assert (erased.name, erased.url, erased.is_thin) == ("", "", True)


def test_the_reason_why_an_endpoint_is_disabled_is_that_of_its_last_disablement() -> None:
    events = webhook_endpoint_decisions.create_destination(
        endpoint_id="ed_1", account="acct_1", livemode=False, params=DESTINATION, now=NOW
    )
    reasons = []

    def fail(state: WebhookEndpoint) -> list[Any]:
        return webhook_endpoint_decisions.disable_failing(
            state, failing_since=NOW, failed_attempts=9, after_seconds=1, status=500, error=None, now=NOW + 9
        )

    for decide in (
        lambda state: webhook_endpoint_decisions.update(state, {"disabled": True}, now=NOW + 1),
        lambda state: webhook_endpoint_decisions.update(state, {"disabled": False}, now=NOW + 2),
        fail,
        lambda state: webhook_endpoint_decisions.update(state, {"name": "Other"}, now=NOW + 10),
        lambda state: webhook_endpoint_decisions.update(state, {"disabled": False}, now=NOW + 11),
        lambda state: webhook_endpoint_decisions.update(state, {"disabled": True}, now=NOW + 12),
    ):
        reasons.append(webhook_endpoint_decisions.find_disabled_reason(events))
        events += decide(fold(webhook_endpoint.evolve, events))
    reasons.append(webhook_endpoint_decisions.find_disabled_reason(events))
    failures = "delivery_failures"
    assert reasons == [None, "user", None, failures, failures, None, "user"]
    (created,) = webhook_endpoint_decisions.create_destination(
        endpoint_id="ed_1",
        account="acct_1",
        livemode=False,
        params=DESTINATION | {"disabled": True},
        now=NOW,
    )
    assert webhook_endpoint_decisions.find_disabled_reason([created]) == "user"
