"""Hostile requests: each is answered with a 4xx at little cost, and the service keeps working."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.service import FORM, Account, Caller, Service, ok

LITTLE_SECONDS = 1.0


def _assert_refused_cheaply(raw: Caller, body: bytes | str, path: str = "/v1/customers") -> int:
    started = time.monotonic()
    answer = raw.post(path, body)
    assert 400 <= answer.status_code < 500, answer.text[:200]
    assert len(answer.content) < 5_000
    assert answer.headers["request-id"]
    assert time.monotonic() - started < LITTLE_SECONDS
    return answer.status_code


BODIES: dict[str, str | bytes] = {
    "200 levels": "metadata" + "[a]" * 200 + "=x",
    "200 levels of arrays": "expand" + "[]" * 200 + "=x",
    "10,000 parameters": "&".join(f"metadata[{number}]=x" for number in range(10_000)),
    "10,000 times the same": "&".join(["name=x"] * 10_000),
    "5 MB in one value": "name=" + "x" * 5_000_000,
    "1 MB in one value": "name=" + "x" * 1_000_000,
    "1 MB of escapes": "name=" + "%41" * 330_000,
    "a long name": "n" * 100_000 + "=x",
    "100,000 brackets": "a" + "[" * 100_000 + "=x",
    "only separators and a bracket": "&" * 999 + "[=",
    "NUL": b"name=a\0b",
    "escaped NUL": "name=a%00b",
    "NUL in a name": "na%00me=x",
    "bytes that are not UTF-8": b"name=\xff\xfe",
    "escapes that are not UTF-8": "name=%FF%FE",
    "a surrogate": "name=%ED%A0%80",
    "an overlong slash": "name=%C0%AF",
    "a cut escape": "name=%4",
    "no escape": "name=%zz",
    "unicode in an escape": "name=%\uff14\uff11",
    "unbalanced brackets": "metadata[a=x",
    "brackets the wrong way": "metadata]a[=x",
    "brackets within brackets": "metadata[[a]]=x",
    "no name": "=x",
    "a huge integer": "balance=" + "9" * 100_000,
    "an index in other digits": "preferred_locales[\u0663]=x",
    "a negative index": "preferred_locales[-1]=x",
    "101 locales": "&".join(["preferred_locales[]=x"] * 101),
    "integers beyond 64 bits": f"balance={2**63}",
    "JSON": '{"name": "x"}',
    "XML": "<a/>",
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_hostile_form(raw: Caller, kind: str) -> None:
    _assert_refused_cheaply(raw, BODIES[kind])
    assert raw.events() == []


def test_a_hostile_query(raw: Caller) -> None:
    for query in (
        "%00=x",
        "limit=%FF",
        "a" + "[b]" * 200 + "=1",
        "expand[]=" + "a." * 1000,
        "created[gt]=" + "1" * 500,
    ):
        answer = raw.get(f"/v1/customers?{query}")
        assert 400 <= answer.status_code < 500, query


@pytest.mark.parametrize(
    "target",
    [
        "%00",
        "cus_%00",
        "%FF",
        "%0A",
        "..",
        "%2e%2e%2f",
        "x" * 20_000,
        "%F0%9F%98%80",
        "'",
        "%",
        "{}",
        "cus_x%2Fy",
    ],
)
@pytest.mark.parametrize(
    "kind", ["customers", "charges", "disputes", "refunds", "balance_transactions", "events"]
)
def test_a_hostile_path(raw: Caller, kind: str, target: str) -> None:
    for method in ("GET", "POST"):
        assert raw.call(method, f"/v1/{kind}/{target}").status_code in (400, 404)


def test_hostile_headers(raw: Caller) -> None:
    for name, value in {
        "stripe-account": "x" * 5_000,
        "stripe-version": "x" * 5_000,
        "authorization": "Basic " + "A" * 5_001,
        "content-type": "multipart/form-data",
        "idempotency-key": "x" * 5_000,
    }.items():
        answer = raw.call("POST", "/v1/customers", b"name=x", {name: value})
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 1_000


# -- requests that only a raw socket can send
# ----------------------------------------------------------------------


def _exchange_bytes(service: Service, sent: bytes, *, then_close: bool = False) -> bytes:
    """The bytes that the service answers until it closes the connection, for one second at most."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as conn:
        conn.sendall(sent)
        if then_close:
            conn.shutdown(socket.SHUT_WR)
        conn.settimeout(1)
        answer = b""
        try:
            while part := conn.recv(65536):
                answer += part
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def _head(account: Account, *headers: str, method: str = "POST", path: str = "/v1/customers") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {account.secret}",
        f"Content-Type: {FORM}", *headers, "", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode("latin-1")


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_bad_framing_is_refused_or_cut(service: Service, account: Account, raw: Caller) -> None:
    chunked = "Transfer-Encoding: chunked"
    for sent in (
        _head(account, chunked) + b"zz\r\nname=x\r\n0\r\n\r\n",
        _head(account, chunked) + b"-1\r\nname=x\r\n0\r\n\r\n",
        _head(account, chunked) + b"6\r\nname=xyz\r\n0\r\n\r\n",
        _head(account, chunked) + b"fffffffffffffffff\r\nname=x\r\n0\r\n\r\n",
        _head(account, "Content-Length: -1") + b"name=x",
        _head(account, "Content-Length: six") + b"name=x",
        _head(account, "Content-Length: 6", "Content-Length: 7") + b"name=xy",
        _head(account, "Content-Length: 6", chunked) + b"6\r\nname=x\r\n0\r\n\r\n",
        _head(account, "X-No-Colon\0") + b"",
        _head(account, "Stripe-Account: a\0b", "Content-Length: 0"),
        _head(account, method="GET", path="/v1/customers/\xff"),
        _head(account, method="GET", path="/v1/customers with spaces"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v1/customers HTTP/9.9\r\n\r\n",
        b"\r\n" * 10_000 + b"nonsense\r\n\r\n",
    ):
        assert _status(_exchange_bytes(service, sent)) in (0, 400, 401, 404), sent[:200]
    assert raw.events() == []


def test_a_body_that_is_cut_off_has_no_effect(service: Service, account: Account, raw: Caller) -> None:
    for sent in (
        _head(account, "Content-Length: 100") + b"name=x",
        _head(account, "Transfer-Encoding: chunked") + b"6\r\nname=x\r\n",
    ):
        assert _status(_exchange_bytes(service, sent, then_close=True)) in (0, 400)
    assert raw.events() == []


def test_a_chunked_form_is_a_form(service: Service, account: Account, raw: Caller) -> None:
    sent = _head(account, "Transfer-Encoding: chunked") + b"5\r\nname=\r\n1\r\nx\r\n0\r\n\r\n"
    assert _status(_exchange_bytes(service, sent)) == 200
    assert ok(raw.get("/v1/customers"))["data"][0]["name"] == "x"


def test_an_endless_chunked_body_is_ended_by_its_size(service: Service, account: Account) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    answer = _exchange_bytes(service, _head(account, "Transfer-Encoding: chunked") + chunk * 40)
    assert _status(answer) == 413


def test_a_body_announced_too_large_is_not_waited_for(service: Service, account: Account) -> None:
    answer = _exchange_bytes(service, _head(account, "Content-Length: 5000000000"))
    assert _status(answer) == 413


def test_pipelined_requests_are_answered_in_order(service: Service, account: Account) -> None:
    one = _head(account, "Content-Length: 6") + b"name=a"
    two = _head(account, "Content-Length: 6") + b"name=b"
    answer = _exchange_bytes(service, one + two)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'"name":"a"') < answer.index(b'"name":"b"')


@pytest.mark.parametrize(("size", "end"), [(70_000, b"\r\n\r\n"), (2_000_000, b"\r\n\r\n"), (2_000_000, b"")])
def test_a_giant_head_is_refused(service: Service, account: Account, size: int, end: bytes) -> None:
    """Also a head that never ends."""
    heads = [
        _head(account, "X-Giant: " + "x" * size, method="GET"),
        _head(account, *[f"X-{number}: {'x' * 1000}" for number in range(size // 1000)], method="GET"),
        _head(account, method="GET", path="/v1/customers?email=" + "x" * size),
    ]
    for head in heads:
        sent = head.removesuffix(b"\r\n\r\n")
        with socket.create_connection(("127.0.0.1", service.port), timeout=5) as conn:
            try:
                for start in range(0, len(sent), 50_000):
                    conn.sendall(sent[start : start + 50_000])
                    time.sleep(0.002)
                conn.sendall(end)
                answer = conn.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                answer = b""
        assert _status(answer) in (0, 400), len(head)


def test_a_large_head_is_accepted(service: Service, account: Account) -> None:
    sent = _head(account, "X-Large: " + "x" * 60_000, "Content-Length: 0", "Connection: close")
    assert _status(_exchange_bytes(service, sent)) == 200


def test_slow_clients_do_not_hold_others_up(service: Service, account: Account, raw: Caller) -> None:
    slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(100)]
    try:
        for conn in slow:
            conn.sendall(_head(account, "Content-Length: 100") + b"name=")
        started = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: raw.customer(), range(20)))
        assert time.monotonic() - started < 5
    finally:
        for conn in slow:
            conn.close()
    assert len(ok(raw.get("/v1/customers?limit=100"))["data"]) == 20


# -- random requests ----------------------------------------------------------------------------------------

NAMES = [
    "name", "email", "address", "metadata", "expand", "source", "customer", "amount", "currency", "evidence",
    "submit", "components", "enabled", "features", "customer_name", "enhanced_evidence", "shipping", "city",
    "visa_compelling_evidence_3", "prior_undisputed_transactions", "invoice_settings", "custom_fields",
    "preferred_locales", "payment_element", "payment_method_redisplay_limit", "receipt", "appeal", "card",
    "supporting_files", "fraud_details", "user_report", "intended_submission_method", "balance", "0", "1", "",
]  # fmt: skip
_segment = st.sampled_from(NAMES) | st.text(max_size=5)
_name = st.builds(
    lambda head, rest: head + "".join(f"[{segment}]" for segment in rest),
    _segment,
    st.lists(_segment, max_size=6),
)
_value = (
    st.sampled_from(
        ["true", "false", "", "1", "-1", "usd", "tok_visa", "tok_createDispute", "9" * 30, "1e5", "null"]
    )
    | st.text(max_size=30)
    | st.integers().map(str)
)
_form = st.lists(st.tuples(_name, _value), max_size=8).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "surrogatepass")
) | st.binary(max_size=60)


PATHS = [
    "customers", "charges", "customer_sessions", "customers/{}", "disputes/{}", "charges/{}",
    "charges/{}/capture", "disputes/{}/close", "refunds", "refunds/{}", "refunds/{}/cancel",
]  # fmt: skip


@given(form=_form, path=st.sampled_from(PATHS))
@settings(
    max_examples=250,
)
def test_no_form_causes_an_internal_error(
    victims: dict[str, str], raw: Caller, form: bytes, path: str
) -> None:
    url = "/v1/" + path.format(victims[path.split("/")[0]] if "{}" in path else "")
    answer = Caller(raw.http, victims["key"]).post(url, form)
    assert answer.status_code < 500
    error = answer.json().get("error")
    assert (answer.status_code == 200) is (error is None)


@given(
    query=_form.filter(lambda form: b"#" not in form),
    kind=st.sampled_from(["customers", "charges", "disputes", "refunds", "balance_transactions", "events"]),
)
@settings(max_examples=120)
def test_no_query_causes_an_internal_error(raw: Caller, query: bytes, kind: str) -> None:
    escaped = "".join(
        chr(byte) if byte in b"abcdefghijklmnopqrstuvwxyz_[]=&0123456789" else f"%{byte:02X}"
        for byte in query
    )
    assert raw.get(f"/v1/{kind}?{escaped}").status_code < 500


@pytest.fixture
def victims(raw: Caller) -> dict[str, str]:
    """Objects to send the random forms to. Disputes among them stay open as long as possible."""
    assert raw.key is not None
    return {
        "customers": raw.customer()["id"],
        "charges": raw.charge(capture="false")["id"],
        "disputes": raw.dispute()["id"],
        "refunds": raw.refund()["id"],
        "key": raw.key,
    }
