"""The JSON bodies of the internal API. One declaration of a field parses it, names it in refusals and
documents it.

A field that is not declared is refused; null means the same as omitting a field. Every accepted body can be
stored and shown again: each text, including names of metadata, is a `StorableText`, each number fits in 64
bits, and each object that is returned unchanged passes `check_object`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from ledger.domain.dispute_decisions import FACTS, KINDS, REASONS
from ledger.ids import RESERVED_IDS
from ledger.wire.json_values import OBJECT_BYTES_MAX, check_object
from ledger.wire.scalars import INTEGER_MAX

_ID_PATTERN = r"^[A-Za-z0-9_.\-]{1,255}$"
_STORABLE_PATTERN = r"^[^\x00]*$"
_CURRENCY_PATTERN = r"^[A-Za-z]{3}$"
_INVOICE_PREFIX_PATTERN = r"^[A-Z0-9]{3,12}$"
_CODE_PATTERN = r"^[a-z0-9_]{1,64}$"
PATTERN_RULES = {
    _ID_PATTERN: "must be 1 to 255 letters, digits, _, - and .",
    _STORABLE_PATTERN: "must be Unicode text without NUL characters",
    _CURRENCY_PATTERN: "must be a three-letter ISO currency code",
    _CODE_PATTERN: "must be 1 to 64 lowercase letters, digits and _",
    _INVOICE_PREFIX_PATTERN: "must be 3 to 12 uppercase letters or digits",
}
"""What an error says of a value that does not match a pattern of a body."""

Id = Annotated[str, Field(pattern=_ID_PATTERN)]
"""The id of an object that exists."""
StorableText = Annotated[str, Field(pattern=_STORABLE_PATTERN)]
"""Text that Postgres and JSON can store: no NUL. The pattern also refuses half of a surrogate pair."""
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
Currency = Annotated[str, Field(pattern=_CURRENCY_PATTERN, examples=["usd"])]


def _check_not_reserved(object_id: str) -> str:
    if object_id in RESERVED_IDS:
        raise ValueError(f"'{object_id}' is reserved")
    return object_id


def _check_payment_method_details(details: dict[str, Any]) -> dict[str, Any]:
    """Check the two members that disputes show, `type` and the card's brand; any others are allowed."""
    card = details.get("card")
    if not isinstance(details.get("type"), str):
        raise ValueError("must have a type")
    if card is not None and not (isinstance(card, dict) and isinstance(card.get("brand"), str | None)):
        raise ValueError("card must be an object, and its brand a string")
    return details


NewId = Annotated[Id, AfterValidator(_check_not_reserved)]
"""An id that the caller chooses, or that names an object of another service."""
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(check_object)]
PaymentMethodDetails = Annotated[JsonObject, AfterValidator(_check_payment_method_details)]

_ID_DESCRIPTION = "The object's id; generated when absent. The same id and content again changes nothing."
_CREATED_DESCRIPTION = "Creation time in unix seconds. Default: now."
_FACT_CREATED_DESCRIPTION = (
    "When it happened, in unix seconds: in the past, not before the {subject}. Default: now."
)


class Body(BaseModel):
    """A JSON object with declared fields only, without conversions: "1" is not a number."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def to_params(self) -> dict[str, Any]:
        """The fields that are present and not null, by name, as commands take them."""
        return self.model_dump(exclude_none=True)


class Address(Body):
    city: Text | None = Field(None, description="City, town or village.")
    country: Text | None = Field(None, description="Two-letter code of the country (ISO 3166-1).")
    line1: Text | None = Field(None, description="Street and number, or a box.")
    line2: Text | None = Field(None, description="Apartment, floor or building.")
    postal_code: Text | None = Field(None, description="Postal code.")
    state: Text | None = Field(None, description="State, province or region.")


class CustomerShipping(Body):
    address: Address = Field(description="Where to.")
    name: Text = Field(description="The recipient.")
    phone: Text | None = Field(None, description="The recipient's phone number.")


class ChargeShipping(CustomerShipping):
    carrier: Text | None = Field(None, description="Who delivers, such as `DHL`.")
    tracking_number: Text | None = Field(
        None, description="The carrier's number; several are separated by commas."
    )


class CustomField(Body):
    name: Annotated[StorableText, Field(max_length=40)] = Field(description="The field's name.")
    value: Annotated[StorableText, Field(max_length=140)] = Field(description="The field's value.")


class RenderingOptions(Body):
    amount_tax_display: Literal["exclude_tax", "include_inclusive_tax"] | None = Field(
        None, description="How line items show tax on PDFs."
    )
    template: Text | None = Field(None, description="Id of an invoice rendering template.")


class InvoiceSettings(Body):
    custom_fields: Annotated[list[CustomField], Field(max_length=4)] | None = Field(
        None, description="Fields shown on invoices."
    )
    default_payment_method: Text | None = Field(None, description="Id of a payment method.")
    footer: Text | None = Field(None, description="Shown at the foot of invoices.")
    rendering_options: RenderingOptions | None = Field(None, description="How invoice PDFs are rendered.")


class CustomerBody(Body):
    """A customer that exists in another system."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "cus_elsewhere1", "name": "Jenny Rosen", "email": "j@example.com"}]
        }
    )

    id: NewId | None = Field(None, description=_ID_DESCRIPTION)
    address: Address | None = Field(None, description="The customer's address.")
    balance: Integer | None = Field(None, description="In minor units; a negative balance is a credit.")
    business_name: Name | None = Field(None, description="The name of the business.")
    created: Seconds | None = Field(None, description=_CREATED_DESCRIPTION)
    description: Text | None = Field(None, description="Your description of the customer.")
    email: Email | None = Field(None, description="The customer's email address.")
    individual_name: Name | None = Field(None, description="The name of the person.")
    invoice_prefix: Annotated[str, Field(pattern=_INVOICE_PREFIX_PATTERN)] | None = Field(
        None, description="Prefix of the customer's invoice numbers."
    )
    invoice_settings: InvoiceSettings | None = Field(
        None, description="Defaults for the customer's invoices."
    )
    metadata: Metadata | None = Field(None, description="Key-value pairs of your own.")
    name: Text | None = Field(None, description="Full name of the person, or name of the business.")
    next_invoice_sequence: PositiveInteger | None = Field(
        None, description="Number of the customer's next invoice."
    )
    phone: Text | None = Field(None, description="The customer's phone number.")
    preferred_locales: Annotated[list[Text], Field(max_length=100)] | None = Field(
        None, description="Preferred languages, best first."
    )
    shipping: CustomerShipping | None = Field(None, description="Shipping details.")
    source: Text | None = Field(None, description="A token (`tok_…`) of the default card.")
    tax_exempt: Literal["none", "exempt", "reverse"] | None = Field(
        None, description="Whether the customer is exempt from tax. Default: none."
    )


class BillingDetails(Body):
    address: Address | None = Field(None, description="Address of the payer.")
    email: Text | None = Field(None, description="Email address of the payer.")
    name: Text | None = Field(None, description="Name of the payer.")
    phone: Text | None = Field(None, description="Phone number of the payer.")
    tax_id: Text | None = Field(None, description="Tax number of the payer.")


class ChargeBody(Body):
    """A charge made in another system."""

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

    id: NewId | None = Field(None, description=_ID_DESCRIPTION)
    amount: Integer = Field(description="In minor units of the currency.")
    currency: Currency = Field(description="Three-letter ISO code, in either case.")
    amount_captured: PositiveInteger | None = Field(
        None, description="In minor units, if less than the amount was captured. Default: all of it."
    )
    billing_details: BillingDetails | None = Field(
        None, description="Who paid, as given with the payment method."
    )
    captured: bool | None = Field(None, description="False if the charge is only authorized. Default: true.")
    created: Seconds | None = Field(None, description=_CREATED_DESCRIPTION)
    customer: Id | None = Field(None, description="A customer of the account.")
    description: Annotated[StorableText, Field(max_length=40_000)] | None = Field(
        None, description="Your description of the charge."
    )
    failure_code: Annotated[str, Field(pattern=_CODE_PATTERN)] | None = Field(
        None, description="Of a failed charge: the code of the reason. Default: card_declined."
    )
    failure_message: Text | None = Field(None, description="Of a failed charge: the reason in words.")
    metadata: Metadata | None = Field(None, description="Key-value pairs of your own.")
    outcome: JsonObject | None = Field(
        None, description="Returned unchanged. Default: what a charge with this status has here."
    )
    payment_intent: NewId | None = Field(None, description="Id of the payment intent that the charge is of.")
    payment_method_details: PaymentMethodDetails | None = Field(
        None, description="Returned unchanged: `type`, and a member of that name."
    )
    receipt_email: Email | None = Field(None, description="Email address for the receipt.")
    shipping: ChargeShipping | None = Field(None, description="Shipping details of the goods.")
    statement_descriptor: StatementDescriptor | None = Field(
        None, description="Text on the customer's statement."
    )
    statement_descriptor_suffix: StatementDescriptor | None = Field(
        None, description="Text on the customer's statement, after the account's prefix."
    )
    status: Literal["succeeded", "failed"] | None = Field(None, description="Default: succeeded.")
    transfer_group: Text | None = Field(
        None, description="Identifies the group of payments that this one belongs to."
    )


class DisputeBody(Body):
    """A dispute that the card network has opened."""

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

    id: NewId | None = Field(None, description=_ID_DESCRIPTION)
    charge: Id = Field(description="The charge, one of the account.")
    kind: Literal[KINDS] = Field(  # type: ignore[valid-type]  # the domain's names, listed once
        description="What the network opened. A chargeback or compliance dispute withdraws the money at once."
    )
    reason: Literal[REASONS] | None = Field(  # type: ignore[valid-type]
        None, description="Default: general. Of a compliance dispute it is always noncompliant."
    )
    network_reason_code: Annotated[StorableText, Field(max_length=50)] | None = Field(
        None, description="The network's own code of the reason, such as `10.4`."
    )
    amount: PositiveInteger | None = Field(
        None, description="In minor units. Default: what was captured and is not disputed yet."
    )
    created: Seconds | None = Field(None, description=_FACT_CREATED_DESCRIPTION.format(subject="charge"))
    due_by: Seconds | None = Field(
        None, description="Evidence deadline in unix seconds. Default: some days after `created`."
    )
    reference: Reference | None = Field(
        None,
        description="The network's reference for this dispute. The same reference again, with the same "
        "content, opens no second dispute.",
    )


class FactBody(Body):
    """A fact that the card network reports about a dispute."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"fact": "won", "reference": "net-7781-won"}]})

    fact: Literal[FACTS] = Field(  # type: ignore[valid-type]
        description="What the network has decided; which facts may follow depends on the status."
    )
    reference: Reference | None = Field(
        None,
        description="The network's reference for this fact. The same reference again, with the same content, "
        "returns the same answer and changes nothing.",
    )
    amount: PositiveInteger | None = Field(
        None, description="With escalated: the amount in minor units. Default: the amount of the inquiry."
    )
    created: Seconds | None = Field(None, description=_FACT_CREATED_DESCRIPTION.format(subject="dispute"))
    due_by: Seconds | None = Field(
        None, description="With escalated and appeal_opened: the new evidence deadline in unix seconds."
    )


class PublishBody(Body):
    """The current state of another service's resource, and the type of the Event to publish."""

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
        description="A public Event type, except the types that this ledger emits itself."
    )
    object: JsonObject = Field(
        description="The whole resource. `id`, `object` and `livemode` may be omitted; if present they must "
        f"match the path and the key. At most {OBJECT_BYTES_MAX} bytes of JSON."
    )
    account: Id | None = Field(None, description="A connected account to act on, like Stripe-Account.")


class UnpublishBody(Body):
    """The deletion of another service's resource."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"event_type": "invoice.deleted"}]})

    event_type: EventType | None = Field(None, description="Ends in `.deleted`. Default: `{type}.deleted`.")
    account: Id | None = Field(None, description="A connected account to act on, like Stripe-Account.")
