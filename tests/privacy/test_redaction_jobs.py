"""Redaction jobs through the API (contract §2.15)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ledger.queries.redaction_scope import CANCELABLE_MAX
from tests.api.service import Account, Caller, Registrar, assert_refused, ok
from tests.internal.conftest import InternalClient
from tests.privacy.conftest import JOBS, PreviewCaller

MANUAL = {
    "amount": 2000, "currency": "usd", "payment_method": "pm_card_visa", "capture_method": "manual",
}  # fmt: skip


def list_errors(preview: PreviewCaller, job: Any) -> list[tuple[str, str | None]]:
    """Code and object of each validation error of a job that failed."""
    assert job["status"] == "failed", job
    errors = ok(preview.get(f"{JOBS}/{job['id']}/validation_errors?limit=100"))["data"]
    return [(error["code"], (error["erroring_object"] or {}).get("id")) for error in errors]


@pytest.mark.contract(
    "2.15 POST /v1/privacy/redaction_jobs", "2.15 GET /v1/privacy/redaction_jobs/{id}", "2.15 object"
)
def test_a_job_starts_to_validate_and_becomes_ready(preview: PreviewCaller) -> None:
    customer = preview.customer(email="ada@example.com")["id"]
    created = preview.job(customer)
    assert created["status"] == "validating"
    job = preview.await_job(created["id"], "ready")
    assert job == created | {"status": "ready"}
    assert job["id"].startswith("prj_")
    assert {name: job[name] for name in ("object", "livemode", "validation_behavior")} == {
        "object": "privacy.redaction_job", "livemode": False, "validation_behavior": "error",
    }  # fmt: skip
    assert job["validation_errors"] == {
        "object": "list", "data": [], "has_more": False, "url": f"{JOBS}/{job['id']}/validation_errors",
    }  # fmt: skip
    shown = ok(preview.get(f"{JOBS}/{job['id']}?expand[]=objects"))["objects"]
    assert len(shown) == 10
    assert {name: ids for name, ids in shown.items() if ids} == {"customers": [customer]}


@pytest.mark.contract("2.15 events", "4.2 redaction job")
def test_each_status_that_has_a_type_makes_an_event(preview: PreviewCaller) -> None:
    customer = preview.customer()["id"]
    job = preview.validated_job(customer)
    ok(preview.post(f"{JOBS}/{job['id']}/cancel"))
    disputed = preview.charge("tok_createDispute")["id"]
    failed = ok(preview.post(JOBS, {"objects[charges][0]": disputed}))
    preview.await_job(failed["id"], "failed")
    events = preview.events()
    of_job = [event for event in events if event["data"]["object"]["id"] == job["id"]]
    assert [event["type"].rpartition(".")[2] for event in of_job] == ["created", "ready", "canceled"]
    assert [event["data"]["object"]["status"] for event in of_job] == ["created", "ready", "canceled"]
    assert [event["request"]["id"] is None for event in of_job] == [False, True, False]
    of_failed = [event["type"] for event in events if event["data"]["object"]["id"] == failed["id"]]
    assert of_failed == ["privacy.redaction_job.created", "privacy.redaction_job.validation_error"]


@pytest.mark.parametrize(
    ("form", "param", "message"),
    [
        ({}, "objects", "Missing required param"),
        ({"objects": ""}, "objects", ""),
        ({"objects[customers]": "cus_1"}, "objects[customers]", "Invalid array"),
        ({"objects[customers][0]": ""}, "objects[customers][0]", ""),
        ({"objects[dogs][0]": "dog_1"}, "objects[dogs]", "unknown parameter"),
        (
            {"objects[customers][0]": "cus_1", "validation_behavior": "mend"},
            "validation_behavior",
            "error or fix",
        ),
        ({"objects[customers][0]": "x" * 256}, "objects[customers][0]", "255"),
        (
            {f"objects[customers][{index}]": f"cus_{index}" for index in range(11)},
            "objects[customers]",
            "at most 10",
        ),
        (
            {f"objects[customers][{index}]": f"cus_{index}" for index in range(10)}
            | {"objects[charges][0]": "ch_1"},
            "objects",
            "at most 10 objects",
        ),
        (
            {"objects[customers][0]": "cus_1", "objects[charges][0]": "cus_1"},
            "objects[charges][0]",
            "more than once",
        ),
        ({"objects[customers][0]": "cus_1", "reason": "x"}, "reason", "unknown parameter"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(
    preview: PreviewCaller, form: dict[str, Any], param: str, message: str
) -> None:
    error = preview.post(JOBS, form).json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert message in error["message"]
    assert ok(preview.get(JOBS))["data"] == []


@pytest.mark.contract("2.15 POST /v1/privacy/redaction_jobs")
def test_ids_that_name_nothing_of_their_type_are_refused(
    preview: PreviewCaller, live_preview: PreviewCaller
) -> None:
    customer, charge = preview.customer()["id"], preview.charge()["id"]
    live = live_preview.customer()["id"]
    for name, ids in {
        "customers": [customer, "cus_nobody"],
        "charges": [customer],
        "payment_intents": [charge],
        "invoices": ["in_1"],
    }.items():
        form = {f"objects[{name}][{index}]": each for index, each in enumerate(ids)}
        param = f"objects[{name}][{len(ids) - 1}]"
        assert_refused(preview.post(JOBS, form), code="resource_missing", param=param, message="No such")
    assert_refused(
        preview.post(JOBS, {"objects[customers][0]": live}),
        code="resource_missing", param="objects[customers][0]", message="live mode",
    )  # fmt: skip


@pytest.mark.contract("2.15 preview only")
def test_other_versions_do_not_have_the_routes(raw: Caller, preview: PreviewCaller) -> None:
    job = preview.job(preview.customer()["id"])["id"]
    for method, path in [
        ("POST", JOBS),
        ("GET", JOBS),
        ("GET", f"{JOBS}/{job}"),
        ("POST", f"{JOBS}/{job}/run"),
    ]:
        assert_refused(raw.call(method, path), 404, message="in preview.*Stripe-Version")
    assert ok(preview.get(f"{JOBS}/{job}"))["id"] == job


@pytest.mark.contract("2.15 GET /v1/privacy/redaction_jobs")
def test_jobs_are_listed_newest_first_and_by_status(preview: PreviewCaller) -> None:
    jobs = [preview.validated_job(preview.customer()["id"])["id"] for _ in range(3)]
    ok(preview.post(f"{JOBS}/{jobs[1]}/cancel"))
    page = ok(preview.get(f"{JOBS}?limit=2&expand[]=data.objects"))
    assert ([job["id"] for job in page["data"]], page["has_more"], page["url"]) == (jobs[:0:-1], True, JOBS)
    assert all(job["objects"]["customers"] for job in page["data"])
    rest = ok(preview.get(f"{JOBS}?starting_after={jobs[1]}"))
    assert [job["id"] for job in rest["data"]] == [jobs[0]]
    assert [job["id"] for job in ok(preview.get(f"{JOBS}?status=canceled"))["data"]] == [jobs[1]]
    assert [job["id"] for job in ok(preview.get(f"{JOBS}?status=ready"))["data"]] == [jobs[2], jobs[0]]
    assert_refused(preview.get(f"{JOBS}?status=done"), param="status", message="succeeded")


@pytest.mark.contract("2.15 statuses", "2.15 POST …/{id}/validate", "2.15 POST …/{id}/cancel")
def test_what_a_status_does_not_allow_changes_nothing(preview: PreviewCaller) -> None:
    job = preview.validated_job(preview.customer()["id"])["id"]
    assert_refused(preview.post(f"{JOBS}/{job}/validate"), message="status of ready.*failed")
    answer = ok(preview.post(f"{JOBS}/{job}/cancel", idempotency_key="cancel"))
    assert answer["status"] == "canceling"
    assert ok(preview.post(f"{JOBS}/{job}/cancel", idempotency_key="cancel")) == answer
    assert ok(preview.get(f"{JOBS}/{job}"))["status"] == "canceled"
    for action in ("cancel", "run", "validate"):
        assert_refused(preview.post(f"{JOBS}/{job}/{action}"), message="status of canceled")
    assert_refused(preview.post(f"{JOBS}/{job}", {"validation_behavior": "fix"}), message="canceled")
    assert ok(preview.get(f"{JOBS}/{job}"))["validation_behavior"] == "error"


@pytest.mark.contract("2.15 validation error", "2.15 GET …/{id}/validation_errors", "2.15 invalid_state")
def test_an_open_dispute_stands_in_the_way_until_it_is_closed(preview: PreviewCaller) -> None:
    customer = preview.customer()["id"]
    source = ok(preview.post(f"/v1/customers/{customer}", {"source": "tok_createDispute"}))["default_source"]
    charges = [
        ok(
            preview.post(
                "/v1/charges", {"amount": 900, "currency": "usd", "customer": customer, "source": source}
            )
        )
        for _ in range(12)
    ]
    job = preview.validated_job(customer)
    disputes = [ok(preview.get(f"/v1/disputes?charge={each['id']}"))["data"][0]["id"] for each in charges]
    assert list_errors(preview, job) == [("invalid_state", each) for each in disputes]
    shown = job["validation_errors"]
    assert (len(shown["data"]), shown["has_more"]) == (10, True)
    first = shown["data"][0]
    assert first == {
        "id": first["id"],
        "object": "privacy.redaction_job_validation_error",
        "code": "invalid_state",
        "erroring_object": {"id": disputes[0], "object_type": "dispute"},
        "message": "This dispute has a status of needs_response: it must be won or lost first.",
    }
    page = ok(preview.get(f"{shown['url']}?limit=5&starting_after={shown['data'][-1]['id']}"))
    assert [each["erroring_object"]["id"] for each in page["data"]] == disputes[10:]
    assert_refused(preview.post(f"{JOBS}/{job['id']}/run"), message="status of failed")
    for each in disputes:
        ok(preview.post(f"/v1/disputes/{each}/close"))
    assert ok(preview.post(f"{JOBS}/{job['id']}/validate"))["status"] == "validating"
    again = preview.await_job(job["id"], "ready")
    assert again["validation_errors"]["data"] == []


@pytest.mark.contract("2.15 GET …/{id}/validation_errors/{error}")
def test_a_validation_error_is_retrieved_by_its_id(preview: PreviewCaller) -> None:
    charge = preview.charge("tok_createDispute")["id"]
    job = preview.await_job(ok(preview.post(JOBS, {"objects[charges][0]": charge}))["id"], "failed")
    (error,) = job["validation_errors"]["data"]
    assert ok(preview.get(f"{JOBS}/{job['id']}/validation_errors/{error['id']}")) == error
    missing = preview.get(f"{JOBS}/{job['id']}/validation_errors/prjve_x")
    assert_refused(missing, 404, code="resource_missing", param="error")
    assert_refused(preview.get(f"{JOBS}/prj_x/validation_errors"), 404, code="resource_missing", param="job")


@pytest.mark.contract("2.15 invalid_cascading_source")
def test_what_belongs_to_a_customer_cannot_be_redacted_alone(
    preview: PreviewCaller, operator: InternalClient
) -> None:
    customer = preview.customer(source="tok_visa")["id"]
    charge = ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))["id"]
    paid = {"amount": 900, "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true"}
    intent = ok(preview.post("/v1/payment_intents", paid))
    operator.call(
        "PUT", "/resources/invoice/in_privacy",
        {"event_type": "invoice.created", "object": {"customer": customer}},
    )  # fmt: skip
    form = {
        "objects[charges][0]": charge,
        "objects[charges][1]": intent["latest_charge"],
        "objects[invoices][0]": "in_privacy",
    }
    job = preview.await_job(ok(preview.post(JOBS, form))["id"], "failed")
    errors = ok(preview.get(f"{JOBS}/{job['id']}/validation_errors"))["data"]
    assert [error["code"] for error in errors] == ["invalid_cascading_source"] * 3
    assert [error["erroring_object"]["object_type"] for error in errors] == ["charge", "charge", "invoice"]
    assert [customer in error["message"] for error in errors] == [True, False, True]
    assert intent["id"] in errors[1]["message"]
    together = {
        "objects[customers][0]": customer,
        "objects[charges][0]": charge,
        "objects[invoices][0]": "in_privacy",
    }
    assert preview.await_job(ok(preview.post(JOBS, together))["id"], "ready", "failed")["status"] == "ready"


def test_an_unknown_owner_can_be_recorded_and_redacted(
    preview: PreviewCaller, operator: InternalClient
) -> None:
    """Other services publish what belongs to customers that were never told to this one."""
    invoice = {"event_type": "invoice.created", "object": {"customer": "cus_untold", "note": "Ada"}}
    operator.call("PUT", "/resources/invoice/in_untold", invoice)
    job = ok(preview.post(JOBS, {"objects[invoices][0]": "in_untold"}))
    (error,) = preview.await_job(job["id"], "failed")["validation_errors"]["data"]
    assert "does not have the customer: record it first" in error["message"]
    ok(operator.post("/customers", {"id": "cus_untold"}))
    assert preview.validated_job("cus_untold")["status"] == "ready"


@pytest.mark.parametrize("kind", ["customer", "invoice"])
def test_what_another_account_or_mode_says_of_a_customer_is_not_redacted_from_here(
    preview: PreviewCaller, http: httpx.Client, account: Account, registrar: Registrar, kind: str
) -> None:
    """Its data is sealed under the key of the customer's id, whoever has the object of that id."""
    scopes = ("publish", "catalog", "rak_invoice_read")
    live = InternalClient(http, registrar.key(account.id, "rk", livemode=True, scopes=scopes)[1])
    here = InternalClient(http, registrar.key(account.id, "rk", scopes=scopes)[1])
    other = registrar.account()
    there = InternalClient(http, registrar.key(other.id, "rk", scopes=scopes)[1])
    for name, client in (("live", live), ("there", there)):
        customer = f"cus_{kind}_{name}"
        invoice = {"event_type": "invoice.created", "object": {"customer": customer, "note": "Ada"}}
        ok(client.call("PUT", f"/resources/invoice/in_{kind}_{name}", invoice))
        if kind == "customer":
            ok(here.post("/customers", {"id": customer}))
        else:
            ok(here.call("PUT", f"/resources/invoice/{customer}", invoice | {"object": {"note": "mine"}}))
        job = ok(preview.post(JOBS, {f"objects[{kind}s][0]": customer}))
        assert list_errors(preview, preview.await_job(job["id"], "failed")) == [("invalid_state", customer)]
    assert "Ada" in http.get(f"/v1/invoices/in_{kind}_there", auth=(other.secret, "")).text


@pytest.mark.contract("2.15 locked_by_other_job")
def test_two_jobs_cannot_have_the_same_object(preview: PreviewCaller) -> None:
    customer = preview.customer()["id"]
    first = preview.validated_job(customer)
    second = preview.validated_job(customer, **{"objects[charges][0]": preview.charge()["id"]})
    assert list_errors(preview, second) == [("locked_by_other_job", customer)]
    ok(preview.post(f"{JOBS}/{first['id']}/cancel"))
    ok(preview.post(f"{JOBS}/{second['id']}/validate"))
    assert preview.await_job(second["id"], "ready", "failed")["status"] == "ready"


@pytest.mark.contract("2.15 POST /v1/privacy/redaction_jobs/{id}", "2.15 fix")
def test_open_payment_intents_are_errors_or_are_canceled_at_the_run(preview: PreviewCaller) -> None:
    customer = preview.customer()["id"]
    held = ok(preview.post("/v1/payment_intents", MANUAL | {"confirm": "true", "customer": customer}))
    unpaid = ok(preview.post("/v1/payment_intents", MANUAL | {"customer": customer}))
    job = preview.validated_job(customer)
    assert list_errors(preview, job) == [("invalid_state", held["id"]), ("invalid_state", unpaid["id"])]
    updated = ok(preview.post(f"{JOBS}/{job['id']}", {"validation_behavior": "fix"}))
    assert (updated["status"], updated["validation_behavior"]) == ("failed", "fix")
    ok(preview.post(f"{JOBS}/{job['id']}/validate"))
    preview.await_job(job["id"], "ready")
    late = ok(preview.post("/v1/payment_intents", MANUAL | {"customer": customer}))
    assert ok(preview.get(f"/v1/payment_intents/{held['id']}"))["status"] == "requires_capture"
    assert ok(preview.post(f"{JOBS}/{job['id']}/run"))["status"] == "redacting"
    for intent in (held, unpaid, late):
        assert ok(preview.get(f"/v1/payment_intents/{intent['id']}"))["status"] == "canceled"


@pytest.mark.contract("2.15 too_many_objects")
def test_a_run_cancels_so_many_payment_intents_only(preview: PreviewCaller) -> None:
    customer = preview.customer()["id"]

    def create(_: int) -> None:
        ok(preview.post("/v1/payment_intents", MANUAL | {"customer": customer}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(CANCELABLE_MAX + 1)))
    job = preview.validated_job(customer, validation_behavior="fix")
    assert list_errors(preview, job) == [("too_many_objects", None)]
    assert job["validation_errors"]["data"][0]["erroring_object"] is None
    assert f"More than {CANCELABLE_MAX}" in job["validation_errors"]["data"][0]["message"]


@pytest.mark.contract("2.15 checked again", "2.15 POST …/{id}/run")
def test_what_happens_after_the_validation_stops_the_run(preview: PreviewCaller) -> None:
    customer = preview.customer(source="tok_createDispute")["id"]
    job = preview.validated_job(customer)
    assert job["status"] == "ready"
    charge = ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))["id"]
    dispute = ok(preview.get(f"/v1/disputes?charge={charge}"))["data"][0]["id"]
    refusal = preview.post(f"{JOBS}/{job['id']}/run", idempotency_key="run")
    assert_refused(refusal, message="any more: This dispute")
    assert preview.post(f"{JOBS}/{job['id']}/run", idempotency_key="run").json() == refusal.json()
    assert list_errors(preview, ok(preview.get(f"{JOBS}/{job['id']}"))) == [("invalid_state", dispute)]


@pytest.mark.contract("2.15 POST …/{id}/run")
def test_a_run_is_begun_once(preview: PreviewCaller) -> None:
    job = preview.validated_job(preview.customer()["id"])
    answer = ok(preview.post(f"{JOBS}/{job['id']}/run", idempotency_key="once"))
    assert answer["status"] == "redacting"
    assert ok(preview.post(f"{JOBS}/{job['id']}/run", idempotency_key="once")) == answer
    assert_refused(preview.post(f"{JOBS}/{job['id']}/run"), message="status of (redacting|succeeded)")
    assert_refused(preview.post(f"{JOBS}/{job['id']}/cancel"), message="status of (redacting|succeeded)")


def test_a_restricted_key_reads_jobs_and_changes_none(
    preview: PreviewCaller, restricted: PreviewCaller
) -> None:
    job = preview.validated_job(preview.customer()["id"])["id"]
    assert ok(restricted.get(f"{JOBS}/{job}?expand[]=objects"))["objects"]["customers"]
    for path in (JOBS, f"{JOBS}/{job}/run"):
        error = restricted.post(path).json()["error"]
        assert "rak_redaction_job_write" in error["message"]
    assert ok(preview.get(f"{JOBS}/{job}"))["status"] == "ready"


@pytest.mark.contract("2.15 erased already")
def test_what_is_erased_already_can_be_erased_again(preview: PreviewCaller) -> None:
    customer = preview.customer(name="Ada Lovelace", source="tok_visa")["id"]
    charge = ok(preview.post("/v1/charges", {"amount": 900, "currency": "usd", "customer": customer}))["id"]
    for _ in range(2):
        job = preview.validated_job(customer)
        assert ok(preview.post(f"{JOBS}/{job['id']}/run"))["status"] == "redacting"
        preview.await_job(job["id"], "succeeded")
    assert "Ada" not in preview.get(f"/v1/customers/{customer}").text
    assert ok(preview.get(f"/v1/charges/{charge}"))["amount"] == 900
    types = [event["type"] for event in preview.events() if event["data"]["object"]["id"] == job["id"]]
    assert types[-1] == "privacy.redaction_job.succeeded"
