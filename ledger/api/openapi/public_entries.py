"""The entry of each operation of the public API: parameters from its table, its answer from the schemas."""

from __future__ import annotations

import re
from typing import Any

from ledger.api.exchange import IDEMPOTENCY_KEY_LENGTH_MAX
from ledger.api.openapi.answers import (
    LIST_HEADERS,
    READ_HEADERS,
    WRITE_HEADERS,
    list_error_answers,
    make_json_content,
    refer_to_headers,
)
from ledger.api.openapi.names import name_operation
from ledger.api.public.multipart import MULTIPART_CONTENT_TYPE
from ledger.api.public.operations import Operation
from ledger.wire.schemas.catalog import OBJECTS, PUBLISHED, list_kinds
from ledger.wire.schemas.fields import make_reference

KEY_SCHEMES: list[dict[str, list[str]]] = [{"bearer": []}, {"basic": []}]
"""Either way to send an API key."""
# Without examples: a page that tries operations out would send them.
HEADER_PARAMETERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "A text of your own. The same request with the same key takes effect once, and "
        "gets the same answer for a day.",
        "schema": {"type": "string", "maxLength": IDEMPOTENCY_KEY_LENGTH_MAX},
    },
    "Stripe-Version": {
        "name": "Stripe-Version",
        "in": "header",
        "required": False,
        "description": "An API version, such as 2026-10-28.endive. The answer repeats it.",
        "schema": {"type": "string"},
    },
    "Stripe-Account": {
        "name": "Stripe-Account",
        "in": "header",
        "required": False,
        "description": "Id of a connected account, on which the request then acts.",
        "schema": {"type": "string"},
    },
    "Stripe-Context": {
        "name": "Stripe-Context",
        "in": "header",
        "required": False,
        "description": "The same as Stripe-Account; a thin event has it as its `context`.",
        "schema": {"type": "string"},
    },
}
_OWN_ANSWERS = {
    "GET /v1/elements/sessions": ("elements_session",),
    "GET /v1/accounts/{account}/capabilities": ("capability_list",),
    "GET /v1/accounts/{account}/capabilities/{capability}": ("capability",),
    "GET /v1/accounts/{account}/external_accounts": ("empty_list",),
    "GET /v1/accounts/{account}/persons": ("empty_list",),
    "POST /v2/core/event_destinations/{event_destination}/ping": ("thin_event",),
}
"""Answers that are not an object, or a list of objects, of the operation's type."""
_CHARGING = ("charge", "customer", "payment_intent")
_QUERY_DESCRIPTIONS = {
    "limit": "How many objects a page has, 1 to 100; default: 10.",
    "starting_after": "The id of the last object of a page: the next page, of older ones, begins after it.",
    "ending_before": "The id of the first object of a page: the page before it, of newer ones, ends there.",
    "expand[]": "Ids to replace by their objects, such as `data.charge` in a list, or `charge`.",
    "created": "A time in unix seconds, or bounds: `created[gte]`, `[gt]`, `[lte]`, `[lt]`.",
}
"""What the parameters mean that most operations have."""
_EVENT_DESCRIPTIONS = {
    "type": "One type, or a group: `charge.*`.",
    "types[]": "Up to 20 types, instead of `type`.",
    "delivery_success": "Whether all webhooks of the Event have been delivered.",
}


def build_entry(operation: Operation) -> dict[str, Any]:
    """What the document says of the operation."""
    is_write = operation.writes
    is_v2 = operation.path.startswith("/v2/")
    charges_cards = operation.method == "POST" and operation.resource in _CHARGING
    entry: dict[str, Any] = {
        "operationId": name_operation(operation),
        "summary": operation.summary,
        "tags": [get_tag(operation)],
        "security": KEY_SCHEMES,
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": f"The id of the {name.replace('_', ' ')}.",
                "schema": {"type": "string"},
            }
            for name in re.findall(r"\{(\w+)\}", operation.path)
        ],
        "responses": {
            "200": _build_answer(operation, is_write=is_write),
            **list_error_answers(charges_cards=charges_cards, is_v2=is_v2),
        },
    }
    headers = ["Stripe-Version", "Stripe-Context" if is_v2 else "Stripe-Account"]
    if operation.method == "POST" or (is_v2 and is_write):
        headers.insert(0, "Idempotency-Key")
    if operation.method == "POST":
        entry["requestBody"] = body = operation.table.request_body()
        if operation.takes_file:
            body["content"] = {MULTIPART_CONTENT_TYPE.decode(): {"schema": operation.table.schema()}}
    else:
        described = _QUERY_DESCRIPTIONS | (_EVENT_DESCRIPTIONS if operation.expandable == "event" else {})
        for parameter in operation.table.query_parameters():
            description = (
                parameter["schema"].get("description") if is_v2 else described.get(parameter["name"])
            )
            known = {} if description is None else {"description": description}
            entry["parameters"].append(parameter | known)
    entry["parameters"] += [{"$ref": f"#/components/parameters/{name}"} for name in headers]
    return entry


def get_tag(operation: Operation) -> str:
    """The group in which the operation is shown, and the module of a generated client that has it."""
    return operation.expandable if operation.expandable in OBJECTS else PUBLISHED


def _build_answer(operation: Operation, *, is_write: bool) -> dict[str, Any]:
    if operation.download is not None:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        return {
            "description": "The bytes of the file.",
            "headers": refer_to_headers("Request-Id"),
            "content": content,
        }
    names = LIST_HEADERS if operation.is_list else WRITE_HEADERS if is_write else READ_HEADERS
    references = [make_reference(name) for name in _list_answers(operation)]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {
        "description": "The list." if operation.is_list else "The object.",
        "headers": refer_to_headers(*names),
        "content": make_json_content(schema),
    }


def _list_answers(operation: Operation) -> tuple[str, ...]:
    """The schemas of which the answer has one."""
    if operation.name in _OWN_ANSWERS:
        return _OWN_ANSWERS[operation.name]
    kind = operation.expandable if operation.expandable in OBJECTS else PUBLISHED
    if operation.is_list:
        return (f"{kind}_list",)
    if operation.method == "DELETE":
        return (f"deleted_{kind}",)
    if operation.method == "GET" and kind != PUBLISHED:
        return tuple(name for name in list_kinds(kind) if name != "deleted_webhook_endpoint")
    return (kind,)
