"""Rate limits of a key and of an account: off by default; when set, refusals are the contract's 429."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ledger.accounts import INTERNAL_SCOPES
from ledger.api.rate_limits import BUCKETS_MAX, BURST_SECONDS, TokenBuckets
from tests.api.service import Caller, Registrar, Service, assert_refused, ok
from tests.conftest import Cluster
from tests.internal.conftest import InternalClient

KEY_RATE, ACCOUNT_RATE = 5, 8


@pytest.fixture(scope="module")
def limited(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place: Path = tmp_path_factory.mktemp("limits")
    rates = {
        "LEDGER_KEY_REQUESTS_PER_SECOND": str(KEY_RATE),
        "LEDGER_ACCOUNT_REQUESTS_PER_SECOND": str(ACCOUNT_RATE),
    }
    with cluster.create_database() as dsn:
        service = Service(dsn, place, **rates)
        yield service
        service.stop()


def call_until_refused(caller: Caller) -> httpx.Response:
    for _ in range(1000):
        answer = caller.get("/v1/customers/cus_none")
        if answer.status_code == 429:
            return answer
    raise AssertionError("never refused")


def test_a_key_above_its_rate_is_refused_and_other_keys_are_not(limited: Service) -> None:
    registrar = Registrar(limited.dsn)
    first, second = registrar.account(), registrar.account()
    with httpx.Client(base_url=limited.url, verify=False, timeout=30) as http:
        answer = call_until_refused(Caller(http, first.secret))
        assert_refused(answer, 429, code="rate_limit", message="Request rate limit exceeded")
        assert "stripe-should-retry" not in answer.headers
        ok(Caller(http, second.secret).get("/v1/customers"))
        operator = registrar.key(second.id, "rk", scopes=INTERNAL_SCOPES)[1]
        answers = [InternalClient(http, operator).get("/keys") for _ in range(KEY_RATE * BURST_SECONDS + 10)]
        assert {answer.status_code for answer in answers} == {200, 429}
        body, page = {"key": registrar.account().secret}, {"ledger-console": "1"}
        answers = [http.post("/console/session", json=body, headers=page) for _ in answers]
        assert {answer.status_code for answer in answers} == {200, 429}
    registrar.close()


def test_refused_requests_do_not_count_against_an_account_they_may_not_act_on(limited: Service) -> None:
    registrar = Registrar(limited.dsn)
    victim = registrar.account()
    with httpx.Client(base_url=limited.url, verify=False, timeout=30) as http:
        # A key that may not act on the account, and one that lacks the scope besides.
        for scopes in (INTERNAL_SCOPES, ["audit"]):
            for header in ("stripe-account", "stripe-context"):
                operator = InternalClient(http, registrar.key(registrar.account().id, "rk", scopes=scopes)[1])
                statuses = {
                    operator.call("GET", "/keys", headers={header: victim.id}).status_code
                    for _ in range(ACCOUNT_RATE * BURST_SECONDS + 10)
                }
                assert statuses == {403, 429}
        ok(Caller(http, victim.secret).get("/v1/customers"))
    registrar.close()


def test_buckets_refill_with_time_up_to_their_capacity() -> None:
    now = [0.0]
    buckets = TokenBuckets(10, clock=lambda: now[0])
    full = 10 * BURST_SECONDS
    assert [buckets.take("a") for _ in range(full + 2)] == [True] * full + [False] * 2
    now[0] += 0.35
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    now[0] += 1000
    assert [buckets.take("a") for _ in range(full + 1)] == [True] * full + [False]
    assert buckets.take("b")


def test_a_rate_of_0_means_no_limit() -> None:
    assert all(TokenBuckets(0).take("a") for _ in range(10_000))


def test_buckets_are_bounded_however_many_names_there_are() -> None:
    now = [0.0]
    buckets = TokenBuckets(10, clock=lambda: now[0])
    for number in range(3 * BUCKETS_MAX):
        now[0] += 0.001
        assert buckets.take(f"key_{number}")
    assert len(buckets._buckets) <= BUCKETS_MAX
