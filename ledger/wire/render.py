"""The JSON of each resource, as plain dicts: one pure function a resource (contract 2).

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
from ledger.domain.customer_session import FEATURES, CustomerSession
from ledger.domain.dispute import Dispute
from ledger.domain.money import BalanceTransaction

Json = dict[str, Any]

_COMPONENTS: Json = {
    name: {"enabled": False} if features is None else {"enabled": False, "features": None}
    for name, features in FEATURES.items()
}
_EVIDENCE: Json = dict.fromkeys(
    sorted(evidence.LONG_TEXTS | evidence.SHORT_TEXTS | evidence.FILES | {"enhanced_evidence"})
)
_TRANSACTION: Json = {
    "customer_account_id": None,
    "customer_device_fingerprint": None,
    "customer_device_id": None,
    "customer_email_address": None,
    "customer_purchase_ip": None,
    "product_description": None,
    "shipping_address": None,
}
_ADDRESS: Json = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
_DISPUTE_METHODS: dict[str, Json] = {
    "amazon_pay": {"dispute_type": "chargeback"},
    "klarna": {"chargeback_loss_reason_code": None, "reason_code": None},
    "paypal": {"case_id": None, "reason_code": None},
}
# Filled in as those of a charge are (charges.py).
_CUSTOMER: Json = {
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


def customer(state: Customer) -> Json:
    """Its last state even if deleted, as `customer.deleted` wants it; else see `deleted_customer`."""
    shown = _CUSTOMER.copy()
    shown["id"] = state.id
    shown["address"] = state.address
    shown["balance"] = state.balance
    shown["business_name"] = state.business_name
    shown["created"] = state.created
    shown["default_source"] = state.default_source
    shown["description"] = state.description
    shown["email"] = state.email
    shown["individual_name"] = state.individual_name
    shown["invoice_prefix"] = state.invoice_prefix
    shown["invoice_settings"] = state.invoice_settings
    shown["livemode"] = state.livemode
    shown["metadata"] = state.metadata
    shown["name"] = state.name
    shown["next_invoice_sequence"] = state.next_invoice_sequence
    shown["phone"] = state.phone
    shown["preferred_locales"] = state.preferred_locales
    shown["shipping"] = state.shipping
    shown["tax_exempt"] = state.tax_exempt
    return shown


def deleted_customer(customer_id: str) -> Json:
    """What is shown of a deleted customer, by retrieve, delete and expansion."""
    return {"id": customer_id, "object": "customer", "deleted": True}


def customer_session(state: CustomerSession, client_secret: str) -> Json:
    """All seven components, the one enabled with its features."""
    enabled: Json = {"enabled": True}
    if state.features is not None:
        enabled["features"] = state.features
    return {
        "object": "customer_session",
        "client_secret": client_secret,
        "components": {**_COMPONENTS, state.component: enabled},
        "created": state.created,
        "customer": state.customer,
        "customer_account": None,
        "expires_at": state.expires_at,
        "livemode": state.livemode,
    }


def dispute(state: Dispute, now: int) -> Json:
    """With its balance transactions inline."""
    count = state.submission_count
    return {
        "id": state.id,
        "object": "dispute",
        "amount": state.amount,
        "balance_transactions": [balance_transaction(fact, now) for fact in state.balance_transactions],
        "charge": state.charge,
        "created": state.created,
        "currency": state.currency,
        "enhanced_eligibility_types": state.eligibility,
        "evidence": _evidence(state.evidence),
        "evidence_details": {
            "due_by": state.due_by,
            "enhanced_eligibility": _eligibility(state) if state.eligibility else {},
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
        "payment_method_details": _disputed_method(state),
        "reason": state.reason,
        "status": state.status,
    }


def balance_transaction(fact: BalanceTransaction, now: int) -> Json:
    """`net` is always `amount - fee`, and `fee_details` sum to `fee`."""
    amount, fee, currency = fact["amount"], fact["fee"], fact["currency"]
    fee_detail = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": fact["fee_description"],
        "type": "stripe_fee",
    }
    return {
        "id": fact["id"],
        "object": "balance_transaction",
        "amount": amount,
        "available_on": fact["available_on"],
        "balance_type": "payments",
        "created": fact["created"],
        "currency": currency,
        "description": fact["description"],
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [fee_detail] if fee else [],
        "net": amount - fee,
        "reporting_category": fact["reporting_category"],
        "source": fact["source"],
        "status": "available" if fact["available_on"] <= now else "pending",
        "type": fact["type"],
    }


def event_data(resource: Json | msgspec.Raw, previous_attributes: Json | None) -> Json:
    """The `data` of an Event: the resource as it then was, and what an update changed of it."""
    if previous_attributes is None:
        return {"object": resource}
    return {"object": resource, "previous_attributes": previous_attributes}


def event(
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
    """An Event. `data` is as `event_data` gave it, or that as JSON; `account` is shown only to a platform
    (contract 4.1)."""
    shown: Json = {
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
        shown["account"] = account
    return shown


def _disputed_method(state: Dispute) -> Json | None:
    method = state.method
    if method == "card":
        details = {
            "brand": state.brand,
            "case_type": state.case_type,
            "network": state.brand,
            "network_reason_code": state.network_reason_code,
        }
        return {"card": details, "type": "card"}
    return {method: _DISPUTE_METHODS[method], "type": method} if method in _DISPUTE_METHODS else None


def _evidence(fields: Json) -> Json:
    shown = {**_EVIDENCE, **fields}
    enhanced = fields.get("enhanced_evidence")
    shown["enhanced_evidence"] = _enhanced(enhanced) if enhanced else {}
    appeal = fields.get("appeal")
    if appeal:
        filed = {"reason_for_filing": None, "supporting_files": None} | (appeal.get("card") or {})
        shown["appeal"] = {"card": filed}
    return shown


def _enhanced(fields: Json) -> Json:
    compelling = fields.get("visa_compelling_evidence_3")
    if compelling is None:
        return fields
    disputed = compelling.get("disputed_transaction")
    priors = compelling.get("prior_undisputed_transactions") or []
    shown = {
        "disputed_transaction": _transaction(disputed, {"merchandise_or_services": None})
        if disputed
        else None,
        "prior_undisputed_transactions": [_transaction(prior, {}) for prior in priors],
    }
    return {**fields, "visa_compelling_evidence_3": shown}


def _transaction(fields: Mapping[str, Any], members: Json) -> Json:
    shown = {**_TRANSACTION, **members, **fields}
    if shown["shipping_address"]:
        shown["shipping_address"] = {**_ADDRESS, **shown["shipping_address"]}
    return shown


def _eligibility(state: Dispute) -> Json:
    shown: Json = {}
    for program in state.eligibility:
        if program == "visa_compelling_evidence_3":
            lacking = evidence.compelling_evidence_lacks(state.evidence)
            status = "requires_action" if lacking else "qualified"
            shown[program] = {"required_actions": lacking, "status": status}
        else:
            acknowledged = evidence.fee_acknowledged(state.evidence, program)
            shown[program] = {
                "status": "fee_acknowledged" if acknowledged else "requires_fee_acknowledgement"
            }
    return shown
