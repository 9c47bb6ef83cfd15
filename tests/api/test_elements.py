"""The client side of a customer session: one exchange of the secret, and what its key may do (contract §6).

Two services run on one database, so the rules are tested across processes. Tests move their clock.
"""

from __future__ import annotations

import base64
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import httpx
import psycopg
import pytest

from tests.api.conftest import check_log
from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok
from tests.conftest import Cluster

PARAM = "customer_session_client_secret"
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
COMPONENTS = {
    "active_entitlements", "buy_button", "customer_portal", "customer_sheet", "mobile_payment_element",
    "payment_element", "pricing_table",
}  # fmt: skip


@pytest.fixture(scope="module")
def services(cluster: Cluster) -> Iterator[tuple[Service, Service]]:
    """Two processes that share nothing but the database."""
    with (
        cluster.create_database() as dsn,
        TemporaryDirectory() as one,
        TemporaryDirectory() as two,
    ):
        running = Service(dsn, Path(one)), Service(dsn, Path(two))
        yield running
        for each in running:
            each.stop()
            check_log(each.log)


@pytest.fixture(scope="module")
def service(services: tuple[Service, Service]) -> Service:
    return services[0]


@pytest.fixture(scope="module")
def registrar(service: Service) -> Iterator[Registrar]:
    registrar = Registrar(service.dsn)
    yield registrar
    registrar.close()


@pytest.fixture(scope="module")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as http:
        yield http


@pytest.fixture(scope="module")
def elsewhere(services: tuple[Service, Service]) -> Iterator[httpx.Client]:
    """A caller of the other process."""
    with httpx.Client(base_url=services[1].url, timeout=30) as http:
        yield http


@pytest.fixture
def page(http: httpx.Client, account: Account) -> Caller:
    """A front end, with the publishable key."""
    return Caller(http, account.publishable)


@pytest.fixture
def operator(http: httpx.Client, account: Account, registrar: Registrar) -> Caller:
    scopes = ["catalog", "audit", "clock"]
    return Caller(http, registrar.key(account.id, "rk", scopes=scopes)[1])


class Session(NamedTuple):
    """A new session."""

    customer: str
    secret: str
    expires_at: int


@pytest.fixture
def session(raw: Caller) -> Session:
    return _session(raw)


def _session(raw: Caller, component: str = "customer_sheet", **given: str) -> Session:
    customer = given.pop("customer", None) or raw.customer(name="Jenny Rosen")["id"]
    form = {"customer": customer, f"components[{component}][enabled]": "true", **given}
    made = ok(raw.post("/v1/customer_sessions", form))
    return Session(customer, made["client_secret"], made["expires_at"])


def _exchange(page: Caller, secret: str, query: str = "type=deferred_intent", **headers: str) -> Any:
    return page.get(f"/v1/elements/sessions?{PARAM}={quote(secret)}&{query}", **headers)


def _exchange_key(page: Caller, secret: str) -> Any:
    return ok(_exchange(page, secret))["customer"]["customer_session"]


def _move(operator: Caller, seconds: float) -> None:
    answer = operator.http.post(
        "/internal/v1/clock",
        json={"advance_seconds": seconds},
        headers={"authorization": f"Bearer {operator.key}"},
    )
    assert answer.status_code == 200, answer.text


def test_the_answer_of_an_exchange_has_exactly_the_shape_of_the_contract(
    page: Caller, session: Session
) -> None:
    answer = _exchange(page, session.secret)
    document = ok(answer)
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"elements_session_\w{22}", document.pop("session_id"))
    customer = document.pop("customer")
    assert document == {
        "object": "elements_session",
        "livemode": False,
        "payment_method_preference": {
            "object": "payment_method_preference",
            "country_code": "US",
            "ordered_payment_method_types": ["card"],
            "type": "deferred_intent",
        },
        "merchant_country": "US",
        "payment_method_specs": None,
        "unactivated_payment_method_types": [],
        "link_settings": None,
        "google_pay_preference": "disabled",
        "card_brand_choice": None,
    }
    granted = customer.pop("customer_session")
    assert customer == {"payment_methods": [], "default_payment_method": None}
    assert granted.pop("id").startswith("cuss_")
    assert granted.pop("api_key").startswith("ek_test_")
    components = granted.pop("components")
    assert granted == {
        "object": "customer_session",
        "livemode": False,
        "customer": session.customer,
        "api_key_expiry": session.expires_at,
    }
    assert set(components) == COMPONENTS
    assert components.pop("customer_sheet") == {
        "enabled": True,
        "features": {
            "payment_method_remove": "disabled",
            "payment_method_remove_last": "enabled",
            "payment_method_sync_default": "disabled",
        },
    }
    assert components["mobile_payment_element"] == {"enabled": False, "features": None}
    assert not any(component["enabled"] for component in components.values())


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_the_answer_enables_the_component_of_the_session(raw: Caller, page: Caller, component: str) -> None:
    components = _exchange_key(page, _session(raw, component).secret)["components"]
    assert set(components) == COMPONENTS
    assert [name for name, each in components.items() if each["enabled"]] == [component]


def test_the_mobile_element_has_the_features_its_sdks_decode(raw: Caller, page: Caller) -> None:
    name = "components[mobile_payment_element][features]"
    given = {f"{name}[payment_method_save]": "enabled"}
    override = f"{name}[payment_method_save_allow_redisplay_override]"
    for overridden in (None, "always"):
        form = given | ({override: overridden} if overridden else {})
        made = _session(raw, "mobile_payment_element", **form)
        assert _exchange_key(page, made.secret)["components"]["mobile_payment_element"] == {
            "enabled": True,
            "features": {
                "payment_method_save": "enabled",
                "payment_method_remove": "disabled",
                "payment_method_remove_last": "enabled",
                "payment_method_set_as_default": "disabled",
                "payment_method_save_allow_redisplay_override": overridden,
            },
        }


def test_further_parameters_of_mobile_sdks_are_ignored(page: Caller, session: Session) -> None:
    query = (
        "type=payment_intent&client_secret=pi_1_secret_2&locale=de-DE&mobile_session_id=x&expand[]=a.b.c.d.e"
        "&expand[]=payment_method_preference.payment_intent.payment_method&deferred_intent[mode]=payment"
        "&external_payment_methods[]=external_paypal&legacy_customer_ephemeral_key=ek_1&never_heard_of=1"
        "&a=1&a[b]=2&c]=3&d[=4"
    )
    document = ok(_exchange(page, session.secret, query))
    assert document["payment_method_preference"]["type"] == "payment_intent"
    assert document["customer"]["customer_session"]["customer"] == session.customer


def test_without_a_secret_there_is_no_customer(page: Caller) -> None:
    for kind in ("deferred_intent", "payment_intent", "setup_intent"):
        document = ok(page.get(f"/v1/elements/sessions?type={kind}"))
        assert "customer" not in document
        assert document["payment_method_preference"]["type"] == kind
    assert_refused(page.get("/v1/elements/sessions?type=other"), param="type")


def test_the_key_may_be_in_the_query_if_it_is_publishable(
    nobody: Caller, account: Account, session: Session
) -> None:
    query = urlencode({PARAM: session.secret, "type": "deferred_intent"})
    for key in (account.secret, "pk_test_unknown_unknown", "", "pk_test_ü"):
        assert nobody.get(f"/v1/elements/sessions?{query}&key={quote(key)}").status_code == 401
    answer = nobody.get(f"/v1/elements/sessions?{query}&key={account.publishable}")
    assert ok(answer)["customer"]["customer_session"]["customer"] == session.customer
    assert_refused(nobody.get(f"/v1/customers?key={account.publishable}"), 401)


def test_only_a_publishable_key_exchanges(
    raw: Caller, page: Caller, account: Account, registrar: Registrar, session: Session
) -> None:
    _, restricted = registrar.key(account.id, "rk", scopes=["rak_customer_session_write"])
    for key in (account.secret, account.live_secret, restricted):
        assert_refused(_exchange(Caller(raw.http, key), session.secret), 403, message="publishable")
    _exchange_key(page, session.secret)


@pytest.mark.contract("6.2 already used")
def test_a_secret_is_exchanged_once_even_if_the_answer_is_lost(page: Caller, session: Session) -> None:
    _exchange_key(page, session.secret)
    for _ in range(2):
        assert_refused(
            _exchange(page, session.secret, idempotency_key="k"), param=PARAM, message="already been used"
        )


@pytest.mark.parametrize("round_", range(4))
@pytest.mark.contract("6.2 exactly one of many at once")
def test_one_of_many_concurrent_exchanges_on_two_processes_succeeds(
    page: Caller, elsewhere: httpx.Client, raw: Caller, service: Service, round_: int
) -> None:
    session = _session(raw)
    pages = [page, Caller(elsewhere, page.key)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: _exchange(pages[number % 2], session.secret), range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 400: 19}
    for answer in answers:
        if answer.status_code != 200:
            assert_refused(answer, param=PARAM, message="already been used")
    (won,) = (answer.json()["customer"]["customer_session"] for answer in answers if answer.is_success)
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute(
            "SELECT topic FROM ledger.events WHERE originator_id = %s ORDER BY 1", (won["id"],)
        )
        assert [row[0] for row in rows] == ["customer_session.claimed", "customer_session.created"]
    for http in (page.http, elsewhere):
        assert ok(Caller(http, won["api_key"]).get(f"/v1/customers/{session.customer}"))


def _forge_secrets(secret: str) -> Iterator[str]:
    """Texts that differ from the secret in one part."""
    head = len("cuss_secret_")
    for at in (head, head + 21, head + 22, head + 37, head + 38, len(secret) - 1):
        yield secret[:at] + DIGITS[(DIGITS.index(secret[at]) + 1) % 62] + secret[at + 1 :]
    yield from (secret[:-1], secret + "0", secret[1:], " " + secret, secret.upper(), secret[:-1] + "é")
    yield from ("", "x", "cuss_secret_", "cuss_secret_" + "0" * 70, "_" + secret, "x" * 6000, "ek_test_x")


@pytest.mark.contract("6.2 malformed or forged", "6.2 a refused exchange does not consume")
def test_a_forged_secret_is_refused_and_consumes_nothing(page: Caller, session: Session) -> None:
    for forged in _forge_secrets(session.secret):
        error = assert_refused(_exchange(page, forged), code="resource_missing", param=PARAM)
        assert len(forged) < 4 or forged not in error["message"]
    assert_refused(
        page.get(f"/v1/elements/sessions?{PARAM}[a]={session.secret}"), code="resource_missing", param=PARAM
    )
    _exchange_key(page, session.secret)


def test_a_forged_secret_never_reaches_the_log(service: Service, page: Caller, session: Session) -> None:
    """While the log cannot be read, a secret with a wrong check is still refused. One with the right check
    and a wrong grant, which nobody can make, has to wait."""
    end = len(session.secret) - 1
    unchecked, ungranted = (
        session.secret[:at] + ("1" if session.secret[at] == "0" else "0") + session.secret[at + 1 :]
        for at in (end - 32, end)
    )
    with ThreadPoolExecutor(1) as pool:
        with psycopg.connect(service.dsn) as conn:
            conn.execute("LOCK TABLE ledger.events IN ACCESS EXCLUSIVE MODE")
            assert_refused(_exchange(page, unchecked), code="resource_missing", param=PARAM)
            waiting = pool.submit(_exchange, page, ungranted)
            time.sleep(0.3)
            assert not waiting.done()
        assert_refused(waiting.result(), code="resource_missing", param=PARAM)


@pytest.mark.contract("6.2 of another account or mode")
def test_a_secret_is_valid_for_one_account_and_mode(
    raw: Caller, page: Caller, account: Account, registrar: Registrar, session: Session
) -> None:
    stranger = registrar.account()
    _, live_page = registrar.key(account.id, "pk", livemode=True)
    for key in (stranger.publishable, live_page):
        error = assert_refused(
            _exchange(Caller(raw.http, key), session.secret), code="resource_missing", param=PARAM
        )
        assert session.customer not in error["message"]
    _exchange_key(page, session.secret)


def test_a_platform_page_exchanges_for_its_connected_account(
    raw: Caller, page: Caller, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    theirs = Caller(raw.http, connected.secret)
    session = _session(theirs)
    assert_refused(_exchange(page, session.secret), code="resource_missing", param=PARAM)
    stranger = registrar.account().id
    assert_refused(_exchange(page, session.secret, stripe_account=stranger), 403, code="account_invalid")
    granted = ok(_exchange(page, session.secret, stripe_account=connected.id))["customer"]["customer_session"]
    shopper = Caller(raw.http, granted["api_key"])
    path = f"/v1/customers/{session.customer}"
    assert ok(shopper.get(path)) == ok(shopper.get(path, stripe_account=connected.id)) == ok(theirs.get(path))
    assert_refused(shopper.get(path, stripe_account=account.id), 403, code="account_invalid")
    own = _exchange_key(page, _session(raw).secret)
    assert_refused(
        Caller(raw.http, own["api_key"]).get(f"/v1/customers/{own['customer']}", stripe_account=connected.id),
        403,
        code="account_invalid",
    )


@pytest.mark.contract("6.2 customer deleted since")
def test_the_secret_of_a_deleted_customer_is_refused(raw: Caller, page: Caller, session: Session) -> None:
    ok(raw.delete(f"/v1/customers/{session.customer}"))
    assert_refused(_exchange(page, session.secret), code="resource_missing", param=PARAM)


def test_a_key_reads_its_customer_as_deleted(raw: Caller, page: Caller, session: Session) -> None:
    shopper = Caller(raw.http, _exchange_key(page, session.secret)["api_key"])
    ok(raw.delete(f"/v1/customers/{session.customer}"))
    stub = {"id": session.customer, "object": "customer", "deleted": True}
    assert ok(shopper.get(f"/v1/customers/{session.customer}")) == stub
    assert_refused(
        shopper.get(f"/v1/customers/{session.customer}/payment_methods"),
        404,
        code="resource_missing",
        param="id",
    )


@pytest.mark.contract("6.2 expired")
def test_secret_and_key_expire_in_the_second_of_the_session(
    raw: Caller, page: Caller, operator: Caller, elsewhere: httpx.Client
) -> None:
    used, unused = _session(raw), _session(raw)
    key = _exchange_key(page, used.secret)["api_key"]
    _move(operator, 1780)
    path = f"/v1/customers/{used.customer}"
    before = ok(raw.post("/v1/customers"))["created"]
    assert used.expires_at - 30 < before < used.expires_at - 1
    for http in (page.http, elsewhere):
        assert ok(Caller(http, key).get(path))["id"] == used.customer
    _move(operator, max(used.expires_at, unused.expires_at) - before + 1)
    for http in (page.http, elsewhere):
        error = assert_refused(Caller(http, key).get(path), 401, code="api_key_expired")
        assert error["message"] == f"Expired API Key provided: ek_test_****{key[-4:]}"
        assert_refused(_exchange(Caller(http, page.key), unused.secret), param=PARAM, message="expired")
    assert_refused(_exchange(page, used.secret), param=PARAM, message="already been used")


@pytest.mark.contract("6.2 revoked")
def test_a_revoked_secret_is_refused_and_a_used_one_cannot_be_revoked(
    raw: Caller, page: Caller, operator: Caller, elsewhere: httpx.Client
) -> None:
    session = _session(raw)
    (listed,) = _sessions(operator, session.customer)["data"]
    path = f"/internal/v1/customer_sessions/{listed['id']}"
    revoked = ok(operator.delete(path))
    assert revoked == listed | {"state": "revoked", "revoked_at": revoked["revoked_at"]}
    assert ok(operator.delete(path)) == revoked
    for http in (page.http, elsewhere):
        assert_refused(_exchange(Caller(http, page.key), session.secret), param=PARAM, message="revoked")

    used = _exchange_key(page, _session(raw).secret)
    assert_refused(operator.delete(f"/internal/v1/customer_sessions/{used['id']}"), message="used")
    assert ok(Caller(raw.http, used["api_key"]).get(f"/v1/customers/{used['customer']}"))


def test_revoking_needs_its_scope_and_an_own_session(
    raw: Caller, operator: Caller, registrar: Registrar, account: Account
) -> None:
    session = _session(raw)
    (listed,) = _sessions(operator, session.customer)["data"]
    path = f"/internal/v1/customer_sessions/{listed['id']}"
    stranger = registrar.account()
    _, lacking = registrar.key(account.id, "rk", scopes=["audit"])
    _, other_mode = registrar.key(account.id, "rk", livemode=True, scopes=["catalog"])
    _, foreign = registrar.key(stranger.id, "rk", scopes=["catalog"])
    for key in (lacking, account.secret, account.publishable):
        assert_refused(
            Caller(raw.http, key).delete(path), 403, code="more_permissions_required", message="'catalog'"
        )
    for key in (other_mode, foreign):
        assert_refused(Caller(raw.http, key).delete(path), 404, code="resource_missing", param="id")
    assert_refused(
        operator.delete(f"/internal/v1/customer_sessions/{session.customer}"),
        404,
        code="resource_missing",
        param="id",
    )
    assert _sessions(operator, session.customer)["data"] == [listed]


def _sessions(operator: Caller, customer: str, query: str = "") -> Any:
    return ok(operator.get(f"/internal/v1/customer_sessions?customer={customer}&{query}"))


def test_a_customers_sessions_are_listed_by_state_without_their_secrets(
    raw: Caller, page: Caller, operator: Caller
) -> None:
    customer = raw.customer()["id"]
    expired = _session(raw, customer=customer)
    _move(operator, 1801)
    claimed, revoked, still = (_session(raw, customer=customer) for _ in range(3))
    _session(raw)
    granted = _exchange_key(page, claimed.secret)
    before = _sessions(operator, customer)["data"]
    ok(operator.delete(f"/internal/v1/customer_sessions/{before[1]['id']}"))
    listed = _sessions(operator, customer)
    assert [each["state"] for each in listed["data"]] == ["open", "revoked", "claimed", "expired"]
    assert (listed["object"], listed["has_more"], listed["url"]) == (
        "list", False, "/internal/v1/customer_sessions",
    )  # fmt: skip
    assert listed["data"][2]["id"] == granted["id"]
    assert set(listed["data"][0]) == {
        "id", "object", "claimed_at", "component", "created", "customer", "expires_at", "livemode",
        "revoked_at", "state",
    }  # fmt: skip
    text = str(listed)
    for session in (expired, claimed, revoked, still):
        assert session.secret not in text
    ok(raw.delete(f"/v1/customers/{customer}"))
    assert _sessions(operator, customer) == listed


def test_the_list_of_sessions_is_paged(raw: Caller, operator: Caller, registrar: Registrar) -> None:
    customer = raw.customer()["id"]
    for _ in range(5):
        _session(raw, customer=customer)
    whole = _sessions(operator, customer)["data"]
    assert len(whole) == 5
    seen: list[Any] = []
    query = "limit=2"
    while True:
        listed = _sessions(operator, customer, query)
        seen += listed["data"]
        if not listed["has_more"]:
            break
        query = f"limit=2&starting_after={seen[-1]['id']}"
    assert seen == whole
    other = _sessions(operator, _session(raw).customer)["data"][0]["id"]
    path = f"/internal/v1/customer_sessions?customer={customer}"
    for cursor in (other, customer, "cuss_x"):
        assert_refused(
            operator.get(f"{path}&starting_after={cursor}"), code="resource_missing", param="starting_after"
        )
    for query, param in (("limit=0", "limit"), ("limit=101", "limit"), ("state=open", "state")):
        assert operator.get(f"{path}&{query}").json()["error"]["param"] == param
    stranger = Caller(raw.http, registrar.key(registrar.account().id, "rk", scopes=["audit"])[1])
    for caller, missing in ((operator, "cus_x"), (operator, other), (stranger, customer)):
        assert_refused(
            caller.get(f"/internal/v1/customer_sessions?customer={missing}"),
            code="resource_missing",
            param="customer",
        )
    assert_refused(raw.get(path), 403, code="more_permissions_required", message="'audit'")


def test_the_key_reads_its_customer_and_its_payment_methods(
    raw: Caller, page: Caller, service: Service, session: Session
) -> None:
    key = _exchange_key(page, session.secret)["api_key"]
    shopper = Caller(raw.http, key)
    path = f"/v1/customers/{session.customer}"
    assert ok(shopper.get(path)) == ok(raw.get(path))
    methods = {"object": "list", "data": [], "has_more": False, "url": f"{path}/payment_methods"}
    query = "?type=card&limit=3&allow_redisplay=unspecified&expand[]=data.customer"
    for caller in (shopper, raw):
        assert ok(caller.get(f"{path}/payment_methods{query}")) == methods
        assert_refused(
            caller.get(f"{path}/payment_methods?starting_after=pm_1"),
            code="resource_missing",
            param="starting_after",
        )
    client = create_client(service, key)
    assert client.v1.customers.retrieve(session.customer).name == "Jenny Rosen"
    assert client.v1.customers.payment_methods.list(session.customer).data == []
    card = ok(raw.post(path, {"source": "tok_visa"}))["default_source"]
    assert [one.id for one in client.v1.customers.payment_methods.list(session.customer)] == [card]


def _routes(http: httpx.Client) -> list[tuple[str, str]]:
    document = http.get("/openapi.json").json()
    return [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith(("/v1/", "/internal/"))
    ]


@pytest.mark.contract("1.6 ephemeral key out of scope")
def test_the_key_may_call_no_other_operation(
    raw: Caller, page: Caller, account: Account, session: Session
) -> None:
    key = _exchange_key(page, session.secret)["api_key"]
    shopper = Caller(raw.http, key)
    other = raw.customer(name="Other")["id"]
    objects = [session.customer, other, raw.charge()["id"], raw.dispute()["id"], "cus_x"]
    allowed = {
        ("GET", f"/v1/customers/{session.customer}"),
        ("GET", f"/v1/customers/{session.customer}/payment_methods"),
    }
    routes = _routes(raw.http)
    assert len(routes) > 20
    tried = set()
    for method, path in [*routes, ("POST", "/v1/ephemeral_keys")]:
        for target in objects if "{" in path else [""]:
            concrete = re.sub(r"\{\w+\}", target, path)
            if (method, concrete) in allowed:
                continue
            tried.add((method, path))
            answer = shopper.call(method, concrete)
            assert answer.status_code == 403, (method, concrete, answer.text)
            if concrete.startswith("/internal/"):
                continue
            error = assert_refused(
                answer, 403, message="does not have the required permissions for this endpoint"
            )
            assert f"'ek_test_***{key[-4:]}'" in error["message"]
            assert not any(each in error["message"] for each in [*objects, "Other"])
    assert tried >= set(routes)
    assert ok(raw.get(f"/v1/customers/{session.customer}"))["name"] == "Jenny Rosen"


def test_a_key_is_a_bearer_token_and_cannot_be_made(
    raw: Caller, nobody: Caller, page: Caller, session: Session
) -> None:
    unused = _session(raw)
    key = _exchange_key(page, session.secret)["api_key"]
    path = f"/v1/customers/{session.customer}"
    basic = base64.b64encode(f"{key}:".encode()).decode()
    assert_refused(nobody.get(path, authorization=f"Basic {basic}"), 401, message=r"ek_test_\*\*\*\*")
    assert_refused(nobody.get(f"{path}?key={key}"), 401)
    assert_refused(nobody.get(f"/v1/elements/sessions?key={key}"), 401)
    digits = session.secret.removeprefix("cuss_secret_")
    unclaimed = unused.secret.removeprefix("cuss_secret_")
    made = [
        f"ek_test_{digits}",
        f"ek_test_{unclaimed}",
        f"ek_live_{key.removeprefix('ek_test_')}",
        f"ek_test_{unclaimed[:22]}{key[-48:]}",
        *(key[:at] + DIGITS[(DIGITS.index(key[at]) + 1) % 62] + key[at + 1 :] for at in (8, 30, 50, 77)),
        key[:-1],
        key + "0",
    ]
    for forged in made:
        answer = nobody.get(path, authorization=f"Bearer {forged}")
        error = assert_refused(answer, 401, message="^Invalid API Key provided: ek_")
        assert forged not in error["message"]
    foreign = f"Bearer ek_test_{'é' * 70}".encode("latin-1")
    assert_refused(raw.http.get(path, headers=[(b"authorization", foreign)]), 401, message="^Invalid API Key")
    assert ok(Caller(raw.http, key).get(path))


def test_a_live_session_gives_a_live_key(live: Caller, account: Account, registrar: Registrar) -> None:
    session = _session(live)
    page = Caller(live.http, registrar.key(account.id, "pk", livemode=True)[1])
    document = ok(_exchange(page, session.secret))
    granted = document["customer"]["customer_session"]
    assert (document["livemode"], granted["livemode"]) == (True, True)
    assert granted["api_key"].startswith("ek_live_")
    customer = ok(Caller(live.http, granted["api_key"]).get(f"/v1/customers/{session.customer}"))
    assert customer["livemode"] is True


def test_neither_secret_nor_key_is_stored_or_logged(
    raw: Caller, page: Caller, services: tuple[Service, Service], session: Session
) -> None:
    key = _exchange_key(page, session.secret)["api_key"]
    ok(Caller(raw.http, key).get(f"/v1/customers/{session.customer}"))
    Caller(raw.http, key).get("/v1/charges")
    for service in services:
        assert key not in service.log
        assert session.secret not in service.log
    with psycopg.connect(services[0].dsn) as conn:
        tables = conn.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ledger', 'projections')"
        ).fetchall()
        for schema, table in tables:
            query = psycopg.sql.SQL("SELECT t::text FROM {} t").format(psycopg.sql.Identifier(schema, table))
            text = "\n".join(row[0] for row in conn.execute(query))
            for secret in (key[-48:], session.secret[-48:]):
                assert secret not in text, (schema, table)
                assert secret.encode().hex() not in text, (schema, table)


def test_a_preflight_is_answered_without_a_key_and_every_answer_is_for_any_origin(
    nobody: Caller, raw: Caller
) -> None:
    asked = {
        "origin": "https://shop.example",
        "access-control-request-method": "GET",
        "access-control-request-headers": "authorization,stripe-version",
    }
    for path in ("/v1/elements/sessions", "/v1/customers/cus_x", "/v1/nothing"):
        answer = nobody.call("OPTIONS", path, headers=asked)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "GET" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization,stripe-version"
        assert answer.headers["request-id"].startswith("req_")
        assert "access-control-allow-credentials" not in answer.headers
    for answer in (raw.get("/v1/customers"), raw.get("/v1/customers/x"), nobody.get("/v1/customers")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "request-id" in answer.headers["access-control-expose-headers"]
    inside = nobody.call("OPTIONS", "/internal/v1/customer_sessions", headers=asked)
    assert "access-control-allow-origin" not in inside.headers
