"""A person leaves marks in every field and file of an account that can hold personal data.

Everything goes through the front door: the public API, files, the internal API, imports. Each POST has an
idempotency key, and is remembered, so that it can be sent again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from tests.api.service import ok
from tests.erasure.markers import Person, make_pdf
from tests.erasure.stage import Stage

EVIDENCE_TEXTS = (
    "access_activity_log", "billing_address", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "customer_email_address", "customer_name", "customer_purchase_ip", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "refund_policy_disclosure", "refund_refusal_explanation",
    "service_date", "shipping_address", "shipping_carrier", "shipping_date", "shipping_tracking_number",
    "uncategorized_text",
)  # fmt: skip
EVIDENCE_FILES = (
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation",
    "receipt", "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
)  # fmt: skip
TRANSACTION_TEXTS = (
    "customer_account_id", "customer_device_fingerprint", "customer_device_id", "customer_email_address",
    "customer_purchase_ip", "product_description",
)  # fmt: skip
ADDRESS_TEXTS = ("line1", "line2", "city", "postal_code", "state")


class SentRequest(NamedTuple):
    """A request with an idempotency key, and what it was answered."""

    path: str
    form: Mapping[str, Any] | None
    body: Any
    files: Mapping[str, Any] | None
    key: str
    status: int
    object_id: str | None


class Traces:
    """What a person has left in an account: `ids` by the plural of the objects, and the requests."""

    def __init__(self, stage: Stage, person: Person) -> None:
        self.stage = stage
        self.person = person
        self.ids: dict[str, list[str]] = {}
        self.sent: list[SentRequest] = []

    def through(self, stage: Stage) -> Traces:
        """The same traces, seen through another process."""
        other = copy(self)
        other.stage = stage
        return other

    @property
    def customer(self) -> str:
        return self.ids["customers"][0]

    @property
    def is_guest(self) -> bool:
        """Whether the person has paid without being a customer."""
        return "customers" not in self.ids

    def pay(self, amount: int) -> dict[str, Any]:
        """A form's members of who pays."""
        payer = {"source": "tok_visa"} if self.is_guest else {"customer": self.customer}
        return {"amount": amount, "currency": "usd", **payer}

    def mark(self, place: str) -> str:
        return self.person.mark(place)

    def keep(self, plural: str, object_id: str) -> str:
        """Remember an object."""
        known = self.ids.setdefault(plural, [])
        if object_id not in known:
            known.append(object_id)
        return object_id

    def send(self, path: str, form: Mapping[str, Any] | None = None, **rest: Any) -> httpx.Response:
        """A POST under a new idempotency key, of a form or of a JSON `body`, or with `files`."""
        request = SentRequest(path, form, rest.get("body"), rest.get("files"), uuid4().hex, 0, None)
        response = send_again(self.stage, request)
        shown = response.json()
        self.sent.append(request._replace(status=response.status_code, object_id=shown.get("id")))
        return response

    def post(self, plural: str, form: Mapping[str, Any], path: str | None = None, **rest: Any) -> Any:
        """The object that a POST answers with; it is remembered among the `plural`."""
        shown = ok(self.send(path or f"/v1/{plural}", form, **rest))
        self.keep(plural, shown["id"])
        return shown


def send_again(stage: Stage, request: SentRequest) -> httpx.Response:
    """Send a request under its idempotency key."""
    is_internal = request.path.startswith("/internal")
    key = stage.operator.key if is_internal else stage.raw.key
    headers = {"authorization": f"Bearer {key}", "idempotency-key": request.key}
    return stage.http.post(
        request.path, data=request.form, json=request.body, files=request.files, headers=headers
    )


def plant(stage: Stage, person: Person) -> Traces:
    """Everything that one person may leave. All its disputes are decided, as an erasure needs it."""
    traces = Traces(stage, person)
    _plant_customer(traces)
    _plant_charges(traces)
    _plant_payment_intents(traces)
    _plant_dispute(traces)
    _plant_published(traces)
    _plant_imported(traces)
    _plant_refusals(traces)
    return traces


def plant_guest(stage: Stage, person: Person) -> Traces:
    """What a person leaves who never becomes a customer."""
    traces = Traces(stage, person)
    _plant_charges(traces)
    _plant_payment_intents(traces)
    _plant_dispute(traces)
    return traces


def _shipping(traces: Traces, of: str, *, with_carrier: bool = True) -> dict[str, str]:
    shipping = {
        "shipping[name]": traces.mark(f"{of} shipping name"),
        "shipping[phone]": traces.mark(f"{of} shipping phone"),
        **_address(traces, "shipping[address]", f"{of} shipping"),
    }
    if with_carrier:
        shipping["shipping[carrier]"] = traces.mark(f"{of} shipping carrier")
        shipping["shipping[tracking_number]"] = traces.mark(f"{of} tracking number")
    return shipping


def _address(traces: Traces, name: str, of: str) -> dict[str, str]:
    texts = {f"{name}[{part}]": traces.mark(f"{of} {part}") for part in ADDRESS_TEXTS}
    return {**texts, f"{name}[country]": "DE"}


def _metadata(traces: Traces, of: str) -> dict[str, str]:
    return {f"metadata[{traces.mark(f'{of} metadata name')}]": traces.mark(f"{of} metadata value")}


def _plant_customer(traces: Traces) -> None:
    mark = traces.mark
    form = {
        "name": mark("customer name"),
        "email": f"{mark('customer email')}@example.com",
        "phone": mark("customer phone"),
        "description": mark("customer description"),
        "business_name": mark("business name"),
        "individual_name": mark("individual name"),
        **_address(traces, "address", "customer"),
        "invoice_settings[footer]": mark("invoice footer"),
        "invoice_settings[custom_fields][0][name]": mark("custom field name"),
        "invoice_settings[custom_fields][0][value]": mark("custom field value"),
        "source": "tok_visa",
        **_shipping(traces, "customer", with_carrier=False),
        **_metadata(traces, "customer"),
    }
    customer = traces.post("customers", form)["id"]
    update = {
        "name": mark("customer second name"),
        "invoice_settings[footer]": mark("second footer"),
        "source": "tok_mastercard",
        **_metadata(traces, "customer second"),
    }
    traces.post("customers", update, f"/v1/customers/{customer}")
    session = {"customer": customer, "components[buy_button][enabled]": "true", "expand[]": "customer"}
    ok(traces.send("/v1/customer_sessions", session))


def _plant_charges(traces: Traces) -> None:
    mark = traces.mark
    form = {
        **traces.pay(2000),
        "description": mark("charge description"),
        "receipt_email": f"{mark('charge receipt')}@example.com",
        **_shipping(traces, "charge"),
        **_metadata(traces, "charge"),
    }  # fmt: skip
    charge = traces.post("charges", form)["id"]
    update = {"description": mark("charge second description"), **_metadata(traces, "charge second")}
    traces.post("charges", update, f"/v1/charges/{charge}")
    traces.post("refunds", {"charge": charge, "amount": 500, **_metadata(traces, "refund")})
    refund = traces.ids["refunds"][0]
    traces.post("refunds", _metadata(traces, "refund second"), f"/v1/refunds/{refund}")
    held = {**traces.pay(900), "capture": "false"}
    authorized = traces.post("charges", held)["id"]
    capture = {"receipt_email": f"{mark('capture receipt')}@example.com"}
    traces.post("charges", capture, f"/v1/charges/{authorized}/capture")
    failing = {
        **traces.pay(700), "source": "tok_chargeDeclined",
        "description": mark("declined description"),
    }  # fmt: skip
    declined = traces.send("/v1/charges", failing)
    assert declined.status_code == 402, declined.text
    traces.keep("charges", declined.json()["error"]["charge"])
    registered = {
        "id": f"ch_{uuid4().hex}", "amount": 1234, "currency": "eur",
        "customer": None if traces.is_guest else traces.customer,
        "description": mark("registered description"),
        "billing_details": {
            "name": mark("billing name"), "email": f"{mark('billing email')}@example.com",
            "phone": mark("billing phone"), "tax_id": mark("billing tax id"),
            "address": {"line1": mark("billing line1"), "city": mark("billing city"), "country": "DE"},
        },
        "payment_method_details": {
            "type": "card",
            "card": {"brand": "visa", "last4": "4242", "wallet": {"name": mark("wallet name")}},
        },
        "metadata": {mark("registered metadata name"): mark("registered metadata value")},
    }  # fmt: skip
    traces.post("charges", {}, "/internal/v1/charges", body=registered)


def _plant_payment_intents(traces: Traces) -> None:
    mark = traces.mark
    for end in ("confirm", "cancel"):
        form = {
            "amount": 3000, "currency": "usd", "payment_method": "pm_card_visa",
            **({} if traces.is_guest else {"customer": traces.customer}),
            "description": mark(f"intent to {end} description"),
            "receipt_email": f"{mark(f'intent to {end} receipt')}@example.com",
            **_shipping(traces, f"intent to {end}"),
            **_metadata(traces, f"intent to {end}"),
        }  # fmt: skip
        intent = traces.post("payment_intents", form)["id"]
        traces.post("payment_intents", {}, f"/v1/payment_intents/{intent}/{end}")
        update = {"description": mark(f"intent to {end} second description")}
        shown = traces.post("payment_intents", update, f"/v1/payment_intents/{intent}")
        if shown["latest_charge"]:
            traces.keep("charges", shown["latest_charge"])


def _plant_file(traces: Traces, of: str, *, compressed: bool = False) -> str:
    content = make_pdf(traces.mark(f"{of} content"), compressed=compressed)
    form = {
        "purpose": "dispute_evidence",
        "file_link_data[create]": "true",
        f"file_link_data[metadata][{traces.mark(f'{of} link name')}]": traces.mark(f"{of} link value"),
    }
    files = {"file": (f"{traces.mark(f'{of} name')}.pdf", content)}
    file = traces.post("files", form, files=files)
    traces.keep("file_links", file["links"]["data"][0]["id"])
    return str(file["id"])


def _plant_linked_file(traces: Traces, of: str, *, compressed: bool) -> str:
    file = _plant_file(traces, of, compressed=compressed)
    link = traces.post("file_links", {"file": file, **_metadata(traces, f"{of} second link")})["id"]
    traces.post("file_links", _metadata(traces, f"{of} changed link"), f"/v1/file_links/{link}")
    return file


def _plant_dispute(traces: Traces) -> None:
    mark, stage = traces.mark, traces.stage
    form = {**traces.pay(5000), "source": "tok_createDispute"}
    charge = traces.post("charges", form)["id"]
    dispute = ok(stage.raw.get(f"/v1/disputes?charge={charge}"))["data"][0]["id"]
    linked = {
        "receipt": _plant_linked_file(traces, "linked receipt", compressed=False),
        "customer_signature": _plant_linked_file(traces, "linked signature", compressed=True),
    }
    evidence = {
        **{f"evidence[{name}]": mark(f"evidence {name}") for name in EVIDENCE_TEXTS},
        **{f"evidence[{name}]": _plant_file(traces, name) for name in EVIDENCE_FILES if name not in linked},
        **{f"evidence[{name}]": file for name, file in linked.items()},
        "submit": "false",
        **_metadata(traces, "dispute"),
    }
    traces.post("disputes", evidence, f"/v1/disputes/{dispute}")
    visa = "evidence[enhanced_evidence][visa_compelling_evidence_3]"
    enhanced = {
        **_transaction(traces, f"{visa}[disputed_transaction]", "disputed"),
        **_transaction(traces, f"{visa}[prior_undisputed_transactions][0]", "prior"),
        f"{visa}[prior_undisputed_transactions][0][charge]": traces.ids["charges"][0],
    }
    traces.post("disputes", enhanced, f"/v1/disputes/{dispute}")
    _report(traces, dispute, "lost")
    _report(traces, dispute, "appeal_opened")
    appeal = {
        "evidence[appeal][card][reason_for_filing]": mark("appeal reason"),
        "evidence[appeal][card][supporting_files][0]": _plant_file(traces, "appeal"),
    }
    traces.post("disputes", appeal, f"/v1/disputes/{dispute}")
    _report(traces, dispute, "lost")


def _transaction(traces: Traces, name: str, of: str) -> dict[str, str]:
    texts = {f"{name}[{text}]": traces.mark(f"{of} {text}") for text in TRANSACTION_TEXTS}
    return {**texts, **_address(traces, f"{name}[shipping_address]", of)}


def _report(traces: Traces, dispute: str, fact: str) -> None:
    body = {"fact": fact, "reference": f"{fact}-{uuid4().hex}"}
    ok(traces.send(f"/internal/v1/disputes/{dispute}/facts", body=body))


def _plant_published(traces: Traces) -> None:
    mark, customer = traces.mark, traces.customer
    invoice, session = f"in_{uuid4().hex}", f"cs_{uuid4().hex}"
    for number in ("first", "second"):
        shown = {
            "customer": customer, "customer_name": mark(f"{number} invoice name"), "amount_due": 2000,
            "customer_email": f"{mark(f'{number} invoice email')}@example.com", "status": "open",
            "lines": {"object": "list", "data": [{"id": "il_1", "description": mark(f"{number} line")}]},
        }  # fmt: skip
        body = {"event_type": "invoice.updated", "object": shown}
        ok(traces.stage.operator.call("PUT", f"/resources/invoice/{invoice}", body))
    shown = {
        "customer": customer, "amount_total": 100,
        "customer_details": {"name": mark("checkout name"), "phone": mark("checkout phone")},
    }  # fmt: skip
    body = {"event_type": "checkout.session.completed", "object": shown}
    ok(traces.stage.operator.call("PUT", f"/resources/checkout.session/{session}", body))
    traces.keep("invoices", invoice)
    traces.keep("checkout/sessions", session)


def _plant_imported(traces: Traces) -> None:
    mark, customer, unique = traces.mark, traces.customer, uuid4().hex
    shown = {
        "id": f"in_of_{unique}",
        "object": "invoice",
        "customer": customer,
        "number": mark("imported number"),
    }
    evidence = {"customer_name": mark("response name"), "uncategorized_text": mark("response text")}
    lines = [
        {"op": "event", "id": f"evt_{unique}", "type": "invoice.updated", "object": shown,
         "previous_attributes": {"customer_email": mark("imported former email")}},
        {"op": "charge", "id": f"ch_{unique}", "customer": customer, "amount": 2000, "currency": "usd",
         "receipt_email": f"{mark('imported receipt')}@example.com",
         "metadata": {"note": mark("imported metadata")}},
        {"op": "refund", "id": f"re_{unique}", "charge": f"ch_{unique}", "amount": 10,
         "metadata": {"note": mark("imported refund metadata")}},
        {"op": "dispute", "id": f"du_{unique}", "charge": f"ch_{unique}", "kind": "chargeback",
         "reference": f"open-{unique}"},
        {"op": "response", "dispute": f"du_{unique}", "evidence": evidence, "submission": 1,
         "metadata": {"note": mark("response metadata")}},
        {"op": "fact", "dispute": f"du_{unique}", "fact": "lost", "reference": f"lost-{unique}"},
    ]  # fmt: skip
    answer = traces.stage.http.post(
        "/internal/v1/import",
        content="\n".join(map(json.dumps, lines)),
        headers={"authorization": f"Bearer {traces.stage.operator.key}"},
    )
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert not any("error" in result for result in results), results
    traces.keep("charges", f"ch_{unique}")
    traces.keep("refunds", f"re_{unique}")
    traces.keep("disputes", f"du_{unique}")
    traces.keep("events", f"evt_{unique}")


def _plant_refusals(traces: Traces) -> None:
    """Requests that are refused, each about the customer: what they held may be in replies and logs."""
    mark, raw, customer = traces.mark, traces.stage.raw, traces.customer
    path = f"/v1/customers/{customer}"
    for form in (
        {"email": mark("refused email") * 30},
        {"balance": mark("refused balance")},
        {"default_source": mark("refused source")},
        {f"metadata[{mark('refused metadata name')}]": mark("refused metadata value") * 30},
    ):
        assert traces.send(path, form).status_code in (400, 404)
    refused = {"customer": customer, "currency": "usd", "amount": mark("refused amount")}
    assert traces.send("/v1/charges", refused).status_code == 400
    assert raw.get(f"/v1/charges?customer={customer}&created={mark('refused time')}").status_code == 400
    ok(raw.get(f"/v1/customers?email={mark('customer email')}@example.com"))
    ok(traces.stage.operator.get(f"/audit/find?q={mark('customer email')}@example.com"))
