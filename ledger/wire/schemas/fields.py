"""Fields of objects in answers, and the JSON schema and the empty template of an object made of them.

A table of fields has all members of an object in the order in which they are rendered. A renderer that fills
in a template gets it from the table, so a member without a field is never rendered, nor a field forgotten;
tests check every other renderer against its table. What `expand[]` may name is not repeated here: the schema
takes it from `wire/expansion`, which parses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger.wire.json_values import Json

COMPONENTS = "#/components/schemas/"
NULL: Json = {"type": "null"}
METADATA_EXAMPLE = {"order_id": "6735"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One member of an object.

    schema      its JSON schema, unless it has `members` or an `item`
    members     those of a hash
    item        each item of an array
    example     a value as the contract shows it
    nullable    whether it may be null
    optional    whether it is missing in some answers
    is_id       whether it holds the id of an object, which `expand[]` may replace
    """

    description: str
    schema: Json | None = None
    members: Mapping[str, Field] | None = None
    item: Field | None = None
    example: Any = None
    nullable: bool = False
    optional: bool = False
    is_id: bool = False

    def or_null(self) -> Field:
        """The same field, which may be null."""
        return replace(self, nullable=True)

    def or_missing(self) -> Field:
        """The same field, which is missing in some answers."""
        return replace(self, optional=True)


Fields = Mapping[str, Field]


def text(description: str, example: str | None = "") -> Field:
    """A string."""
    return Field(description=description, schema={"type": "string"}, example=example)


def nullable_text(description: str, example: str | None = None) -> Field:
    """A string or null."""
    return text(description, example).or_null()


def identifier(description: str, example: str | None = None) -> Field:
    """The id of an object; the object itself where `expand[]` names it."""
    return replace(text(description, example), is_id=True)


def constant(value: str) -> Field:
    """The same string in every object: the member `object`."""
    schema = {"type": "string", "enum": [value]}
    return Field(description="What kind of object this is.", schema=schema, example=value)


def choice(description: str, values: Sequence[str], example: str | None = None) -> Field:
    """One of the strings in `values`."""
    schema = {"type": "string", "enum": list(values)}
    return Field(description=description, schema=schema, example=example or values[0])


def integer(description: str, example: int = 0) -> Field:
    """An integer of at most 64 bits."""
    return Field(description=description, schema={"type": "integer"}, example=example)


def number(description: str, example: float = 0.0) -> Field:
    """A number, which may have a fraction."""
    return Field(description=description, schema={"type": "number"}, example=example)


def amount(description: str, example: int = 2000) -> Field:
    """Money in minor units of the object's currency."""
    schema = {"type": "integer", "format": "minor-units"}
    return Field(description=f"{description} In minor units.", schema=schema, example=example)


def currency(description: str = "Three-letter ISO 4217 code, in lower case.") -> Field:
    """A currency."""
    return Field(description=description, schema={"type": "string", "format": "currency"}, example="usd")


def unix_time(description: str, example: int = 1795000000) -> Field:
    """A time in unix seconds."""
    schema = {"type": "integer", "format": "unix-time"}
    return Field(description=description, schema=schema, example=example)


def iso_time(description: str) -> Field:
    """A time as a text of ISO 8601, in UTC."""
    return text(description, "2026-11-18T11:06:40.000000Z")


def rfc3339_time(description: str) -> Field:
    """A time of /v2, as RFC 3339 has it."""
    schema = {"type": "string", "format": "date-time"}
    return Field(description=description, schema=schema, example="2026-11-18T11:06:40.000Z")


def boolean(description: str, example: bool = False) -> Field:
    """True or false."""
    return Field(description=description, schema={"type": "boolean"}, example=example)


def livemode() -> Field:
    """The member `livemode`."""
    return boolean("True in live mode, false in test mode.")


def unused(description: str = "Always null here.") -> Field:
    """A member that Stripe's object has and that is null in every object of this service."""
    return Field(description=description, schema=NULL, nullable=True)


def hash_of(description: str, members: Fields) -> Field:
    """A hash with these members."""
    return Field(description=description, members=members)


def array(description: str, item: Field) -> Field:
    """An array."""
    return Field(description=description, item=item)


def redaction() -> Field:
    """The member `redaction`."""
    status = choice("How far it is.", ("processing", "redacted"), "redacted")
    text = "Only in preview versions: the erasure of the personal data; null if there was none."
    return hash_of(text, {"status": status}).or_null().or_missing()


def metadata() -> Field:
    """The caller's own keys and values."""
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    return Field(description="Key-value pairs of your own.", schema=schema, example=METADATA_EXAMPLE)


def document(description: str, example: Json | None = None) -> Field:
    """A hash whose members the service does not determine."""
    schema = {"type": "object", "additionalProperties": True}
    return Field(description=description, schema=schema, example=example or {})


def anything(description: str, example: Any = None) -> Field:
    """Any JSON value, null included."""
    return Field(description=description, schema={}, example=example)


def component(description: str, *names: str) -> Field:
    """An object that is described on its own, or one of several."""
    references = [make_reference(name) for name in names]
    return Field(description=description, schema=references[0] if len(names) == 1 else {"anyOf": references})


def list_object(description: str, name: str, url: str) -> Field:
    """A list object inside another object; `name` is its schema."""
    example = {"object": "list", "data": [], "has_more": False, "url": url}
    return replace(component(description, name), example=example)


def make_reference(name: str) -> Json:
    """The schema that refers to another one by its name."""
    return {"$ref": f"{COMPONENTS}{name}"}


def make_template(fields: Fields, **values: Any) -> Json:
    """An object with all its members in order, null but for `object` and `values`, for a renderer to copy."""
    required = {name: field for name, field in fields.items() if not field.optional}
    assert values.keys() <= required.keys(), values.keys() - required.keys()
    return {
        name: values.get(name, field.example if name == "object" else None)
        for name, field in required.items()
    }


class Expansion:
    """By type of object, which schemas an expanded id may have."""

    def __init__(self, targets: Mapping[str, Sequence[str]], others: Sequence[str]) -> None:
        self._targets = targets
        self._others = others

    def list_schemas(self, object_type: str) -> list[Json]:
        """The schemas of the object behind an id of this type."""
        return [make_reference(name) for name in self._targets.get(object_type, self._others)]


def build_object_schema(
    description: str, fields: Fields, expandable: Mapping[str, Any], expansion: Expansion
) -> Json:
    """The JSON schema of an object. `expandable`: what `expand[]` may name in it, see `wire/expansion`."""
    schema: Json = {
        "type": "object",
        "description": description,
        "properties": {
            name: _build_schema(field, expandable.get(name), expansion) for name, field in fields.items()
        },
    }
    required = [name for name, field in fields.items() if not field.optional]
    return {**schema, "required": required} if required else schema


def _build_schema(field: Field, expandable: Any, expansion: Expansion) -> Json:
    """`expandable`: the type of the object that the field's id names; for a hash, what it has of such."""
    if field.members is not None:
        variants = [build_object_schema("", field.members, _get_parts(expandable), expansion)]
        del variants[0]["description"]
    elif field.item is not None:
        variants = [{"type": "array", "items": _build_schema(field.item, expandable, expansion)}]
    else:
        assert field.schema is not None
        variants = [field.schema]
    if field.is_id and isinstance(expandable, str):
        variants += expansion.list_schemas(expandable)
    if field.nullable and variants != [NULL]:
        variants.append(NULL)
    described: Json = {"description": field.description} if field.description else {}
    if len(variants) > 1:
        schema = {"anyOf": variants, **described}
    else:
        # A reference stands alone: generators of clients ignore what is beside it, or trip over it.
        schema = variants[0] if "$ref" in variants[0] else {**variants[0], **described}
    example = make_example(field)
    if field.schema is not None and example is not None and "$ref" not in schema:
        schema = {**schema, "examples": [example]}
    return schema


def make_example(field: Field) -> Any:
    """A value of the field, made of the examples of its members and items. None for one without: what other
    schemas describe has its example there."""
    if field.nullable and field.example is None:
        return None
    if field.members is not None:
        return make_object_example(field.members)
    if field.item is not None:
        item = make_example(field.item)
        return [] if item is None else [item]
    return field.example


def make_object_example(fields: Fields) -> Json:
    """An object with the members that it always has."""
    return {name: make_example(field) for name, field in fields.items() if not field.optional}


def _get_parts(expandable: Any) -> Mapping[str, Any]:
    return expandable if isinstance(expandable, Mapping) else {}
