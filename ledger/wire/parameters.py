"""Parameter tables: each parameter is declared once, and the declaration parses, refuses and documents.

Guarantees: `Table.parse` returns a plain dict of typed values with exactly the keys that were sent (and
declared defaults), or raises the `InvalidParameter` of CONTRACT 1.6 naming the parameter in brackets.
The order of errors is the order sent; missing ones are told last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ledger.errors import InvalidParameter
from ledger.wire.scalars import Integer, Parameter, Parser, Text, Timestamp, brief, not_text

EXPAND_PATHS_MAX = 100
METADATA_KEYS_MAX = 50
METADATA_KEY_LENGTH_MAX = 40
METADATA_VALUE_LENGTH_MAX = 500
PAGE_LIMIT_MAX = 100
PAGE_LIMIT_DEFAULT = 10


@dataclass(frozen=True)
class Hash(Parameter):
    """A hash with declared members."""

    members: Mapping[str, Parameter]

    def compile(self, name: str) -> Parser:
        parse_members, empty = _compile_members(name, self.members), self.empty

        def parse(given: Any) -> Any:
            if type(given) is dict:
                return parse_members(given)
            if given == "":
                return empty(name)
            raise InvalidParameter("Invalid object", param=name)

        return parse

    def shape(self) -> dict[str, Any]:
        return _object_schema(self.members)


@dataclass(frozen=True)
class Array(Parameter):
    """An array of `of`, at most `items_max`. Indices are order and need not be contiguous."""

    of: Parameter
    items_max: int

    def compile(self, name: str) -> Parser:
        of, items_max, empty = self.of, self.items_max, self.empty
        parse_item = of.compile(f"{name}[]")

        def parse(given: Any) -> list[Any] | None:
            if type(given) is not dict:
                if given == "":
                    return empty(name)
                raise InvalidParameter("Invalid array", param=name)
            if len(given) > items_max:
                raise InvalidParameter(f"Invalid array: at most {items_max} items are accepted", param=name)
            items = []
            for index in _in_order(given, name):
                try:
                    items.append(parse_item(given[index]))
                except InvalidParameter:
                    # Names are fixed when compiled; only a refused item needs the one that was sent.
                    of.compile(f"{name}[{index}]")(given[index])
                    raise
            return items

        return parse

    def shape(self) -> dict[str, Any]:
        return {"type": "array", "items": self.of.schema(), "maxItems": self.items_max}


@dataclass(frozen=True, kw_only=True)
class Metadata(Parameter):
    """CONTRACT 1.10. Gives dict[str, str] where an empty value asks for removal, or None: remove all."""

    unsettable: bool = True
    description: str = "Up to 50 key-value pairs of your own. An empty value removes a key."

    def compile(self, name: str) -> Parser:
        def parse(given: Any) -> dict[str, str] | None:
            if type(given) is not dict:
                if given == "":
                    return None
                raise InvalidParameter("Invalid object", param=name)
            for key, value in given.items():
                if type(key) is not str:
                    raise InvalidParameter("Metadata keys cannot be empty.", param=f"{name}[]")
                if type(value) is not str:
                    raise not_text(value, f"{name}[{key}]")
                if len(key) > METADATA_KEY_LENGTH_MAX:
                    raise InvalidParameter(
                        f"Metadata keys can be at most {METADATA_KEY_LENGTH_MAX} characters: {brief(key)}",
                        param=f"{name}[{key}]",
                    )
                if len(value) > METADATA_VALUE_LENGTH_MAX:
                    raise InvalidParameter(
                        f"Metadata values can be at most {METADATA_VALUE_LENGTH_MAX} characters; "
                        f"the value for '{key}' has {len(value)}.",
                        param=f"{name}[{key}]",
                    )
            return given

        return parse

    def shape(self) -> dict[str, Any]:
        value = {"type": "string", "maxLength": METADATA_VALUE_LENGTH_MAX}
        return {"type": "object", "additionalProperties": value, "maxProperties": METADATA_KEYS_MAX}


@dataclass(frozen=True, kw_only=True)
class Created(Parameter):
    """A filter on a time, in unix seconds: exact, or any of gt, gte, lt, lte.

    Gives a dict of operator to integer, the exact form as {"eq": …}.
    """

    description: str = "Only objects created at this time, or within these bounds (unix seconds)."

    def compile(self, name: str) -> Parser:
        exact = Timestamp().compile(name)
        bounds = _compile_members(name, self.operators())

        def parse(given: Any) -> dict[str, int]:
            return bounds(given) if type(given) is dict else {"eq": exact(given)}

        return parse

    def operators(self) -> dict[str, Parameter]:
        """The members of the hash form."""
        return {operator: Timestamp() for operator in ("gt", "gte", "lt", "lte")}

    def shape(self) -> dict[str, Any]:
        return {"anyOf": [_object_schema(self.operators()), Timestamp().schema()]}


@dataclass(frozen=True)
class Unserved(Parameter):
    """A name the SDKs know and this service does not serve: always refused, by its full name."""

    reason: str

    def compile(self, name: str) -> Parser:
        message = f"The parameter '{name}' is not supported here: {self.reason}."

        def parse(given: Any) -> Any:
            raise InvalidParameter(message, param=name)

        return parse


EXPAND = Array(
    Text(length_max=500),
    items_max=EXPAND_PATHS_MAX,
    description="Fields to show as whole objects in place of their ids.",
)

PAGE: dict[str, Parameter] = {
    "limit": Integer(
        minimum=1,
        maximum=PAGE_LIMIT_MAX,
        clamped=True,
        default=PAGE_LIMIT_DEFAULT,
        description="How many objects to return; out of range is moved to the nearest bound.",
    ),
    "starting_after": Text(description="An id: the page begins after this object, towards older ones."),
    "ending_before": Text(description="An id: the page ends before this object, towards newer ones."),
    "expand": EXPAND,
}


class Table:
    """The parameters of one operation. `exclusive` names parameters of which at most one may be sent, and
    one must be if `one_needed`.

    `parse(form)` takes what `forms.decode` gives, of the names in `only` if that is set, and returns
    {name: value}.
    """

    only: Collection[str] | None = None

    def __init__(
        self, members: Mapping[str, Parameter], *, exclusive: tuple[str, ...] = (), one_needed: bool = False
    ) -> None:
        self.members = members
        self.exclusive = exclusive
        self.parse: Callable[[Mapping[str, Any]], dict[str, Any]] = _compile_members(
            "", members, exclusive, one_needed=one_needed
        )

    def schema(self) -> dict[str, Any]:
        """The JSON schema of all parameters as one object."""
        return _object_schema(self.members)

    def request_body(self) -> dict[str, Any]:
        """The OpenAPI request body of a POST."""
        properties = self.schema()["properties"]
        nested = {name: _DEEP for name, schema in properties.items() if _is_nested(schema)}
        content = {"schema": self.schema(), "encoding": nested}
        required = any(member.required for member in self.members.values())
        return {"required": required, "content": {"application/x-www-form-urlencoded": content}}

    def query_parameters(self) -> list[dict[str, Any]]:
        """The OpenAPI query parameters of a GET or DELETE."""
        return [
            {
                "name": name,
                "in": "query",
                "required": self.members[name].required,
                "schema": schema,
                **(_DEEP if _is_nested(schema) else {}),
            }
            for name, schema in self.schema()["properties"].items()
        ]


_DEEP: dict[str, Any] = {"style": "deepObject", "explode": True}


def unknown(name: str) -> InvalidParameter:
    """The error for a parameter that is in no table."""
    return InvalidParameter(f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def _first_name(name: str, sent: Any) -> str:
    """The full name, as sent, of the first value under `name`."""
    while type(sent) is dict:
        member, sent = next(iter(sent.items()))
        name = f"{name}[{member}]"
    return name


def missing(name: str) -> InvalidParameter:
    """The error for a required parameter that was not sent."""
    return InvalidParameter(f"Missing required param: {name}.", code="parameter_missing", param=name)


def _compile_members(
    name: str,
    members: Mapping[str, Parameter],
    exclusive: tuple[str, ...] = (),
    *,
    one_needed: bool = False,
) -> Parser:
    """The function from a dict of what was sent under `name` to the dict of values; "" is the top."""
    full = {key: f"{name}[{key}]" if name else key for key in members}
    parsers = {key: member.compile(full[key]) for key, member in members.items()}
    required = tuple(key for key, member in members.items() if member.required)
    defaults = {key: member.default for key, member in members.items() if member.default is not None}

    def parse(given: Mapping[Any, Any]) -> dict[str, Any]:
        values = defaults.copy()
        for key, sent in given.items():
            parser = parsers.get(key)
            if parser is None:
                raise unknown(f"{name}[{key}]" if name else _first_name(key, sent))
            values[key] = parser(sent)
        for key in required:
            if key not in values:
                raise missing(full[key])
        if exclusive and sum(key in given for key in exclusive) > 1:
            raise InvalidParameter(
                f"You may only specify one of these parameters: {', '.join(exclusive)}.", param=exclusive[0]
            )
        if one_needed and not any(key in given for key in exclusive):
            *others, last = exclusive
            raise InvalidParameter(
                "One of the following params should be provided for this request: "
                f"{', '.join(others)} or {last}."
            )
        return values

    return parse


def _object_schema(members: Mapping[str, Parameter]) -> dict[str, Any]:
    served = {name: member for name, member in members.items() if not isinstance(member, Unserved)}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: member.schema() for name, member in served.items()},
        "additionalProperties": False,
    }
    required = [name for name, member in served.items() if member.required]
    if required:
        schema["required"] = required
    return schema


def _is_nested(schema: Mapping[str, Any]) -> bool:
    return any(one.get("type") in ("object", "array") for one in (schema, *schema.get("anyOf", ())))


def _in_order(given: dict[Any, Any], name: str) -> list[Any]:
    """The indices of an array as sent, ascending."""
    for index in given:
        if type(index) is str and not (index.isdecimal() and index.isascii()):
            raise InvalidParameter("Invalid array", param=name)
    return sorted(given, key=int) if len(given) > 1 else list(given)
