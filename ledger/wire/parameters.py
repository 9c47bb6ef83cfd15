"""Parameter tables: each parameter is declared once; the declaration validates, parses and documents it.

`ParameterTable.parse` returns a dict of typed values with exactly the keys that were sent (and declared
defaults), or raises the `InvalidParameter` of contract §1.6, which names the parameter with its brackets.
The first error in the order sent is raised; missing parameters come last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ledger.domain.merge_patch import (
    METADATA_KEY_LENGTH_MAX,
    METADATA_KEYS_MAX,
    METADATA_VALUE_LENGTH_MAX,
)
from ledger.errors import InvalidParameter
from ledger.wire.scalars import Integer, Parameter, Parser, Text, Timestamp, abbreviate, not_text_error
from ledger.wire.suggestions import find_nearest

EXPAND_PATHS_MAX = 100
PAGE_LIMIT_MAX = 100
PAGE_LIMIT_DEFAULT = 10


@dataclass(frozen=True)
class Hash(Parameter):
    """A hash with declared members."""

    members: Mapping[str, Parameter]

    def compile(self, name: str) -> Parser:
        parse_members, parse_empty = _compile_members(name, self.members), self.parse_empty

        def parse(raw: Any) -> Any:
            if type(raw) is dict:
                return parse_members(raw)
            if raw == "":
                return parse_empty(name)
            raise InvalidParameter("Invalid object", param=name)

        return parse

    def value_schema(self) -> dict[str, Any]:
        return _build_object_schema(self.members)


@dataclass(frozen=True)
class Array(Parameter):
    """An array of at most `items_max` items. Indices give the order and need not be contiguous."""

    item: Parameter
    items_max: int

    def compile(self, name: str) -> Parser:
        item, items_max, parse_empty = self.item, self.items_max, self.parse_empty
        parse_item = item.compile(f"{name}[]")

        def parse(raw: Any) -> list[Any] | None:
            if type(raw) is not dict:
                if raw == "":
                    return parse_empty(name)
                raise InvalidParameter("Invalid array", param=name)
            if len(raw) > items_max:
                raise InvalidParameter(f"Invalid array: at most {items_max} items are accepted", param=name)
            items = []
            for index in _sort_indices(raw, name):
                try:
                    items.append(parse_item(raw[index]))
                except InvalidParameter:
                    # Names are fixed at compilation, without an index. Only the error of an invalid item
                    # needs it.
                    item.compile(f"{name}[{index}]")(raw[index])
                    raise
            return items

        return parse

    def value_schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(), "maxItems": self.items_max}


@dataclass(frozen=True, kw_only=True)
class Metadata(Parameter):
    """Metadata (contract §1.10). The value is a dict, in which '' removes a key; None removes all keys."""

    unsettable: bool = True
    description: str = "Up to 50 key-value pairs of your own. An empty value removes a key."

    def compile(self, name: str) -> Parser:
        def parse(raw: Any) -> dict[str, str] | None:
            if type(raw) is not dict:
                if raw == "":
                    return None
                raise InvalidParameter("Invalid object", param=name)
            for key, value in raw.items():
                if type(key) is not str:
                    raise InvalidParameter("Metadata keys cannot be empty.", param=f"{name}[]")
                if type(value) is not str:
                    raise not_text_error(value, f"{name}[{key}]")
                if len(key) > METADATA_KEY_LENGTH_MAX:
                    raise InvalidParameter(
                        f"Metadata keys can be at most {METADATA_KEY_LENGTH_MAX} characters: "
                        f"{abbreviate(key)}",
                        param=f"{name}[{key}]",
                    )
                if len(value) > METADATA_VALUE_LENGTH_MAX:
                    raise InvalidParameter(
                        f"Metadata values can be at most {METADATA_VALUE_LENGTH_MAX} characters; "
                        f"the value for '{key}' has {len(value)}.",
                        param=f"{name}[{key}]",
                    )
            return raw

        return parse

    def value_schema(self) -> dict[str, Any]:
        text_schema = {"type": "string", "maxLength": METADATA_VALUE_LENGTH_MAX}
        return {"type": "object", "additionalProperties": text_schema, "maxProperties": METADATA_KEYS_MAX}


@dataclass(frozen=True, kw_only=True)
class TimestampFilter(Parameter):
    """A filter on a time in unix seconds: an exact time, or any of gt, gte, lt, lte.

    The value is a dict of integers by operator; an exact time is {"eq": …}.
    """

    description: str = "Only objects created at this time, or within these bounds (unix seconds)."

    def compile(self, name: str) -> Parser:
        parse_exact = Timestamp().compile(name)
        parse_bounds = _compile_members(name, self.operators())

        def parse(raw: Any) -> dict[str, int]:
            return parse_bounds(raw) if type(raw) is dict else {"eq": parse_exact(raw)}

        return parse

    def operators(self) -> dict[str, Parameter]:
        """The parameters of the form with bounds."""
        return {operator: Timestamp() for operator in ("gt", "gte", "lt", "lte")}

    def value_schema(self) -> dict[str, Any]:
        return {"anyOf": [_build_object_schema(self.operators()), Timestamp().schema()]}


@dataclass(frozen=True)
class Unsupported(Parameter):
    """A parameter of the SDKs that this service does not support: it is always refused, by its full name."""

    reason: str

    def compile(self, name: str) -> Parser:
        message = f"The parameter '{name}' is not supported here: {self.reason}."

        def parse(raw: Any) -> Any:
            raise InvalidParameter(message, param=name)

        return parse


EXPAND = Array(
    Text(length_max=500),
    items_max=EXPAND_PATHS_MAX,
    description="Fields to return as objects instead of ids.",
)

PAGINATION: dict[str, Parameter] = {
    "limit": Integer(
        minimum=1,
        maximum=PAGE_LIMIT_MAX,
        clamped=True,
        default=PAGE_LIMIT_DEFAULT,
        description="How many objects to return (1 to 100); values out of range are clamped.",
    ),
    "starting_after": Text(description="An object id: return objects older than this one."),
    "ending_before": Text(description="An object id: return objects newer than this one."),
    "expand": EXPAND,
}


class ParameterTable:
    """The parameters of one operation.

    exclusive       at most one of these parameters may be sent; exactly one if `one_required`
    ignore_unknown  undeclared parameters are ignored instead of refused

    `parse(form)` takes the result of `forms.decode` (with `only_names` of this table) and returns the
    values by name.
    """

    def __init__(
        self,
        members: Mapping[str, Parameter],
        *,
        exclusive: tuple[str, ...] = (),
        one_required: bool = False,
        ignore_unknown: bool = False,
    ) -> None:
        self.members = members
        self.exclusive = exclusive
        self.only_names: Collection[str] | None = frozenset(members) if ignore_unknown else None
        self.parse: Callable[[Mapping[str, Any]], dict[str, Any]] = _compile_members(
            "", members, exclusive, one_required=one_required, ignore_unknown=ignore_unknown
        )

    def schema(self) -> dict[str, Any]:
        """The JSON schema of all parameters as one object."""
        return _build_object_schema(self.members)

    def request_body(self) -> dict[str, Any]:
        """The OpenAPI request body of a POST."""
        properties = self.schema()["properties"]
        nested = {name: _DEEP_OBJECT_ENCODING for name, schema in properties.items() if _is_nested(schema)}
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
                **(_DEEP_OBJECT_ENCODING if _is_nested(schema) else {}),
            }
            for name, schema in self.schema()["properties"].items()
        ]


_DEEP_OBJECT_ENCODING: dict[str, Any] = {"style": "deepObject", "explode": True}


def unknown_parameter_error(name: str, suggestion: str | None = None) -> InvalidParameter:
    """The error for an undeclared parameter. `suggestion` is the declared one that was probably meant."""
    text = f"Received unknown parameter: {name}"
    if suggestion is not None:
        text += f". Did you mean {suggestion}?"
    return InvalidParameter(text, code="parameter_unknown", param=name)


def _suggest_parameter(name: str, key: str, members: Mapping[str, Parameter]) -> str | None:
    """The full name of the member of the hash `name` that was probably meant by `key`: one with a name much
    like it, else one that is named so inside a hash."""
    served = {each: member for each, member in members.items() if not isinstance(member, Unsupported)}
    nearest = find_nearest(key, served)
    if nearest is None:
        nearest = next(
            (
                f"{outer}[{key}]"
                for outer, member in served.items()
                if isinstance(member, Hash) and key in member.members
            ),
            None,
        )
    if nearest is None or not name:
        return nearest
    first, bracket, rest = nearest.partition("[")
    return f"{name}[{first}]{bracket}{rest}"


def _format_first_name(name: str, raw: Any) -> str:
    """The full name, with brackets as sent, of the first value under `name`."""
    while type(raw) is dict:
        member, raw = next(iter(raw.items()))
        name = f"{name}[{member}]"
    return name


def missing_parameter_error(name: str) -> InvalidParameter:
    """The error for a required parameter that was not sent."""
    return InvalidParameter(f"Missing required param: {name}.", code="parameter_missing", param=name)


def two_cursors_error() -> InvalidParameter:
    """The error for a page that is asked for by two cursors."""
    return InvalidParameter(
        "Received both starting_after and ending_before parameters. Please pass in only one."
    )


def _compile_members(
    name: str,
    members: Mapping[str, Parameter],
    exclusive: tuple[str, ...] = (),
    *,
    one_required: bool = False,
    ignore_unknown: bool = False,
) -> Parser:
    """The function that parses the members of the hash `name` ('' for the whole form) into their values."""
    full_names = {key: f"{name}[{key}]" if name else key for key in members}
    parsers = {key: member.compile(full_names[key]) for key, member in members.items()}
    required = tuple(key for key, member in members.items() if member.required)
    defaults = {key: member.default for key, member in members.items() if member.default is not None}

    def parse(form: Mapping[Any, Any]) -> dict[str, Any]:
        values = defaults.copy()
        for key, raw in form.items():
            parser = parsers.get(key)
            if parser is None:
                if ignore_unknown:
                    continue
                raise unknown_parameter_error(
                    f"{name}[{key}]" if name else _format_first_name(key, raw),
                    _suggest_parameter(name, str(key), members),
                )
            values[key] = parser(raw)
        for key in required:
            if key not in values:
                raise missing_parameter_error(full_names[key])
        if exclusive and sum(key in form for key in exclusive) > 1:
            raise InvalidParameter(
                f"You may only specify one of these parameters: {', '.join(exclusive)}.", param=exclusive[0]
            )
        if one_required and not any(key in form for key in exclusive):
            *others, last = exclusive
            raise InvalidParameter(
                "One of the following params should be provided for this request: "
                f"{', '.join(others)} or {last}."
            )
        return values

    return parse


def _build_object_schema(members: Mapping[str, Parameter]) -> dict[str, Any]:
    supported = {name: member for name, member in members.items() if not isinstance(member, Unsupported)}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: member.schema() for name, member in supported.items()},
        "additionalProperties": False,
    }
    required = [name for name, member in supported.items() if member.required]
    if required:
        schema["required"] = required
    return schema


def _is_nested(schema: Mapping[str, Any]) -> bool:
    return any(variant.get("type") in ("object", "array") for variant in (schema, *schema.get("anyOf", ())))


def _sort_indices(items: dict[Any, Any], name: str) -> list[Any]:
    """The indices of an array in ascending order. Raises InvalidParameter for one that is not a number."""
    for index in items:
        if type(index) is str and not (index.isdecimal() and index.isascii()):
            raise InvalidParameter("Invalid array", param=name)
    return sorted(items, key=int) if len(items) > 1 else list(items)
