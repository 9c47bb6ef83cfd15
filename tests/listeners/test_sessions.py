"""How the Stripe CLI opens a session, and what is refused."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ledger.postgres.connections import connect
from ledger.stripe_cli.sessions import SESSIONS_PER_ACCOUNT_MAX, delete_ended
from ledger.wire.versions import LATEST_VERSION
from tests.api.service import Account, Registrar, Service, assert_refused
from tests.listeners.client import SESSIONS, Session, ask_for_session
from tests.listeners.conftest import Ask


def test_a_session_has_what_the_cli_needs_and_no_secret_of_it_is_stored(
    service: Service, account: Account, ask: Ask
) -> None:
    answer = ask_for_session(service.url, account.secret, forward_to_url="http://u:password@localhost:3000")
    assert answer.status_code == 200
    session = answer.json()
    assert session["websocket_url"] == f"ws://127.0.0.1:{service.port}/v1/stripecli/socket"
    assert session["websocket_authorized_feature"] == "webhooks"
    assert session["reconnect_delay"] == 3600
    assert session["default_version"] == session["latest_version"] == LATEST_VERSION
    assert session["secret"].startswith("whsec_")
    stored = ask("SELECT s::text FROM stripe_cli.sessions s WHERE account = %s", account.id)
    assert len(stored) == 1
    for secret in (session["websocket_id"], session["secret"], "password"):
        assert secret not in stored[0][0]
    behind_a_proxy = {"host": "ledger.example.com", "authorization": f"Bearer {account.secret}"}
    form = {
        "device_name": "x",
        "websocket_features[]": "request_logs",
        "filters": '{"filter_source":["API"]}',
    }
    other = httpx.post(f"{service.url}{SESSIONS}", data=form, headers=behind_a_proxy, verify=False).json()
    assert other["websocket_url"].startswith("ws://ledger.example.com/")
    assert other["websocket_authorized_feature"] == "request_logs"


def test_the_signing_secret_is_that_of_the_account_its_mode_and_the_device(
    service: Service, account: Account, registrar: Registrar
) -> None:
    def secret_of(key: str, device: str = "a laptop") -> str:
        return Session(service.url, key, device_name=device).secret

    first = secret_of(account.secret)
    assert secret_of(account.secret) == first
    assert secret_of(registrar.key(account.id)[1]) == first
    others = {
        secret_of(account.secret, "another"),
        secret_of(account.live_secret),
        secret_of(registrar.account().secret),
    }
    assert len(others - {first}) == 3


FILTERS = (
    ("[]", "filters", "must be a JSON object"),
    ("{", "filters", "must be a JSON object"),
    ('{"filter_color":["red"]}', "filters", "unknown filter filter_color"),
    ('{"filter_source":"API"}', "filters", "array of at most 100 strings"),
    ('{"filter_source":[1]}', "filters", "strings of at most"),
    ('{"filter_account":["acct_1"]}', "filters", "takes connect_in, connect_out, self"),
    ('{"filter_http_method":["PUT"]}', "filters", "takes DELETE, GET, POST"),
    ('{"filter_ip_address":["home"]}', "filters", "takes IP addresses"),
    ('{"filter_request_path":["v1/charges"]}', "filters", "takes paths"),
    ('{"filter_request_status":["OK"]}', "filters", "takes FAILED, SUCCEEDED"),
    ('{"filter_status_code":["4XX"]}', "filters", "takes status codes"),
    ('{"filter_status_code_type":["300"]}', "filters", "takes 2XX, 4XX, 5XX"),
)


@pytest.mark.parametrize(("filters", "param", "message"), FILTERS)
def test_a_filter_that_is_none_is_refused_by_its_name(
    service: Service, account: Account, filters: str, param: str, message: str
) -> None:
    answer = ask_for_session(service.url, account.secret, filters=filters)
    assert_refused(answer, param=param, message=message)


def test_what_no_cli_sends_is_refused(service: Service, account: Account, registrar: Registrar) -> None:
    def ask_with(key: str | None, **fields: object) -> httpx.Response:
        return ask_for_session(service.url, key, **fields)

    assert_refused(
        ask_with(account.secret, **{"websocket_features[]": ["webhooks", "all"]}),
        param="websocket_features[1]",
        message="one of webhooks, v2_events, or request_logs",
    )
    without_features = ask_with(account.secret, **{"websocket_features[]": []})
    assert_refused(without_features, code="parameter_missing", param="websocket_features")
    assert_refused(
        ask_with(account.secret, device_name=""), code="parameter_invalid_empty", param="device_name"
    )
    assert ask_with(account.secret, unknown="from a newer release").status_code == 200
    assert_refused(ask_with(None), 401)
    assert_refused(ask_with(account.publishable), 403, code="secret_key_required")
    reader = registrar.key(account.id, "rk", scopes=["rak_event_read"])[1]
    assert_refused(ask_with(reader), 403, code="more_permissions_required")
    listener = registrar.key(account.id, "rk", scopes=["rak_event_write"])[1]
    assert ask_with(listener).status_code == 200


def test_an_account_has_a_limit_of_sessions_and_idle_ones_make_room(
    service: Service, account: Account, registrar: Registrar, ask: Ask
) -> None:
    for _ in range(SESSIONS_PER_ACCOUNT_MAX):
        Session(service.url, account.secret)
    refused = ask_for_session(service.url, account.secret)
    assert_refused(refused, 429, code="rate_limit", message="32 sessions of the Stripe CLI open")
    Session(service.url, account.live_secret)
    Session(service.url, registrar.account().secret)
    ask(
        "UPDATE stripe_cli.sessions SET seen_at = now() - interval '31 s' WHERE account = %s RETURNING id",
        account.id,
    )
    Session(service.url, account.secret)
    kept = ask("SELECT count(*) FROM stripe_cli.sessions WHERE account = %s AND NOT livemode", account.id)
    assert kept == [(1,)]


def test_a_session_ends_when_nothing_is_connected_to_it_for_long(
    service: Service, session: Session, account: Account, ask: Ask
) -> None:
    async def clean_up() -> None:
        async with await connect(service.dsn, "ledger_api", name="tests") as conn:
            await delete_ended(conn, 0)

    ask(
        "UPDATE stripe_cli.sessions SET seen_at = now() - interval '11 min' WHERE account = %s RETURNING id",
        account.id,
    )
    assert session.refusal() == (401, "Unknown WebSocket ID.")
    asyncio.run(clean_up())
    assert ask("SELECT FROM stripe_cli.sessions WHERE account = %s", account.id) == []
