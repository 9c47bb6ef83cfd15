"""Accounts and keys over HTTP: made, listed, replaced with an overlap, ended; never shown again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from ledger import accounts
from ledger.api import key_cache
from ledger.api.app import create_app
from ledger.config import load_settings
from ledger.postgres.connections import connect
from tests.api.service import (
    SERVICE_KEY,
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    ok,
    read_stored_replies,
)
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient


def is_accepted(http: httpx.Client, key: str) -> bool:
    return Caller(http, key).get("/v1/customers").status_code == 200


def wait_until_refused(http: httpx.Client, key: str) -> httpx.Response:
    """The first answer that refuses the key: processes remember one for a second."""
    deadline = time.monotonic() + 60
    while (answer := Caller(http, key).get("/v1/customers")).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def create_key(operator: InternalClient, **given: Any) -> Any:
    return ok(operator.post("/keys", given))


def test_a_key_made_over_http_works_in_the_mode_of_its_maker(
    operator: InternalClient, http: httpx.Client
) -> None:
    key = create_key(operator, kind="rk", name="reader", scopes=["rak_customer_read"])
    assert key["key"].startswith("rk_test_")
    assert is_accepted(http, key["key"])
    (listed,) = [each for each in ok(operator.get("/keys?limit=100"))["data"] if each["id"] == key["id"]]
    assert "key" not in listed
    assert (listed["name"], listed["scopes"], listed["state"]) == ("reader", ["rak_customer_read"], "active")


@pytest.fixture
def live_operator(http: httpx.Client, account: Account, registrar: Registrar) -> InternalClient:
    """A restricted live-mode key of the account, with the scope `keys`."""
    return InternalClient(http, registrar.key(account.id, "rk", livemode=True, scopes=["keys"])[1])


def test_a_live_mode_key_creates_lists_and_ends_keys_of_both_modes(
    live_operator: InternalClient, http: httpx.Client
) -> None:
    test, live, default = (
        create_key(live_operator, **body) for body in ({"mode": "test"}, {"mode": "live"}, {})
    )
    for key, mode in ((test, "test"), (live, "live"), (default, "live")):
        assert key["key"].startswith(f"sk_{mode}_")
        assert (key["mode"], key["livemode"]) == (mode, mode == "live")
        assert is_accepted(http, key["key"])

    def listed_ids(query: str) -> set[str]:
        page = ok(live_operator.get(f"/keys?limit=100{query}"))["data"]
        return {key["id"] for key in page} & {test["id"], live["id"], default["id"]}

    assert listed_ids("") == {test["id"], live["id"], default["id"]}
    assert listed_ids("&mode=test") == {test["id"]}
    assert listed_ids("&mode=live") == {live["id"], default["id"]}
    rolled = ok(live_operator.post(f"/keys/{test['id']}/roll", {}))
    assert rolled["mode"] == "test"
    assert ok(live_operator.post(f"/keys/{rolled['id']}/revoke"))["state"] == "expired"


def test_a_test_mode_key_does_not_reach_live_mode_keys(
    operator: InternalClient, live_operator: InternalClient
) -> None:
    """Otherwise it could give itself all rights in live mode."""
    live = create_key(live_operator)
    for answer in (
        operator.post("/keys", {"mode": "live"}),
        operator.post("/keys", {"mode": "live"}, idempotency_key="live"),
        operator.get("/keys?mode=live"),
    ):
        assert_refused(answer, 403, code="livemode_mismatch", message="`ledger keys create --live`")
    for action in ("roll", "revoke"):
        body: Any = {} if action == "roll" else None
        answer = operator.post(f"/keys/{live['id']}/{action}", body)
        assert_refused(answer, 404, code="resource_missing", param="id")
    assert {key["mode"] for key in ok(operator.get("/keys?limit=100"))["data"]} == {"test"}
    assert create_key(operator, mode="test")["mode"] == create_key(operator)["mode"] == "test"
    assert_refused(operator.get("/keys?mode=both"), param="mode")


def test_a_key_ends_at_its_expiry_time(operator: InternalClient, http: httpx.Client) -> None:
    key = create_key(operator, expires_at=int(time.time()) + 2)["key"]
    assert is_accepted(http, key)
    assert_refused(wait_until_refused(http, key), 401, code="api_key_expired")


@pytest.fixture(scope="module")
def movable(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of its own, whose clock a test may move."""
    with cluster.create_database() as dsn:
        service = Service(dsn, tmp_path_factory.mktemp("movable"))
        yield service
        service.stop()


def test_keys_end_by_the_one_clock(movable: Service) -> None:
    """At their expiry, after the overlap of a roll and when revoked, wherever the clock has been moved."""
    registrar = Registrar(movable.dsn)
    operator_key = registrar.key(registrar.account().id, "rk", scopes=accounts.INTERNAL_SCOPES)[1]
    registrar.close()
    with httpx.Client(base_url=movable.url, verify=False, timeout=30) as http:
        operator = InternalClient(http, operator_key)

        def works_after(seconds: float, key: dict[str, Any]) -> bool:
            ok(operator.post("/clock", {"advance_seconds": seconds}))
            answer = Caller(http, key["key"]).get("/v1/customers")
            if answer.status_code != 200:
                assert_refused(answer, 401, code="api_key_expired")
            return answer.status_code == 200

        now = ok(operator.post("/clock", {"advance_seconds": 10 * 86_400}))["now"]
        late = {"expires_at": int(now) - 86_400}  # by real time it is yet to come
        assert_refused(operator.post("/keys", late), param="expires_at")
        key = create_key(operator, expires_at=int(now) + 1000)
        assert works_after(900, key)
        assert not works_after(200, key)
        listed = {each["id"]: each["state"] for each in ok(operator.get("/keys?limit=100"))["data"]}
        assert listed[key["id"]] == "expired"
        old = create_key(operator)
        new = ok(operator.post(f"/keys/{old['id']}/roll", {"overlap_seconds": 3600}))
        assert works_after(3500, old)
        assert not works_after(200, old)
        assert works_after(1, new)
        assert ok(operator.post(f"/keys/{new['id']}/revoke"))["expires_at"] >= now


@pytest.mark.contract("1.6 expired or rolled key")
def test_rolled_keys_overlap_and_then_only_the_new_one_is_good(
    operator: InternalClient, http: httpx.Client
) -> None:
    old = create_key(operator, kind="rk", name="reader", scopes=["rak_customer_read"])
    new = ok(operator.post(f"/keys/{old['id']}/roll", {"overlap_seconds": 2}))
    assert (new["scopes"], new["name"], new["kind"]) == (old["scopes"], old["name"], "rk")
    assert is_accepted(http, old["key"])
    assert is_accepted(http, new["key"])
    assert_refused(wait_until_refused(http, old["key"]), 401, code="api_key_expired")
    assert is_accepted(http, new["key"])
    assert_refused(operator.post(f"/keys/{old['id']}/roll", {}), param="id", message="expired")


def test_a_roll_never_makes_the_old_key_live_longer(operator: InternalClient) -> None:
    soon = int(time.time()) + 60
    old = create_key(operator, expires_at=soon)
    new = ok(operator.post(f"/keys/{old['id']}/roll", {"overlap_seconds": 3600}))
    listed = {each["id"]: each for each in ok(operator.get("/keys?limit=100"))["data"]}
    assert listed[old["id"]]["expires_at"] == listed[new["id"]]["expires_at"] == soon


def test_a_revoked_key_is_refused_within_a_second(operator: InternalClient, http: httpx.Client) -> None:
    key = create_key(operator)
    assert is_accepted(http, key["key"])
    assert ok(operator.post(f"/keys/{key['id']}/revoke"))["state"] == "expired"
    assert_refused(wait_until_refused(http, key["key"]), 401, code="api_key_expired")


def test_last_use_is_recorded_without_delaying_requests(
    operator: InternalClient, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create_key(operator)
    assert key["last_used_at"] is None
    before = time.time()
    assert is_accepted(http, key["key"])
    deadline = time.monotonic() + key_cache.LAST_USED_INTERVAL_SECONDS + 5
    used = None
    while used is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        listed = {each["id"]: each for each in ok(operator.get("/keys?limit=100"))["data"]}
        used = listed[key["id"]]["last_used_at"]
    assert before - 0.001 <= used <= time.time()


def test_only_own_and_connected_accounts_are_reached(
    operator: InternalClient, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    branch = ok(operator.post("/accounts", {"name": "Branch"}))
    stranger = registrar.account()
    listed = ok(operator.get("/accounts"))["data"]
    assert [each["id"] for each in listed] == [account.id, branch["id"]]
    assert abs(listed[-1]["created_at"] - time.time()) < 60
    key = create_key(operator, account=branch["id"])
    customer = Caller(http, key["key"]).customer(name="Ada")
    assert ok(
        Caller(http, account.secret).get(f"/v1/customers/{customer['id']}", stripe_account=branch["id"])
    )
    assert_refused(operator.post("/keys", {"account": stranger.id}), 403, code="account_invalid")
    assert_refused(operator.get(f"/keys?account={stranger.id}"), 403, code="account_invalid")
    foreign, _ = registrar.key(stranger.id)
    for action in ("roll", "revoke"):
        body: Any = {} if action == "roll" else None
        assert_refused(
            operator.post(f"/keys/{foreign}/{action}", body), 404, code="resource_missing", param="id"
        )
    live, _ = registrar.key(account.id, livemode=True)
    assert_refused(operator.post(f"/keys/{live}/revoke"), 404, code="resource_missing", param="id")


def test_lists_continue_after_the_last_item_shown(operator: InternalClient) -> None:
    for _ in range(3):
        create_key(operator)
    every = [each["id"] for each in ok(operator.get("/keys?limit=100"))["data"]]
    first = ok(operator.get("/keys?limit=2"))
    rest = ok(operator.get(f"/keys?limit=100&starting_after={first['data'][-1]['id']}"))
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert [each["id"] for each in [*first["data"], *rest["data"]]] == every
    assert_refused(
        operator.get("/keys?starting_after=key_none"), code="resource_missing", param="starting_after"
    )


def list_key_ids(operator: InternalClient) -> list[str]:
    return [each["id"] for each in ok(operator.get("/keys?limit=100"))["data"]]


def test_an_idempotency_key_makes_one_key_which_is_shown_once(
    operator: InternalClient, http: httpx.Client, service: Service, account: Account
) -> None:
    body = {"kind": "rk", "name": "importer", "scopes": ["rak_customer_read"]}
    answer = operator.post("/keys", body, idempotency_key="one")
    key = ok(answer)
    assert is_accepted(http, key["key"])
    before = list_key_ids(operator)
    for _ in range(2):
        again = operator.post("/keys", body, idempotency_key="one")
        told = assert_refused(
            again, 409, code="secret_shown_once", kind="idempotency_error", message=key["id"]
        )
        assert key["key"] not in told["message"]
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["original-request"] == answer.headers["request-id"]
        assert again.headers["idempotency-key"] == "one"
    other = operator.post("/keys", body | {"name": "exporter"}, idempotency_key="one")
    assert_refused(other, kind="idempotency_error", message="Try using a key other than 'one'")
    assert_refused(
        operator.post("/customers", {"name": "A"}, idempotency_key="one"), kind="idempotency_error"
    )
    assert list_key_ids(operator) == before
    stored = read_stored_replies(service, account.id)
    assert key["id"] in stored["one"]
    assert not any(key["key"] in body for body in stored.values())
    rolled = ok(operator.post(f"/keys/{key['id']}/roll", {}, idempotency_key="two"))
    assert_refused(
        operator.post(f"/keys/{key['id']}/roll", {}, idempotency_key="two"),
        409,
        code="secret_shown_once",
        kind="idempotency_error",
        message=rolled["id"],
    )
    assert is_accepted(http, rolled["key"])


def test_a_refused_request_may_be_repeated_under_its_idempotency_key(operator: InternalClient) -> None:
    body = {"kind": "sk", "scopes": ["catalog"]}
    assert_refused(operator.post("/keys", body, idempotency_key="again"), param="scopes")
    assert ok(operator.post("/keys", {"kind": "sk"}, idempotency_key="again"))["kind"] == "sk"
    too_long = operator.post("/accounts", {"name": "B"}, idempotency_key="k" * 256)
    assert_refused(too_long, message="at most 255 characters")


def test_an_account_is_created_once_and_its_reply_is_replayed(operator: InternalClient) -> None:
    first = operator.post("/accounts", {"name": "Branch"}, idempotency_key="branch")
    again = operator.post("/accounts", {"name": "Branch"}, idempotency_key="branch")
    assert ok(first) == ok(again)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert_refused(
        operator.post("/accounts", {"name": "B"}, idempotency_key="branch"), kind="idempotency_error"
    )
    assert len(ok(operator.get("/accounts"))["data"]) == 2


def test_of_many_concurrent_requests_one_creates_a_key_and_no_other_command_fails(
    operator: InternalClient,
) -> None:
    """Customers are appended meanwhile, some under the same idempotency keys."""
    before = list_key_ids(operator)

    def ask(number: int) -> httpx.Response:
        key = f"at-once-{number % 3}"
        if number % 4 == 0:
            return operator.post("/customers", {"name": "Ada"}, idempotency_key=key)
        if number % 4 == 1:
            return operator.post("/customers", {"name": "Grace"})
        return operator.post("/keys", {"name": "n"}, idempotency_key=key)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 400, 409}
    assert statuses[1::4] == [200] * 12
    keys = {each.json()["id"] for each in answers if each.status_code == 200 and "key" in each.json()}
    assert set(list_key_ids(operator)) == {*before, *keys}
    assert len(keys) <= 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"kind": "sk", "scopes": ["catalog"]}, "scopes"),
        ({"kind": "rk", "scopes": ["catalog", "everything"]}, "scopes[1]"),
        ({"kind": "ek"}, "kind"),
        ({"mode": "both"}, "mode"),
        ({"expires_at": 1}, "expires_at"),
    ],
)
def test_a_contradictory_key_is_refused(operator: InternalClient, body: Any, param: str) -> None:
    assert_refused(operator.post("/keys", body), param=param)


def test_a_mistyped_scope_is_answered_with_the_nearest_ones(operator: InternalClient) -> None:
    answer = operator.post("/keys", {"kind": "rk", "scopes": ["adit"]})
    message = answer.json()["error"]["message"]
    assert message.startswith("Invalid scope: must be one of audit, ")
    assert message.endswith("more (see docs/operations.md, Accounts and keys)")
    assert len(message) < 300


def test_an_account_needs_a_name(operator: InternalClient) -> None:
    for name in ("", " "):
        assert_refused(operator.post("/accounts", {"name": name}), param="name", message="must not be empty")


def test_keys_need_their_scope(http: httpx.Client, account: Account, registrar: Registrar) -> None:
    others = [scope for scope in accounts.INTERNAL_SCOPES if scope != "keys"]
    other = InternalClient(http, registrar.key(account.id, "rk", scopes=others)[1])
    for answer in (other.get("/keys"), other.post("/keys", {}), other.get("/accounts")):
        assert_refused(answer, 403, code="more_permissions_required", message="'keys'")


async def count_key_queries(
    dsn: str, connected_accounts: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    """How many queries each operation on a key makes, when so many accounts with a key are connected."""
    async with await connect(dsn, "ledger_api", name="test") as conn:
        platform = await accounts.create_account(conn, "Platform")
        _, secret = await accounts.create_key(
            conn, platform, "rk", livemode=False, name="operator", scopes=["keys"]
        )
        for _ in range(connected_accounts):
            account = await accounts.create_account(conn, "Branch", platform=platform)
            key_id, _ = await accounts.create_key(conn, account, "sk", livemode=False, name="of branch")
    queries: list[str] = []
    execute = psycopg.AsyncConnection.execute

    async def counting(conn: Any, query: Any, *args: Any, **options: Any) -> Any:
        if conn.info.parameter_status("application_name") == "ledger reads":
            queries.append(query if isinstance(query, str) else query.decode())
        return await execute(conn, query, *args, **options)

    counts = {}
    app = create_app(load_settings(), dsn, SERVICE_KEY.encode())
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger") as client,
    ):
        monkeypatch.setattr(psycopg.AsyncConnection, "execute", counting)
        for operation, body in (("roll", {"overlap_seconds": 60}), ("revoke", None)):
            queries.clear()
            response = await client.post(
                f"/internal/v1/keys/{key_id}/{operation}",
                json=body,
                headers={"authorization": f"Bearer {secret}"},
            )
            assert response.status_code == 200, response.text
            counts[operation] = sum("ledger.a" in query for query in queries)
        monkeypatch.undo()
    return counts


def test_a_key_is_found_by_one_query_however_many_accounts_are_connected(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (asyncio.run(count_key_queries(dsn, count, monkeypatch)) for count in (1, 12))
    assert many == few
    # Found before and after; between them: locked, inserted and expired, or expired.
    assert few == {"roll": 5, "revoke": 3}
