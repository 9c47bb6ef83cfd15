"""The lines of an import that make an object as it is now. A member is absent where it has its default, so
the lines of an object and of its copy are the same.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from ledger.domain.aggregate import Kind
from ledger.domain.charge import EMPTY_BILLING_DETAILS, Charge
from ledger.domain.customer import DEFAULT_INVOICE_SETTINGS, Customer
from ledger.domain.file import File
from ledger.domain.imported_event import EventImported
from ledger.domain.redaction.documents import REDACTED
from ledger.domain.refund import Refund
from ledger.domain.resource import Resource
from ledger.domain.webhook_endpoint import FROM_SELF, WebhookEndpoint
from ledger.wire.charges import render_charge

Line = dict[str, Any]


def drop_placeholders(state: Kind) -> Kind:
    """The aggregate without the placeholders of a redacted one, which an import would take for values, or
    refuse. What another service published is imported as it is."""
    if not state.redaction or isinstance(state, Resource):
        return state
    members = {name: getattr(state, name) for name in state.__struct_fields__}
    return msgspec.structs.replace(state, **{name: _drop_redacted(value) for name, value in members.items()})


def _drop_redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _drop_redacted(member) for name, member in value.items()}
    if isinstance(value, list):
        return [item for item in value if _drop_redacted(item) == item]
    return None if value == REDACTED else value


def make_customer_line(state: Customer) -> Line:
    """A customer with its default card; of one that was deleted only id and time."""
    line = {"op": "customer", "id": state.id, "created": state.created}
    if state.deleted:
        return line
    card = state.find_source(state.default_source)
    members: dict[str, Any] = {
        "address": _prune(state.address),
        "balance": state.balance or None,
        "business_name": state.business_name,
        "description": state.description,
        "email": state.email,
        "individual_name": state.individual_name,
        "invoice_prefix": state.invoice_prefix or None,
        "invoice_settings": _differing(state.invoice_settings, DEFAULT_INVOICE_SETTINGS),
        "metadata": state.metadata or None,
        "name": state.name,
        "next_invoice_sequence": None if state.next_invoice_sequence == 1 else state.next_invoice_sequence,
        "phone": state.phone,
        "preferred_locales": state.preferred_locales or None,
        "shipping": _make_shipping(state.shipping),
        "source": card["token"] if card is not None else None,
        "tax_exempt": None if state.tax_exempt == "none" else state.tax_exempt,
    }
    return line | _drop_absent(members)


def make_deletion_line(customer: str) -> Line:
    """The deletion of a customer."""
    return {"op": "deletion", "customer": customer}


def make_charge_line(state: Charge) -> Line:
    """A charge without its refunds and disputes."""
    failed = state.status == "failed"
    members: dict[str, Any] = {
        "amount": state.amount,
        "currency": state.currency,
        "amount_captured": state.amount_captured if 0 < state.amount_captured < state.amount else None,
        "billing_details": _differing(state.billing_details, EMPTY_BILLING_DETAILS),
        "captured": None if state.captured or failed else False,
        "created": state.created,
        "customer": state.customer,
        "description": state.description,
        "failure_code": state.failure_code,
        "failure_message": state.failure_message,
        "metadata": state.metadata or None,
        "outcome": state.outcome,
        "payment_intent": state.payment_intent,
        "payment_method_details": render_charge(state)["payment_method_details"],
        "receipt_email": state.receipt_email,
        "shipping": _make_shipping(state.shipping),
        "statement_descriptor": state.statement_descriptor,
        "statement_descriptor_suffix": state.statement_descriptor_suffix,
        "status": "failed" if failed else None,
        "transfer_group": state.transfer_group,
    }
    return {"op": "charge", "id": state.id} | _drop_absent(members)


def make_refund_line(state: Refund) -> Line:
    """A refund."""
    members = {
        "charge": state.charge,
        "amount": state.amount,
        "created": state.created,
        "metadata": state.metadata or None,
        "reason": state.reason,
    }
    return {"op": "refund", "id": state.id} | _drop_absent(members)


def make_file_line(state: File, content: bytes) -> Line:
    """A file with its content."""
    members = {"created": state.created, "filename": state.filename, "content": b64encode(content).decode()}
    return {"op": "file", "id": state.id, "purpose": state.purpose} | _drop_absent(members)


def make_event_line(event: EventImported) -> Line:
    """An Event that was imported."""
    line = {"op": "event", "id": event.originator_id, "type": event.type, "object": event.object}
    return line | _drop_absent({"previous_attributes": event.previous_attributes})


def make_resource_line(state: Resource) -> Line:
    """A published resource."""
    return {
        "op": "resource",
        "type": state.type,
        "id": state.id,
        "event_type": state.event_type,
        "object": state.object,
    }


def make_endpoint_line(state: WebhookEndpoint) -> Line:
    """A webhook endpoint, disabled: a copy of a ledger sends nothing to the receivers of the original."""
    # None for one that API v1 has made, and v2 has not named.
    destination = None if state.own_destination is msgspec.UNSET else state.own_destination
    members: dict[str, Any] = {
        "url": state.url,
        "enabled_events": state.enabled_events,
        "disabled": True,
        "api_version": state.api_version,
        "connect": (state.connect or None) if destination is None else None,
        "description": state.description,
        "metadata": state.metadata or None,
        "name": None if destination is None else destination.name,
        "event_payload": "thin" if state.is_thin else None,
        "events_from": (
            None if destination is None or destination.events_from == [FROM_SELF] else destination.events_from
        ),
        "ordered": state.dispatch.ordered or None,
        "standard_webhooks": state.dispatch.standard_webhooks or None,
    }
    return {"op": "webhook_endpoint", "id": state.id} | _drop_absent(members)


def _make_shipping(shipping: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Shipping details; the import requires name and address of them."""
    if shipping is None:
        return None
    return {"address": {}, "name": ""} | (_prune(shipping) or {})


def _differing(value: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any] | None:
    return None if value == default else _prune(value)


def _prune(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The hash without the members that are unset, at every depth; None for none."""
    if value is None:
        return None
    pruned = {
        name: _prune(member) if isinstance(member, Mapping) else member for name, member in value.items()
    }
    return _drop_absent(pruned)


def _drop_absent(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: member for name, member in members.items() if member is not None}
