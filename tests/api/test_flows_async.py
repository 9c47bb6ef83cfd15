"""The same client used asynchronously (contract §7.13): `*_async` of classes and of services."""

from __future__ import annotations

import asyncio

import pytest
import stripe

from tests.api.service import Account, Service, create_client


@pytest.mark.usefixtures("configured")
def test_customers_and_sessions_in_class_style() -> None:
    async def flow() -> None:
        made = await stripe.Customer.create_async(name="Jenny", metadata={"a": "1", "b": "2"})
        changed = await stripe.Customer.modify_async(made.id, name="", metadata={"a": ""})
        assert changed.name is None
        assert changed.metadata is not None
        assert changed.metadata.to_dict() == {"b": "2"}
        assert (await stripe.Customer.retrieve_async(made.id)).to_dict() == changed.to_dict()
        session = await stripe.CustomerSession.create_async(
            customer=made.id, components={"buy_button": {"enabled": True}}
        )
        assert session.client_secret.startswith("cuss_secret_")
        assert (await stripe.Customer.delete_async(made.id)).deleted
        with pytest.raises(stripe.InvalidRequestError) as refusal:
            await stripe.CustomerSession.create_async(
                customer=made.id, components={"buy_button": {"enabled": True}}
            )
        assert (refusal.value.code, refusal.value.param) == ("resource_missing", "customer")

    asyncio.run(flow())


@pytest.mark.usefixtures("configured")
def test_a_dispute_in_class_style() -> None:
    async def flow() -> None:
        charge = await stripe.Charge.create_async(
            amount=2000, currency="usd", source="tok_createDispute", expand=["balance_transaction"]
        )
        assert isinstance(charge.balance_transaction, stripe.BalanceTransaction)
        (dispute,) = (await stripe.Dispute.list_async(charge=charge.id)).data
        await stripe.Dispute.modify_async(dispute.id, evidence={"customer_name": "J"}, submit=False)
        closed = await stripe.Dispute.close_async(dispute.id)
        assert (closed.status, closed.evidence.customer_name) == ("lost", "J")
        with pytest.raises(stripe.InvalidRequestError, match="already closed"):
            await dispute.close_async()
        with pytest.raises(stripe.CardError) as declined:
            await stripe.Charge.create_async(amount=100, currency="usd", source="tok_chargeDeclined")
        assert declined.value.code == "card_declined"

    asyncio.run(flow())


def test_services_at_once_and_pages_forward_and_backward(service: Service, account: Account) -> None:
    async def flow() -> None:
        client = create_client(service, account.secret)
        made = await asyncio.gather(
            *(client.v1.customers.create_async({"name": str(number)}) for number in range(25))
        )
        page = await client.v1.customers.list_async({"limit": 10})
        assert page.has_more
        forward = [each.id async for each in page.auto_paging_iter()]
        assert sorted(forward) == sorted(each.id for each in made)
        backward = await client.v1.customers.list_async({"limit": 10, "ending_before": forward[-1]})
        assert [each.id async for each in backward.auto_paging_iter()] == forward[:-1][::-1]

        await client.v1.charges.create_async(
            {"amount": 2000, "currency": "usd", "source": "tok_createDispute"}
        )
        (dispute,) = (await client.v1.disputes.list_async()).data
        sent = await client.v1.disputes.update_async(
            dispute.id, {"evidence": {"uncategorized_text": "losing_evidence"}}
        )
        assert sent.status == "under_review"
        assert (await client.v1.disputes.retrieve_async(dispute.id)).status == "lost"
        (event, *_) = (await client.v1.events.list_async({"type": "charge.dispute.closed"})).data
        assert (await client.v1.events.retrieve_async(event.id)).to_dict() == event.to_dict()
        answer = await client.raw_request_async("get", "/v1/disputes", limit="1")
        assert client.deserialize(answer, api_mode="V1")["data"][0]["id"] == dispute.id

    asyncio.run(flow())


def test_the_key_is_checked_for_asynchronous_calls_too(service: Service) -> None:
    async def flow() -> None:
        with pytest.raises(stripe.AuthenticationError) as refusal:
            await create_client(service, "sk_test_wrong").v1.disputes.list_async()
        assert refusal.value.request_id is not None

    asyncio.run(flow())
