"""The member `redaction` of customers, charges and payment intents, which only preview versions show.

It is rendered where an object is redacted (`ledger/objects`); the answer to a request then gets it as the
version of the request has it: null in the objects that are not redacted, or nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ledger.domain.aggregate import State
from ledger.domain.charge import Charge
from ledger.domain.customer import Customer
from ledger.domain.payment_intent import PaymentIntent
from ledger.wire.json_values import Json

SHOW_REDACTION = (Customer, Charge, PaymentIntent)
REDACTION_TEXT = '"redaction":{'
"""In the text of an answer that shows a redacted object; perhaps in another one, too."""

_NAME = "redaction"
_OBJECT_TYPES = frozenset({"customer", "charge", "payment_intent"})
# Objects in which one of these may stand: what other services publish is shown as they have it, and an Event
# as it was then.
_HOLDERS = _OBJECT_TYPES | {"balance_transaction", "card", "dispute", "list", "payment_method", "refund"}


def render_redaction(state: State) -> Json:
    """The member of a redacted object, to be added to its JSON; {} for one that is not, or never shows it."""
    if state.redaction and isinstance(state, SHOW_REDACTION):
        return {_NAME: {"status": state.redaction}}
    return {}


def add_redaction(answer: Mapping[str, Any]) -> Json:
    """The answer of a preview version: the objects that are not redacted say so."""
    return _convert_object(answer, is_preview=True)


def remove_redaction(answer: Mapping[str, Any]) -> Json:
    """The answer of any other version."""
    return _convert_object(answer, is_preview=False)


def _convert_object(document: Mapping[str, Any], *, is_preview: bool) -> Json:
    object_type = document.get("object")
    if object_type is not None and object_type not in _HOLDERS:
        return dict(document)
    converted = {name: _convert(value, is_preview=is_preview) for name, value in document.items()}
    if object_type in _OBJECT_TYPES and "deleted" not in document:
        if is_preview:
            converted.setdefault(_NAME, None)
        else:
            converted.pop(_NAME, None)
    return converted


def _convert(value: Any, *, is_preview: bool) -> Any:
    if isinstance(value, dict):
        return _convert_object(value, is_preview=is_preview)
    if isinstance(value, list):
        return [_convert(item, is_preview=is_preview) for item in value]
    return value
