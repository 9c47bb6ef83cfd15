"""The plain kinds of parameter: text, integer, time, boolean, choice (the compound ones: `parameters`).

Guarantees: a kind compiles once, with its full name, into a closure that gives the typed value or raises
the `InvalidParameter` of CONTRACT 1.6; nothing is reflected on per request. An empty string on an
`unsettable` parameter gives None, on any other it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ledger.errors import InvalidParameter

Parser = Callable[[Any], Any]

TEXT_LENGTH_MAX = 5_000
"""Characters, where a table names no other limit."""

INTEGER_MAX = 2**63 - 1

_SHOWN_LENGTH_MAX = 60
_integer = re.compile(r"-?[0-9]{1,100}").fullmatch  # bounded: `int` refuses thousands of digits
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What every kind has. `unsettable`: an empty string clears it, and parses to None."""

    required: bool = False
    unsettable: bool = False
    description: str = ""
    default: Any = None
    """The value when absent; None for no default: the key is then absent from the result too."""

    def compile(self, name: str) -> Parser:
        """The function from what was sent (text, or a dict of them) under `name` to its value."""
        raise NotImplementedError

    def shape(self) -> dict[str, Any]:
        """The JSON schema of a value that is set."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """The JSON schema, with what all kinds share."""
        schema = self.shape()
        if self.unsettable and schema.get("type") != "string":
            schema = {"anyOf": [schema, {"type": "string", "enum": [""]}]}
        if self.description:
            schema["description"] = self.description
        if self.default is not None:
            schema["default"] = self.default
        return schema

    def empty(self, name: str) -> None:
        """What an empty string means here."""
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
    """A string; lengths in characters. `form` is (pattern, what it asks for, in words)."""

    length_max: int = TEXT_LENGTH_MAX
    length_min: int = 0
    form: tuple[str, str] | None = None

    def compile(self, name: str) -> Parser:
        length_max, length_min, empty = self.length_max, self.length_min, self.empty
        matches = re.compile(self.form[0]).fullmatch if self.form else None
        rule = self.form[1] if self.form else ""

        def parse(given: Any) -> str | None:
            if type(given) is not str:
                raise not_text(given, name)
            if not given:
                return empty(name)
            if not length_min <= len(given) <= length_max:
                raise InvalidParameter(
                    f"Invalid string: {brief(given)}; must be at "
                    + (f"most {length_max}" if len(given) > length_max else f"least {length_min}")
                    + " characters",
                    param=name,
                )
            if matches is not None and matches(given) is None:
                raise InvalidParameter(f"Invalid {name}: {rule}", param=name)
            return given

        return parse

    def shape(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": "string", "maxLength": self.length_max}
        if self.length_min and not self.unsettable:
            shape["minLength"] = self.length_min
        if self.form:
            shape["pattern"] = f"^{self.form[0]}$"
        return shape


@dataclass(frozen=True, kw_only=True)
class Integer(Parameter):
    """A decimal integer within 64 bits. `clamped`: out of bounds is moved to the bound, not refused."""

    minimum: int = -INTEGER_MAX
    maximum: int = INTEGER_MAX
    clamped: bool = False

    def compile(self, name: str) -> Parser:
        minimum, maximum, clamped, empty = self.minimum, self.maximum, self.clamped, self.empty

        def parse(given: Any) -> int | None:
            if not given:
                return empty(name)
            if type(given) is not str or _integer(given) is None:
                raise _not_integer(f"Invalid integer: {brief(given)}", name)
            number = int(given)
            if minimum <= number <= maximum:
                return number
            if clamped:
                return minimum if number < minimum else maximum
            if number < minimum:
                raise _not_integer(f"This value must be greater than or equal to {minimum}.", name)
            raise _not_integer(f"This value must be less than or equal to {maximum}.", name)

        return parse

    def shape(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": "integer"}
        if self.minimum != -INTEGER_MAX:
            shape["minimum"] = self.minimum
        if self.maximum != INTEGER_MAX:
            shape["maximum"] = self.maximum
        return shape


@dataclass(frozen=True, kw_only=True)
class Timestamp(Integer):
    """Unix seconds."""

    def shape(self) -> dict[str, Any]:
        return {**super().shape(), "format": "unix-time"}


@dataclass(frozen=True, kw_only=True)
class Boolean(Parameter):
    """Exactly `true` or `false`. `only_true`: false is refused (an acknowledgement cannot be given so)."""

    only_true: bool = False

    def compile(self, name: str) -> Parser:
        only_true, empty = self.only_true, self.empty

        def parse(given: Any) -> bool | None:
            value = _BOOLEANS.get(given) if type(given) is str else None
            if value is None:
                if not given:
                    return empty(name)
                raise InvalidParameter(f"Invalid boolean: {brief(given)}", param=name)
            if only_true and not value:
                raise InvalidParameter(f"Invalid {name}: must be true", param=name)
            return value

        return parse

    def shape(self) -> dict[str, Any]:
        return {"type": "boolean", "enum": [True]} if self.only_true else {"type": "boolean"}


@dataclass(frozen=True)
class Choice(Parameter):
    """One of the strings in `values`, listed in the error in this order."""

    values: tuple[str, ...]

    def compile(self, name: str) -> Parser:
        allowed, empty = frozenset(self.values), self.empty
        message = f"Invalid {name}: must be one of {listed(self.values)}"

        def parse(given: Any) -> str | None:
            if type(given) is not str:
                raise not_text(given, name)
            if given in allowed:
                return given
            if not given:
                return empty(name)
            raise InvalidParameter(message, param=name)

        return parse

    def shape(self) -> dict[str, Any]:
        return {"type": "string", "enum": [*self.values, *([""] if self.unsettable else [])]}


def listed(values: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b, or c`."""
    if len(values) < 3:
        return " or ".join(values)
    return f"{', '.join(values[:-1])}, or {values[-1]}"


def not_text(given: Any, name: str) -> InvalidParameter:
    """The error for a hash or array where a string belongs."""
    return InvalidParameter(f"Invalid string: {brief(given)}", param=name)


def brief(given: Any) -> str:
    """What was sent, short enough for an error."""
    text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    if len(text) <= _SHOWN_LENGTH_MAX:
        return text
    half = _SHOWN_LENGTH_MAX // 2
    return f"{text[:half]}...{text[-half:]}"


def _not_integer(message: str, name: str) -> InvalidParameter:
    return InvalidParameter(message, code="parameter_invalid_integer", param=name)
