"""Checks JSON against the schemas of answers, and more strictly than a client would.

The OpenAPI document leaves objects open, so that a client generated today accepts members added tomorrow. A
test closes them: a member that the schema does not declare fails it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs


def close(schema: Any) -> Any:
    """The schema in which no object has members that are not declared, unless it says that it does."""
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(member) for name, member in schema.items() if name not in ("example", "examples")}
    is_object = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
    if is_object and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


class AnswerSchemas:
    """The closed schemas of an OpenAPI document's components."""

    def __init__(self, components: Mapping[str, Any]) -> None:
        self._components = close(dict(components))
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def check(self, schema: Mapping[str, Any], answer: Any) -> None:
        """Fails if the answer does not have this schema, with the place where it does not."""
        name = repr(schema)
        if name not in self._validators:
            whole = {**close(dict(schema)), "components": {"schemas": self._components}}
            self._validators[name] = jsonschema_rs.Draft202012Validator(whole)
        for error in self._validators[name].iter_errors(answer):
            place = "".join(f"[{part!r}]" for part in error.instance_path)
            raise AssertionError(f"{name}: {place}: {error.message[:2000]}")
