"""The JSON body of an operation of /v2, declared by a model of `ledger/commands/models`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from ledger.commands.body_errors import choose_error, validation_error
from ledger.commands.models import Body


class JsonBody:
    """What an operation takes as its body: exactly the fields of `model`, of exactly their types."""

    only_names: Collection[str] | None = None

    def __init__(self, model: type[Body]) -> None:
        self._model = model
        self.members: Mapping[str, Any] = model.model_fields

    def parse(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that are present, by name; null is None, also in a hash. Raises InvalidParameter, which
        names the field in bracket form."""
        try:
            return self._model.model_validate(document).model_dump(exclude_unset=True)
        except ValidationError as error:
            first = choose_error(error.errors(include_url=False))
            raise validation_error(first, model=self._model) from None

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the body, without references: they would mean places in the whole document."""
        schema = self._model.model_json_schema()
        inlined: dict[str, Any] = _inline(schema, schema.pop("$defs", {}))
        return inlined

    def request_body(self) -> dict[str, Any]:
        """The OpenAPI request body."""
        required = any(field.is_required() for field in self._model.model_fields.values())
        return {"required": required, "content": {"application/json": {"schema": self.schema()}}}

    def query_parameters(self) -> list[dict[str, Any]]:
        """A body has none."""
        return []


def _inline(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with the models inside it in place of references; no model contains itself."""
    if isinstance(schema, list):
        return [_inline(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(each, definitions) for name, each in schema.items()}


class _NoFields(Body):
    pass


NO_BODY = JsonBody(_NoFields)
"""Of an operation that takes nothing: an empty body, or {}."""
