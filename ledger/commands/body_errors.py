"""The error for a JSON body, or a line of an import, that is not as its model declares: which field, what it
must be, and the name that was probably meant by an unknown one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from ledger.commands.models import PATTERN_RULES
from ledger.errors import InvalidParameter
from ledger.wire.parameters import missing_parameter_error, unknown_parameter_error
from ledger.wire.scalars import abbreviate
from ledger.wire.suggestions import find_nearest, list_alternatives

_OBJECT_TYPES = ("dict_type", "model_type", "model_attributes_type")
_RULES = {
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be an array",
}
"""By pydantic's types of errors."""
_QUOTED = re.compile("'([^']*)'")
_SUBJECT = re.compile("^(Input|String|List|Dictionary|Value) should ")
_COUNT = re.compile(r" after validation, not (\d+|more)$")


def choose_error(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of pydantic's errors the one to answer: the first, but a misspelt name rather than the one missing for
    it."""
    if errors[0]["type"] == "missing":
        return next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    return errors[0]


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
    if not path:
        return _body_error(error)
    path = [part.encode("utf-8", "backslashreplace").decode() for part in path]
    param = _join_path(path)
    if error["type"] == "missing":
        return missing_parameter_error(param)
    if error["type"] == "extra_forbidden":
        nearest = find_nearest(path[-1], _list_fields(model, path[:-1]))
        return unknown_parameter_error(param, nearest and _join_path([*path[:-1], nearest]))
    return InvalidParameter(f"Invalid {param}: {_describe(error)}", param=param)


def _body_error(error: Mapping[str, Any]) -> InvalidParameter:
    """The refusal of a body that has no fields at all."""
    if error["type"] == "missing":
        text = "The request has no body: send a JSON object, {} at least."
        return InvalidParameter(text, code="parameter_missing", param="body")
    if error["type"] in _OBJECT_TYPES:
        text = "Invalid body: must be a JSON object, and its Content-Type application/json"
        return InvalidParameter(text, param="body")
    return InvalidParameter(f"Invalid body: {_describe(error)}", param="body")


def _describe(error: Mapping[str, Any]) -> str:
    """What a value must be, in the words of the public API where it has any."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "literal_error":
        values = _QUOTED.findall(context["expected"])
        return f"must be one of {list_alternatives(str(error['input']), values)}"
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERN_RULES:
        return PATTERN_RULES[context["pattern"]]
    if kind in _OBJECT_TYPES:
        return "must be an object"
    if kind in _RULES:
        return _RULES[kind]
    text: str = error["msg"].removeprefix("Value error, ")  # pydantic's prefix to messages of our validators
    return _SUBJECT.sub("must ", _COUNT.sub("", text))


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
