"""Answers as bytes: objects as JSON, refusals in the contract's error envelope (contract §1.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ledger.errors import CardError, RequestError

_encoder = msgspec.json.Encoder()

ERROR_CODES_URL = "https://stripe.com/docs/error-codes/"


def encode_object(answer: Mapping[str, Any]) -> str:
    """An object as JSON text."""
    return _encoder.encode(answer).decode()


def encode_refusal(refusal: RequestError, kind: str) -> str:
    """A refusal as JSON text; `kind` is the envelope's `type`."""
    error: dict[str, Any] = {"type": kind, "message": refusal.message}
    if refusal.code is not None:
        error["code"] = refusal.code
        error["doc_url"] = ERROR_CODES_URL + refusal.code.replace("_", "-")
    if refusal.param is not None:
        error["param"] = refusal.param
    if isinstance(refusal, CardError):
        if refusal.decline_code is not None:
            error["decline_code"] = refusal.decline_code
        if refusal.charge is not None:
            error["charge"] = refusal.charge
    return encode_object({"error": error})
