"""Flows of an integrator's code with an older Python client, each a function. Its module functions are used,
as the releases of that time had no other.

    sdk_flows.py RESULTS: run all, and write the failure of each by its name, empty if it passed.
Settings: STRIPE_KEY and STRIPE_BASE.
"""

import io
import json
import os
import sys
import traceback
import warnings

import stripe

warnings.simplefilter("ignore", DeprecationWarning)  # `save`, since 12.0
stripe.api_key = os.environ["STRIPE_KEY"]
stripe.api_base = stripe.upload_api_base = os.environ["STRIPE_BASE"]
stripe.connect_api_base = stripe.meter_events_api_base = os.environ["STRIPE_BASE"]
# The errors moved out of `stripe.error` between these releases.
errors = getattr(stripe, "error", stripe)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def create_customer(**fields):
    return stripe.Customer.create(name="Jenny Rosen", email="jenny@example.com", source="tok_visa", **fields)


def open_dispute():
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_createDispute")
    return stripe.Dispute.list(charge=charge.id).data[0]


def upload(**fields):
    file = io.BytesIO(PNG)
    file.name = "receipt.png"
    return stripe.File.create(purpose="dispute_evidence", file=file, **fields)


def flow_save_sends_what_changed():
    customer = create_customer(metadata={"tier": "gold"})
    customer.name = "Jane"
    customer.metadata["order"] = "7"
    customer.address = {"line1": "1 Main", "city": "Berlin"}
    customer.save()
    customer.address.city = "Bonn"
    customer.save()
    read = stripe.Customer.retrieve(customer.id)
    assert (read.name, read.email) == ("Jane", "jenny@example.com"), read
    assert read.metadata.to_dict() == {"tier": "gold", "order": "7"}, read.metadata
    assert (read.address.line1, read.address.city) == ("1 Main", "Bonn"), read.address


def flow_save_clears_with_none():
    customer = create_customer(phone="123", description="x")
    customer.phone = None
    customer.save()
    read = stripe.Customer.retrieve(customer.id)
    assert (read.phone, read.description) == (None, "x"), read


def flow_booleans_of_a_form():
    customer = create_customer()
    held = stripe.Charge.create(amount=2000, currency="usd", customer=customer.id, capture=False)
    assert held.captured is False
    assert held.capture().captured is True
    taken = stripe.Charge.create(amount=2000, currency="usd", customer=customer.id, capture=True)
    assert taken.captured is True


def flow_booleans_in_a_nested_hash():
    components = {"buy_button": {"enabled": True}}
    if hasattr(stripe, "CustomerSession"):
        session = stripe.CustomerSession.create(customer=create_customer().id, components=components)
    else:  # before 7.9 the client had no class for it
        from stripe.api_requestor import APIRequestor

        parameters = {"customer": create_customer().id, "components": components}
        response, _ = APIRequestor().request("post", "/v1/customer_sessions", parameters)
        session = stripe.util.convert_to_stripe_object(response)
    assert session.components.buy_button.enabled is True
    assert session.components.pricing_table.enabled is False


def flow_booleans_of_a_webhook_endpoint():
    endpoint = stripe.WebhookEndpoint.create(
        url="https://shop.example.com/hooks", enabled_events=["charge.succeeded"], connect=False
    )
    assert endpoint.secret.startswith("whsec_")
    assert stripe.WebhookEndpoint.modify(endpoint.id, disabled=True).status == "disabled"
    assert stripe.WebhookEndpoint.modify(endpoint.id, disabled=False).status == "enabled"
    assert stripe.WebhookEndpoint.delete(endpoint.id).deleted is True


def flow_booleans_of_an_upload():
    linked = upload(file_link_data={"create": True})
    assert len(linked.links.data) == 1, linked
    assert stripe.FileLink.list(file=linked.id, expired=False).data[0].id == linked.links.data[0].id
    assert stripe.FileLink.list(file=linked.id, expired=True).data == []


def flow_files():
    created = upload()
    assert (created.size, created.type, created.filename) == (len(PNG), "png", "receipt.png"), created
    assert stripe.File.retrieve(created.id).id == created.id
    assert created.id in [file.id for file in stripe.File.list(purpose="dispute_evidence").data]


def flow_dispute_staged_then_submitted():
    dispute = open_dispute()
    staged = stripe.Dispute.modify(dispute.id, evidence={"receipt": upload().id}, submit=False)
    assert (staged.status, staged.evidence_details.has_evidence) == ("needs_response", True), staged
    submitted = stripe.Dispute.modify(
        dispute.id, evidence={"uncategorized_text": "Delivered on the 5th."}, submit=True
    )
    assert (submitted.status, submitted.evidence.receipt) == ("under_review", staged.evidence.receipt)


def flow_dispute_saved():
    dispute = open_dispute()
    dispute.evidence = {"customer_name": "Jenny"}  # a whole hash: the client empties the other keys
    dispute.submit = False
    dispute.save()
    dispute = stripe.Dispute.retrieve(dispute.id)
    assert (dispute.status, dispute.evidence.customer_name) == ("needs_response", "Jenny"), dispute
    dispute.evidence.service_date = "2026-11-05"
    dispute.metadata["case"] = "7"
    dispute.save()
    assert (dispute.status, dispute.evidence.customer_name) == ("under_review", "Jenny"), dispute
    assert dispute.metadata.to_dict() == {"case": "7"}


def flow_dispute_closed():
    dispute = open_dispute()
    assert dispute.close().status == "lost"
    code = None
    try:
        stripe.Refund.create(charge=dispute.charge)
    except errors.InvalidRequestError as error:
        code = error.code
    assert code == "charge_disputed", code


def flow_events():
    customer = create_customer()
    customer.description = "x"
    customer.save()
    update, creation = [
        event for event in stripe.Event.list(type="customer.*").auto_paging_iter()
        if event.data.object.id == customer.id
    ]  # fmt: skip
    assert (creation.type, update.type) == ("customer.created", "customer.updated")
    assert update.data.previous_attributes.to_dict() == {"description": None}
    assert stripe.Event.retrieve(update.id) == update
    due = [event.id for event in stripe.Event.list(delivery_success=True, limit=100).auto_paging_iter()]
    assert {creation.id, update.id} <= set(due)


def flow_paging_both_ways():
    customer = create_customer()
    made = [
        stripe.Charge.create(amount=1000, currency="usd", customer=customer.id, description=str(number)).id
        for number in range(5)
    ]
    newest_first = [
        charge.id for charge in stripe.Charge.list(customer=customer.id, limit=2).auto_paging_iter()
    ]
    assert newest_first == made[::-1]
    newer = stripe.Charge.list(customer=customer.id, limit=2, ending_before=made[0]).auto_paging_iter()
    assert [charge.id for charge in newer] == made[1:]
    some = stripe.Charge.list(customer=customer.id, created={"gte": 1}, limit=2)
    assert [charge.id for charge in some.next_page().data] == made[2:0:-1]


def flow_refunds_and_their_events():
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_visa")
    refund = stripe.Refund.create(charge=charge.id, amount=500, metadata={"why": "late"})
    charge.refresh()
    assert (charge.amount_refunded, charge.refunded) == (500, False)
    expanded = stripe.Charge.retrieve(charge.id, expand=["refunds", "balance_transaction"])
    assert [one.id for one in expanded.refunds.data] == [refund.id]
    assert expanded.balance_transaction.net == 2000 - expanded.balance_transaction.fee


def flow_delete():
    customer = create_customer()
    assert customer.delete().deleted is True
    assert stripe.Customer.retrieve(customer.id).deleted is True


def run_flows():
    outcomes = {}
    for name, flow in list(globals().items()):
        if name.startswith("flow_"):
            try:
                flow()
                outcomes[name] = ""
            except Exception:
                outcomes[name] = traceback.format_exc()
    return outcomes


if __name__ == "__main__":
    with open(sys.argv[1], "w") as results:
        json.dump({"version": stripe.version.VERSION if hasattr(stripe, "version") else stripe.VERSION,
                   "outcomes": run_flows()}, results)  # fmt: skip
