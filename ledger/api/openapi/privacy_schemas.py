"""Answers about legal holds (internal API §10)."""

from __future__ import annotations

from ledger.wire.json_values import Json
from ledger.wire.schemas.catalog import build_schema, make_list_fields
from ledger.wire.schemas.fields import (
    Fields,
    boolean,
    component,
    constant,
    hash_of,
    livemode,
    nullable_text,
    text,
    unix_time,
)

_LEGAL_HOLD: Fields = {
    "id": text("Id of the hold.", "hold_cus_NffrFeUfNV2Hib"),
    "object": constant("legal_hold"),
    "active": boolean("Whether the object must not be erased.", example=True),
    "held_object": hash_of(
        "The held object.",
        {
            "id": text("Its id.", "cus_NffrFeUfNV2Hib"),
            "object_type": text("Of which kind it is.", "customer"),
        },
    ),
    "livemode": livemode(),
    "placed_at": unix_time("When it was placed last."),
    "placed_by": text("Who placed it: an operator, or the id of a key.", "ada@books1"),
    "reason": nullable_text("Why; null once the object is erased.", "case 4711"),
    "release_reason": nullable_text("Why it was released; null while it holds, or once erased."),
    "released_at": unix_time("When it was released; null while it holds.").or_null(),
    "released_by": nullable_text("Who released it."),
}


def build_privacy_schemas() -> dict[str, Json]:
    """The schemas by name."""
    page = make_list_fields(component("A hold.", "legal_hold"))
    return {
        "legal_hold": build_schema("An object that must not be erased.", _LEGAL_HOLD),
        "legal_hold_list": build_schema("A page of legal holds.", page),
    }
