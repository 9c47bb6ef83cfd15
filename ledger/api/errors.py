"""Errors as HTTP: the status code, the envelope and the headers of each; no other module knows a status code.

Callers see the message of a `RequestError` in the contract's envelope (contract §1.5). Any other error gets
a general message: its details are logged, never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
import structlog

from ledger.commands.execution import InternalError, refuse_unreadable
from ledger.errors import (
    AccessNotRecorded,
    CardError,
    ConcurrencyConflict,
    ContentConflict,
    Forbidden,
    IdempotencyKeyReused,
    InvalidAlertState,
    InvalidDisputeState,
    InvalidParameter,
    InvalidProjectionState,
    InvalidWebhookState,
    NotSealedYet,
    QueueFull,
    RateLimited,
    RequestError,
    SecretAlreadyIssued,
    Unauthenticated,
    Unavailable,
    UnknownObject,
    UnknownReference,
    UnknownRoute,
    UnreadableRecord,
    make_doc_url,
)
from ledger.wire.redaction import REDACTION_TEXT, add_redaction, remove_redaction

Headers = list[tuple[bytes, bytes]]
EncodeAnswer = Callable[[Mapping[str, Any] | RequestError], tuple[int, str]]
"""Status and JSON text of an answer: an object, or an error in the envelope of a version of the API."""
RenderError = Callable[[Exception], tuple[int, str, Headers]]
"""Status, body and further headers of the answer to a request that ended in an error."""

STATUS_OK = 200
STATUS_NOT_MODIFIED = 304
STATUS_NOT_READY = 503
STATUS_REFUSED_MIN = 400
"""From this status on the answer is an error."""
FAULT_STATUS_MIN = 500
"""From this status on the service has failed, not the caller."""

log = structlog.get_logger()

_encoder = msgspec.json.Encoder()


class BodyTooLarge(RequestError):
    """The request body is larger than the limit."""


class TemporarilyUnavailable(RequestError):
    """The database could not be used within the request's limit."""


# The first row whose class the error is an instance of applies.
STATUS_CODES: Sequence[tuple[type[RequestError], int, str]] = (
    (UnknownObject, 404, "invalid_request_error"),
    (UnknownRoute, 404, "invalid_request_error"),
    (CardError, 402, "card_error"),
    (Unauthenticated, 401, "invalid_request_error"),
    (Forbidden, 403, "invalid_request_error"),
    (ContentConflict, 409, "invalid_request_error"),
    (InvalidDisputeState, 409, "invalid_request_error"),
    (InvalidProjectionState, 409, "invalid_request_error"),
    (InvalidWebhookState, 409, "invalid_request_error"),
    (InvalidAlertState, 409, "invalid_request_error"),
    (NotSealedYet, 409, "invalid_request_error"),
    (IdempotencyKeyReused, 400, "idempotency_error"),
    (SecretAlreadyIssued, 409, "idempotency_error"),
    (RateLimited, 429, "invalid_request_error"),
    (BodyTooLarge, 413, "invalid_request_error"),
    (InternalError, 500, "api_error"),
    (TemporarilyUnavailable, 503, "api_error"),
    (AccessNotRecorded, 503, "api_error"),
    (RequestError, 400, "invalid_request_error"),
)
ERROR_TYPES = tuple(sorted({error_type for _, _, error_type in STATUS_CODES}))
V2_RATE_LIMIT = "rate_limit"
V2_ERROR_TYPES = ("api_error", "idempotency_error", "invalid_request_error", V2_RATE_LIMIT)
_V2_CODES: Sequence[tuple[type[RequestError], str]] = (
    (InvalidParameter, "invalid_fields"),
    (UnknownReference, "invalid_fields"),
    (UnknownObject, "not_found"),
    (UnknownRoute, "not_found"),
    (RateLimited, V2_RATE_LIMIT),
)
"""The codes of errors of /v2, by which the SDKs choose their exceptions."""
_V2_DEFAULT_CODES: Sequence[tuple[type[RequestError], str]] = (
    (Unauthenticated, "unauthenticated"),
    (Forbidden, "forbidden"),
    (BodyTooLarge, "request_too_large"),
)
"""Those of errors that have no code of their own."""
_RETRY_HEADERS: Headers = [(b"stripe-should-retry", b"true")]


def encode_answer(answer: Mapping[str, Any] | RequestError) -> tuple[int, str]:
    """Status and JSON text: of an object, or of an error in the contract's envelope."""
    if not isinstance(answer, RequestError):
        return STATUS_OK, _encoder.encode(answer).decode()
    status, error_type = _classify(answer)
    return status, _encode_envelope(answer, error_type)


def encode_v1_answer(answer: Mapping[str, Any] | RequestError) -> tuple[int, str]:
    """The same for /v1 in any version but a preview: no object says that it is redacted."""
    status, text = encode_answer(answer)
    if REDACTION_TEXT in text and not isinstance(answer, RequestError):
        return encode_answer(remove_redaction(answer))
    return status, text


def encode_preview_answer(answer: Mapping[str, Any] | RequestError) -> tuple[int, str]:
    """The same for /v1 in a preview version: the objects that can be redacted say whether they are."""
    return encode_answer(answer if isinstance(answer, RequestError) else add_redaction(answer))


def encode_v2_answer(answer: Mapping[str, Any] | RequestError) -> tuple[int, str]:
    """The same for /v2, whose errors have a code each (contract §10.2)."""
    if not isinstance(answer, RequestError):
        return STATUS_OK, _encoder.encode(answer).decode()
    status, error_type = _classify(answer)
    return status, _encode_v2_envelope(answer, error_type)


class Answers(NamedTuple):
    """The answers of one dialect: in a stable version of the API, and in a preview."""

    stable: EncodeAnswer
    preview: EncodeAnswer


V1_ANSWERS = Answers(encode_v1_answer, encode_preview_answer)
V2_ANSWERS = Answers(encode_v2_answer, encode_v2_answer)


def encode_refusal(refusal: Exception, request_id: str) -> bytes:
    """A whole HTTP response with an error, for a connection that is closed after it."""
    status, text, headers = render_error(refusal)
    body = text.encode()
    lines = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in headers)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n{lines}"
        f"request-id: {request_id}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def indent(text: str) -> str:
    """The same JSON, indented by two blanks for people to read; an empty text stays empty."""
    return msgspec.json.format(text, indent=2) if text else text


def render_error(error: Exception) -> tuple[int, str, Headers]:
    """Status, body and headers of the answer to a request that ended in `error`. Logs a failure of the
    service."""
    return _render_error(error, encode_answer)


def render_v2_error(error: Exception) -> tuple[int, str, Headers]:
    """The same for /v2."""
    return _render_error(error, encode_v2_answer)


def _render_error(error: Exception, encode: EncodeAnswer) -> tuple[int, str, Headers]:
    refusal: RequestError
    match error:
        case AccessNotRecorded():
            return *encode(error), _RETRY_HEADERS
        case RequestError():
            return *encode(error), []
        case QueueFull():
            refusal = RateLimited(
                "Request rate limit exceeded. The service is overloaded; retry shortly.", code="rate_limit"
            )
            return *encode(refusal), _RETRY_HEADERS
        case ConcurrencyConflict():
            refusal = RateLimited(
                "This object cannot be accessed right now because another API request or Stripe process is "
                "currently accessing it. If you see this error intermittently, retry the request.",
                code="lock_timeout",
            )
            return *encode(refusal), _RETRY_HEADERS
        case Unavailable():
            log.warning("database_unavailable", reason=str(error))
            refusal = TemporarilyUnavailable("The ledger is temporarily unavailable. Please retry.")
            return *encode(refusal), _RETRY_HEADERS
        case UnreadableRecord():
            return *encode(refuse_unreadable(error)), []
    log.error("unexpected_error", exc_info=error)
    return *encode(InternalError("An unexpected error occurred.")), []


def render_error_body(error: Exception) -> str:
    """The error envelope alone, for one line of an import."""
    return render_error(error)[1]


def _classify(refusal: RequestError) -> tuple[int, str]:
    """Status and type of an error."""
    for error_class, status, error_type in STATUS_CODES:
        if isinstance(refusal, error_class):
            return status, error_type
    raise AssertionError("the last row of the table is every RequestError")


def _find_code(codes: Sequence[tuple[type[RequestError], str]], refusal: RequestError) -> str | None:
    return next((code for error_class, code in codes if isinstance(refusal, error_class)), None)


def _encode_v2_envelope(refusal: RequestError, error_type: str) -> str:
    code = (
        _find_code(_V2_CODES, refusal) or refusal.code or _find_code(_V2_DEFAULT_CODES, refusal) or error_type
    )
    error = {
        "type": V2_RATE_LIMIT if isinstance(refusal, RateLimited) else error_type,
        "code": code,
        "message": refusal.message,
    }
    if refusal.param is not None:
        error["param"] = refusal.param
    return _encoder.encode({"error": error}).decode()


def _encode_envelope(refusal: RequestError, error_type: str) -> str:
    error: dict[str, Any] = {"type": error_type, "message": refusal.message}
    if refusal.code is not None:
        error["code"] = refusal.code
        error["doc_url"] = make_doc_url(refusal.code)
    if refusal.param is not None:
        error["param"] = refusal.param
    if isinstance(refusal, CardError):
        if refusal.decline_code is not None:
            error["decline_code"] = refusal.decline_code
        if refusal.charge is not None:
            error["charge"] = refusal.charge
    if refusal.payment_intent is not None:
        error["payment_intent"] = refusal.payment_intent
    return _encoder.encode({"error": error}).decode()
