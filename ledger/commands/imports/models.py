"""The lines of an import: JSON objects whose `op` is the kind of line.

The caller names each object's id, so a line that is sent again changes nothing.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ledger.commands.event_destination_models import DestinationName, EventsFrom
from ledger.commands.models import (
    Body,
    ChargeBody,
    CustomerBody,
    DisputeBody,
    EventType,
    FactBody,
    Id,
    JsonObject,
    Metadata,
    NewId,
    PositiveInteger,
    PublishBody,
    Reference,
    Seconds,
    StorableText,
    Text,
)
from ledger.domain.file import GENERATED_PURPOSES, UPLOAD_PURPOSES
from ledger.domain.refund_decisions import REASONS
from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD
from ledger.wire.event_types import EVENT_TYPES, ORDERED_EVENT_TYPES
from ledger.wire.suggestions import list_alternatives
from ledger.wire.tables.disputes import SUBMISSION_METHODS
from ledger.wire.thin_events import to_snapshot_type
from ledger.wire.versions import LATEST_VERSION, is_version

FILENAME_LENGTH_MAX = 255


def _check_filename(name: str) -> str:
    if not name.isprintable() or "/" in name or "\\" in name:
        raise ValueError("must be a printable file name without path separators")
    return name


def _decode_base64(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("must be base64") from None


def _check_event_type(name: str) -> str:
    if name != EVENT_TYPE_WILDCARD and (to_snapshot_type(name) or name) not in EVENT_TYPES:
        alternatives = list_alternatives(name, ORDERED_EVENT_TYPES)
        raise ValueError(f"must be {EVENT_TYPE_WILDCARD} or an Event type: {alternatives}")
    return name


def _check_api_version(name: str) -> str:
    if not is_version(name):
        raise ValueError(f"must be a supported API version, for example {LATEST_VERSION}")
    return name


EnabledEvent = Annotated[str, AfterValidator(_check_event_type)]


class CustomerLine(CustomerBody):
    op: Literal["customer"]
    id: NewId


class ChargeLine(ChargeBody):
    op: Literal["charge"]
    id: NewId


class DisputeLine(DisputeBody):
    op: Literal["dispute"]
    id: NewId


class FactLine(FactBody):
    op: Literal["fact"]
    dispute: Id
    reference: Reference


class ResponseLine(Body):
    """What the merchant did about a dispute in another system. Test outcomes do not follow from it."""

    op: Literal["response"]
    dispute: Id
    evidence: JsonObject | None = None
    submission: PositiveInteger | None = None
    past_due: bool | None = None
    metadata: Metadata | None = None
    intended_submission_method: Literal[SUBMISSION_METHODS] | None = None  # type: ignore[valid-type]
    closed: bool | None = None


class DeletionLine(Body):
    """The deletion of a customer in another system."""

    op: Literal["deletion"]
    customer: Id


class ResourceLine(PublishBody):
    """The current state of another service's resource, as `PUT /resources/{type}/{id}` takes it."""

    op: Literal["resource"]
    id: NewId
    type: EventType


class WebhookEndpointLine(Body):
    """A webhook endpoint of another system, with a name if it is an event destination. It gets a new signing
    secret: tell it to the receivers."""

    op: Literal["webhook_endpoint"]
    id: NewId
    url: Text
    enabled_events: Annotated[list[EnabledEvent], Field(min_length=1, max_length=len(EVENT_TYPES) + 1)]
    api_version: Annotated[str, AfterValidator(_check_api_version)] | None = None
    connect: bool | None = None
    description: Text | None = None
    disabled: bool | None = None
    metadata: Metadata | None = None
    name: DestinationName | None = None
    event_payload: Literal["snapshot", "thin"] | None = None
    events_from: EventsFrom | None = None
    ordered: bool | None = None
    standard_webhooks: bool | None = None


class EventLine(Body):
    """An Event as another system showed it, of any public type. It joins the feed at the time of the import,
    in the order of the lines, with `request: null`."""

    op: Literal["event"]
    id: NewId
    type: EventType
    object: JsonObject
    previous_attributes: JsonObject | None = None
    account: Id | None = None


class RefundLine(Body):
    """A refund made in another system. It moves money here as `POST /v1/refunds` does."""

    op: Literal["refund"]
    id: NewId
    charge: Id
    amount: PositiveInteger | None = None
    created: Seconds | None = None
    metadata: Metadata | None = None
    reason: Literal[REASONS] | None = None  # type: ignore[valid-type]  # the domain's names, listed once


class FileLine(Body):
    """A file of another system; `content` is base64."""

    op: Literal["file"]
    id: NewId
    purpose: Literal[(*UPLOAD_PURPOSES, *GENERATED_PURPOSES)]  # type: ignore[valid-type]
    content: Annotated[bytes, BeforeValidator(_decode_base64)]
    created: Seconds | None = None
    filename: (
        Annotated[
            StorableText, Field(min_length=1, max_length=FILENAME_LENGTH_MAX), AfterValidator(_check_filename)
        ]
        | None
    ) = None


ImportLine = (
    ChargeLine
    | CustomerLine
    | DeletionLine
    | DisputeLine
    | EventLine
    | FactLine
    | FileLine
    | RefundLine
    | ResourceLine
    | ResponseLine
    | WebhookEndpointLine
)
