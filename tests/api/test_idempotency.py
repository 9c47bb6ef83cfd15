"""One effect and one answer for any number of tries with one key (contract §1.9)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
import stripe

from ledger.accounts import INTERNAL_SCOPES
from ledger.keys.blind_index import is_hash
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, name_bases, ok


def _assert_same_replies(caller: Caller, path: str, form: str, times: int = 3) -> Any:
    """The answer to `form`, which is sent `times` times and answered with the same bytes."""
    answers = [caller.post(path, form, idempotency_key="k") for _ in range(times)]
    assert len({(answer.status_code, answer.content) for answer in answers}) == 1
    first, *replays = answers
    assert "idempotent-replayed" not in first.headers
    for replay in replays:
        assert replay.headers["idempotent-replayed"] == "true"
        assert replay.headers["original-request"] == first.headers["request-id"]
    assert len({answer.headers["request-id"] for answer in answers}) == times
    return first.json()


def _assert_key_reused(caller: Caller, path: str, form: str) -> None:
    error = assert_refused(caller.post(path, form, idempotency_key="k"), kind="idempotency_error")
    assert error["message"] == (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. "
        "Try using a key other than 'k' if you meant to execute a different request."
    )


def test_a_create_is_replayed_byte_for_byte_and_makes_one_event(raw: Caller) -> None:
    made = _assert_same_replies(raw, "/v1/customers", "name=J%C3%A9nny&metadata[a]=1")
    (event,) = raw.events()
    assert event["request"]["idempotency_key"] == "k"
    assert event["data"]["object"] == made
    assert [each["id"] for each in ok(raw.get("/v1/customers"))["data"]] == [made["id"]]


def test_a_replay_shows_the_object_as_it_was(raw: Caller) -> None:
    made = _assert_same_replies(raw, "/v1/customers", "name=before", times=1)
    ok(raw.post(f"/v1/customers/{made['id']}", "name=after"))
    assert ok(raw.post("/v1/customers", "name=before", idempotency_key="k")) == made


def test_a_client_secret_is_the_same_in_a_replay(raw: Caller) -> None:
    customer = raw.customer()["id"]
    form = f"customer={customer}&components[buy_button][enabled]=true"
    secret = _assert_same_replies(raw, "/v1/customer_sessions", form)["client_secret"]
    other = ok(raw.post("/v1/customer_sessions", form, idempotency_key="other"))["client_secret"]
    assert other != secret


def test_a_declined_card_is_replayed_and_leaves_one_failed_charge(raw: Caller) -> None:
    error = _assert_same_replies(raw, "/v1/charges", "amount=100&currency=usd&source=tok_chargeDeclined")[
        "error"
    ]
    assert error["type"] == "card_error"
    (charge,) = ok(raw.get("/v1/charges"))["data"]
    assert charge["id"] == error["charge"]


def test_an_error_of_execution_is_stored(raw: Caller) -> None:
    """The state that caused the refusal has changed since; the answer has not."""
    form = "amount=100&currency=usd&customer=cus_x"
    error = _assert_same_replies(raw, "/v1/charges", form)["error"]
    assert error["code"] == "resource_missing"
    dispute = raw.dispute()
    refund = {"charge": dispute["charge"]}
    first = raw.post("/v1/refunds", refund, idempotency_key="refund")
    assert_refused(first, code="charge_disputed")
    ok(raw.post(f"/v1/disputes/{dispute['id']}", "evidence[uncategorized_text]=winning_evidence"))
    again = raw.post("/v1/refunds", refund, idempotency_key="refund")
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    ok(raw.post("/v1/refunds", refund, idempotency_key="another"))


def test_a_missing_object_in_the_path_is_stored_too(raw: Caller) -> None:
    first = raw.post("/v1/customers/cus_x", "name=a", idempotency_key="k")
    again = raw.post("/v1/customers/cus_x", "name=a", idempotency_key="k")
    assert_refused(again, 404, code="resource_missing", param="id")
    assert again.headers["original-request"] == first.headers["request-id"]


def test_an_update_without_effect_is_stored(raw: Caller) -> None:
    customer = raw.customer(name="x")["id"]
    _assert_same_replies(raw, f"/v1/customers/{customer}", "name=x")
    assert len(raw.events()) == 1


@pytest.mark.contract("1.6 key reused with other parameters")
def test_other_parameters_are_refused(raw: Caller) -> None:
    ok(raw.post("/v1/customers", "name=a&metadata[x]=1", idempotency_key="k"))
    for form in (
        "name=b&metadata[x]=1",
        "name=a",
        "name=a&metadata[x]=2",
        "name=a&metadata[x]=1&expand[]=sources",
    ):
        _assert_key_reused(raw, "/v1/customers", form)
    _assert_key_reused(raw, "/v1/customers", "nmae=a")
    assert len(raw.events()) == 1


def test_another_path_is_refused(raw: Caller) -> None:
    customer = raw.customer()["id"]
    ok(raw.post("/v1/customers", "name=a", idempotency_key="k"))
    _assert_key_reused(raw, f"/v1/customers/{customer}", "name=a")
    assert ok(raw.get(f"/v1/customers/{customer}"))["name"] is None


@pytest.mark.parametrize("path", ["/v1/customers", "/internal/v1/keys"])
def test_nobody_can_tell_from_a_kept_reply_what_was_asked_for(
    path: str, http: httpx.Client, registrar: Registrar, service: Service
) -> None:
    """A hash that is the same for the same request could be compared with those of guesses."""
    owners = [registrar.account() for _ in range(2)]
    form: Any = {"data" if path.startswith("/v1") else "json": {"name": "Jenny"}}
    for owner in owners:
        key = registrar.key(owner.id, "rk", scopes=(*INTERNAL_SCOPES, "rak_customer_write"))[1]
        headers = {"authorization": f"Bearer {key}", "idempotency-key": "k"}
        answers = [http.post(path, headers=headers, **form) for _ in range(2)]
        assert ["idempotent-replayed" in each.headers for each in answers] == [False, True]
    with psycopg.connect(service.dsn) as conn:
        query = "SELECT fingerprint FROM ledger.replies WHERE account = ANY (%s)"
        stored = [text for (text,) in conn.execute(query, ([owner.id for owner in owners],))]
    assert len(set(stored)) == 2
    assert all(map(is_hash, stored))


def test_parameters_are_compared_decoded(raw: Caller) -> None:
    first = ok(raw.post("/v1/customers", "name=a b&metadata[x]=1&metadata[y]=2", idempotency_key="k"))
    for form in (
        "metadata%5By%5D=2&name=a+b&metadata[x]=1",
        "name=first&metadata[x]=1&metadata[y]=2&name=%61%20b",
    ):
        assert ok(raw.post("/v1/customers", form, idempotency_key="k")) == first


def test_a_refusal_before_execution_is_not_stored(raw: Caller, nobody: Caller) -> None:
    for form in ("nmae=x", "tax_exempt=maybe", "name[a]=x", "expand[]=nothing", "name=%zz"):
        refused_answer = raw.post("/v1/customers", form, idempotency_key="k")
        assert refused_answer.status_code == 400
        assert "original-request" not in refused_answer.headers
    assert_refused(nobody.post("/v1/customers", "name=x", idempotency_key="k"), 401)
    answer = raw.post("/v1/customers", "name=x", idempotency_key="k")
    assert ok(answer)["name"] == "x"
    assert "idempotent-replayed" not in answer.headers


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        ("/v1/charges", "amount=1&currency=usd&source=tok_visa", "amount=100&currency=usd&source=tok_visa"),
        ("/v1/charges", "amount=100&currency=xyz&source=tok_visa", "amount=100&currency=usd&source=tok_visa"),
        ("/v1/charges", "amount=100&currency=usd", "amount=100&currency=usd&source=tok_visa"),
        ("/v1/customers", "&".join(f"metadata[{number}]=x" for number in range(51)), "metadata[0]=x"),
    ],
)
def test_parameters_that_are_wrong_by_themselves_do_not_use_the_key_up(
    raw: Caller, path: str, wrong: str, right: str
) -> None:
    answer = raw.post(path, wrong, idempotency_key="k")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "original-request" not in answer.headers
    answer = raw.post(path, right, idempotency_key="k")
    made = ok(answer)
    assert "idempotent-replayed" not in answer.headers
    _assert_key_reused(raw, path, wrong)
    assert ok(raw.post(path, right, idempotency_key="k")) == made


def test_a_session_with_two_components_does_not_use_the_key_up(raw: Caller) -> None:
    one = f"customer={raw.customer()['id']}&components[buy_button][enabled]=true"
    two = f"{one}&components[pricing_table][enabled]=true"
    assert_refused(raw.post("/v1/customer_sessions", two, idempotency_key="k"), param="components")
    _assert_same_replies(raw, "/v1/customer_sessions", one)
    _assert_key_reused(raw, "/v1/customer_sessions", two)


def test_a_refusal_by_the_state_uses_the_key_up(raw: Caller) -> None:
    """Also if the state does not allow a parameter, whatever the state becomes."""
    charge = raw.charge(capture="false")["id"]
    for number, (path, form, better) in enumerate(
        [
            (f"/v1/charges/{charge}/capture", "amount=2001", "amount=2000"),
            (
                "/v1/charges",
                "amount=100&currency=usd&source=tok_x",
                "amount=100&currency=usd&source=tok_visa",
            ),
            ("/v1/refunds", f"charge={charge}", f"charge={raw.charge()['id']}"),
        ]
    ):
        first = raw.post(path, form, idempotency_key=f"k{number}")
        assert first.status_code == 400
        again = raw.post(path, form, idempotency_key=f"k{number}")
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
        assert_refused(raw.post(path, better, idempotency_key=f"k{number}"), kind="idempotency_error")


def test_a_key_has_at_most_255_characters(raw: Caller) -> None:
    longest = "k" * 255
    first = ok(raw.post("/v1/customers", idempotency_key=longest))
    assert ok(raw.post("/v1/customers", idempotency_key=longest)) == first
    assert_refused(raw.post("/v1/customers", idempotency_key=longest + "k"), message="255")
    assert len(raw.events()) == 1


def test_get_and_delete_ignore_the_key(raw: Caller) -> None:
    customer = raw.customer()["id"]
    path = f"/v1/customers/{customer}"
    assert ok(raw.get(path, idempotency_key="k"))["id"] == customer
    assert ok(raw.delete(path, idempotency_key="k"))["deleted"] is True
    assert_refused(raw.delete(path, idempotency_key="k"), 404, code="resource_missing", param="id")
    answer = raw.post("/v1/customers", "name=x", idempotency_key="k")
    assert ok(answer)["name"] == "x"
    assert raw.events("type=customer.deleted")[0]["request"]["idempotency_key"] is None


def test_keys_are_separate_by_account_and_mode(
    raw: Caller, live: Caller, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    made = [
        ok(raw.post("/v1/customers", "name=a", idempotency_key="k")),
        ok(live.post("/v1/customers", "name=b", idempotency_key="k")),
        ok(raw.post("/v1/customers", "name=c", idempotency_key="k", stripe_account=connected.id)),
    ]
    assert len({each["id"] for each in made}) == 3
    theirs = Caller(raw.http, connected.secret)
    assert ok(theirs.post("/v1/customers", "name=c", idempotency_key="k")) == made[2]
    another = Caller(raw.http, registrar.key(account.id)[1])
    assert ok(another.post("/v1/customers", "name=a", idempotency_key="k")) == made[0]


@pytest.mark.parametrize(
    ("path", "form", "status"),
    [
        ("/v1/customers", "name=x", 200),
        ("/v1/charges", "amount=100&currency=usd&source=tok_createDispute", 200),
        ("/v1/charges", "amount=100&currency=usd&source=tok_chargeDeclined", 402),
    ],
)
@pytest.mark.contract("1.6 key in flight")
def test_32_concurrent_requests_have_one_effect(raw: Caller, path: str, form: str, status: int) -> None:
    start = threading.Barrier(32)

    def one(_: int) -> Any:
        start.wait()
        return raw.post(path, form, idempotency_key="k")

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(one, range(32)))
    bodies = {answer.content for answer in answers if answer.status_code == status}
    assert len(bodies) == 1
    for answer in answers:  # a request may wait and be replayed, or be refused with lock_timeout
        assert answer.status_code in (status, 409)
    assert (
        sum("idempotent-replayed" not in each.headers for each in answers if each.status_code == status) == 1
    )
    assert len(ok(raw.get(path))["data"]) == 1
    types = [event["type"] for event in raw.events()]
    assert len(types) == len(set(types))


def test_32_concurrent_requests_with_different_parameters_have_one_effect(raw: Caller) -> None:
    with ThreadPoolExecutor(32) as pool:
        answers = list(
            pool.map(
                lambda number: raw.post("/v1/customers", f"name={number}", idempotency_key="k"), range(32)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 31
    assert len(raw.events()) == 1


class Cutting:
    """A proxy that closes the connection instead of sending the first answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                conn, _ = self._listening.accept()
            except OSError:
                return
            with conn, socket.create_connection(("127.0.0.1", self._port)) as upstream:
                request = conn.recv(65536)
                if not request:
                    continue
                while b"\r\n\r\n" not in request:
                    request += conn.recv(65536)
                head, _, body = request.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                while len(body) < length:
                    body += conn.recv(65536)
                upstream.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + b"\r\n\r\n" + body)
                answer = b""
                while part := upstream.recv(65536):
                    answer += part
                self.requests.append(request)
                if len(self.requests) > 1:
                    conn.sendall(answer)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def cutting(service: Service) -> Iterator[Cutting]:
    way = Cutting(service.port)
    yield way
    way.close()


def test_the_clients_own_retry_after_a_cut_connection_makes_one_object(
    cutting: Cutting, account: Account, raw: Caller
) -> None:
    bases = name_bases(cutting.url)
    client = stripe.StripeClient(account.secret, base_addresses=bases, max_network_retries=2)
    made = client.v1.customers.create({"name": "once"})
    assert len(cutting.requests) == 2
    assert made.last_response is not None
    assert made.last_response.headers["idempotent-replayed"] == "true"
    assert [each["id"] for each in ok(raw.get("/v1/customers"))["data"]] == [made.id]
    (event,) = raw.events()
    assert event["request"]["idempotency_key"] == made.last_response.idempotency_key
