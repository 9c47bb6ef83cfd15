"""Compares what a caller reports again, under a known id or reference, with what was recorded the first time.

Each function returns the name of the first field that differs, in the words of the internal API, or None. A
field that has a constant as its default differs also if one report has it and the other does not. One whose
default depends on the time or on other objects (`created`, `amount`, `due_by`) is compared only if reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain.charge import ChargeSucceeded
from ledger.domain.dispute import DisputeOpened
from ledger.domain.event import DomainEvent
from ledger.domain.imported_event import EventImported
from ledger.domain.postings import get_movement
from ledger.domain.redaction.remnants import make_remnant
from ledger.domain.redaction.rules import redact_metadata
from ledger.domain.refund import RefundCreated

# What no report names: identity, time and mode of the record, and what the ledger adds to it.
_UNREPORTED_FIELDS = frozenset(
    {"originator_id", "originator_version", "at", "account", "livemode", "movement", "card"}
)
_FIELDS_WITH_VARIABLE_DEFAULT = frozenset({"created", "outcome"})


def find_creation_difference(
    recorded: DomainEvent, reported: DomainEvent, params: Mapping[str, Any]
) -> str | None:
    """Compares the event that created an object with the one that its report `params` would make now.

    Of a redacted event, what stayed of it is compared with what would stay of the report; of one whose
    personal data is being erased, only the other fields are compared.
    """
    if type(recorded) is not type(reported):
        return "status"
    is_erased = "metadata" in recorded.PERSONAL and getattr(recorded, "metadata", None) is None
    skipped = _UNREPORTED_FIELDS | (recorded.PERSONAL if is_erased else frozenset())
    skipped |= _FIELDS_WITH_VARIABLE_DEFAULT.difference(params)
    expected = vars(reported)
    if recorded.redaction:
        expected = expected | make_remnant(reported)
    for name, value in expected.items():
        if name not in skipped and getattr(recorded, name) != value:
            return name
    if isinstance(recorded, ChargeSucceeded):
        is_same_capture = (recorded.movement is None) == (get_movement(reported) is None)
        return None if is_same_capture else "captured"
    return None if is_erased or _get_token(recorded) == _get_token(reported) else "source"


def find_dispute_difference(recorded: DisputeOpened, params: Mapping[str, Any]) -> str | None:
    """Compares the opening of a dispute with the report `params`, which may have an `id`."""
    reason = "noncompliant" if params["kind"] == "compliance" else params.get("reason", "general")
    expected = {
        "charge": params["charge"],
        "kind": params["kind"],
        "reason": reason,
        "network_reason_code": params.get("network_reason_code"),
        "reference": params.get("reference"),
    }
    variable = ("amount", "created") if recorded.kind == "prevented" else ("amount", "created", "due_by")
    expected |= {name: params[name] for name in variable if name in params}
    if params.get("id", recorded.originator_id) != recorded.originator_id:
        return "id"
    return _find_different_field(recorded, expected)


def find_fact_difference(recorded: DomainEvent, params: Mapping[str, Any]) -> str | None:
    """Compares the event of a fact with the report `params` of the same fact."""
    movement = get_movement(recorded)
    known = {"due_by": getattr(recorded, "due_by", None)}
    if movement is not None:
        known |= {"amount": -movement["amount"], "created": movement["created"]}
    return next((name for name in known if name in params and params[name] != known[name]), None)


def find_refund_difference(recorded: RefundCreated, params: Mapping[str, Any]) -> str | None:
    """Compares the creation of a refund with the report `params`."""
    expected = {"charge": params["charge"], "reason": params.get("reason")}
    expected |= {name: params[name] for name in ("amount", "created") if name in params}
    if recorded.metadata is not None:
        metadata = params.get("metadata", {})
        expected["metadata"] = redact_metadata(metadata) if recorded.redaction else metadata
    return _find_different_field(recorded, expected)


def find_event_difference(recorded: EventImported, reported: EventImported) -> str | None:
    """Compares an imported Event with the same Event imported again. Of a redacted one, what stayed of it is
    compared with what would stay of the other; of one that is being erased, its type alone."""
    expected = {"type": reported.type}
    if recorded.object is not None:
        personal = {name: getattr(reported, name) for name in reported.PERSONAL}
        expected |= make_remnant(reported) if recorded.redaction else personal
    return _find_different_field(recorded, expected)


def _find_different_field(recorded: DomainEvent, expected: Mapping[str, Any]) -> str | None:
    return next((name for name, value in expected.items() if getattr(recorded, name) != value), None)


def _get_token(event: DomainEvent) -> str | None:
    card = getattr(event, "card", None)
    return card["token"] if card else None
