"""Disputes through the API: evidence, the state machine, test cards, money (contract §2.2, §3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.service import Caller, assert_refused, ok

LONG = [
    "access_activity_log", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "duplicate_charge_explanation", "product_description", "refund_policy_disclosure",
    "refund_refusal_explanation", "uncategorized_text",
]  # fmt: skip
SHORT = [
    "billing_address", "customer_email_address", "customer_name", "customer_purchase_ip",
    "duplicate_charge_id", "service_date", "shipping_address", "shipping_carrier", "shipping_date",
    "shipping_tracking_number",
]  # fmt: skip
FILES = [
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation",
    "receipt", "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
]  # fmt: skip
DAY = 86_400


def _path(dispute: Any) -> str:
    return f"/v1/disputes/{dispute['id']}"


def _update(raw: Caller, dispute: Any, **form: str) -> Any:
    return ok(raw.post(_path(dispute), form))


def _evidence(**fields: str) -> dict[str, str]:
    return {f"evidence[{name}]": value for name, value in fields.items()}


def _types(raw: Caller) -> list[str]:
    """The types of the dispute Events, oldest first, without their prefix."""
    return [event["type"].removeprefix("charge.dispute.") for event in raw.events("type=charge.dispute.*")]


# -- test cards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["tok_createDispute", "tok_visa_createDispute", "4000000000000259"])
def test_a_chargeback_withdraws_at_once(raw: Caller, token: str) -> None:
    charge = raw.charge(token)
    (dispute,) = ok(raw.get(f"/v1/disputes?charge={charge['id']}"))["data"]
    assert (dispute["status"], dispute["reason"], dispute["network_reason_code"]) == (
        "needs_response", "fraudulent", "10.4",
    )  # fmt: skip
    assert (dispute["amount"], dispute["currency"], dispute["is_charge_refundable"]) == (2000, "usd", False)
    assert dispute["payment_method_details"] == {
        "type": "card",
        "card": {
            "brand": "visa",
            "case_type": "chargeback",
            "network": "visa",
            "network_reason_code": "10.4",
        },
    }
    details = dispute["evidence_details"]
    created_day = dispute["created"] // DAY
    assert details == {
        "due_by": (created_day + 9) * DAY - 1,
        "enhanced_eligibility": {},
        "has_evidence": False,
        "past_due": False,
        "submission_count": 0,
        "submission_method": "not_submitted",
    }
    assert set(dispute["evidence"]) == {*LONG, *SHORT, *FILES, "enhanced_evidence"}
    assert all(dispute["evidence"][name] is None for name in LONG + SHORT + FILES)
    assert dispute["evidence"]["enhanced_evidence"] == {}
    (transaction,) = dispute["balance_transactions"]
    assert transaction["description"] == f"Chargeback withdrawal for {charge['id']}"
    assert (transaction["type"], transaction["reporting_category"]) == ("adjustment", "dispute")
    assert (transaction["amount"], transaction["fee"], transaction["net"]) == (-2000, 1500, -3500)
    assert transaction["fee_details"] == [
        {
            "amount": 1500, "application": None, "currency": "usd", "description": "Dispute fee",
            "type": "stripe_fee",
        }
    ]  # fmt: skip
    assert transaction["source"] == dispute["id"]
    assert [event["type"] for event in raw.events()] == [
        "charge.succeeded", "charge.dispute.created", "charge.dispute.funds_withdrawn",
    ]  # fmt: skip
    assert ok(raw.get(f"/v1/charges/{charge['id']}"))["disputed"] is True


def test_an_odd_amount_is_disputed_in_full(raw: Caller) -> None:
    charge = raw.charge("tok_createMultipleDisputes", amount=2001)
    disputes = ok(raw.get(f"/v1/disputes?charge={charge['id']}"))["data"]
    assert sorted(each["amount"] for each in disputes) == [1000, 1001]


def test_an_uncaptured_or_live_charge_is_not_disputed(raw: Caller) -> None:
    raw.charge("tok_createDispute", capture="false")
    assert ok(raw.get("/v1/disputes"))["data"] == []


# -- the state machine --------------------------------------------------------------------------------


def test_evidence_is_staged_merged_and_submitted(raw: Caller) -> None:
    dispute = raw.dispute()
    staged = _update(raw, dispute, submit="false", **_evidence(customer_name="J", service_date="2026"))
    assert (staged["status"], staged["evidence_details"]["has_evidence"]) == ("needs_response", True)
    staged = _update(raw, dispute, submit="false", **_evidence(service_date="", billing_address="B"))
    assert {name: value for name, value in staged["evidence"].items() if value} == {
        "customer_name": "J", "billing_address": "B",
    }  # fmt: skip
    sent = _update(raw, dispute, **_evidence(uncategorized_text="see above"))
    assert sent["status"] == "under_review"
    assert sent["evidence"]["customer_name"] == "J"
    details = sent["evidence_details"]
    assert (details["submission_count"], details["submission_method"], details["past_due"]) == (
        1, "manual", False,
    )  # fmt: skip
    assert ok(raw.get(_path(dispute))) == sent
    assert _types(raw) == ["created", "funds_withdrawn", "updated", "updated", "updated"]


def test_staged_evidence_is_submitted_by_submit_alone(raw: Caller) -> None:
    dispute = raw.dispute()
    _update(raw, dispute, submit="false", **_evidence(customer_name="J"))
    assert _update(raw, dispute, submit="true")["status"] == "under_review"


def test_unsetting_all_leaves_no_evidence(raw: Caller) -> None:
    dispute = raw.dispute()
    _update(raw, dispute, submit="false", **_evidence(customer_name="J"))
    cleared = _update(raw, dispute, submit="false", **_evidence(customer_name=""))
    assert cleared["evidence_details"]["has_evidence"] is False
    assert_refused(raw.post(_path(dispute), "submit=true"), param="evidence")


def test_metadata_and_method_submit_nothing_and_change_in_any_status(raw: Caller) -> None:
    dispute = raw.dispute()
    changed = _update(raw, dispute, **{"metadata[a]": "1", "intended_submission_method": "manual"})
    assert (changed["status"], changed["intended_submission_method"]) == ("needs_response", "manual")
    assert _update(raw, dispute, intended_submission_method="")["intended_submission_method"] is None
    ok(raw.post(_path(dispute) + "/close"))
    assert _update(raw, dispute, **{"metadata[a]": "2"})["metadata"] == {"a": "2"}
    assert _types(raw) == ["created", "funds_withdrawn", "updated", "updated", "closed", "updated"]
    before = len(raw.events())
    _update(raw, dispute, **{"metadata[a]": "2"})
    assert len(raw.events()) == before


def _in_state(raw: Caller, state: str) -> Any:
    match state:
        case "warning_closed":
            dispute = raw.dispute("tok_createDisputeInquiry")
            _update(raw, dispute, **_evidence(uncategorized_text="losing_evidence"))
        case "won":
            dispute = raw.dispute()
            _update(raw, dispute, **_evidence(uncategorized_text="winning_evidence"))
        case _:
            dispute = raw.dispute()
            ok(raw.post(_path(dispute) + "/close"))
    assert ok(raw.get(_path(dispute)))["status"] == state
    return dispute


def test_submitting_nothing_is_refused(raw: Caller) -> None:
    dispute = raw.dispute()
    assert_refused(raw.post(_path(dispute), "submit=true"), param="evidence")
    assert ok(raw.post(_path(dispute)))["status"] == "needs_response"
    assert _types(raw) == ["created", "funds_withdrawn"]


@pytest.mark.contract("2.6 disputed stays true")
def test_a_charge_stays_disputed(raw: Caller) -> None:
    for state in ("won", "lost", "warning_closed"):
        dispute = _in_state(raw, state)
        assert ok(raw.get(f"/v1/charges/{dispute['charge']}"))["disputed"] is True
    assert "charge.updated" not in [event["type"] for event in raw.events()]


# -- evidence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", LONG + SHORT)
@pytest.mark.contract("2.2 evidence long text", "2.2 evidence short text", "2.2 text over its limit")
def test_each_text_is_kept_as_sent_up_to_its_limit(raw: Caller, field: str) -> None:
    dispute = raw.dispute()
    limit = 20_000 if field in LONG else 5_000
    text = " é\n" + "x" * (limit - 3)
    assert _update(raw, dispute, submit="false", **_evidence(**{field: text}))["evidence"][field] == text
    assert_refused(
        raw.post(_path(dispute), {"submit": "false", **_evidence(**{field: text + "x"})}),
        param=f"evidence[{field}]",
        message=f"must be at most {limit} characters$",
    )
    assert _update(raw, dispute, submit="false", **_evidence(**{field: ""}))["evidence"][field] is None


@pytest.mark.contract("2.2 evidence all text together", "2.2 all text over 150,000")
def test_all_text_together_has_a_limit_after_the_merge(raw: Caller) -> None:
    dispute = raw.dispute()
    _update(raw, dispute, submit="false", **_evidence(**dict.fromkeys(LONG[:7], "x" * 20_000)))
    _update(raw, dispute, submit="false", **_evidence(**{SHORT[0]: "x" * 5_000, SHORT[1]: "x" * 5_000}))
    error = assert_refused(
        raw.post(_path(dispute), {"submit": "false", **_evidence(**{SHORT[2]: "x"})}), param="evidence"
    )
    assert "150000" in error["message"]
    form = {"submit": "false", **_evidence(**{SHORT[0]: "", SHORT[2]: "x" * 5_000})}
    assert ok(raw.post(_path(dispute), form))["evidence"][SHORT[2]] == "x" * 5_000


@pytest.mark.parametrize("field", FILES)
@pytest.mark.contract("2.2 unknown file")
def test_an_unknown_file(raw: Caller, field: str) -> None:
    dispute = raw.dispute()
    assert_refused(
        raw.post(_path(dispute), _evidence(**{field: "file_x"})),
        code="resource_missing",
        param=f"evidence[{field}]",
        message="^No such file: 'file_x'$",
    )
    assert ok(raw.get(_path(dispute)))["status"] == "needs_response"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("evidence[proof]=x", {"code": "parameter_unknown", "param": "evidence[proof]"}),
        ("evidence=x", {"param": "evidence"}),
        ("evidence[customer_name][x]=y", {"param": "evidence[customer_name]"}),
        ("submit=1", {"param": "submit"}),
        ("submit=", {"code": "parameter_invalid_empty", "param": "submit"}),
        (
            "intended_submission_method=mail",
            {
                "param": "intended_submission_method",
                "message": "must be one of manual, prefer_manual, prefer_smart_disputes, or smart_disputes$",
            },
        ),
        (
            "evidence[enhanced_evidence][visa_compliance][fee_acknowledged]=false",
            {"param": "evidence[enhanced_evidence][visa_compliance][fee_acknowledged]"},
        ),
        (
            "evidence[enhanced_evidence][visa_compelling_evidence_3][disputed_transaction]"
            "[customer_device_id]=short",
            {
                "param": "evidence[enhanced_evidence][visa_compelling_evidence_3][disputed_transaction]"
                "[customer_device_id]"
            },
        ),
        (
            "evidence[enhanced_evidence][visa_compelling_evidence_3][prior_undisputed_transactions][0]"
            "[product_description]=x",
            {
                "code": "parameter_missing",
                "param": "evidence[enhanced_evidence][visa_compelling_evidence_3]"
                "[prior_undisputed_transactions][0][charge]",
            },
        ),
        ("amount=1", {"code": "parameter_unknown", "param": "amount"}),
    ],
)
@pytest.mark.contract("2.2 unknown evidence key")
def test_wrong_parameters_of_an_update_are_refused(raw: Caller, form: str, expected: dict[str, Any]) -> None:
    dispute = raw.dispute()
    assert_refused(raw.post(_path(dispute), form), **expected)


@pytest.mark.contract("2.2 evidence enhanced_evidence", "2.2 field evidence_details.enhanced_eligibility")
def test_a_compliance_dispute_asks_for_the_fee(raw: Caller) -> None:
    dispute = raw.dispute("tok_createComplianceDispute")
    standing = dispute["evidence_details"]["enhanced_eligibility"]
    assert standing == {"visa_compliance": {"status": "requires_fee_acknowledgement"}}
    name = "evidence[enhanced_evidence][visa_compliance][fee_acknowledged]"
    staged = _update(raw, dispute, submit="false", **{name: "true"})
    assert staged["evidence_details"]["enhanced_eligibility"] == {
        "visa_compliance": {"status": "fee_acknowledged"}
    }
    assert staged["evidence"]["enhanced_evidence"] == {"visa_compliance": {"fee_acknowledged": True}}
    cleared = _update(raw, dispute, submit="false", **{"evidence[enhanced_evidence]": ""})
    assert cleared["evidence"]["enhanced_evidence"] == {}
    assert cleared["evidence_details"]["has_evidence"] is False


@pytest.mark.contract("2.2 evidence enhanced_evidence", "2.2 field evidence_details.enhanced_eligibility")
def test_compelling_evidence_qualifies_by_its_parts(raw: Caller) -> None:
    dispute = raw.dispute("tok_createCe3EligibleDispute")
    programme = "visa_compelling_evidence_3"
    first = dispute["evidence_details"]["enhanced_eligibility"][programme]
    assert first["status"] == "requires_action"
    assert set(first["required_actions"]) == {
        "missing_customer_identifiers", "missing_disputed_transaction_description",
        "missing_merchandise_or_services", "missing_prior_undisputed_transaction_description",
        "missing_prior_undisputed_transactions",
    }  # fmt: skip
    prefix = f"evidence[enhanced_evidence][{programme}]"
    identifiers = {"customer_purchase_ip": "203.0.113.7", "customer_email_address": "j@example.com",
                   "product_description": "shoes"}  # fmt: skip
    form = {f"{prefix}[disputed_transaction][{name}]": value for name, value in identifiers.items()}
    form[f"{prefix}[disputed_transaction][merchandise_or_services]"] = "merchandise"
    form[f"{prefix}[disputed_transaction][shipping_address][city]"] = "Berlin"
    for index in (0, 1):
        prior = f"{prefix}[prior_undisputed_transactions][{index}]"
        form |= {f"{prior}[{name}]": value for name, value in identifiers.items()}
        form[f"{prior}[charge]"] = raw.charge()["id"]
    staged = _update(raw, dispute, submit="false", **form)
    assert staged["evidence_details"]["enhanced_eligibility"][programme] == {
        "status": "qualified", "required_actions": [],
    }  # fmt: skip
    shown = staged["evidence"]["enhanced_evidence"][programme]
    assert shown["disputed_transaction"]["shipping_address"]["city"] == "Berlin"
    assert [each["product_description"] for each in shown["prior_undisputed_transactions"]] == ["shoes"] * 2
