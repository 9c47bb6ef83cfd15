"""Programs for the official client, unchanged: contract §7 in the class style and with services."""

from __future__ import annotations

import pytest
import stripe

from tests.api.service import Account


@pytest.mark.usefixtures("configured")
@pytest.mark.contract("2.5 create, retrieve, update, delete")
def test_a_customer_from_create_to_delete() -> None:
    made = stripe.Customer.create(
        name="Jenny Rosen",
        email="jenny@example.com",
        description="first",
        metadata={"order": "6735", "shop": "main"},
        address={"line1": "510 Townsend St", "city": "San Francisco", "country": "US"},
    )
    assert made.id.startswith("cus_")
    assert made.address is not None
    assert made.address.to_dict() == {
        "line1": "510 Townsend St",
        "city": "San Francisco",
        "country": "US",
        "line2": None,
        "postal_code": None,
        "state": None,
    }
    assert stripe.Customer.retrieve(made.id).to_dict() == made.to_dict()

    changed = stripe.Customer.modify(made.id, metadata={"shop": "", "colour": "blue"}, description="")
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"order": "6735", "colour": "blue"}
    assert changed.description is None
    assert changed.name == "Jenny Rosen"

    changed.name = "Jenny R."
    changed.email = None
    with pytest.warns(DeprecationWarning, match="save"):
        changed.save()
    assert (changed.name, changed.email) == ("Jenny R.", None)
    assert stripe.Customer.retrieve(made.id).name == "Jenny R."

    stripe.Customer.modify(made.id, email="Jenny@example.com")
    assert [found.id for found in stripe.Customer.list(email="Jenny@example.com")] == [made.id]
    assert stripe.Customer.list(email="jenny@example.com").data == []

    assert stripe.Customer.delete(made.id).to_dict() == {
        "id": made.id,
        "object": "customer",
        "deleted": True,
    }
    gone = stripe.Customer.retrieve(made.id)
    assert gone.deleted is True
    assert gone.to_dict() == {"id": made.id, "object": "customer", "deleted": True}
    assert stripe.Customer.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Customer.modify(made.id, name="x")
    assert (refusal.value.code, refusal.value.http_status) == ("resource_missing", 404)


@pytest.mark.usefixtures("configured")
def test_a_charge_and_its_balance_transaction() -> None:
    charge = stripe.Charge.create(
        amount=2000, currency="usd", source="tok_visa", expand=["balance_transaction"]
    )
    assert (charge.status, charge.paid, charge.captured, charge.refunded) == (
        "succeeded",
        True,
        True,
        False,
    )
    transaction = charge.balance_transaction
    assert isinstance(transaction, stripe.BalanceTransaction)
    assert (transaction.amount, transaction.fee, transaction.net) == (2000, 88, 2000 - 88)
    assert sum(detail.amount for detail in transaction.fee_details) == transaction.fee
    assert transaction.source == charge.id
    assert transaction.type == transaction.reporting_category == "charge"


def test_a_charge_of_the_customers_card(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"source": "tok_mastercard"})
    charge = client.v1.charges.create({"amount": 700, "currency": "eur", "customer": customer.id})
    assert charge.customer == customer.id
    assert charge.source is not None
    assert charge.source.id == customer.default_source == charge.payment_method
    assert isinstance(charge.source, stripe.Card)
    assert charge.source.brand == "MasterCard"


def test_an_authorised_charge_is_captured_once(client: stripe.StripeClient) -> None:
    charge = client.v1.charges.create(
        {"amount": 5000, "currency": "usd", "source": "tok_visa", "capture": False}
    )
    assert (charge.captured, charge.amount_captured, charge.balance_transaction) == (False, 0, None)
    taken = client.v1.charges.capture(charge.id, {"amount": 4000})
    assert (taken.captured, taken.amount_captured) == (True, 4000)
    assert isinstance(taken.balance_transaction, str)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.charges.capture(charge.id)
    assert refusal.value.code == "charge_already_captured"


@pytest.mark.usefixtures("configured")
def test_a_decline_is_a_card_error_and_leaves_a_failed_charge() -> None:
    with pytest.raises(stripe.CardError) as declined:
        stripe.Charge.create(amount=2000, currency="usd", source="tok_chargeDeclinedInsufficientFunds")
    error = declined.value
    assert (error.http_status, error.code) == (402, "card_declined")
    assert error.error is not None
    assert error.error.decline_code == "insufficient_funds"
    assert error.error.charge is not None
    charge = stripe.Charge.retrieve(error.error.charge)
    assert (charge.status, charge.paid, charge.captured) == ("failed", False, False)
    assert charge.failure_code == "card_declined"
    assert charge.balance_transaction is None
    (event,) = stripe.Event.list(type="charge.failed")
    assert event.data.object["id"] == charge.id
    assert event.request is not None
    assert event.request.id == error.request_id


@pytest.mark.usefixtures("configured")
def test_a_customer_session() -> None:
    customer = stripe.Customer.create()
    session = stripe.CustomerSession.create(
        customer=customer.id, components={"pricing_table": {"enabled": True}}
    )
    assert session.client_secret.startswith("cuss_secret_")
    assert session.expires_at - session.created == 1800
    assert session.customer == customer.id
    assert session.components is not None
    components = session.components.to_dict()
    assert len(components) == 7
    assert [name for name, component in components.items() if component["enabled"]] == ["pricing_table"]

    expanded = stripe.CustomerSession.create(
        customer=customer.id, components={"pricing_table": {"enabled": True}}, expand=["customer"]
    )
    assert isinstance(expanded.customer, stripe.Customer)
    assert expanded.customer.to_dict() == customer.to_dict()
    assert expanded.client_secret != session.client_secret

    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.CustomerSession.create(
            customer=customer.id,
            components={"pricing_table": {"enabled": True}, "buy_button": {"enabled": True}},
        )
    assert refusal.value.param == "components"


@pytest.mark.usefixtures("configured")
@pytest.mark.contract("2.2 POST /v1/disputes/{id}/close", "2.2 dispute won or lost")
def test_a_dispute_lost_by_closing_it() -> None:
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_createDispute")
    (dispute,) = stripe.Dispute.list(charge=charge.id)
    assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", "fraudulent", 2000)
    (withdrawn,) = dispute.balance_transactions
    assert (withdrawn.amount, withdrawn.fee, withdrawn.net) == (-2000, 1500, -3500)

    closed = dispute.close()
    assert closed.status == "lost"
    with pytest.raises(stripe.InvalidRequestError, match="This dispute is already closed") as refusal:
        stripe.Dispute.close(dispute.id)
    assert (refusal.value.code, refusal.value.param) == (None, None)
    assert stripe.Charge.retrieve(charge.id).disputed is True

    events = list(stripe.Event.list(type="charge.dispute.*"))[::-1]
    assert [event.type for event in events] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
    ]
    assert [event.data.object["status"] for event in events] == ["needs_response"] * 2 + ["lost"]


def test_a_dispute_won(client: stripe.StripeClient) -> None:
    charge = client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_createDispute"})
    (dispute,) = client.v1.disputes.list({"charge": charge.id})
    assert not dispute.is_charge_refundable
    staged = client.v1.disputes.update(
        dispute.id, {"evidence": {"customer_name": "Jenny Rosen"}, "submit": False}
    )
    assert staged.status == "needs_response"
    assert staged.evidence_details.has_evidence
    assert staged.evidence_details.submission_count == 0

    sent = client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    assert sent.status == "under_review"
    assert sent.evidence.customer_name == "Jenny Rosen"
    assert (sent.evidence_details.submission_count, sent.evidence_details.submission_method) == (
        1,
        "manual",
    )
    won = client.v1.disputes.retrieve(dispute.id)
    assert won.status == "won"
    assert won.is_charge_refundable
    assert [each.amount for each in won.balance_transactions] == [-2000, 2000]
    assert sum(each.net for each in won.balance_transactions) == -1500


def test_an_inquiry_that_escalates(client: stripe.StripeClient) -> None:
    charge = client.v1.charges.create(
        {"amount": 2000, "currency": "usd", "source": "tok_createDisputeInquiry"}
    )
    (inquiry,) = client.v1.disputes.list({"charge": charge.id})
    assert inquiry.status == "warning_needs_response"
    assert inquiry.balance_transactions == []
    assert inquiry.is_charge_refundable
    sent = client.v1.disputes.update(
        inquiry.id, {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}
    )
    assert sent.status == "warning_under_review"
    escalated = client.v1.disputes.retrieve(inquiry.id)
    assert escalated.status == "needs_response"
    assert [each.amount for each in escalated.balance_transactions] == [-2000]
    assert not escalated.is_charge_refundable
    assert escalated.payment_method_details is not None
    assert escalated.payment_method_details.card is not None
    assert escalated.payment_method_details.card.case_type == "chargeback"
    answered = client.v1.disputes.update(inquiry.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    assert (answered.status, answered.evidence_details.submission_count) == ("under_review", 2)
    assert client.v1.disputes.retrieve(inquiry.id).status == "won"


def test_evidence_texts_have_their_limit_and_can_be_unset(client: stripe.StripeClient) -> None:
    client.v1.charges.create({"amount": 2000, "currency": "usd", "source": "tok_createDispute"})
    (dispute,) = client.v1.disputes.list()
    text = "é" * 20_000
    staged = client.v1.disputes.update(
        dispute.id, {"evidence": {"product_description": text}, "submit": False}
    )
    assert staged.evidence.product_description == text
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.disputes.update(
            dispute.id, {"evidence": {"product_description": text + "é"}, "submit": False}
        )
    assert refusal.value.param == "evidence[product_description]"
    cleared = client.v1.disputes.update(
        dispute.id, {"evidence": {"product_description": ""}, "submit": False}
    )
    assert cleared.evidence.product_description is None
    assert not cleared.evidence_details.has_evidence


def test_the_same_idempotency_key_gives_the_same_object(client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "one"}, {"idempotency_key": "k"})
    again = client.v1.customers.create({"name": "one"}, {"idempotency_key": "k"})
    assert again.to_dict() == first.to_dict()
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "two"}, {"idempotency_key": "k"})
    (event,) = client.v1.events.list()
    assert event.request is not None
    assert event.request.idempotency_key == "k"


def test_each_kind_of_error_raises_the_clients_own_exception(
    client: stripe.StripeClient, configured: Account
) -> None:
    def describe(error: stripe.StripeError) -> tuple[object, ...]:
        assert error.request_id is not None
        assert error.request_id.startswith("req_")
        assert error.error is not None
        return type(error), error.http_status, error.error.code  # not every exception class keeps the code

    with pytest.raises(stripe.StripeError) as refusal:
        stripe.Customer.list(api_key="sk_test_wrong")
    assert describe(refusal.value) == (stripe.AuthenticationError, 401, None)
    with pytest.raises(stripe.StripeError) as refusal:
        stripe.Customer.list(api_key=configured.publishable)
    assert describe(refusal.value) == (stripe.PermissionError, 403, "secret_key_required")
    with pytest.raises(stripe.StripeError) as refusal:
        stripe.Dispute.retrieve("du_none")
    assert describe(refusal.value) == (stripe.InvalidRequestError, 404, "resource_missing")
    with pytest.raises(stripe.StripeError) as refusal:
        client.v1.customers.create({"nmae": "x"})  # type: ignore[arg-type]
    assert describe(refusal.value) == (stripe.InvalidRequestError, 400, "parameter_unknown")


def test_raw_requests(client: stripe.StripeClient) -> None:
    answer = client.raw_request("get", "/v1/disputes")
    assert client.deserialize(answer, api_mode="V1").to_dict() == {
        "object": "list",
        "url": "/v1/disputes",
        "has_more": False,
        "data": [],
    }
    made = client.raw_request("post", "/v1/customers", name="raw")
    assert client.deserialize(made, api_mode="V1")["name"] == "raw"
