"""Refunds through the official client: contract §2.7, the rows of §3.2 about refunds, the Events of §4.2."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import stripe
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ledger.call import Cause
from ledger.clock import Clock
from ledger.config import load_settings
from ledger.domain import charge as charges
from ledger.domain import charge_decisions
from ledger.ids import new_id
from ledger.store.journal import Append, Change
from ledger.store.store import Store
from tests.api.service import SERVICE_KEY, Account, Caller, Registrar, Service, assert_refused, ok

FIELDS = {
    "id", "object", "amount", "balance_transaction", "charge", "created", "currency", "customer",
    "customer_account", "destination_details", "metadata", "payment_intent", "payment_method", "reason",
    "receipt_number", "source_transfer_reversal", "status", "transfer_reversal",
}  # fmt: skip
CLOSED = "charge.dispute.closed"


def types_of(raw: Caller) -> list[str]:
    return [event["type"] for event in raw.events()]


@pytest.mark.usefixtures("configured")
def test_a_partial_refund_and_then_one_of_the_rest() -> None:
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_visa", description="Two hats")
    part = stripe.Refund.create(
        charge=charge.id, amount=500, reason="requested_by_customer", metadata={"order": "6735"}
    )
    assert set(part.to_dict()) == FIELDS
    assert part.id.startswith("re_")
    assert (part.charge, part.amount, part.currency, part.status) == (charge.id, 500, "usd", "succeeded")
    assert part.payment_method == charge.payment_method
    assert part.destination_details is not None
    assert part.destination_details.card is not None
    assert (part.destination_details.type, part.destination_details.card.type) == ("card", "refund")
    assert stripe.Refund.retrieve(part.id).to_dict() == part.to_dict()
    after = stripe.Charge.retrieve(charge.id)
    assert (after.amount_refunded, after.refunded) == (500, False)

    rest = stripe.Refund.create(charge=charge.id)
    assert (rest.amount, rest.reason) == (1500, None)
    after = stripe.Charge.retrieve(charge.id, expand=["refunds"])
    assert (after.amount_refunded, after.refunded, after.amount_captured) == (2000, True, 2000)
    assert after.refunds is not None
    assert [each.to_dict() for each in after.refunds.data] == [rest.to_dict(), part.to_dict()]


@pytest.mark.usefixtures("configured")
@pytest.mark.contract("2.7 disputed, not refundable")
def test_a_dispute_forbids_the_refund_until_it_is_won() -> None:
    """Contract §7.5, its refund."""
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_createDispute")
    (dispute,) = stripe.Dispute.list(charge=charge.id).data
    assert dispute.is_charge_refundable is False
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Refund.create(charge=charge.id)
    error = refusal.value
    assert (error.http_status, error.code, error.param) == (400, "charge_disputed", None)
    assert error.user_message == f"Charge {charge.id} has been charged back; cannot issue a refund."
    assert stripe.Charge.retrieve(charge.id).amount_refunded == 0

    stripe.Dispute.modify(dispute.id, evidence={"uncategorized_text": "winning_evidence"})
    assert stripe.Dispute.retrieve(dispute.id).is_charge_refundable is True
    refund = stripe.Refund.create(charge=charge.id)
    assert (refund.amount, refund.status) == (2000, "succeeded")
    assert stripe.Dispute.retrieve(dispute.id).status == "won"


@pytest.mark.usefixtures("configured")
def test_a_full_refund_closes_an_inquiry() -> None:
    """Contract §7.6, its refund: the inquiry's end has no request and comes last."""
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_createDisputeInquiry")
    stripe.Refund.create(charge=charge.id, amount=500)
    (inquiry,) = stripe.Dispute.list(charge=charge.id).data
    assert (inquiry.status, inquiry.is_charge_refundable) == ("warning_needs_response", True)

    rest = stripe.Refund.create(charge=charge.id)
    after = stripe.Dispute.retrieve(inquiry.id)
    assert (after.status, after.is_charge_refundable) == ("warning_closed", False)
    assert after.balance_transactions == []
    closed, refunded, created = stripe.Event.list(limit=3).data
    assert [each.type for each in (created, refunded, closed)] == [
        "refund.created",
        "charge.refunded",
        CLOSED,
    ]
    assert closed.data.object["id"] == inquiry.id
    assert closed.request is not None
    assert (closed.request.id, closed.request.idempotency_key) == (None, None)
    assert rest.last_response is not None
    for event in (created, refunded):
        assert event.request is not None
        assert event.request.id == rest.last_response.request_id


@pytest.mark.contract("2.7 events", "4.2 refund", "4.2 charge")
def test_the_event_of_the_refund_comes_before_that_of_the_charge(raw: Caller) -> None:
    charge = raw.charge()
    refund = ok(raw.post("/v1/refunds", {"charge": charge["id"], "amount": 500}))
    _, created, refunded = raw.events()
    assert (created["type"], refunded["type"]) == ("refund.created", "charge.refunded")
    assert created["data"] == {"object": refund}
    assert refunded["data"] == {"object": ok(raw.get(f"/v1/charges/{charge['id']}"))}

    updated = ok(raw.post(f"/v1/refunds/{refund['id']}", {"metadata[order]": "6735"}))
    assert updated == refund | {"metadata": {"order": "6735"}}
    first, second = raw.events()[3:]
    assert (first["type"], second["type"]) == ("refund.updated", "charge.refund.updated")
    for event in (first, second):
        assert event["data"]["object"] == updated
        assert event["data"]["previous_attributes"] == {"metadata": {"order": None}}
    ok(raw.post(f"/v1/refunds/{refund['id']}", {"metadata[order]": "6735"}))
    assert len(raw.events()) == 5


def test_metadata_of_a_refund_is_merged_and_unset(client: stripe.StripeClient, raw: Caller) -> None:
    refund = client.v1.refunds.create({"charge": raw.charge()["id"], "metadata": {"a": "1", "b": "2"}})
    after = client.v1.refunds.update(refund.id, {"metadata": {"a": "", "c": "3"}})
    assert after.metadata is not None
    assert after.metadata.to_dict() == {"b": "2", "c": "3"}
    cleared = ok(raw.post(f"/v1/refunds/{refund.id}", {"metadata": ""}))
    assert cleared["metadata"] == {}


@pytest.mark.contract(
    "2.7 fully refunded", "2.7 more than is left", "2.7 neither id given", "2.7 unknown charge"
)
def test_each_error_of_the_contract(raw: Caller) -> None:
    charge = raw.charge(amount=5000)["id"]
    ok(raw.post("/v1/refunds", {"charge": charge, "amount": 2000}))
    assert_refused(
        raw.post("/v1/refunds", {"charge": charge, "amount": 4000}),
        param="amount",
        message=r"^Refund amount \(\$40\.00\) is greater than unrefunded amount on charge \(\$30\.00\)$",
    )
    ok(raw.post("/v1/refunds", {"charge": charge, "amount": 3000}))
    for form in ({}, {"amount": 1}, {"amount": 5000}):
        assert_refused(
            raw.post("/v1/refunds", {"charge": charge, **form}),
            code="charge_already_refunded",
            message=f"^Charge {charge} has already been refunded.$",
        )
    assert_refused(
        raw.post("/v1/refunds", {"amount": 1}),
        message=(
            "^One of the following params should be provided for this request: payment_intent or charge.$"
        ),
    )
    assert_refused(
        raw.post("/v1/refunds", {"charge": "ch_nothing"}),
        404,
        code="resource_missing",
        param="id",
        message="^No such charge: 'ch_nothing'$",
    )
    assert ok(raw.get(f"/v1/charges/{charge}"))["amount_refunded"] == 5000


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"amount": "0"}, {"code": "parameter_invalid_integer", "param": "amount"}),
        ({"amount": "-1"}, {"code": "parameter_invalid_integer", "param": "amount"}),
        ({"amount": ""}, {"code": "parameter_invalid_empty", "param": "amount"}),
        ({"reason": "expired_uncaptured_charge"}, {"param": "reason"}),
        ({"metadata[a][b]": "1"}, {"param": "metadata[a]"}),
        ({"payment_intent": "pi_1"}, {"param": "payment_intent"}),
        ({"reverse_transfer": "true"}, {"param": "reverse_transfer"}),
        ({"origin": "customer_balance"}, {"param": "origin"}),
        ({"status": "failed"}, {"code": "parameter_unknown", "param": "status"}),
    ],
)
def test_wrong_parameters_are_refused_by_name(raw: Caller, form: dict[str, str], error: Any) -> None:
    charge = raw.charge()["id"]
    assert_refused(raw.post("/v1/refunds", {"charge": charge} | form), **error)
    assert ok(raw.get(f"/v1/charges/{charge}"))["amount_refunded"] == 0


def test_an_authorised_charge_and_a_failed_one_cannot_be_refunded(raw: Caller) -> None:
    authorised = raw.charge(capture="false")["id"]
    assert_refused(raw.post("/v1/refunds", {"charge": authorised}), code="charge_not_refundable")
    form = {"amount": 2000, "currency": "usd", "source": "tok_chargeDeclined"}
    failed = raw.post("/v1/charges", form).json()["error"]["charge"]
    assert_refused(raw.post("/v1/refunds", {"charge": failed}), code="charge_not_refundable")
    ok(raw.post(f"/v1/charges/{authorised}/capture", {"amount": 1500}))
    assert ok(raw.post("/v1/refunds", {"charge": authorised}))["amount"] == 1500
    assert ok(raw.get(f"/v1/charges/{authorised}"))["refunded"] is True


def test_a_lost_dispute_forbids_refunds_for_good(raw: Caller) -> None:
    dispute = raw.dispute()
    ok(raw.post(f"/v1/disputes/{dispute['id']}/close"))
    assert_refused(
        raw.post("/v1/refunds", {"charge": dispute["charge"], "amount": 1}), code="charge_disputed"
    )
    assert [kind for kind in types_of(raw) if "refund" in kind] == []


def test_a_refund_cannot_be_cancelled(client: stripe.StripeClient, raw: Caller) -> None:
    refund = client.v1.refunds.create({"charge": raw.charge()["id"]})
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.refunds.cancel(refund.id)
    assert refusal.value.http_status == 400
    assert "its status is succeeded" in str(refusal.value.user_message)
    assert_refused(raw.post("/v1/refunds/re_1/cancel"), 404, code="resource_missing", param="refund")
    assert client.v1.refunds.retrieve(refund.id).status == "succeeded"


def charge_of(service: Service, account: Account, payment_intent: str, status: str = "succeeded") -> str:
    """A charge from another system: the public API creates none for a payment intent."""

    async def append() -> str:
        store = Store(service.dsn, SERVICE_KEY.encode(), load_settings(), Clock(movable=True))
        await store.start()
        at = store.clock.now()
        facts = {"amount": 2000, "currency": "usd", "payment_intent": payment_intent, "status": status}
        (event,) = charge_decisions.register(
            charge_id=new_id("ch", at),
            account=account.id,
            livemode=False,
            params={**facts, "payment_method_details": {"type": "klarna", "klarna": {}}},
            txn_id=new_id("txn", at),
            now=int(at),
        )
        made = Change(event, charges.evolve(None, event))
        await store.journal.append(Append(Cause(account.id, False, None, None, None), [made]))
        await store.close()
        return event.originator_id

    return asyncio.run(append())


def test_the_newest_charge_of_a_payment_intent_is_refunded(
    client: stripe.StripeClient, raw: Caller, service: Service, account: Account, registrar: Registrar
) -> None:
    intent = new_id("pi", 0)
    charge_of(service, account, intent, "failed")
    charge_of(service, registrar.account(), intent)
    paid = charge_of(service, account, intent)
    refund = client.v1.refunds.create({"payment_intent": intent, "amount": 500})
    assert (refund.charge, refund.payment_intent, refund.amount) == (paid, intent, 500)
    assert refund.destination_details is not None
    assert refund.destination_details.to_dict() == {"klarna": {}, "type": "klarna"}
    assert [each.id for each in client.v1.refunds.list({"payment_intent": intent})] == [refund.id]
    expanded = client.v1.refunds.retrieve(refund.id, {"expand": ["payment_intent"]})
    assert expanded.payment_intent == intent  # payment intents are not stored here
    assert_refused(
        raw.post("/v1/refunds", {"payment_intent": "pi_nothing"}),
        code="resource_missing",
        param="payment_intent",
        message="^No such payment_intent: 'pi_nothing'$",
    )


def test_refunds_are_listed_by_charge_and_time(client: stripe.StripeClient, raw: Caller) -> None:
    one, other = raw.charge()["id"], raw.charge()["id"]
    made = [client.v1.refunds.create({"charge": charge, "amount": 10}) for charge in (one, other, one)]
    assert [each.id for each in client.v1.refunds.list()] == [each.id for each in made[::-1]]
    of_one = client.v1.refunds.list({"charge": one})
    assert [each.to_dict() for each in of_one] == [made[2].to_dict(), made[0].to_dict()]
    assert client.v1.refunds.list({"created": {"gt": made[2].created}}).data == []
    assert len(client.v1.refunds.list({"created": {"lte": made[2].created}}).data) == 3
    assert [each.id for each in client.v1.refunds.list({"limit": 1}).auto_paging_iter()] == [
        each.id for each in made[::-1]
    ]
    assert_refused(raw.get("/v1/refunds?charge=ch_no"), code="resource_missing", param="charge")
    assert_refused(
        raw.get("/v1/refunds?payment_intent=pi_no"), code="resource_missing", param="payment_intent"
    )
    assert_refused(
        raw.get("/v1/refunds?starting_after=re_no"),
        code="resource_missing",
        param="starting_after",
        message="No such refund: 're_no'",
    )


@pytest.mark.usefixtures("configured")
@pytest.mark.contract("2.6 GET /v1/charges/{id}/refunds")
def test_the_refunds_of_a_charge_are_a_list_of_their_own() -> None:
    charge = stripe.Charge.create(amount=2000, currency="usd", source="tok_visa")
    other = stripe.Charge.create(amount=2000, currency="usd", source="tok_visa")
    stripe.Refund.create(charge=other.id)
    made = [stripe.Refund.create(charge=charge.id, amount=10 + number).id for number in range(12)]
    listed = stripe.Charge.list_refunds(charge.id, limit=5)
    assert listed.url == f"/v1/charges/{charge.id}/refunds"
    assert listed.has_more
    assert [each.id for each in listed.auto_paging_iter()] == made[::-1]
    # The charge shows the ten newest; the client fetches the others by the url of the list.
    shown = stripe.Charge.retrieve(charge.id, expand=["refunds"]).refunds
    assert shown is not None
    assert (len(shown.data), shown.has_more, shown.url) == (10, True, listed.url)
    assert [each.id for each in shown.auto_paging_iter()] == made[::-1]
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        stripe.Charge.list_refunds("ch_nothing")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")


def test_a_refund_expands_to_objects_as_of_after_it(raw: Caller) -> None:
    customer = raw.customer(source="tok_visa")
    charge = ok(
        raw.post(
            "/v1/charges",
            {"amount": 2000, "currency": "usd", "customer": customer["id"], "description": "Hat"},
        )
    )
    expand = ["balance_transaction", "charge.customer", "charge.refunds", "customer", "payment_intent"]
    form = {f"expand[{number}]": path for number, path in enumerate(expand)}
    refund = ok(raw.post("/v1/refunds", {"charge": charge["id"], "amount": 500, **form}))
    transaction = refund["balance_transaction"]
    assert (transaction["amount"], transaction["fee"], transaction["net"]) == (-500, 0, -500)
    assert (transaction["type"], transaction["reporting_category"]) == ("refund", "refund")
    assert (transaction["source"], transaction["fee_details"]) == (refund["id"], [])
    assert transaction["description"] == "REFUND FOR CHARGE (Hat)"
    assert (refund["charge"]["amount_refunded"], refund["charge"]["refunded"]) == (500, False)
    assert refund["charge"]["customer"] == refund["customer"] == customer
    (listed,) = refund["charge"]["refunds"]["data"]
    assert listed == ok(raw.get(f"/v1/refunds/{refund['id']}"))
    assert listed == refund | {
        "balance_transaction": transaction["id"],
        "charge": charge["id"],
        "customer": customer["id"],
    }
    query = "&".join(f"expand[]=data.{path}" for path in expand)
    (again,) = ok(raw.get(f"/v1/refunds?{query}"))["data"]
    assert again == refund
    deep = ok(raw.get(f"/v1/charges/{charge['id']}?expand[]=refunds.data.balance_transaction.source"))
    assert deep["refunds"]["data"][0]["balance_transaction"]["source"] == listed


def test_refunds_of_other_accounts_and_of_the_other_mode_are_missing(
    raw: Caller, live: Caller, registrar: Registrar, http: httpx.Client
) -> None:
    charge = raw.charge()["id"]
    refund = ok(raw.post("/v1/refunds", {"charge": charge, "amount": 1}))["id"]
    stranger = Caller(http, registrar.account().secret)
    for caller, hint in ((live, "exists in test mode"), (stranger, "'$")):
        assert_refused(
            caller.get(f"/v1/refunds/{refund}"), 404, code="resource_missing", param="refund", message=hint
        )
        assert_refused(
            caller.post("/v1/refunds", {"charge": charge}),
            404,
            code="resource_missing",
            param="id",
            message=hint,
        )
        assert ok(caller.get("/v1/refunds"))["data"] == []
    assert ok(raw.get(f"/v1/charges/{charge}"))["amount_refunded"] == 1


def test_refunds_need_the_permission_for_charges(
    raw: Caller, registrar: Registrar, account: Account, http: httpx.Client
) -> None:
    charge = raw.charge()["id"]
    scopes = ["rak_charge_read"]
    reader = Caller(http, registrar.key(account.id, "rk", scopes=scopes)[1])
    assert ok(reader.get("/v1/refunds"))["data"] == []
    assert_refused(
        reader.post("/v1/refunds", {"charge": charge}),
        403,
        code="more_permissions_required",
        message="rak_charge_write",
    )


def test_a_refund_and_a_refusal_happen_once_and_are_replayed(raw: Caller) -> None:
    charge = raw.charge()["id"]
    form = {"charge": charge, "amount": 1500}
    first = raw.post("/v1/refunds", form, idempotency_key="refund")
    again = raw.post("/v1/refunds", form, idempotency_key="refund")
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    refusal = raw.post("/v1/refunds", form, idempotency_key="too much")
    assert_refused(refusal, param="amount")
    replayed = raw.post("/v1/refunds", form, idempotency_key="too much")
    assert (replayed.status_code, replayed.content) == (400, refusal.content)
    assert replayed.headers["idempotent-replayed"] == "true"
    # A request that never ran is not stored: its key may be used again.
    assert_refused(raw.post("/v1/refunds", {"amount": 1}, idempotency_key="neither"))
    ok(raw.post("/v1/refunds", {"charge": charge, "amount": 1}, idempotency_key="neither"))
    assert ok(raw.get(f"/v1/charges/{charge}"))["amount_refunded"] == 1501


def post_at_once(raw: Caller, forms: list[dict[str, Any]]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(forms)) as pool:
        return list(pool.map(lambda form: raw.post("/v1/refunds", form), forms))


@settings(
    max_examples=4,
    derandomize=True,
    phases=[Phase.generate],
)
@given(amounts=st.lists(st.integers(1, 400), min_size=20, max_size=20))
def test_20_concurrent_refunds_never_exceed_the_charge(raw: Caller, amounts: list[int]) -> None:
    charge = raw.charge(amount=2000)["id"]
    answers = post_at_once(raw, [{"charge": charge, "amount": amount} for amount in amounts])
    made = []
    for answer, amount in zip(answers, amounts, strict=True):
        if answer.status_code == 200:
            made.append(answer.json())
            assert made[-1]["amount"] == amount
        elif answer.status_code == 429:
            assert_refused(answer, 429, code="lock_timeout")
        else:
            code = answer.json()["error"].get("code")
            assert_refused(answer, code=code, param=None if code else "amount")
            assert code in (None, "charge_already_refunded")
    after = ok(raw.get(f"/v1/charges/{charge}"))
    assert after["amount_refunded"] == sum(each["amount"] for each in made) <= 2000
    listed = ok(raw.get(f"/v1/refunds?charge={charge}&limit=100"))["data"]
    assert sorted(each["id"] for each in listed) == sorted(each["id"] for each in made)
    states = [event["data"]["object"] for event in raw.events("type=charge.refunded")]
    of_charge = [state["amount_refunded"] for state in states if state["id"] == charge]
    assert of_charge == sorted(set(of_charge))
    assert len(of_charge) == len(made)


def test_20_concurrent_full_refunds_refund_once(raw: Caller) -> None:
    charge = raw.charge("tok_createDisputeInquiry")["id"]
    answers = post_at_once(raw, [{"charge": charge}] * 20)
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    for answer in answers:
        if answer.status_code == 400:
            assert_refused(answer, code="charge_already_refunded")
    assert types_of(raw)[-3:] == ["refund.created", "charge.refunded", CLOSED]
    assert types_of(raw).count(CLOSED) == 1
