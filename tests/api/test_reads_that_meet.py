"""Requests that read the same at the same time share one read: none gets an older answer for it, and none
that of another key, account or mode."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.api.service import Account, Caller, Registrar, ok

CALLERS = 8
ROUNDS = 12


def _repeat(work: Callable[[int], None]) -> None:
    """`work` in CALLERS threads, ROUNDS times in each."""

    def run(caller: int) -> None:
        for _ in range(ROUNDS):
            work(caller)

    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(run, range(CALLERS)))


def test_each_caller_sees_what_it_wrote_in_every_shared_answer(raw: Caller) -> None:
    def write_and_read(_: int) -> None:
        customer = raw.customer()
        listed = ok(raw.get("/v1/customers?limit=100"))["data"]
        assert customer in listed
        events = ok(raw.get("/v1/events?limit=100"))["data"]
        assert customer["id"] in [event["data"]["object"]["id"] for event in events]
        assert [event["pending_webhooks"] for event in events] == [0] * len(events)

    _repeat(write_and_read)


def test_each_update_is_in_the_shared_reads_after_it(raw: Caller) -> None:
    customer = raw.customer()["id"]

    def update_and_read(caller: int) -> None:
        key, path = f"metadata[{caller}]", f"/v1/customers/{customer}"
        response = raw.post(path, {key: str(caller)})
        if response.status_code == 429:  # lost a race
            return
        assert ok(raw.get(path))["metadata"][str(caller)] == str(caller)

    _repeat(update_and_read)


def test_no_answer_reaches_another_key(http: httpx.Client, registrar: Registrar) -> None:
    accounts = [registrar.account() for _ in range(3)]
    callers = [Caller(http, key) for account in accounts for key in (account.secret, account.live_secret)]
    owned = [caller.customer(name=str(number)) for number, caller in enumerate(callers)]

    def read(number: int) -> None:
        for caller, customer in zip(callers, owned, strict=True):
            assert ok(caller.get("/v1/customers"))["data"] == [customer], number
            (event,) = ok(caller.get("/v1/events"))["data"]
            assert event["data"]["object"] == customer

    _repeat(read)


def test_a_restricted_key_gets_no_answer_that_it_may_not_see(
    raw: Caller, http: httpx.Client, account: Account, registrar: Registrar
) -> None:
    customer = raw.customer(source="tok_visa")["id"]
    charge = ok(raw.post("/v1/charges", {"amount": 2000, "currency": "usd", "customer": customer}))["id"]
    limited = Caller(http, registrar.key(account.id, "rk", scopes=["rak_charge_read"])[1])
    path = f"/v1/charges/{charge}?expand[]=customer"

    def read(caller: int) -> None:
        statuses = {raw: 200, limited: 403}
        asker = raw if caller % 2 else limited
        assert asker.get(path).status_code == statuses[asker]

    _repeat(read)


def test_a_parameter_that_only_a_reaction_may_have_is_refused_beside_one(raw: Caller) -> None:
    def read(caller: int) -> None:
        is_reaction = caller % 2 == 1
        headers = {"Stripe-Request-Trigger": "event=evt_1"} if is_reaction else {}
        answer = raw.call("GET", "/v1/events?usage[0]=a", headers=headers)
        assert answer.status_code == (200 if is_reaction else 400)

    _repeat(read)
