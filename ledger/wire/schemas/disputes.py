"""Disputes, with their evidence."""

from __future__ import annotations

from ledger.domain import evidence
from ledger.domain.dispute_decisions import REASONS
from ledger.domain.dispute_states import TRANSITIONS
from ledger.wire.schemas.cards import address
from ledger.wire.schemas.fields import (
    Field,
    Fields,
    amount,
    array,
    boolean,
    choice,
    component,
    constant,
    currency,
    hash_of,
    identifier,
    integer,
    livemode,
    metadata,
    nullable_text,
    text,
    unix_time,
)

PROGRAMS = ("mastercard_compliance", "visa_compelling_evidence_3", "visa_compliance")
SUBMISSION_METHODS = ("manual", "prefer_manual", "prefer_smart_disputes", "smart_disputes")
CASE_TYPES = ("block", "chargeback", "compliance", "inquiry", "resolution")
REQUIRED_ACTIONS = (
    "missing_customer_identifiers", "missing_disputed_transaction_description",
    "missing_merchandise_or_services", "missing_prior_undisputed_transaction_description",
    "missing_prior_undisputed_transactions",
)  # fmt: skip
_TRANSACTION: Fields = {
    "customer_account_id": nullable_text("Id of the customer's account with you."),
    "customer_device_fingerprint": nullable_text("Fingerprint of the customer's device."),
    "customer_device_id": nullable_text("Serial number of the customer's device."),
    "customer_email_address": nullable_text("The customer's email address."),
    "customer_purchase_ip": nullable_text("IP address from which the customer bought."),
    "product_description": nullable_text("What was sold."),
    "shipping_address": address("Where the goods went to.").or_null(),
}
_DISPUTED_TRANSACTION: Fields = {
    **_TRANSACTION,
    "merchandise_or_services": choice("What was sold.", ("merchandise", "services")).or_null(),
}
_PRIOR_TRANSACTION: Fields = {**_TRANSACTION, "charge": text("Id of an earlier charge.", "ch_1")}
_COMPELLING_EVIDENCE: Fields = {
    "disputed_transaction": hash_of("The disputed transaction.", _DISPUTED_TRANSACTION).or_null(),
    "prior_undisputed_transactions": array(
        "Earlier transactions that were not disputed.", hash_of("One of them.", _PRIOR_TRANSACTION)
    ),
}


def _make_compliance() -> Field:
    acknowledged = boolean("Whether the network's fee is acknowledged.", example=True).or_missing().or_null()
    return hash_of("Evidence for a compliance dispute.", {"fee_acknowledged": acknowledged})


_ENHANCED_EVIDENCE: Fields = {
    "mastercard_compliance": _make_compliance().or_missing(),
    "visa_compelling_evidence_3": hash_of(
        "Evidence for Visa Compelling Evidence 3.0.", _COMPELLING_EVIDENCE
    ).or_missing(),
    "visa_compliance": _make_compliance().or_missing(),
}
_CARD_APPEAL: Fields = {
    "reason_for_filing": nullable_text("The reason for the appeal."),
    "supporting_files": array("Ids of files.", text("Id of a file.", "file_1")).or_null(),
}
_SPECIAL_EVIDENCE: Fields = {
    "enhanced_evidence": hash_of("Evidence for programs of the networks.", _ENHANCED_EVIDENCE),
    "appeal": hash_of(
        "Evidence for an appeal.", {"card": hash_of("The appeal of a card dispute.", _CARD_APPEAL)}
    ).or_missing(),
}


def _make_evidence_field(name: str) -> Field:
    if name in evidence.FILE_FIELDS:
        return identifier("Id of a file of purpose dispute_evidence.").or_null()
    return _SPECIAL_EVIDENCE.get(name) or nullable_text("As it was sent.")


EVIDENCE: Fields = {
    name: _make_evidence_field(name)
    for name in (
        *sorted(
            evidence.LONG_TEXT_FIELDS
            | evidence.SHORT_TEXT_FIELDS
            | evidence.FILE_FIELDS
            | {"enhanced_evidence"}
        ),
        "appeal",
    )
}


def _make_compliance_status() -> Field:
    statuses = ("fee_acknowledged", "requires_fee_acknowledgement")
    return hash_of("A compliance dispute.", {"status": choice("What it requires.", statuses)}).or_missing()


_ELIGIBILITY: Fields = {
    "mastercard_compliance": _make_compliance_status(),
    "visa_compelling_evidence_3": hash_of(
        "Visa Compelling Evidence 3.0.",
        {
            "required_actions": array("What is missing.", choice("What.", REQUIRED_ACTIONS)),
            "status": choice(
                "Whether the evidence qualifies.", ("not_qualified", "qualified", "requires_action")
            ),
        },
    ).or_missing(),
    "visa_compliance": _make_compliance_status(),
}
_EVIDENCE_DETAILS: Fields = {
    "due_by": unix_time("When evidence is due; 0 if none can be submitted.", 1795609599).or_null(),
    "enhanced_eligibility": hash_of("By program, what it still requires.", _ELIGIBILITY),
    "has_evidence": boolean("Whether any is staged or submitted."),
    "past_due": boolean("Whether the last submission came too late."),
    "submission_count": integer("How often evidence was submitted.", 0),
    "submission_method": choice(
        "How it was submitted.", ("manual", "not_submitted", "smart_disputes"), "not_submitted"
    ),
}
_CARD: Fields = {
    "brand": nullable_text("Brand of the card.", "visa"),
    "case_type": choice("The kind of dispute.", CASE_TYPES, "chargeback"),
    "network": nullable_text("The card network.", "visa"),
    "network_reason_code": nullable_text("The network's code of the reason.", "10.4"),
}
_KLARNA: Fields = {
    "chargeback_loss_reason_code": nullable_text("Why it was lost."),
    "reason_code": nullable_text("Klarna's reason."),
}
_PAYPAL: Fields = {
    "case_id": nullable_text("PayPal's case."),
    "reason_code": nullable_text("PayPal's reason."),
}
_PAYMENT_METHOD_DETAILS: Fields = {
    "amazon_pay": hash_of(
        "Of Amazon Pay.", {"dispute_type": choice("What it is.", ("chargeback", "claim")).or_null()}
    ).or_missing(),
    "card": hash_of("Of a card.", _CARD).or_missing(),
    "klarna": hash_of("Of Klarna.", _KLARNA).or_missing(),
    "paypal": hash_of("Of PayPal.", _PAYPAL).or_missing(),
    "type": choice("Which of the members there is.", ("amazon_pay", "card", "klarna", "paypal"), "card"),
}
DISPUTE: Fields = {
    "id": text("Id of the dispute.", "du_1MtJUT2eZvKYlo2CNaw2HvEv"),
    "object": constant("dispute"),
    "amount": amount("What is disputed; it may be less than the charge.", 1000),
    "balance_transactions": array(
        "The withdrawal, then its reversal.", component("A movement of money.", "balance_transaction")
    ),
    "charge": identifier("The disputed charge.", "ch_1AZtxr2eZvKYlo2CJDX8whov"),
    "created": unix_time("When it was opened."),
    "currency": currency(),
    "enhanced_eligibility_types": array(
        "Programs of the networks for which it is eligible.", choice("A program.", PROGRAMS)
    ),
    "evidence": hash_of("The evidence that is staged or submitted.", EVIDENCE),
    "evidence_details": hash_of("About the evidence.", _EVIDENCE_DETAILS),
    "intended_submission_method": choice("How you intend to respond.", SUBMISSION_METHODS).or_null(),
    "is_charge_refundable": boolean("Whether a refund is still possible."),
    "livemode": livemode(),
    "metadata": metadata(),
    "network_reason_code": nullable_text("The network's code of the reason.", "10.4"),
    "payment_intent": identifier("The payment intent of the charge.").or_null(),
    "payment_method_details": hash_of("How the charge was paid.", _PAYMENT_METHOD_DETAILS).or_null(),
    "reason": choice("Why the card holder disputes the charge.", REASONS, "general"),
    "status": choice("How far it is.", tuple(TRANSITIONS), "needs_response"),
}
