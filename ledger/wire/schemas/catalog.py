"""Every schema of the public API by its name: objects, lists of them, stubs of deleted ones.

The names are those of the types in generated clients, so they stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ledger.wire.expansion import EXPANDABLE_FIELDS
from ledger.wire.json_values import Json
from ledger.wire.schemas import (
    accounts,
    balance,
    cards,
    charges,
    customers,
    disputes,
    event_destinations,
    events,
    files,
    payment_intents,
    redaction_jobs,
)
from ledger.wire.schemas.fields import (
    Expansion,
    Field,
    Fields,
    array,
    boolean,
    build_object_schema,
    component,
    constant,
    document,
    make_object_example,
    nullable_text,
    text,
)

PUBLISHED = "published_object"


class ObjectSchema(NamedTuple):
    """An object with a schema of its own. `expandable`: its key in EXPANDABLE_FIELDS, by default its name."""

    description: str
    fields: Fields
    expandable: str | None = None


OBJECTS: dict[str, ObjectSchema] = {
    "account": ObjectSchema("An account. Here it is an id and a name; all else is fixed.", accounts.ACCOUNT),
    "balance": ObjectSchema("The account's money, by currency.", balance.BALANCE),
    "balance_transaction": ObjectSchema("A movement of money.", balance.BALANCE_TRANSACTION),
    "capability": ObjectSchema("Something that an account can do.", accounts.CAPABILITY),
    "card": ObjectSchema("A saved or charged card.", cards.CARD),
    "card_details": ObjectSchema("How a charge on a test card was paid.", cards.CARD_DETAILS),
    "charge": ObjectSchema("A payment.", charges.CHARGE),
    "customer": ObjectSchema("Somebody who pays.", customers.CUSTOMER),
    "customer_session": ObjectSchema(
        "Access of a front end to one customer, once and for a limited time.", customers.CUSTOMER_SESSION
    ),
    "dispute": ObjectSchema("A charge that the card holder disputes.", disputes.DISPUTE),
    "elements_session": ObjectSchema("What a payment form needs to start.", customers.ELEMENTS_SESSION),
    "event": ObjectSchema("Something that happened to an object.", events.EVENT),
    "event_destination": ObjectSchema(
        "Where thin events or Events are sent.", event_destinations.EVENT_DESTINATION
    ),
    "file": ObjectSchema("An uploaded file.", files.FILE),
    "file_link": ObjectSchema("A URL of a file for those without a key.", files.FILE_LINK),
    "payment_intent": ObjectSchema(
        "A payment that is yet to be made, or was.", payment_intents.PAYMENT_INTENT
    ),
    "payment_method": ObjectSchema("A card as a payment method.", cards.PAYMENT_METHOD),
    "privacy.redaction_job": ObjectSchema(
        "An erasure of personal data: what it erases, and how far it is.", redaction_jobs.REDACTION_JOB
    ),
    "privacy.redaction_job_validation_error": ObjectSchema(
        "What keeps a redaction job from running.", redaction_jobs.VALIDATION_ERROR
    ),
    "refund": ObjectSchema("Money of a charge that was paid back.", charges.REFUND),
    "thin_event": ObjectSchema("Something that happened, without the object.", events.THIN_EVENT),
    "webhook_endpoint": ObjectSchema("Where Events are delivered to.", events.WEBHOOK_ENDPOINT),
}
LISTED = (
    "account", "balance_transaction", "capability", "card", "charge", "customer", "dispute", "event", "file",
    "file_link", "payment_intent", "payment_method", "privacy.redaction_job",
    "privacy.redaction_job_validation_error", "refund", "webhook_endpoint",
)  # fmt: skip
"""The objects of which there are lists."""
V2_LISTED = ("event_destination", "thin_event")
"""The objects of which there are lists of /v2."""
DELETED = ("customer", "webhook_endpoint")
"""The objects of which a stub remains."""
SHARED = ("payment_intent", "payment_method")
"""Objects of these types may be another service's instead, with other members."""
SOURCES = ("charge", "dispute", "refund")


def build_public_schemas() -> dict[str, Json]:
    """The schemas by name."""
    schemas: dict[str, Json] = {}
    for name, described in OBJECTS.items():
        schemas[name] = build_schema(described.description, described.fields, EXPANDABLE_FIELDS.get(name))
    for name in LISTED:
        kinds = (name, PUBLISHED) if name in SHARED else (name,)
        schemas[f"{name}_list"] = _build_list(f"A page of objects of the type {name}.", *kinds)
    for name in V2_LISTED:
        schemas[f"{name}_list"] = build_schema(f"A page of objects of the type {name}.", _make_v2_list(name))
    deleted_destination = event_destinations.DELETED_EVENT_DESTINATION
    schemas["deleted_event_destination"] = build_schema("A deleted event destination.", deleted_destination)
    for name in DELETED:
        schemas[f"deleted_{name}"] = _build_stub(constant(name))
    schemas[f"{PUBLISHED}_list"] = _build_list("A page of objects of another service.", PUBLISHED)
    schemas["empty_list"] = build_schema("A list without items.", make_list_fields(document("Nothing.")))
    published = build_schema(
        "An object that another service published, as it published it.", events.PUBLISHED_OBJECT
    )
    example = {name: events.PUBLISHED_OBJECT[name].example for name in ("id", "object")}
    schemas[PUBLISHED] = {**published, "additionalProperties": True, "examples": [example]}
    return schemas


def build_schema(description: str, fields: Fields, expandable: Mapping[str, Any] | None = None) -> Json:
    """The schema of an object, with an example made of those of its members."""
    schema = build_object_schema(description, fields, expandable or {}, EXPANSION)
    example = make_object_example(fields)
    return {**schema, "examples": [example]} if example else schema


def make_list_fields(item: Field) -> Fields:
    """The members of a list object."""
    return {
        "object": constant("list"),
        "data": array("The items of this page.", item),
        "has_more": boolean("Whether there are more after this page."),
        "url": text("Where the whole list is read.", "/v1/customers"),
    }


def _build_list(description: str, *kinds: str) -> Json:
    return build_schema(description, make_list_fields(component("An item.", *kinds)))


def _make_v2_list(kind: str) -> Fields:
    return {
        "data": array("The items of this page.", component("An item.", kind)),
        "next_page_url": nullable_text("URL of the page of older items, relative to the API."),
        "previous_page_url": nullable_text("URL of the page of newer items, relative to the API."),
    }


def _build_stub(kind: Field) -> Json:
    fields: Fields = {
        "id": text("Its id.", "cus_NffrFeUfNV2Hib"),
        "object": kind,
        "deleted": boolean("Always true.", example=True),
    }
    return build_schema("What remains of a deleted object.", fields)


def list_kinds(name: str) -> tuple[str, ...]:
    """The schemas that an object behind an id of this type may have."""
    return (
        name,
        *((f"deleted_{name}",) if name in DELETED else ()),
        *((PUBLISHED,) if name in SHARED else ()),
    )


EXPANSION = Expansion({name: list_kinds(name) for name in OBJECTS} | {"source": SOURCES}, (PUBLISHED,))
