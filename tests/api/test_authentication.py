"""Authentication and permissions: all kinds of keys, modes, and connected accounts (contract §1.2, §1.6)."""

from __future__ import annotations

import base64
import time

import pytest
import stripe

from tests.api.service import Account, Caller, Registrar, Service, assert_refused, create_client, ok


@pytest.mark.parametrize("authorization", ["", "Bearer", "Token abc", "Basic", "Basic !!!", "Basic Og=="])
@pytest.mark.contract("1.6 no key")
def test_a_request_without_a_key_is_refused(nobody: Caller, authorization: str) -> None:
    headers = {"authorization": authorization} if authorization else {}
    assert_refused(
        nobody.call("GET", "/v1/customers", headers=headers),
        401,
        message="^You did not provide an API key",
    )


@pytest.mark.parametrize(
    ("key", "masked"),
    [
        ("sk_test_" + "a" * 28 + "1234", "sk_test_****1234"),
        ("rk_live_" + "a" * 28 + "1234", "rk_live_****1234"),
        ("whatever-it-is-1234", "****1234"),
        ("short", "****"),
    ],
)
@pytest.mark.contract("1.6 unknown key")
def test_an_unknown_key_is_masked_in_the_error(nobody: Caller, key: str, masked: str) -> None:
    answer = Caller(nobody.http, key).get("/v1/customers")
    error = assert_refused(answer, 401)
    assert error["message"] == f"Invalid API Key provided: {masked}"


@pytest.mark.parametrize("password", [":", "", ":ignored"])
def test_the_key_may_be_the_user_of_basic_authentication(
    nobody: Caller, account: Account, password: str
) -> None:
    credentials = base64.b64encode(f"{account.secret}{password}".encode()).decode()
    for scheme in ("Basic", "basic"):
        ok(nobody.call("GET", "/v1/customers", headers={"authorization": f"{scheme} {credentials}"}))
    ok(nobody.call("GET", "/v1/customers", headers={"authorization": f"bearer  {account.secret}"}))


@pytest.mark.contract("1.6 expired or rolled key")
def test_a_revoked_key_is_refused_within_a_second(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    key_id, secret = registrar.key(account.id)
    caller = Caller(raw.http, secret)
    ok(caller.post("/v1/customers"))
    registrar.revoke(key_id)
    revoked = time.monotonic()
    while (answer := caller.get("/v1/customers")).status_code == 200:
        assert time.monotonic() - revoked < 1.5
        time.sleep(0.02)
    error = assert_refused(answer, 401, code="api_key_expired")
    assert error["message"] == f"Expired API Key provided: sk_test_****{secret[-4:]}"
    ok(raw.get("/v1/customers"))


ROUTES = [
    ("POST", "/v1/customers", "customer_write"),
    ("GET", "/v1/customers", "customer_read"),
    ("GET", "/v1/customers/x", "customer_read"),
    ("POST", "/v1/customers/x", "customer_write"),
    ("DELETE", "/v1/customers/x", "customer_write"),
    ("GET", "/v1/customers/x/payment_methods", "customer_read"),
    ("GET", "/v1/customers/x/payment_methods/y", "customer_read"),
    ("GET", "/v1/customers/x/sources", "customer_read"),
    ("GET", "/v1/customers/x/sources/y", "customer_read"),
    ("GET", "/v1/payment_methods", "payment_method_read"),
    ("GET", "/v1/payment_methods/x", "payment_method_read"),
    ("POST", "/v1/charges", "charge_write"),
    ("GET", "/v1/charges", "charge_read"),
    ("GET", "/v1/charges/x", "charge_read"),
    ("POST", "/v1/charges/x", "charge_write"),
    ("POST", "/v1/charges/x/capture", "charge_write"),
    ("POST", "/v1/customer_sessions", "customer_session_write"),
    ("GET", "/v1/disputes", "dispute_read"),
    ("GET", "/v1/disputes/x", "dispute_read"),
    ("POST", "/v1/disputes/x", "dispute_write"),
    ("POST", "/v1/disputes/x/close", "dispute_write"),
    ("GET", "/v1/balance_transactions", "balance_transaction_read"),
    ("GET", "/v1/balance_transactions/x", "balance_transaction_read"),
    ("GET", "/v1/events", "event_read"),
    ("GET", "/v1/events/x", "event_read"),
]


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
@pytest.mark.contract("1.6 restricted key lacks permission")
def test_a_restricted_key_needs_the_permission_of_each_route(
    raw: Caller, account: Account, registrar: Registrar, method: str, path: str, permission: str
) -> None:
    scope = f"rak_{permission}"
    others = [
        f"rak_{each}"
        for _, _, each in ROUTES
        if each not in (permission, permission.replace("read", "write"))
    ]
    _, lacking = registrar.key(account.id, "rk", scopes=others)
    error = assert_refused(
        Caller(raw.http, lacking).call(method, path), 403, code="more_permissions_required"
    )
    assert error["message"] == (
        f"The provided key 'rk_test_***{lacking[-4:]}' does not have the required permissions for this "
        f"endpoint on account '{account.id}'. Having the '{scope}' permission would allow this request to "
        "continue."
    )
    _, enough = registrar.key(account.id, "rk", scopes=[scope])
    assert Caller(raw.http, enough).call(method, path).status_code in (200, 400, 404)


def test_write_includes_read_and_not_the_reverse(raw: Caller, account: Account, registrar: Registrar) -> None:
    writer = Caller(raw.http, registrar.key(account.id, "rk", scopes=["rak_dispute_write"])[1])
    reader = Caller(raw.http, registrar.key(account.id, "rk", scopes=["rak_dispute_read"])[1])
    dispute = raw.dispute()["id"]
    for caller in (writer, reader):
        assert ok(caller.get(f"/v1/disputes/{dispute}"))["id"] == dispute
    assert_refused(reader.post(f"/v1/disputes/{dispute}/close"), 403, code="more_permissions_required")
    ok(writer.post(f"/v1/disputes/{dispute}/close"))


def test_a_restricted_key_is_a_permission_error_in_the_client(
    service: Service, account: Account, registrar: Registrar
) -> None:
    _, key = registrar.key(account.id, "rk", scopes=["rak_customer_read"])
    client = create_client(service, key)
    assert client.v1.customers.list().data == []
    with pytest.raises(stripe.PermissionError) as refusal:
        client.v1.customers.create()
    assert refusal.value.http_status == 403
    assert "rak_customer_write" in str(refusal.value)


@pytest.mark.parametrize(("method", "path", "permission"), ROUTES)
@pytest.mark.contract("1.6 publishable key elsewhere")
def test_a_publishable_key_is_refused_on_every_route_of_a_secret_key(
    raw: Caller, account: Account, method: str, path: str, permission: str
) -> None:
    assert_refused(
        Caller(raw.http, account.publishable).call(method, path),
        403,
        code="secret_key_required",
        message=r"^This API call cannot be made with a publishable API key\.",
    )


def test_modes_are_isolated(raw: Caller, live: Caller) -> None:
    test_customer, live_customer = raw.customer(name="t"), live.customer(name="l")
    assert (test_customer["livemode"], live_customer["livemode"]) == (False, True)
    for caller, mode, own in ((raw, False, test_customer), (live, True, live_customer)):
        assert [each["id"] for each in ok(caller.get("/v1/customers"))["data"]] == [own["id"]]
        (event,) = caller.events()
        assert event["livemode"] is mode
        assert event["data"]["object"] == own
    assert_refused(
        raw.get(f"/v1/customers?starting_after={live_customer['id']}"),
        code="resource_missing",
        param="starting_after",
    )


def test_a_platform_acts_on_its_connected_account(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    answer = raw.post("/v1/customers", "name=theirs", stripe_account=connected.id)
    made = ok(answer)
    assert answer.headers["stripe-account"] == connected.id
    assert ok(raw.get("/v1/customers"))["data"] == []
    assert_refused(raw.get(f"/v1/customers/{made['id']}"), 404, code="resource_missing", param="id")
    theirs = Caller(raw.http, connected.secret)
    assert ok(theirs.get(f"/v1/customers/{made['id']}")) == made
    (event,) = ok(raw.get("/v1/events", stripe_account=connected.id))["data"]
    assert event["data"]["object"] == made
    assert "account" not in theirs.events()[0]
    own = raw.get("/v1/customers", stripe_account=account.id)
    assert (own.status_code, own.headers["stripe-account"]) == (200, account.id)
    context = raw.get("/v1/customers", stripe_context=connected.id)
    assert ok(context)["data"][0]["id"] == made["id"]


@pytest.mark.contract("4.1 account")
def test_events_read_as_a_platform_name_the_account(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    raw.post("/v1/customers", stripe_account=connected.id)
    (listed,) = ok(raw.get("/v1/events", stripe_account=connected.id))["data"]
    assert listed["account"] == connected.id
    one = ok(raw.get(f"/v1/events/{listed['id']}", stripe_account=connected.id))
    assert one["account"] == connected.id
    raw.customer()
    assert "account" not in raw.events()[0]


@pytest.mark.contract("1.6 Stripe-Account not reachable")
def test_an_account_that_is_not_connected_is_refused(
    raw: Caller, account: Account, registrar: Registrar
) -> None:
    stranger = registrar.account()
    connected = registrar.account(platform=account.id)
    down_only = Caller(raw.http, connected.secret)
    for caller, target in ((raw, stranger.id), (raw, "acct_nothing"), (raw, ""), (down_only, account.id)):
        error = assert_refused(
            caller.get("/v1/customers", stripe_account=target), 403, code="account_invalid"
        )
        assert (
            f"does not have access to account '{target}' (or that account does not exist)" in error["message"]
        )
        assert caller.key is not None
        assert caller.key not in error["message"]


def test_both_account_headers_at_once_are_refused(raw: Caller, account: Account) -> None:
    assert_refused(
        raw.get("/v1/customers", stripe_account=account.id, stripe_context=account.id), message="not both"
    )


def test_the_client_reads_a_connected_account(
    client: stripe.StripeClient, account: Account, registrar: Registrar
) -> None:
    connected = registrar.account(platform=account.id)
    made = client.v1.customers.create({"name": "theirs"}, {"stripe_account": connected.id})
    assert client.v1.customers.list().data == []
    listed = client.v1.customers.list(options={"stripe_account": connected.id})
    assert [each.id for each in listed] == [made.id]
    with pytest.raises(stripe.PermissionError):
        client.v1.customers.list(options={"stripe_account": "acct_nothing"})
