"""Scalar parameters: text, integer, time, boolean, choice. `parameters` has the compound ones.

Each parameter is compiled once, with its full name, into a function that returns the typed value or raises
the `InvalidParameter` of contract §1.6, so no declaration is inspected during a request. An empty string
means None for an `unsettable` parameter, and is refused for any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ledger.errors import InvalidParameter
from ledger.wire.suggestions import list_alternatives

Parser = Callable[[Any], Any]

TEXT_LENGTH_MAX = 5_000
"""Characters of a text without a limit of its own."""

INTEGER_MAX = 2**63 - 1

_ERROR_VALUE_LENGTH_MAX = 60
_match_integer = re.compile(r"-?[0-9]{1,100}").fullmatch  # limited, because `int` refuses thousands of digits
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Base class of parameters. `unsettable`: an empty string unsets the value, and is parsed as None."""

    required: bool = False
    unsettable: bool = False
    description: str = ""
    default: Any = None
    """The value of an absent parameter; None: an absent parameter has no key in the result."""

    def compile(self, name: str) -> Parser:
        """The function that parses the value sent under `name` (a text or a nested dict)."""
        raise NotImplementedError

    def value_schema(self) -> dict[str, Any]:
        """The JSON schema of a value, without unset values, description and default."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the parameter."""
        schema = self.value_schema()
        if self.unsettable and schema.get("type") != "string":
            schema = {"anyOf": [schema, {"type": "string", "enum": [""]}]}
        if self.description:
            schema["description"] = self.description
        if self.default is not None:
            schema["default"] = self.default
        return schema

    def parse_empty(self, name: str) -> None:
        """Accepts an empty string, as None, if the parameter is unsettable; otherwise raises
        InvalidParameter."""
        if not self.unsettable:
            raise InvalidParameter(
                f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a "
                f"parameter; however '{name}' cannot be unset. You should remove '{name}' from your request "
                "or supply a non-empty value.",
                code="parameter_invalid_empty",
                param=name,
            )


@dataclass(frozen=True, kw_only=True)
class Text(Parameter):
    """A string; lengths are in characters. `pattern` is a regular expression for the whole string, and
    `pattern_rule` is the same rule in words, for errors."""

    length_max: int = TEXT_LENGTH_MAX
    length_min: int = 0
    pattern: str | None = None
    pattern_rule: str = ""

    def compile(self, name: str) -> Parser:
        length_max, length_min, parse_empty = self.length_max, self.length_min, self.parse_empty
        matches = re.compile(self.pattern).fullmatch if self.pattern else None
        rule = self.pattern_rule

        def parse(raw: Any) -> str | None:
            if type(raw) is not str:
                raise not_text_error(raw, name)
            if not raw:
                return parse_empty(name)
            if not length_min <= len(raw) <= length_max:
                raise InvalidParameter(
                    f"Invalid string: {abbreviate(raw)}; must be at "
                    + (f"most {length_max}" if len(raw) > length_max else f"least {length_min}")
                    + " characters",
                    param=name,
                )
            if matches is not None and matches(raw) is None:
                raise InvalidParameter(f"Invalid {name}: {rule}", param=name)
            return raw

        return parse

    def value_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string", "maxLength": self.length_max}
        if self.length_min and not self.unsettable:
            schema["minLength"] = self.length_min
        if self.pattern:
            schema["pattern"] = f"^{self.pattern}$"
        return schema


@dataclass(frozen=True, kw_only=True)
class Integer(Parameter):
    """A decimal integer of at most 64 bits. `clamped`: a value out of bounds becomes the nearest bound
    instead of an error."""

    minimum: int = -INTEGER_MAX
    maximum: int = INTEGER_MAX
    clamped: bool = False

    def compile(self, name: str) -> Parser:
        minimum, maximum, clamped, parse_empty = self.minimum, self.maximum, self.clamped, self.parse_empty

        def parse(raw: Any) -> int | None:
            if not raw:
                return parse_empty(name)
            if type(raw) is not str or _match_integer(raw) is None:
                raise _invalid_integer_error(f"Invalid integer: {abbreviate(raw)}", name)
            number = int(raw)
            if minimum <= number <= maximum:
                return number
            if clamped:
                return minimum if number < minimum else maximum
            if number < minimum:
                raise _invalid_integer_error(f"This value must be greater than or equal to {minimum}.", name)
            raise _invalid_integer_error(f"This value must be less than or equal to {maximum}.", name)

        return parse

    def value_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "integer"}
        if self.minimum != -INTEGER_MAX:
            schema["minimum"] = self.minimum
        if self.maximum != INTEGER_MAX:
            schema["maximum"] = self.maximum
        return schema


@dataclass(frozen=True, kw_only=True)
class Timestamp(Integer):
    """A time in unix seconds."""

    def value_schema(self) -> dict[str, Any]:
        return {**super().value_schema(), "format": "unix-time"}


@dataclass(frozen=True, kw_only=True)
class Boolean(Parameter):
    """`true` or `false` in any case: old versions of Stripe's Python client send `True` and `False`.
    `only_true`: false is refused, as for an acknowledgement."""

    only_true: bool = False

    def compile(self, name: str) -> Parser:
        only_true, parse_empty = self.only_true, self.parse_empty

        def parse(raw: Any) -> bool | None:
            value = _BOOLEANS.get(raw.lower()) if type(raw) is str else None
            if value is None:
                if not raw:
                    return parse_empty(name)
                raise InvalidParameter(f"Invalid boolean: {abbreviate(raw)}", param=name)
            if only_true and not value:
                raise InvalidParameter(f"Invalid {name}: must be true", param=name)
            return value

        return parse

    def value_schema(self) -> dict[str, Any]:
        return {"type": "boolean", "enum": [True]} if self.only_true else {"type": "boolean"}


@dataclass(frozen=True)
class Choice(Parameter):
    """One of the strings in `values`; the error lists them in this order, of many only the nearest."""

    values: tuple[str, ...]
    described_in: str = field(default="", kw_only=True)
    """Where a long list of values is described."""

    def compile(self, name: str) -> Parser:
        values, described_in, parse_empty = self.values, self.described_in, self.parse_empty
        allowed = frozenset(values)

        def parse(raw: Any) -> str | None:
            if type(raw) is not str:
                raise not_text_error(raw, name)
            if raw in allowed:
                return raw
            if not raw:
                return parse_empty(name)
            expected = list_alternatives(raw, values, described_in)
            raise InvalidParameter(f"Invalid {name}: must be one of {expected}", param=name)

        return parse

    def value_schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": [*self.values, *([""] if self.unsettable else [])]}


def not_text_error(raw: Any, name: str) -> InvalidParameter:
    """The error for a hash or array in place of a string."""
    return InvalidParameter(f"Invalid string: {abbreviate(raw)}", param=name)


def abbreviate(raw: Any) -> str:
    """The sent value, shortened for an error message."""
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
    if len(text) <= _ERROR_VALUE_LENGTH_MAX:
        return text
    half = _ERROR_VALUE_LENGTH_MAX // 2
    return f"{text[:half]}...{text[-half:]}"


def _invalid_integer_error(message: str, name: str) -> InvalidParameter:
    return InvalidParameter(message, code="parameter_invalid_integer", param=name)
