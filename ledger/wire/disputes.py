"""The JSON of disputes (contract §2.2), and the public Events that their opening makes (§3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain import evidence
from ledger.domain.dispute import Dispute, DisputeConceded, DisputeLost, DisputeOpened, DisputeWon
from ledger.wire.balance_transactions import render_balance_transaction
from ledger.wire.json_values import Json

EXPANDABLE_FIELDS: dict[str, Any] = {
    "balance_transactions": {"fee_details": {}, "source": "dispute"},
    "charge": "charge",
    "evidence": dict.fromkeys(evidence.FILE_FIELDS, "file"),
    "evidence_details": {},
    "payment_intent": "payment_intent",
    "payment_method_details": {},
}
_EVIDENCE_TEMPLATE: Json = dict.fromkeys(
    sorted(
        evidence.LONG_TEXT_FIELDS | evidence.SHORT_TEXT_FIELDS | evidence.FILE_FIELDS | {"enhanced_evidence"}
    )
)
_EVIDENCE_TRANSACTION_TEMPLATE: Json = {
    "customer_account_id": None,
    "customer_device_fingerprint": None,
    "customer_device_id": None,
    "customer_email_address": None,
    "customer_purchase_ip": None,
    "product_description": None,
    "shipping_address": None,
}
_ADDRESS_TEMPLATE: Json = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
_PAYMENT_METHOD_TEMPLATES: dict[str, Json] = {
    "amazon_pay": {"dispute_type": "chargeback"},
    "klarna": {"chargeback_loss_reason_code": None, "reason_code": None},
    "paypal": {"case_id": None, "reason_code": None},
}


def render_dispute(state: Dispute, now: int) -> Json:
    """A dispute with its balance transactions inline. `now` (unix seconds) decides their status."""
    return {
        "id": state.id,
        "object": "dispute",
        "amount": state.amount,
        "balance_transactions": [
            render_balance_transaction(transaction, now) for transaction in state.balance_transactions
        ],
        "charge": state.charge,
        "created": state.created,
        "currency": state.currency,
        "enhanced_eligibility_types": state.eligibility,
        "evidence": _render_evidence(state.evidence),
        "evidence_details": {
            "due_by": state.due_by,
            "enhanced_eligibility": _render_enhanced_eligibility(state) if state.eligibility else {},
            "has_evidence": bool(state.evidence),
            "past_due": state.past_due,
            "submission_count": state.submission_count,
            "submission_method": "manual" if state.is_answered else "not_submitted",
        },
        "intended_submission_method": state.intended_submission_method,
        "is_charge_refundable": state.refundable,
        "livemode": state.livemode,
        "metadata": state.metadata,
        "network_reason_code": state.network_reason_code,
        "payment_intent": state.payment_intent,
        "payment_method_details": _render_payment_method_details(state),
        "reason": state.reason,
        "status": state.status,
    }


def get_opening_event_types(event: DisputeOpened) -> tuple[str, ...]:
    """The public Events of a new dispute: a second one if the dispute withdrew money."""
    if event.movement is None:
        return ("charge.dispute.created",)
    return ("charge.dispute.created", "charge.dispute.funds_withdrawn")


def get_closing_event_types(event: DisputeConceded | DisputeLost | DisputeWon) -> tuple[str, ...]:
    """The public Events of a decided dispute: one before the closing one if the dispute returned money."""
    if event.movement is None:
        return ("charge.dispute.closed",)
    return ("charge.dispute.funds_reinstated", "charge.dispute.closed")


def _render_payment_method_details(state: Dispute) -> Json | None:
    method = state.method
    if method == "card":
        details = {
            "brand": state.brand,
            "case_type": state.case_type,
            "network": state.brand,
            "network_reason_code": state.network_reason_code,
        }
        return {"card": details, "type": "card"}
    return (
        {method: _PAYMENT_METHOD_TEMPLATES[method], "type": method}
        if method in _PAYMENT_METHOD_TEMPLATES
        else None
    )


def _render_evidence(fields: Json) -> Json:
    rendered = {**_EVIDENCE_TEMPLATE, **fields}
    enhanced_evidence = fields.get("enhanced_evidence")
    rendered["enhanced_evidence"] = _render_enhanced_evidence(enhanced_evidence) if enhanced_evidence else {}
    appeal = fields.get("appeal")
    if appeal:
        card_appeal = {"reason_for_filing": None, "supporting_files": None} | (appeal.get("card") or {})
        rendered["appeal"] = {"card": card_appeal}
    return rendered


def _render_enhanced_evidence(fields: Json) -> Json:
    compelling_evidence = fields.get("visa_compelling_evidence_3")
    if compelling_evidence is None:
        return fields
    disputed_transaction = compelling_evidence.get("disputed_transaction")
    prior_transactions = compelling_evidence.get("prior_undisputed_transactions") or []
    rendered = {
        "disputed_transaction": _render_evidence_transaction(
            disputed_transaction, {"merchandise_or_services": None}
        )
        if disputed_transaction
        else None,
        "prior_undisputed_transactions": [
            _render_evidence_transaction(prior, {}) for prior in prior_transactions
        ],
    }
    return {**fields, "visa_compelling_evidence_3": rendered}


def _render_evidence_transaction(fields: Mapping[str, Any], extra_members: Json) -> Json:
    rendered = {**_EVIDENCE_TRANSACTION_TEMPLATE, **extra_members, **fields}
    if rendered["shipping_address"]:
        rendered["shipping_address"] = {**_ADDRESS_TEMPLATE, **rendered["shipping_address"]}
    return rendered


def _render_enhanced_eligibility(state: Dispute) -> Json:
    rendered: Json = {}
    for program in state.eligibility:
        if program == "visa_compelling_evidence_3":
            required_actions = evidence.list_missing_compelling_evidence(state.evidence)
            status = "requires_action" if required_actions else "qualified"
            rendered[program] = {"required_actions": required_actions, "status": status}
        else:
            acknowledged = evidence.is_fee_acknowledged(state.evidence, program)
            rendered[program] = {
                "status": "fee_acknowledged" if acknowledged else "requires_fee_acknowledgement"
            }
    return rendered
