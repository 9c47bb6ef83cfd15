"""The JSON of each resource, as plain dicts: one pure function a resource (contract §2).

All that is always present is there, unused fields null. What can be expanded is an id; to expand, replace
that member in the dict returned. Nested constants are shared between results, so replace members and never
change one in place. `now` decides only what time alone changes: a balance transaction's `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ledger.domain import evidence
from ledger.domain.customer import Customer
from ledger.domain.customer_session import DEFAULT_FEATURES, CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.money import BalanceTransaction

Json = dict[str, Any]

_COMPONENTS_TEMPLATE: Json = {
    name: {"enabled": False} if features is None else {"enabled": False, "features": None}
    for name, features in DEFAULT_FEATURES.items()
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
# Filled in as those of a charge are (charges.py).
_CUSTOMER_TEMPLATE: Json = {
    "id": None,
    "object": "customer",
    "address": None,
    "balance": None,
    "business_name": None,
    "created": None,
    "currency": None,
    "customer_account": None,
    "default_source": None,
    "delinquent": False,
    "description": None,
    "discount": None,
    "email": None,
    "individual_name": None,
    "invoice_prefix": None,
    "invoice_settings": None,
    "livemode": None,
    "metadata": None,
    "name": None,
    "next_invoice_sequence": None,
    "phone": None,
    "preferred_locales": None,
    "shipping": None,
    "tax_exempt": None,
    "test_clock": None,
}


def render_customer(state: Customer) -> Json:
    """Its last state even if deleted, as `customer.deleted` wants it; else see `render_deleted_customer`."""
    rendered = _CUSTOMER_TEMPLATE.copy()
    rendered["id"] = state.id
    rendered["address"] = state.address
    rendered["balance"] = state.balance
    rendered["business_name"] = state.business_name
    rendered["created"] = state.created
    rendered["default_source"] = state.default_source
    rendered["description"] = state.description
    rendered["email"] = state.email
    rendered["individual_name"] = state.individual_name
    rendered["invoice_prefix"] = state.invoice_prefix
    rendered["invoice_settings"] = state.invoice_settings
    rendered["livemode"] = state.livemode
    rendered["metadata"] = state.metadata
    rendered["name"] = state.name
    rendered["next_invoice_sequence"] = state.next_invoice_sequence
    rendered["phone"] = state.phone
    rendered["preferred_locales"] = state.preferred_locales
    rendered["shipping"] = state.shipping
    rendered["tax_exempt"] = state.tax_exempt
    return rendered


def render_deleted_customer(customer_id: str) -> Json:
    """What is shown of a deleted customer, by retrieve, delete and expansion."""
    return {"id": customer_id, "object": "customer", "deleted": True}


def render_customer_session(state: CustomerSession, client_secret: str) -> Json:
    """All seven components, the one enabled with its features."""
    enabled: Json = {"enabled": True}
    if state.features is not None:
        enabled["features"] = state.features
    return {
        "object": "customer_session",
        "client_secret": client_secret,
        "components": {**_COMPONENTS_TEMPLATE, state.component: enabled},
        "created": state.created,
        "customer": state.customer,
        "customer_account": None,
        "expires_at": state.expires_at,
        "livemode": state.livemode,
    }


def render_dispute(state: Dispute, now: int) -> Json:
    """With its balance transactions inline."""
    count = state.submission_count
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
            "submission_count": count,
            "submission_method": "manual" if count else "not_submitted",
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


def render_balance_transaction(transaction: BalanceTransaction, now: int) -> Json:
    """`net` is always `amount - fee`, and `fee_details` sum to `fee`."""
    amount, fee, currency = transaction["amount"], transaction["fee"], transaction["currency"]
    fee_detail = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": transaction["fee_description"],
        "type": "stripe_fee",
    }
    return {
        "id": transaction["id"],
        "object": "balance_transaction",
        "amount": amount,
        "available_on": transaction["available_on"],
        "balance_type": "payments",
        "created": transaction["created"],
        "currency": currency,
        "description": transaction["description"],
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [fee_detail] if fee else [],
        "net": amount - fee,
        "reporting_category": transaction["reporting_category"],
        "source": transaction["source"],
        "status": "available" if transaction["available_on"] <= now else "pending",
        "type": transaction["type"],
    }


def render_event_data(resource: Json | msgspec.Raw, previous_attributes: Json | None) -> Json:
    """The `data` of an Event: the resource as it then was, and what an update changed of it."""
    if previous_attributes is None:
        return {"object": resource}
    return {"object": resource, "previous_attributes": previous_attributes}


def render_event(
    *,
    event_id: str,
    event_type: str,
    created: int,
    livemode: bool,
    api_version: str | None,
    data: Json | msgspec.Raw,
    request_id: str | None,
    idempotency_key: str | None,
    pending_webhooks: int,
    account: str | None = None,
) -> Json:
    """An Event. `data` is as `render_event_data` gave it, or that as JSON; `account` is shown only to a
    platform (contract §4.1)."""
    rendered: Json = {
        "id": event_id,
        "object": "event",
        "api_version": api_version,
        "created": created,
        "data": data,
        "livemode": livemode,
        "pending_webhooks": pending_webhooks,
        "request": {"id": request_id, "idempotency_key": idempotency_key},
        "type": event_type,
    }
    if account is not None:
        rendered["account"] = account
    return rendered


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
