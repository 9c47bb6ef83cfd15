"""How a version of the public API writes its requests: /v1 in forms (contract §1.3). The rest of the protocol
is the same for /v2 (`ledger/api/v2/dialect`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ledger.api.exchange import Exchange
from ledger.errors import InvalidParameter
from ledger.wire.forms import decode

FORM_CONTENT_TYPE = b"application/x-www-form-urlencoded"
SDK_USAGE = "usage"
"""What stripe-python 16.1.0 sends by mistake when it follows a notification with async: the names of its own
functions, which it counts (contract §10.1)."""


class Dialect(NamedTuple):
    """What differs between the versions of the public API.

    keyed_methods  methods that take effect once per Idempotency-Key
    join           the parameters of a request from its query and its body, still encoded. Raises
                   InvalidParameter for a body of another content type
    parse          the values of these parameters, by the table of the operation. Raises InvalidParameter
    """

    keyed_methods: frozenset[str]
    join: Callable[[Exchange, bytes], bytes]
    parse: Callable[[Exchange, bytes], dict[str, Any]]


def join_forms(query: bytes, body: bytes) -> bytes:
    """The form of the parameters of both."""
    return b"&".join((query, body)) if query and body else query or body


def parse_form(exchange: Exchange, encoded_parameters: bytes) -> dict[str, Any]:
    """The values of a form, and the files received with it."""
    table = exchange.operation.table
    form = decode(encoded_parameters, only_names=table.only_names)
    if exchange.method == "GET" and exchange.reaction_to is not None:
        form.pop(SDK_USAGE, None)
    if exchange.uploads:
        form |= exchange.uploads
    return table.parse(form)


def _join_form_request(exchange: Exchange, body: bytes) -> bytes:
    content_type = exchange.request_headers.get(b"content-type", FORM_CONTENT_TYPE)
    if body and not content_type.lower().startswith(FORM_CONTENT_TYPE):
        raise InvalidParameter(
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). "
            "If you have questions, see https://docs.stripe.com/api."
        )
    return join_forms(exchange.query, body)


# On DELETE /v1 ignores Idempotency-Key (contract §1.9).
V1 = Dialect(frozenset({"POST"}), _join_form_request, parse_form)
