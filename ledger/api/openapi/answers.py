"""Answers in the OpenAPI document: what routes say of theirs, headers, and every error with its statuses."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ledger.api.errors import ERROR_TYPES, STATUS_CODES, STATUS_OK, V2_ERROR_TYPES
from ledger.wire.schemas.catalog import build_schema
from ledger.wire.schemas.fields import (
    Fields,
    choice,
    component,
    hash_of,
    make_reference,
    text,
)

Responses = dict[int | str, dict[str, Any]]

ERROR = "error_answer"
V2_ERROR = "v2_error_answer"
CARD_ERROR_STATUS = "402"
_V2 = "V2."
_ERROR_FIELDS: Fields = {
    "type": choice("The kind of error.", ERROR_TYPES, "invalid_request_error"),
    "charge": text("Of a card error: id of the failed charge.", "ch_1").or_missing(),
    "code": text("What is wrong, for programs.", "resource_missing").or_missing(),
    "decline_code": text("Of a card error: why the issuer declined.", "generic_decline").or_missing(),
    "doc_url": text("Where the code is explained.", "https://docs.stripe.com/error-codes").or_missing(),
    "message": text("What is wrong, in words.", "No such customer: 'cus_none'"),
    "param": text("The parameter that is wrong.", "id").or_missing(),
    "payment_intent": component(
        "The payment intent, if a confirmation failed.", "payment_intent"
    ).or_missing(),
}
_V2_ERROR_FIELDS: Fields = {
    "type": choice("The kind of error.", V2_ERROR_TYPES, "invalid_request_error"),
    "code": text("What is wrong, for programs.", "invalid_fields"),
    "message": text("What is wrong, in words.", "Received unknown parameter: colour"),
    "param": text("The parameter that is wrong.", "colour").or_missing(),
}
HEADERS: dict[str, dict[str, Any]] = {
    "Request-Id": {
        "description": "Id of the request: quote it when you ask the operators about it.",
        "schema": {"type": "string", "examples": ["req_0352CZ3z1jWpJM7B8upbma"]},
    },
    "Stripe-Version": {
        "description": "The API version that answered.",
        "schema": {"type": "string", "examples": ["2026-10-28.endive"]},
    },
    "Ledger-Position": {
        "description": "Position of the last event that the request recorded; absent if it recorded none.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Ledger-Behind-Events": {
        "description": "Only if the list is behind: how many events it may lack.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "Ledger-Incomplete": {
        "description": "Only if objects may be missing, because their events could not be applied.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Idempotency-Key": {
        "description": "The Idempotency-Key of the request.",
        "schema": {"type": "string"},
    },
    "Original-Request": {
        "description": "Id of the request that first used the Idempotency-Key.",
        "schema": {"type": "string"},
    },
    "Idempotent-Replayed": {
        "description": "The answer is that of an earlier request with the same Idempotency-Key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Stripe-Should-Retry": {
        "description": "Only where it is known: whether the same request may succeed later.",
        "schema": {"type": "string", "enum": ["true", "false"]},
    },
}
"""The headers of answers, by name."""
READ_HEADERS = ("Request-Id", "Stripe-Version")
PROGRESS_HEADERS = ("Ledger-Behind-Events", "Ledger-Incomplete")
"""Of what is read from a projection."""
LIST_HEADERS = (*READ_HEADERS, *PROGRESS_HEADERS)
WRITE_HEADERS = (
    *READ_HEADERS, "Ledger-Position", "Idempotency-Key", "Original-Request", "Idempotent-Replayed",
)  # fmt: skip


def answers_with(name: str, description: str = "The answer.", *, headers: Sequence[str] = ()) -> Responses:
    """What a route of the internal API says of its answer: the schema of this name, and `headers` besides
    those of every route. FastAPI only shows it: unlike a response model it is not applied to each answer,
    which takes time."""
    answer = {"description": description, "content": make_json_content(make_reference(name))}
    return {STATUS_OK: {**answer, **({"headers": refer_to_headers(*headers)} if headers else {})}}


def make_json_content(schema: dict[str, Any]) -> dict[str, Any]:
    """The content of a JSON answer."""
    return {"application/json": {"schema": schema}}


def refer_to_headers(*names: str) -> dict[str, Any]:
    """The headers of an answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def build_error_components() -> tuple[dict[str, Any], dict[str, Any]]:
    """The schemas of errors by name, and the answers by status: each with the errors that have it. Those of
    /v2 have names of their own."""
    schemas = {
        ERROR: build_schema("An error.", {"error": hash_of("What is wrong.", _ERROR_FIELDS)}),
        V2_ERROR: build_schema("An error of /v2.", {"error": hash_of("What is wrong.", _V2_ERROR_FIELDS)}),
    }
    reasons: dict[str, list[str]] = {}
    for error_class, status, _ in STATUS_CODES:
        summary = " ".join((inspect.getdoc(error_class) or "").partition("\n\n")[0].split())
        reasons.setdefault(str(status), []).append(summary)
    reasons["500"].append("The service has failed. The details are in its log, under the id of the request.")
    descriptions = {status: " Or: ".join(texts) for status, texts in sorted(reasons.items())}
    descriptions["Error"] = "Any other error."
    answers = {name: _make_error_answer(ERROR, text) for name, text in descriptions.items()}
    del descriptions[CARD_ERROR_STATUS]
    answers |= {f"{_V2}{name}": _make_error_answer(V2_ERROR, text) for name, text in descriptions.items()}
    return schemas, answers


def list_error_answers(*, charges_cards: bool = False, is_v2: bool = False) -> dict[str, Any]:
    """The errors of an operation, by status. `charges_cards`: whether a card may be declined. `is_v2`:
    whether the operation is one of /v2."""
    prefix = _V2 if is_v2 else ""
    statuses = sorted({str(status) for _, status, _ in STATUS_CODES})
    return {
        **{
            status: {"$ref": f"#/components/responses/{prefix}{status}"}
            for status in statuses
            if charges_cards or status != CARD_ERROR_STATUS
        },
        "default": {"$ref": f"#/components/responses/{prefix}Error"},
    }


def _make_error_answer(schema: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": refer_to_headers("Request-Id", "Stripe-Should-Retry"),
        "content": make_json_content(make_reference(schema)),
    }
