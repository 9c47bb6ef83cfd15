"""Answers of the audit API that are encoded as the public API encodes its own."""

from __future__ import annotations

from fastapi.responses import Response

from ledger.api.errors import encode_answer
from ledger.api.exchange import Exchange
from ledger.wire.json_values import Json


def respond(answer: Json, exchange: Exchange) -> Response:
    """The response with the headers of the exchange."""
    status, body = encode_answer(answer)
    headers = {name.decode(): value.decode("latin-1") for name, value in exchange.collect_headers()}
    return Response(body, status, headers)
