"""How the value of one personal field is redacted: what stays of it, once its data is erased.

Each rule is a function of a value of JSON. None stays None, so what was never set is not shown as redacted.
A rule applied to its own result changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ledger.domain import evidence
from ledger.domain.redaction.documents import REDACTED, redact_document, redact_locale

Rule = Callable[[Any], Any]

_is_country = re.compile(r"[A-Z]{2}").fullmatch


def keep(value: Any) -> Any:
    """What is not personal: ids, amounts, codes."""
    return value


def redact_text(value: str | None) -> str | None:
    """A placeholder; an empty text stays empty."""
    return value and REDACTED


def redact_metadata(value: Any) -> dict[str, str] | None:
    """None of the keys and values, which are the caller's own."""
    return None if value is None else {}


def redact_country(value: str | None) -> str | None:
    """Stays if it is a code: the field takes any text."""
    return value if value is None or _is_country(value) else redact_text(value)


def redact_locales(value: Sequence[str] | None) -> list[str] | None:
    """Those stay that are codes of a language."""
    return None if value is None else [redact_locale(each) for each in value]


def redact_members(rules: Mapping[str, Rule]) -> Rule:
    """The rule of a hash whose members have these rules; a member without one is left out."""

    def redact(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        return {name: rules[name](member) for name, member in value.items() if name in rules}

    return redact


redact_address: Rule = redact_members(
    {
        "city": redact_text,
        "country": redact_country,
        "line1": redact_text,
        "line2": redact_text,
        "postal_code": redact_text,
        "state": redact_text,
    }
)
redact_shipping: Rule = redact_members(
    {
        "address": redact_address,
        "name": redact_text,
        "phone": redact_text,
        "carrier": redact_text,
        "tracking_number": redact_text,
    }
)
redact_billing_details: Rule = redact_members(
    {
        "address": redact_address,
        "email": redact_text,
        "name": redact_text,
        "phone": redact_text,
        "tax_id": redact_text,
    }
)
redact_card: Rule = redact_members(
    {
        "id": keep,
        "token": keep,
        "brand": keep,
        "last4": keep,
        "exp_month": keep,
        "exp_year": keep,
        "funding": keep,
        "country": keep,
        "fingerprint": redact_text,
        "cvc_check": keep,
    }
)
"""Of a `SourceCard`. Its token names a test card, and a decision about a charge needs it."""

_EVIDENCE_FIELDS = (
    evidence.LONG_TEXT_FIELDS
    | evidence.SHORT_TEXT_FIELDS
    | evidence.FILE_FIELDS
    | {"enhanced_evidence", "appeal"}
)


def redact_evidence(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Evidence of a dispute: the ids of its files stay, and which texts were given."""
    if value is None:
        return None
    return {
        name: member if name in evidence.FILE_FIELDS else redact_document(member)
        for name, member in value.items()
        if name in _EVIDENCE_FIELDS
    }


REDACTION_OF_PAYMENT: dict[str, Rule] = {
    "description": redact_text,
    "receipt_email": redact_text,
    "shipping": redact_shipping,
    "metadata": redact_metadata,
}
"""What charges and payment intents have in common."""
REDACTION_OF_PAYMENT_CHANGES: dict[str, Rule] = {
    **REDACTION_OF_PAYMENT,
    "customer": keep,
    "statement_descriptor": keep,
    "statement_descriptor_suffix": keep,
    "transfer_group": keep,
}
