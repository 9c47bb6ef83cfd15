"""What stays of the personal fields of each domain event once its data is erased: its remnant.

One table has a rule for each personal field (tests/domain/test_remnants.py). What stays is what the contract
needs, and docs/erasure.md lists it: ids, amounts, codes, the country of an address, the brand and the last
four digits of a card, and that a text was there at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain.charge import ChargeCaptured, ChargeFailed, ChargeSucceeded, ChargeUpdated
from ledger.domain.customer import CustomerCreated, CustomerUpdated
from ledger.domain.dispute import DisputeUpdated, EvidenceStaged, EvidenceSubmitted
from ledger.domain.event import DomainEvent
from ledger.domain.file import FileUploaded
from ledger.domain.file_link import FileLinkCreated, FileLinkUpdated
from ledger.domain.imported_event import EventImported
from ledger.domain.payment_intent import PaymentIntentCreated, PaymentIntentUpdated
from ledger.domain.redaction.documents import redact_document
from ledger.domain.redaction.rules import (
    Rule,
    keep,
    redact_address,
    redact_billing_details,
    redact_card,
    redact_evidence,
    redact_members,
    redact_metadata,
    redact_shipping,
    redact_text,
)
from ledger.domain.refund import RefundCreated, RefundUpdated
from ledger.domain.resource import ResourcePublished, redact_publication
from ledger.domain.webhook_endpoint import (
    EventDestinationCreated,
    WebhookEndpointCreated,
    WebhookEndpointUpdated,
)

Rules = Mapping[str, Rule]

_METADATA: Rules = {"metadata": redact_metadata}
_CUSTOMER: Rules = {
    "name": redact_text,
    "email": redact_text,
    "phone": redact_text,
    "description": redact_text,
    "business_name": redact_text,
    "individual_name": redact_text,
    "address": redact_address,
    "shipping": redact_shipping,
    **_METADATA,
}
_CUSTOMER_CHANGES: Rules = {
    **_CUSTOMER,
    "balance": keep,
    "default_source": keep,
    "invoice_prefix": keep,
    "invoice_settings": redact_document,
    "next_invoice_sequence": keep,
    "preferred_locales": keep,
    "tax_exempt": keep,
}
_PAYMENT: Rules = {
    "description": redact_text,
    "receipt_email": redact_text,
    "shipping": redact_shipping,
    **_METADATA,
}
_PAYMENT_CHANGES: Rules = {
    **_PAYMENT,
    "customer": keep,
    "statement_descriptor": keep,
    "statement_descriptor_suffix": keep,
    "transfer_group": keep,
}
_CHARGE: Rules = {
    **_PAYMENT,
    "billing_details": redact_billing_details,
    "card": redact_card,
    "payment_method_details": redact_document,
}
_CHARGE_CHANGES: Rules = {"changes": redact_members({**_PAYMENT_CHANGES, "fraud_report": keep})}
_INTENT: Rules = {**_PAYMENT, "card": redact_card}
_INTENT_CHANGES: Rules = {
    **_PAYMENT_CHANGES,
    "amount": keep,
    "capture_method": keep,
    "card": redact_card,
    "currency": keep,
}
_METADATA_CHANGES: Rules = {"changes": redact_members(_METADATA)}
_DISPUTE_CHANGES: Rules = {"changes": redact_members({**_METADATA, "intended_submission_method": keep})}
_ENDPOINT: Rules = {"url": redact_text, "description": redact_text, **_METADATA}
_ENDPOINT_CHANGES: Rules = {**_ENDPOINT, "name": redact_text, "enabled_events": keep, "disabled": keep}

REMNANT_RULES: dict[type[DomainEvent], Rules] = {
    CustomerCreated: {**_CUSTOMER, "card": redact_card},
    CustomerUpdated: {"changes": redact_members(_CUSTOMER_CHANGES), "card": redact_card},
    ChargeSucceeded: _CHARGE,
    ChargeFailed: _CHARGE,
    ChargeCaptured: _CHARGE_CHANGES,
    ChargeUpdated: _CHARGE_CHANGES,
    PaymentIntentCreated: _INTENT,
    PaymentIntentUpdated: {"changes": redact_members(_INTENT_CHANGES)},
    RefundCreated: {"charge_description": redact_text, **_METADATA},
    RefundUpdated: _METADATA_CHANGES,
    DisputeUpdated: _DISPUTE_CHANGES,
    EvidenceStaged: {"evidence": redact_evidence, **_DISPUTE_CHANGES},
    EvidenceSubmitted: {"evidence": redact_evidence, **_DISPUTE_CHANGES},
    FileUploaded: {"filename": redact_text},
    FileLinkCreated: _METADATA,
    FileLinkUpdated: {"changes": redact_members({**_METADATA, "expires_at": keep})},
    ResourcePublished: {"object": redact_publication},
    EventImported: {"object": redact_document, "previous_attributes": redact_document},
    WebhookEndpointCreated: _ENDPOINT,
    EventDestinationCreated: {**_ENDPOINT, "name": redact_text},
    WebhookEndpointUpdated: {"changes": redact_members(_ENDPOINT_CHANGES)},
}
"""By event class, the rule of each of its personal fields."""


def make_remnant(event: DomainEvent) -> dict[str, Any]:
    """The personal fields of `event` as they are once its data is erased; {} of an event that has none."""
    rules = REMNANT_RULES.get(type(event), {})
    return {name: rule(getattr(event, name)) for name, rule in rules.items()}
