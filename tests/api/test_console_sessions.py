"""Sessions of the console: what opens and ends one, what it may do, where its cookie counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.console.sessions import OPERATOR_SCOPES
from tests.api.service import Account, Caller, Registrar, Service
from tests.conftest import Cluster

SESSION = "/console/session"
FROM_PAGE = {"sec-fetch-site": "same-origin"}
WITHOUT_FETCH_METADATA = {"ledger-console": "1"}
CACHED_SECONDS = 1.1


@pytest.fixture
def operator_key(registrar: Registrar, account: Account) -> tuple[str, str]:
    return registrar.key(account.id, "rk", scopes=OPERATOR_SCOPES)


@pytest.fixture
def page(service: Service) -> Iterator[httpx.Client]:
    """A browser with the page open: it keeps cookies."""
    with httpx.Client(base_url=service.url, headers=FROM_PAGE, timeout=30) as http:
        yield http


def sign_in(page: httpx.Client, key: str) -> dict[str, Any]:
    answer = page.post(SESSION, json={"key": key})
    assert answer.status_code == 200, answer.text
    session: dict[str, Any] = answer.json()
    return session


def open_link(service: Service, *options: str) -> dict[str, Any]:
    printed = service.run_command("console", "open", "--json", *options)
    link: dict[str, Any] = json.loads(printed)
    return link


def get_secret(link: dict[str, Any]) -> str:
    assert isinstance(link["url"], str)
    return link["url"].partition("#")[2]


def test_a_key_opens_a_session_that_acts_with_it(
    page: httpx.Client, account: Account, operator_key: tuple[str, str], raw: Caller
) -> None:
    customer = raw.customer(name="Jenny Rosen")
    session = sign_in(page, operator_key[1])
    assert session["key"]["id"] == operator_key[0]
    assert session["account"] == account.id
    assert session["livemode"] is False
    assert set(session["scopes"]) == set(OPERATOR_SCOPES)
    assert session["key"]["masked"].endswith(operator_key[1][-4:])
    assert page.get(SESSION).json() | {"now": session["now"]} == session

    assert page.get(f"/v1/customers/{customer['id']}").json() == customer
    assert page.get(f"/internal/v1/audit/objects/{customer['id']}").json()["object"]["id"] == customer["id"]
    assert page.get("/v2/core/events").status_code == 200
    lines = page.get("/internal/v1/feed", params={"object": customer["id"]}).text.splitlines()
    assert json.loads(lines[0])["object"] == customer["id"]
    history = page.get(f"/internal/v1/audit/objects/{customer['id']}/history").json()
    assert history["data"][0]["actor"]["id"]
    (access, *_) = page.get("/internal/v1/audit/accesses", params={"object": customer["id"]}).json()["data"]
    assert access["actor"] == operator_key[0]


def test_the_cookie_is_for_this_page_alone(page: httpx.Client, operator_key: tuple[str, str]) -> None:
    answer = page.post(SESSION, json={"key": operator_key[1]})
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(
        r"ledger_console_\d+=console_[\w-]{43}; Path=/; Max-Age=14400; HttpOnly; SameSite=Strict", cookie
    )
    assert answer.headers["cache-control"] == "no-store"
    assert operator_key[1] not in answer.text


@pytest.mark.parametrize(
    ("origin", "is_secure"),
    [("https://ledger.example", True), ("http://127.0.0.1:1", False), ("null", False)],
)
def test_the_cookie_is_secure_where_the_browser_reads_the_page_by_https(
    page: httpx.Client, operator_key: tuple[str, str], origin: str, is_secure: bool
) -> None:
    """As behind a proxy that the settings do not name, or past one that they do."""
    answer = page.post(SESSION, json={"key": operator_key[1]}, headers={"origin": origin})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-ledger_console_") is is_secure
    assert cookie.endswith("; Secure") is is_secure
    ended = page.delete(SESSION, headers={"origin": origin}).headers["set-cookie"]
    assert ended.partition("=")[0] == cookie.partition("=")[0]


@pytest.mark.parametrize("path", ["/v1/customers", "/v2/core/events", "/internal/v1/keys", SESSION])
def test_the_secret_of_a_session_is_none_for_the_header(
    page: httpx.Client, service: Service, operator_key: tuple[str, str], path: str
) -> None:
    sign_in(page, operator_key[1])
    (cookie,) = page.cookies.jar
    for scheme in ("Console", "Bearer"):
        answer = httpx.get(f"{service.url}{path}", headers={"authorization": f"{scheme} {cookie.value}"})
        assert answer.status_code == 401, scheme


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/customers"),
        ("POST", "/v1/customers"),
        ("GET", "/internal/v1/keys"),
        ("GET", "/v2/core/events"),
    ],
)
def test_what_another_site_makes_a_browser_send_has_no_session(
    page: httpx.Client, operator_key: tuple[str, str], site: str, method: str, path: str
) -> None:
    sign_in(page, operator_key[1])
    answer = page.request(method, path, headers={"sec-fetch-site": site})
    assert answer.status_code == 401
    assert "You did not provide an API key" in answer.text


def test_without_fetch_metadata_our_own_header_is_required(
    service: Service, operator_key: tuple[str, str]
) -> None:
    """As of a page that is read over HTTP from another machine."""
    with httpx.Client(base_url=service.url, timeout=30) as http:
        assert http.post(SESSION, json={"key": operator_key[1]}).status_code == 403
        opened = http.post(SESSION, json={"key": operator_key[1]}, headers=WITHOUT_FETCH_METADATA)
        assert opened.status_code == 200
        assert http.get("/v1/charges").status_code == 401
        assert http.get("/v1/charges", headers=WITHOUT_FETCH_METADATA).status_code == 200
        preflight = http.options(
            "/v1/charges",
            headers={
                "origin": "http://localhost:3000",
                "access-control-request-method": "GET",
                "access-control-request-headers": "ledger-console",
            },
        )
        assert "access-control-allow-credentials" not in preflight.headers
        assert preflight.headers["access-control-allow-origin"] == "*"


def test_another_site_cannot_open_or_end_a_session(page: httpx.Client, operator_key: tuple[str, str]) -> None:
    sign_in(page, operator_key[1])
    other = {"sec-fetch-site": "same-site"}
    assert page.post(SESSION, json={"key": operator_key[1]}, headers=other).status_code == 403
    assert page.delete(SESSION, headers=other).status_code == 403
    assert page.get(SESSION).status_code == 200


def test_a_key_in_the_header_goes_before_the_cookie(
    page: httpx.Client, account: Account, operator_key: tuple[str, str]
) -> None:
    sign_in(page, operator_key[1])
    answer = page.get("/internal/v1/keys", headers={"authorization": f"Bearer {account.secret}"})
    assert answer.status_code == 403  # a plain secret key has no scope of the internal API


def test_a_feed_that_is_followed_ends_with_its_session(
    page: httpx.Client, service: Service, registrar: Registrar, account: Account
) -> None:
    key_id, key = registrar.key(account.id, "rk", scopes=("feed",))
    sign_in(page, key)
    with page.stream("GET", "/internal/v1/feed", headers={"accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        registrar.revoke(key_id)
        for _ in answer.iter_raw():
            pass  # it ends; else the client's limit of time does


def test_signing_out_ends_the_session_in_every_process(
    page: httpx.Client, service: Service, operator_key: tuple[str, str]
) -> None:
    sign_in(page, operator_key[1])
    (cookie,) = page.cookies.jar
    ended = page.delete(SESSION)
    assert ended.status_code == 200
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert not page.cookies.jar
    _wait_until_refused(service, f"{cookie.name}={cookie.value}")


def test_another_session_in_its_place_ends_a_session(
    page: httpx.Client, service: Service, operator_key: tuple[str, str], account: Account
) -> None:
    sign_in(page, operator_key[1])
    (cookie,) = page.cookies.jar
    former = f"{cookie.name}={cookie.value}"
    sign_in(page, account.secret)
    _wait_until_refused(service, former)
    assert page.get(SESSION).json()["key"]["kind"] == "sk"


def test_revoking_the_key_ends_its_sessions(
    page: httpx.Client, service: Service, registrar: Registrar, operator_key: tuple[str, str]
) -> None:
    sign_in(page, operator_key[1])
    (cookie,) = page.cookies.jar
    registrar.revoke(operator_key[0])
    refused = _wait_until_refused(service, f"{cookie.name}={cookie.value}")
    assert refused["code"] == "session_expired"
    assert refused["message"] == "The session has ended: sign in again."


def _wait_until_refused(service: Service, cookie: str) -> dict[str, Any]:
    """The error, once no process has the session in its cache any more."""
    for _ in range(100):
        answer = httpx.get(
            f"{service.url}/internal/v1/keys", headers={**FROM_PAGE, "cookie": cookie}, timeout=30
        )
        if answer.status_code == 401:
            error: dict[str, Any] = answer.json()["error"]
            return error
    raise AssertionError("the session goes on")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "exactly one of key and link"),
        ({"key": "rk_test_x", "link": "link_x"}, 400, "exactly one of key and link"),
        ({"key": "rk_test_unknown"}, 401, "Invalid API Key provided"),
        ({"key": ""}, 401, "You did not provide an API key"),
        ({"link": "link_unknown"}, 401, "ledger console open"),
        ({"key": "x" * 300}, 400, "key"),
        ({"password": "x"}, 400, "password"),
    ],
)
def test_what_opens_no_session_is_refused(
    page: httpx.Client, body: dict[str, str], status: int, said: str
) -> None:
    answer = page.post(SESSION, json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    assert "set-cookie" not in answer.headers


def test_a_key_for_front_ends_opens_no_session(page: httpx.Client, account: Account) -> None:
    answer = page.post(SESSION, json={"key": account.publishable})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_session_has_the_scopes_of_its_key_and_no_more(
    page: httpx.Client, registrar: Registrar, account: Account
) -> None:
    sign_in(page, registrar.key(account.id, "rk", scopes=("projections",))[1])
    assert page.get("/internal/v1/projections").status_code == 200
    refused = page.get("/internal/v1/keys")
    assert refused.status_code == 403
    assert "'keys'" in refused.json()["error"]["message"]


def test_a_link_opens_one_session(page: httpx.Client, service: Service, account: Account) -> None:
    link = open_link(service, "--account", account.id, "--reason", "a look")
    assert link["url"].startswith("http://")
    secret = get_secret(link)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: page.post(SESSION, json={"link": secret}), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]
    session = next(answer.json() for answer in answers if answer.status_code == 200)
    assert session["key"]["id"] == link["key"]
    assert session["key"]["name"].startswith("console of ")
    assert {"audit", "personal_data", "projections", "webhooks", "rak_dispute_read"} <= set(session["scopes"])
    assert not any(scope.endswith("_write") for scope in session["scopes"])
    (again,) = {answer.json()["error"]["code"] for answer in answers if answer.status_code == 401}
    assert again == "link_expired"


def test_the_options_of_a_link_decide_what_its_session_may_do(
    page: httpx.Client, service: Service, account: Account
) -> None:
    link = open_link(
        service, "--account", account.id, "--live", "--scope", "audit", "--url", "https://ledger.example/"
    )
    assert link["url"].startswith("https://ledger.example/console#link_")
    session = page.post(SESSION, json={"link": get_secret(link)}).json()
    assert session["livemode"] is True
    assert session["scopes"] == ["audit"]


def test_no_secret_of_the_console_is_logged(
    page: httpx.Client, service: Service, operator_key: tuple[str, str], account: Account
) -> None:
    link = get_secret(open_link(service, "--account", account.id))
    page.post(SESSION, json={"link": link})
    sign_in(page, operator_key[1])
    (cookie,) = page.cookies.jar
    page.get("/internal/v1/keys")
    assert "/console/session" in service.log
    for secret in (link, cookie.value, operator_key[1]):
        assert secret is not None
        assert secret not in service.log


def test_a_session_ends_at_its_time_and_a_console_switched_off_has_none(
    cluster: Cluster, tmp_path: Path
) -> None:
    with cluster.create_database() as dsn:
        service = Service(dsn, tmp_path, LEDGER_CONSOLE_SESSION_SECONDS="600", LEDGER_WORKERS="0")
        registrar = Registrar(dsn)
        account = registrar.account()
        key = registrar.key(account.id, "rk", scopes=("clock",))[1]
        link = get_secret(open_link(service, "--account", account.id))
        with httpx.Client(base_url=service.url, headers=FROM_PAGE, timeout=30) as page:
            session = sign_in(page, key)
            assert session["service"]["test_clock"] is True
            moved = page.post("/internal/v1/clock", json={"now": session["expires_at"] - 5})
            assert moved.status_code == 200, moved.text
            assert page.get(SESSION).status_code == 200
            assert page.post("/internal/v1/clock", json={"advance_seconds": 6}).status_code == 200
            assert page.get(SESSION).json()["error"]["code"] == "session_expired"
            assert page.post(SESSION, json={"link": link}).json()["error"]["code"] == "link_expired"
            sign_in(page, key)
            (cookie,) = page.cookies.jar
        service.stop()
        service = Service(dsn, tmp_path, LEDGER_CONSOLE="false", LEDGER_WORKERS="0")
        with httpx.Client(base_url=service.url, headers=FROM_PAGE, timeout=30) as page:
            assert page.post(SESSION, json={"key": key}).status_code == 404
            asked = page.get("/internal/v1/keys", headers={"cookie": f"{cookie.name}={cookie.value}"})
            assert asked.status_code == 401
        registrar.close()
        service.stop()
