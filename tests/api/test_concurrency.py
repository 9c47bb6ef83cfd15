"""Many concurrent requests on one object: each takes effect completely or is refused as the contract says,
and no update is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from tests.api.service import Caller, Service, assert_refused, ok


def _versions(service: Service, stream: str) -> list[int]:
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute(
            "SELECT originator_version FROM ledger.events WHERE originator_id = %s ORDER BY notification_id",
            (stream,),
        )
        return [row[0] for row in rows]


def _at_once(raw: Caller, path: str, forms: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(forms)) as pool:
        return list(pool.map(lambda form: raw.post(path, form), forms))


def test_40_updates_of_one_dispute(raw: Caller, service: Service) -> None:
    dispute = raw.dispute()["id"]
    forms = [{"submit": "false", f"metadata[key{number}]": str(number)} for number in range(40)]
    forms = [form | {"evidence[customer_name]": f"name {number}"} for number, form in enumerate(forms)]
    answers = _at_once(raw, f"/v1/disputes/{dispute}", forms)
    succeeded = [answer.json() for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer.status_code != 200:
            assert_refused(answer, 429, code="lock_timeout")
            assert answer.headers["stripe-should-retry"] == "true"
    after = ok(raw.get(f"/v1/disputes/{dispute}"))
    assert len(after["metadata"]) == len(succeeded) >= 30
    assert _versions(service, dispute) == list(range(1, len(succeeded) + 2))
    # Each update saw all earlier ones: for every number of keys there is one response with so many.
    assert sorted(len(each["metadata"]) for each in succeeded) == list(range(1, len(succeeded) + 1))
    assert after in succeeded
    updates = raw.events("type=charge.dispute.updated")
    assert [len(event["data"]["object"]["metadata"]) for event in updates] == list(
        range(1, len(succeeded) + 1)
    )


def test_20_submissions_of_one_dispute_submit_once(raw: Caller, service: Service) -> None:
    dispute = raw.dispute()["id"]
    forms = [{"evidence[uncategorized_text]": "winning_evidence"}] * 20
    answers = _at_once(raw, f"/v1/disputes/{dispute}", forms)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    after = ok(raw.get(f"/v1/disputes/{dispute}"))
    assert (after["status"], after["evidence_details"]["submission_count"]) == ("won", 1)
    assert [each["amount"] for each in after["balance_transactions"]] == [-2000, 2000]
    assert _versions(service, dispute) == [1, 2, 3]


def test_20_closes_close_once(raw: Caller) -> None:
    dispute = raw.dispute()["id"]
    answers = _at_once(raw, f"/v1/disputes/{dispute}/close", [""] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    assert len(raw.events("type=charge.dispute.closed")) == 1


def test_20_captures_capture_once(raw: Caller) -> None:
    charge = raw.charge(capture="false")["id"]
    answers = _at_once(raw, f"/v1/charges/{charge}/capture", [""] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    assert len(raw.events("type=charge.captured")) == 1


def test_no_session_is_created_for_a_customer_deleted_before(raw: Caller, service: Service) -> None:
    customers = [raw.customer(source="tok_visa")["id"] for _ in range(6)]

    def race(customer: str) -> None:
        session = {"customer": customer, "components[buy_button][enabled]": "true"}
        charge = {"customer": customer, "amount": 100, "currency": "usd"}
        with ThreadPoolExecutor(13) as pool:
            made = [pool.submit(raw.post, "/v1/customer_sessions", session) for _ in range(6)]
            gone = pool.submit(raw.delete, f"/v1/customers/{customer}")
            made += [pool.submit(raw.post, "/v1/charges", charge) for _ in range(6)]
        ok(gone.result())
        for each in made:
            if each.result().status_code != 200:
                assert_refused(each.result(), code="resource_missing", param="customer")
        assert_refused(raw.post("/v1/customer_sessions", session), code="resource_missing", param="customer")

    for customer in customers:
        race(customer)
    with psycopg.connect(service.dsn) as conn:
        for customer in customers:
            rows = conn.execute(
                "SELECT topic FROM ledger.events WHERE customer = %(id)s OR originator_id = %(id)s "
                "ORDER BY notification_id",
                {"id": customer},
            )
            assert [row[0] for row in rows][-1] == "customer.deleted"


def test_100_concurrent_creations_are_all_listed_in_one_order(raw: Caller) -> None:
    answers = _at_once(raw, "/v1/customers", [{"name": str(number)} for number in range(100)])
    made = {ok(answer)["id"] for answer in answers}
    listed = [each["id"] for each in ok(raw.get("/v1/customers?limit=100"))["data"]]
    assert set(listed) == made
    assert len(listed) == 100
    assert len(raw.events()) == 100
