"""The requests that the benchmarks of HTTP send: such as integrators send, on objects created for them."""

from __future__ import annotations

import time
from functools import partial

from benchmarks.load import Request
from benchmarks.service import Service

CATCH_UP_TIMEOUT_SECONDS = 60.0
FEED_EVENTS_MIN = 20
DISPUTES = 10
CUSTOMER_FORM = "name=Jenny+Rosen&email=jenny%40example.com&metadata[order]=6735"
CHARGE_FORM = "amount=2000&currency=usd&source=tok_visa&description=Order"

SESSIONS, CUSTOMERS = "POST /v1/customer_sessions", "POST /v1/customers"
DISPUTE, DISPUTE_PAGE = "GET /v1/disputes/{id}", "GET /v1/disputes?limit=10"
EVENT_PAGE = "GET /v1/events?limit=10"


def create_requests(service: Service) -> dict[str, Request]:
    """One request for each route, by its name. SDKs send an Idempotency-Key with every POST; "no key" is the
    same request without one."""
    customer = service.create("/v1/customers", {"name": "Jenny Rosen", "email": "jenny@example.com"})["id"]
    disputes = [_create_dispute(service) for _ in range(DISPUTES)]
    for number in range(FEED_EVENTS_MIN):
        service.create(f"/v1/customers/{customer}", {"metadata[visit]": str(number)})
    session_form = f"customer={customer}&components[pricing_table][enabled]=true"
    post = partial(Request, service.port, "POST", secret=service.secret)
    get = partial(Request, service.port, "GET", secret=service.secret)
    return {
        SESSIONS: post("/v1/customer_sessions", form=session_form, keyed=True),
        f"{SESSIONS}, no key": post("/v1/customer_sessions", form=session_form),
        CUSTOMERS: post("/v1/customers", form=CUSTOMER_FORM, keyed=True),
        f"{CUSTOMERS}, no key": post("/v1/customers", form=CUSTOMER_FORM),
        DISPUTE: get(f"/v1/disputes/{disputes[0]}"),
        DISPUTE_PAGE: get("/v1/disputes?limit=10"),
        EVENT_PAGE: get("/v1/events?limit=10"),
    }


def create_mix(service: Service) -> list[Request]:
    """Ten requests: six POSTs of customers and sessions, two of charges, two lists."""
    customer = service.create("/v1/customers", {"name": "Jenny Rosen"})["id"]
    session_form = f"customer={customer}&components[pricing_table][enabled]=true"
    post = partial(Request, service.port, "POST", secret=service.secret, keyed=True)
    get = partial(Request, service.port, "GET", secret=service.secret)
    new_customer = post("/v1/customers", form=CUSTOMER_FORM)
    session = post("/v1/customer_sessions", form=session_form)
    charge = post("/v1/charges", form=f"{CHARGE_FORM}&customer={customer}")
    return [
        new_customer, session, charge, new_customer, get("/v1/charges?limit=10"),
        session, new_customer, charge, session, get("/v1/events?limit=10"),
    ]  # fmt: skip


def _create_dispute(service: Service) -> str:
    """Create a dispute with a test card. Returns its id."""
    form = {"amount": "2000", "currency": "usd", "source": "tok_createDispute"}
    charge = service.create("/v1/charges", form)["id"]
    deadline = time.monotonic() + CATCH_UP_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        disputes = service.call("GET", f"/v1/disputes?charge={charge}").body.get("data")
        if disputes:
            return str(disputes[0]["id"])
    raise RuntimeError("the test card opened no dispute")
