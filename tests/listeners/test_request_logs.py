"""`stripe logs tail`: what is recorded of requests while somebody looks, and who is shown it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from ledger.api.access_log import access_log
from ledger.api.exchange import Exchange
from ledger.api.public.routes import OPERATIONS
from ledger.config import load_settings
from ledger.metrics.prometheus import Metrics
from ledger.request_log.errors import PATH_LENGTH_MAX, clean_path, describe_error
from ledger.stripe_cli.request_filters import RequestFacts, matches
from ledger.stripe_cli.request_tails import ROWS_MAX
from ledger.wire.parameters import Array, Hash
from ledger.wire.scalars import Parameter
from tests.api.service import Account, Caller, Registrar, Service
from tests.listeners.client import RECEIVE_SECONDS, Listener, Session
from tests.listeners.conftest import Ask
from tests.webhooks.receiver import wait_until

NAME = "Rosenquist"
EMAIL = "ada.rosenquist@example.com"


WARM_UP = "/v1/balance"
TAIL = {"websocket_features[]": ["request_logs"]}


@contextmanager
def tail(service: Service, key: str, **filters: list[str]) -> Iterator[Listener]:
    with open_tail(service, key, **filters).connect() as listener:
        yield listener


def open_tail(service: Service, key: str, **filters: list[str]) -> Session:
    """A session that the service's only API process knows of: it is told a moment later."""
    session = Session(service.url, key, **TAIL, filters=json.dumps(filters))
    assert session.answer["websocket_authorized_feature"] == "request_logs"
    with Session(service.url, key, **TAIL, filters="{}").connect() as later:
        shown = False
        while not shown:
            request(service, key, WARM_UP)
            with suppress(TimeoutError):
                shown = bool(later.socket.recv(timeout=0.5))
    return session


def request(service: Service, key: str, path: str, **headers: str) -> str:
    """The id of a request."""
    return httpx.get(f"{service.url}{path}", auth=(key, ""), headers=headers).headers["request-id"]


def receive(listener: Listener, *, acknowledge: bool = True) -> dict[str, Any]:
    """The next request that is shown."""
    while True:
        frame = json.loads(listener.socket.recv(timeout=RECEIVE_SECONDS))
        assert set(frame) == {"type", "request_log_id", "event_payload"}
        assert frame["type"] == "request_log_event"
        payload: dict[str, Any] = json.loads(frame["event_payload"])
        is_wanted = payload["url"] != WARM_UP
        if acknowledge or not is_wanted:
            listener.send({"type": "event_ack", "event_id": frame["request_log_id"]})
        if is_wanted:
            return payload


def receive_until(listener: Listener, is_last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The requests that are shown, up to this one."""
    shown = [receive(listener)]
    while not is_last(shown[-1]):
        shown.append(receive(listener))
    return shown


def test_a_request_is_shown_without_what_was_sent(service: Service, account: Account, raw: Caller) -> None:
    with tail(service, account.secret) as listener:
        created = raw.post("/v1/customers?expand[]=subscriptions", {"name": NAME, "email": EMAIL})
        refused = raw.get(f"/v1/customers/{EMAIL}?limit={NAME}")
        form = {"amount": 100, "currency": "usd", "source": "tok_chargeDeclined", "description": NAME}
        declined = raw.post("/v1/charges", form)
        shown = [receive(listener) for _ in range(3)]
    for each, answer in zip(shown, (created, refused, declined), strict=True):
        assert each["request_id"] == answer.headers["request-id"]
        assert each["status"] == answer.status_code
        assert each["livemode"] is False
        assert type(each["created_at"]) is int
        assert NAME.lower() not in json.dumps(each).lower()
    assert [(each["method"], each["url"]) for each in shown] == [
        ("POST", "/v1/customers"), ("GET", "/v1/customers/[removed]"), ("POST", "/v1/charges"),
    ]  # fmt: skip
    error = declined.json()["error"]
    names = ("type", "code", "decline_code", "charge", "message")
    assert shown[2]["error"] == {name: error[name] for name in names}


def test_an_acknowledgement_of_nothing_is_passed_over(
    service: Service, account: Account, raw: Caller
) -> None:
    with tail(service, account.secret) as listener:
        for unknown in ("", "rlog_", "rlog_0", "rlog_" + "9" * 5000, "evt_1"):
            listener.send({"type": "event_ack", "event_id": unknown})
        raw.customer()
        assert receive(listener)["url"] == "/v1/customers"


def list_leaves(name: str, parameter: Parameter) -> Iterator[tuple[str, str]]:
    """The names of all parameters of a parameter, as a form has them, and what tells kinds apart."""
    if isinstance(parameter, Hash):
        for member, inner in parameter.members.items():
            yield from list_leaves(f"{name}[{member}]", inner)
    elif isinstance(parameter, Array):
        yield from list_leaves(f"{name}[0]", parameter.item)
    else:
        yield name, f"{type(parameter)}"


def list_probes() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Requests with NAME in one parameter of each kind of each operation, and in place of a parameter."""
    for operation in OPERATIONS:
        path = operation.path.replace("{", "unknown_").replace("}", "")
        members = operation.table.members.items()
        leaves = {kind: leaf for name, each in members for leaf, kind in list_leaves(name, each)}
        for name in (*leaves.values(), NAME):
            yield operation.method, path, {name: NAME}
    yield "GET", "/v1/charges", {"created[gte]": NAME}
    yield "POST", "/v1/customers", {f"metadata[{EMAIL}][x]": NAME}
    yield "POST", "/v1/charges", {"amount": "100", "currency": NAME, "source": "tok_visa"}


def test_no_error_shows_what_a_parameter_had(service: Service, account: Account, raw: Caller) -> None:
    with (
        tail(service, account.secret, filter_request_status=["FAILED"]) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        shown = pool.submit(receive_until, listener, lambda each: each["url"] == "/v1/[removed]/x")
        for method, path, form in list_probes():
            if method == "GET":
                raw.http.get(path, params=form, auth=(account.secret, ""))
            else:
                raw.call(method, path, form)
        raw.get("/v1/charges", stripe_version=NAME)
        raw.get(f"/v1/{EMAIL}/x")
        assert len(shown.result()) > 100
    leaks = [each for each in shown.result() if NAME.lower() in json.dumps(each).lower()]
    assert not leaks, leaks[:5]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/v1/customers/sk_live_0123456789abcdef", "/v1/customers/[removed]"),
        ("/v1/payment_intents/pi_1_secret_Zz9/capture", "/v1/payment_intents/[removed]/capture"),
        ("/v1/customers/whsec_0123456789", "/v1/customers/[removed]"),
        ("/v1/tokens/4242424242424242", "/v1/tokens/[removed]"),
        ("/v1/customers/cus_123456789012/sources/card_1", "/v1/customers/cus_123456789012/sources/card_1"),
        ("/v1/charges/risk_1", "/v1/charges/risk_1"),
    ],
)
def test_a_secret_in_place_of_an_id_is_not_shown(path: str, shown: str) -> None:
    assert clean_path(path) == shown


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("No such charge: 'ch_0355NNpRYzjthZhRDcWZpf'", "No such charge: 'ch_0355NNpRYzjthZhRDcWZpf'"),
        ("No such customer: 'Ada'; it's gone", "No such customer: '[removed]'; it's gone"),
        ("No such token: 'sk_live_0123456789abcdef'", "No such token: '[removed]'"),
        ("No such customer: 'O'Brien 555' x'", "No such customer: '[removed]'"),
        ("No such customer: 'a' Ada 'b'", "No such customer: '[removed]'"),
        ("Unset 'nmae': 'nmae' of 'ch_0355NNpRYz'.", "Unset 'nmae': 'nmae' of 'ch_0355NNpRYz'."),
        ("No such charge: 'ch_4242424242424242'", "No such charge: 'ch_4242424242424242'"),
        ("The card 4242 4242 4242 4242 of a@b.c", "The card [removed] of [removed]"),
        ("Invalid string: Ada; must be at most; 5; must be at most 5", "Invalid string: [removed]"),
        ("Received unknown parameter: nmae. Did you mean name?", "Received unknown parameter: nmae"),
        ("Invalid limit: must be one of a, b", "Invalid limit: must be one of a, b"),
    ],
)
def test_a_message_keeps_what_is_ours(message: str, shown: str) -> None:
    body = json.dumps({"error": {"type": "t", "message": message, "param": "nmae"}})
    described = describe_error(body, "GET", "/v1/x")
    assert described == {"type": "t", "message": shown, "param": "nmae"}
    assert describe_error("<html>", "GET", "/v1/x") is None


@pytest.mark.parametrize(
    "part",
    [
        "a@b.c",
        "4242424242424242",
        "4242-4242-4242-4242",
        "sk_test_0123456789",
        "whsec_0123456789",
        "cuss_0123456789_secret_0123",
    ],
)
def test_a_path_is_shown_without_what_is_no_id(part: str) -> None:
    assert clean_path(f"/v1/customers/{part}/sources") == "/v1/customers/[removed]/sources"
    assert clean_path(f"/v1/{part}") == "/v1/[removed]"
    for path in ("/v1/charges/ch_4242424242424242", "/v1/stripecli/sessions", "/"):
        assert clean_path(path) == path


def test_a_long_path_is_cut_and_takes_no_long_time() -> None:
    started = time.process_time()
    assert clean_path("/" + "a" * 60_000) == "/" + "a" * (PATH_LENGTH_MAX - 1)
    assert time.process_time() - started < 1.0


PLATFORM, CONNECTED = "acct_platform", "acct_connected"
OWN = RequestFacts(PLATFORM, PLATFORM, "GET", "/v1/charges", 200, "127.0.0.1")
FOR_CONNECTED = OWN._replace(account=CONNECTED, method="POST", status=402, client=None)


@pytest.mark.parametrize(
    ("name", "values", "viewer", "expected"),
    [
        ("filter_account", ["self"], PLATFORM, [OWN]),
        ("filter_account", ["connect_out"], PLATFORM, [FOR_CONNECTED]),
        ("filter_account", ["connect_in"], CONNECTED, [FOR_CONNECTED]),
        ("filter_account", ["connect_in", "self"], PLATFORM, [OWN]),
        ("filter_http_method", ["GET", "DELETE"], PLATFORM, [OWN]),
        ("filter_ip_address", ["127.0.0.1"], PLATFORM, [OWN]),
        ("filter_request_path", ["/v1/charges"], PLATFORM, [OWN, FOR_CONNECTED]),
        ("filter_request_path", ["/v1/charge"], PLATFORM, []),
        ("filter_request_status", ["SUCCEEDED"], PLATFORM, [OWN]),
        ("filter_request_status", ["FAILED"], PLATFORM, [FOR_CONNECTED]),
        ("filter_source", ["API"], PLATFORM, [OWN, FOR_CONNECTED]),
        ("filter_source", ["DASHBOARD"], PLATFORM, []),
        ("filter_status_code", ["200", "404"], PLATFORM, [OWN]),
        ("filter_status_code_type", ["4XX", "5XX"], PLATFORM, [FOR_CONNECTED]),
    ],
)
def test_filters(name: str, values: list[str], viewer: str, expected: list[RequestFacts]) -> None:
    assert [each for each in (OWN, FOR_CONNECTED) if matches({name: values}, each, viewer)] == expected
    both = {name: values, "filter_http_method": ["GET"]}
    assert [each for each in (OWN, FOR_CONNECTED) if matches(both, each, viewer)] == [
        each for each in expected if each is OWN
    ]


def test_each_run_is_shown_its_account_and_what_its_filters_let_through(
    service: Service, account: Account, raw: Caller, live: Caller, registrar: Registrar
) -> None:
    connected, stranger = registrar.account(platform=account.id), registrar.account()
    with (
        tail(service, account.secret, filter_status_code_type=["400"]) as refused,
        tail(service, account.secret, filter_account=["connect_out"]) as outgoing,
        tail(service, connected.secret, filter_account=["connect_in"]) as incoming,
        tail(service, stranger.secret) as others,
    ):
        raw.customer()
        live.get("/v1/customers/cus_live")
        missing = raw.get("/v1/customers/cus_0").headers["request-id"]
        for_connected = raw.get("/v1/charges", stripe_account=connected.id).headers["request-id"]
        request(service, connected.secret, "/v1/customers")
        own = request(service, stranger.secret, "/v1/charges")
        shown = [receive(listener)["request_id"] for listener in (refused, outgoing, incoming, others)]
        assert shown == [missing, for_connected, for_connected, own]
        assert all(listener.is_quiet() for listener in (refused, outgoing, incoming, others))


def test_what_was_not_acknowledged_comes_again(
    service: Service, account: Account, raw: Caller, ask: Ask
) -> None:
    session = open_tail(service, account.secret, filter_http_method=["POST"])
    with session.connect() as listener:
        ids = [raw.post("/v1/customers").headers["request-id"] for _ in range(3)]
        assert receive(listener)["request_id"] == ids[0]
        assert [receive(listener, acknowledge=False)["request_id"] for _ in range(2)] == ids[1:]
    while_away = raw.post("/v1/customers").headers["request-id"]
    with session.connect() as listener:
        assert [receive(listener)["request_id"] for _ in range(3)] == [*ids[1:], while_away]
    rows = "SELECT count(*) FROM stripe_cli.request_logs r JOIN stripe_cli.sessions s ON s.id = r.session"
    wait_until(lambda: ask(rows + " WHERE s.account = %s AND s.filters <> '{}'", account.id) == [(0,)])


def test_a_run_that_does_not_read_has_a_bounded_queue(
    service: Service, account: Account, raw: Caller, ask: Ask
) -> None:
    open_tail(service, account.secret, filter_http_method=["POST"])
    [(session_id,)] = ask(
        """INSERT INTO stripe_cli.request_logs (session, payload)
           SELECT s.id, '{}' FROM stripe_cli.sessions s, generate_series(1, %s)
           WHERE s.account = %s AND s.filters <> '{}' RETURNING session""",
        ROWS_MAX - 2,
        account.id,
    )[:1]
    with tail(service, account.secret) as other:  # of the same account: it is shown all
        ids = [raw.post("/v1/customers").headers["request-id"] for _ in range(4)]
        assert [receive(other)["request_id"] for _ in ids] == ids
    waiting = ask("SELECT payload FROM stripe_cli.request_logs WHERE session = %s ORDER BY id", session_id)
    assert len(waiting) == ROWS_MAX
    assert [json.loads(payload)["request_id"] for (payload,) in waiting[-2:]] == ids[:2]


class CountedTails(dict[Any, Any]):
    """The runs that are open: none. Counts how often anybody asks."""

    asked = 0

    def __bool__(self) -> bool:
        self.asked += 1
        return False

    def __getitem__(self, key: object) -> Any:
        raise AssertionError("nobody looks")

    get = __getitem__  # type: ignore[assignment]


def test_while_nobody_looks_a_request_costs_one_question() -> None:
    class Log:
        tails = CountedTails()

    log_access = access_log(Metrics(), load_settings(log_requests="none"), request_tails=Log())  # type: ignore[arg-type]
    exchange = Exchange("GET", "/v1/charges", b"", {}, None, "req_1")  # type: ignore[arg-type]
    for _ in range(10):
        log_access(exchange)
    assert Log.tails.asked == 10
