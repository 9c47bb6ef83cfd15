"""The JSON bodies of the internal API. One declaration of a field parses it, names it in refusals and
documents it.

A field that is not declared is refused; null means the same as omitting a field. Every accepted body can be
stored and shown again: each text, including names of metadata, is a `StorableText`, each number fits in 64
bits, and each object that is returned unchanged passes `check_object`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from ledger.domain.dispute_decisions import FACTS, KINDS, REASONS
from ledger.errors import InvalidParameter
from ledger.ids import RESERVED_IDS
from ledger.wire.json_values import OBJECT_BYTES_MAX, check_object
from ledger.wire.parameters import missing_parameter_error, unknown_parameter_error
from ledger.wire.scalars import INTEGER_MAX, abbreviate
from ledger.wire.suggestions import find_nearest

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,255}$")]
"""The id of an object that exists."""
StorableText = Annotated[str, Field(pattern=r"^[^\x00]*$")]
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
Currency = Annotated[str, Field(pattern=r"^[A-Za-z]{3}$", examples=["usd"])]


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
    """A customer that exists in another system."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "cus_elsewhere1", "name": "Jenny Rosen", "email": "j@example.com"}]
        }
    )

    id: NewId | None = Field(None, description=_ID_DESCRIPTION)
    address: Address | None = None
    balance: Integer | None = Field(None, description="In minor units; a negative balance is a credit.")
    business_name: Name | None = None
    created: Seconds | None = Field(None, description=_CREATED_DESCRIPTION)
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
    source: Text | None = Field(None, description="A token (`tok_…`) of the default card.")
    tax_exempt: Literal["none", "exempt", "reverse"] | None = None


class BillingDetails(Body):
    address: Address | None = None
    email: Text | None = None
    name: Text | None = None
    phone: Text | None = None
    tax_id: Text | None = None


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
    currency: Currency
    amount_captured: PositiveInteger | None = Field(
        None, description="In minor units, if less than the amount was captured. Default: all of it."
    )
    billing_details: BillingDetails | None = None
    captured: bool | None = Field(None, description="False if the charge is only authorized. Default: true.")
    created: Seconds | None = Field(None, description=_CREATED_DESCRIPTION)
    customer: Id | None = Field(None, description="A customer of the account.")
    description: Annotated[StorableText, Field(max_length=40_000)] | None = None
    failure_code: Text | None = None
    failure_message: Text | None = None
    metadata: Metadata | None = None
    outcome: JsonObject | None = None
    payment_intent: NewId | None = None
    payment_method_details: PaymentMethodDetails | None = Field(
        None, description="Returned unchanged: `type`, and a member of that name."
    )
    receipt_email: Email | None = None
    shipping: ChargeShipping | None = None
    statement_descriptor: StatementDescriptor | None = None
    statement_descriptor_suffix: StatementDescriptor | None = None
    status: Literal["succeeded", "failed"] | None = None
    transfer_group: Text | None = None


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
    charge: Id
    kind: Literal[KINDS]  # type: ignore[valid-type]  # the domain's names, listed once
    reason: Literal[REASONS] | None = None  # type: ignore[valid-type]
    network_reason_code: Annotated[StorableText, Field(max_length=50)] | None = None
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

    fact: Literal[FACTS]  # type: ignore[valid-type]
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


def invalid_json_error(noun: str = "request body") -> InvalidParameter:
    """The refusal of a body, or of another `noun`, that is not JSON at all."""
    return InvalidParameter(f"The {noun} is not valid UTF-8 JSON.")


def validation_error(error: Mapping[str, Any], *, skip: int = 0, model: Any = None) -> InvalidParameter:
    """The refusal for one of pydantic's errors; its `param` is the field's path, `metadata[order]`. `skip`:
    how many leading parts of the error's location are not part of the caller's path. `model`: what was
    validated, for the name that was probably meant by an unknown one."""
    if error["type"] == "json_invalid":  # its location is a number of characters
        return invalid_json_error()
    path = [
        str(part) for part in error["loc"][skip:] if part != "[key]"
    ]  # the error is in a key, not in its value
    path = [part.encode("utf-8", "backslashreplace").decode() for part in path] or ["body"]
    param = _join_path(path)
    if error["type"] == "missing":
        return missing_parameter_error(param)
    if error["type"] == "extra_forbidden":
        nearest = find_nearest(path[-1], _list_fields(model, path[:-1]))
        return unknown_parameter_error(param, nearest and _join_path([*path[:-1], nearest]))
    text = error["msg"].removeprefix("Value error, ")  # pydantic's prefix to the messages of our validators
    return InvalidParameter(f"Invalid {param}: {text}", param=param)


def _join_path(path: Sequence[str]) -> str:
    name, *members = map(abbreviate, path)
    return name + "".join(f"[{member}]" for member in members)


def _list_fields(annotation: Any, path: Sequence[str]) -> list[str]:
    """The fields of the model at `path` inside what `annotation` allows; of each, where it allows several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        if not path:
            return list(fields)
        return _list_fields(fields[path[0]].annotation, path[1:]) if path[0] in fields else []
    if get_origin(annotation) is list:  # the path has an index
        path = path[1:]
    return [name for each in get_args(annotation) for name in _list_fields(each, path)]
