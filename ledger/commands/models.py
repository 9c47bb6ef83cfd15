"""What the catalogue takes as JSON: each field declared once, so parsed, refused by name and documented.

A field that is not declared is refused. Null means the same as leaving it out. Whatever passes can be kept
and shown again: every text is a `StorableText`, names of metadata too, every number is within 64 bits, and
what is shown as it was told passes `check_object`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from ledger.domain.dispute_decisions import FACTS, KINDS, REASONS
from ledger.domain.webhook_endpoint import EVENT_TYPE_WILDCARD
from ledger.errors import InvalidParameter
from ledger.wire.event_types import EVENT_TYPES
from ledger.wire.json_values import OBJECT_BYTES_MAX, check_object
from ledger.wire.parameters import missing_parameter_error, unknown_parameter_error
from ledger.wire.scalars import INTEGER_MAX
from ledger.wire.versions import VERSIONS

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,255}$")]
StorableText = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""Text that Postgres and JSON can keep: no NUL; half of a surrogate pair is no text to the pattern."""
Text = Annotated[StorableText, Field(max_length=5000)]
Email = Annotated[StorableText, Field(max_length=512)]
Name = Annotated[StorableText, Field(max_length=150)]
Reference = Annotated[StorableText, Field(min_length=1, max_length=255)]
StatementDescriptor = Annotated[StorableText, Field(max_length=22)]
EventType = Annotated[StorableText, Field(max_length=100)]
Metadata = dict[StorableText, Text]
Integer = Annotated[int, Field(ge=-INTEGER_MAX, le=INTEGER_MAX)]
PositiveInteger = Annotated[int, Field(ge=1, le=INTEGER_MAX)]
Seconds = Annotated[int, Field(ge=0, le=2**53)]
Currency = Annotated[str, Field(pattern=r"^[A-Za-z]{3}$", examples=["usd"])]


def _check_payment_method_details(details: dict[str, Any]) -> dict[str, Any]:
    """Only `type` and the card's brand are read here (a dispute shows them); the rest is shown as given."""
    card = details.get("card")
    if not isinstance(details.get("type"), str):
        raise ValueError("must have a type")
    if card is not None and not (isinstance(card, dict) and isinstance(card.get("brand"), str | None)):
        raise ValueError("card must be an object, and its brand a string")
    return details


def _check_event_type(name: str) -> str:
    if name != EVENT_TYPE_WILDCARD and name not in EVENT_TYPES:
        raise ValueError(f"must be {EVENT_TYPE_WILDCARD} or a type of Event")
    return name


def _check_api_version(name: str) -> str:
    if name not in VERSIONS:
        raise ValueError("must be a version of the API")
    return name


EnabledEvent = Annotated[str, AfterValidator(_check_event_type)]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(check_object)]
PaymentMethodDetails = Annotated[JsonObject, AfterValidator(_check_payment_method_details)]

_FIELD_ERRORS = {"extra_forbidden": unknown_parameter_error, "missing": missing_parameter_error}


class Body(BaseModel):
    """What is not declared is refused, and nothing is taken for something else ("1" is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def to_params(self) -> dict[str, Any]:
        """The fields that hold something, by name, as decisions take them."""
        return self.model_dump(exclude_none=True)


class Address(Body):
    city: Text | None = None
    country: Text | None = None
    line1: Text | None = None
    line2: Text | None = None
    postal_code: Text | None = None
    state: Text | None = None


class CustomerShipping(Body):
    address: Address
    name: Text
    phone: Text | None = None


class ChargeShipping(CustomerShipping):
    carrier: Text | None = None
    tracking_number: Text | None = None


class CustomField(Body):
    name: Annotated[StorableText, Field(max_length=40)]
    value: Annotated[StorableText, Field(max_length=140)]


class RenderingOptions(Body):
    amount_tax_display: Literal["exclude_tax", "include_inclusive_tax"] | None = None
    template: Text | None = None


class InvoiceSettings(Body):
    custom_fields: Annotated[list[CustomField], Field(max_length=4)] | None = None
    default_payment_method: Text | None = None
    footer: Text | None = None
    rendering_options: RenderingOptions | None = None


class CustomerBody(Body):
    """A customer, as one that exists elsewhere."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "cus_elsewhere1", "name": "Jenny Rosen", "email": "j@example.com"}]
        }
    )

    id: Id | None = Field(None, description="Its id; made when absent. The same again changes nothing.")
    address: Address | None = None
    balance: Integer | None = Field(None, description="In minor units; negative is a credit.")
    business_name: Name | None = None
    created: Seconds | None = Field(None, description="When it was made, unix seconds; now when absent.")
    description: Text | None = None
    email: Email | None = None
    individual_name: Name | None = None
    invoice_prefix: Annotated[str, Field(pattern=r"^[A-Z0-9]{3,12}$")] | None = None
    invoice_settings: InvoiceSettings | None = None
    metadata: Metadata | None = None
    name: Text | None = None
    next_invoice_sequence: PositiveInteger | None = None
    phone: Text | None = None
    preferred_locales: Annotated[list[Text], Field(max_length=100)] | None = None
    shipping: CustomerShipping | None = None
    source: Text | None = Field(None, description="A token (`tok_…`), attached as the default card.")
    tax_exempt: Literal["none", "exempt", "reverse"] | None = None


class BillingDetails(Body):
    address: Address | None = None
    email: Text | None = None
    name: Text | None = None
    phone: Text | None = None
    tax_id: Text | None = None


class ChargeBody(Body):
    """A charge that was made elsewhere."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ch_elsewhere1",
                    "amount": 2000,
                    "currency": "usd",
                    "payment_method_details": {"type": "card", "card": {"brand": "visa", "last4": "4242"}},
                }
            ]
        }
    )

    id: Id | None = Field(None, description="Its id; made when absent. The same again changes nothing.")
    amount: Integer = Field(description="In minor units of the currency.")
    currency: Currency
    billing_details: BillingDetails | None = None
    captured: bool | None = Field(None, description="False for one only authorized. True when absent.")
    created: Seconds | None = Field(None, description="When it was made, unix seconds; now when absent.")
    customer: Id | None = Field(None, description="A customer of the account.")
    description: Annotated[StorableText, Field(max_length=40_000)] | None = None
    failure_code: Text | None = None
    failure_message: Text | None = None
    metadata: Metadata | None = None
    outcome: JsonObject | None = None
    payment_intent: Id | None = None
    payment_method_details: PaymentMethodDetails | None = Field(
        None, description="Shown as given: `type`, and a member of that name."
    )
    receipt_email: Email | None = None
    shipping: ChargeShipping | None = None
    statement_descriptor: StatementDescriptor | None = None
    statement_descriptor_suffix: StatementDescriptor | None = None
    status: Literal["succeeded", "failed"] | None = None
    transfer_group: Text | None = None


class DisputeBody(Body):
    """A dispute that the network has opened."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "charge": "ch_elsewhere1",
                    "kind": "chargeback",
                    "reason": "fraudulent",
                    "reference": "net-7781",
                }
            ]
        }
    )

    id: Id | None = Field(None, description="Its id; made when absent.")
    charge: Id
    kind: Literal[KINDS]  # type: ignore[valid-type]  # the domain's names, listed once
    reason: Literal[REASONS] | None = None  # type: ignore[valid-type]
    network_reason_code: Annotated[StorableText, Field(max_length=50)] | None = None
    amount: PositiveInteger | None = Field(
        None, description="In minor units; all that can be disputed when absent."
    )
    due_by: Seconds | None = Field(None, description="Until when evidence is taken, unix seconds.")
    reference: Reference | None = Field(
        None, description="The network's name of this fact: the same again opens nothing more."
    )


class FactBody(Body):
    """What the network says of a dispute."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"fact": "won", "reference": "net-7781-won"}]})

    fact: Literal[FACTS]  # type: ignore[valid-type]
    reference: Reference | None = Field(
        None, description="The network's name of this fact: the same again is answered, nothing happens."
    )
    due_by: Seconds | None = Field(None, description="With escalated and appeal_opened: the new due date.")


class PublishBody(Body):
    """A resource of another service, as it is now, and what happened to it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_type": "invoice.payment_failed",
                    "object": {"status": "open", "amount_due": 2000, "attempt_count": 1},
                }
            ]
        }
    )

    event_type: EventType = Field(
        description="One of the public event types, but none that this ledger makes itself."
    )
    object: JsonObject = Field(
        description="The whole resource. `id`, `object` and `livemode` may be left out; else they are those "
        f"of the path and the key. At most {OBJECT_BYTES_MAX} bytes of JSON."
    )
    account: Id | None = Field(None, description="A connected account to act on, like Stripe-Account.")


class UnpublishBody(Body):
    """The end of a resource of another service."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"event_type": "invoice.deleted"}]})

    event_type: EventType | None = Field(
        None, description="Ends in `.deleted`; `{type}.deleted` when absent."
    )
    account: Id | None = Field(None, description="A connected account to act on, like Stripe-Account.")


class CustomerLine(CustomerBody):
    op: Literal["customer"]
    id: Id


class ChargeLine(ChargeBody):
    op: Literal["charge"]
    id: Id


class DisputeLine(DisputeBody):
    op: Literal["dispute"]
    id: Id


class FactLine(FactBody):
    op: Literal["fact"]
    dispute: Id
    reference: Reference


class WebhookEndpointLine(Body):
    """A webhook endpoint that was made elsewhere. It gets a secret of ours: receivers have to be told."""

    op: Literal["webhook_endpoint"]
    id: Id
    url: Text
    enabled_events: Annotated[list[EnabledEvent], Field(min_length=1, max_length=len(EVENT_TYPES) + 1)]
    api_version: Annotated[str, AfterValidator(_check_api_version)] | None = None
    connect: bool | None = None
    description: Text | None = None
    disabled: bool | None = None
    metadata: Metadata | None = None


Line = CustomerLine | ChargeLine | DisputeLine | FactLine | WebhookEndpointLine


def invalid_json_error() -> InvalidParameter:
    """The refusal of a body or a line that is none, and has no fields to name."""
    return InvalidParameter("What was sent is not JSON in UTF-8.")


def validation_error(error: Mapping[str, Any], *, skip: int = 0) -> InvalidParameter:
    """The refusal for one of pydantic's errors, naming the field in brackets. `skip`: how many parts of
    its place are not the caller's."""
    if error["type"] == "json_invalid":  # its place is a number of characters
        return invalid_json_error()
    path = [str(part) for part in error["loc"][skip:] if part != "[key]"]  # a name of a hash, not its value
    name, *members = [part.encode("utf-8", "backslashreplace").decode() for part in path] or ["body"]
    param = name + "".join(f"[{member}]" for member in members)
    make_error = _FIELD_ERRORS.get(error["type"])
    return (
        make_error(param) if make_error else InvalidParameter(f"Invalid {param}: {error['msg']}", param=param)
    )
