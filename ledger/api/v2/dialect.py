"""How /v2 writes its requests (contract §10.1): a POST has a JSON object as its body, any other request its
parameters in the query. Nothing is converted: "true" is no boolean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from ledger.api.exchange import Exchange
from ledger.api.public.dialect import Dialect, parse_form
from ledger.errors import InvalidParameter
from ledger.wire.parameters import Array
from ledger.wire.scalars import abbreviate

_JSON_CONTENT_TYPE = b"application/json"
_MEANS_NOTHING = (b"", b"{}")


def decode_json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; an empty body means {}.

    Raises InvalidParameter for anything else, for a name that occurs twice, and for nesting that is too deep.
    """
    if not body.strip():
        return {}
    try:
        document = json.loads(body, object_pairs_hook=_refuse_repeated_names, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidParameter("The request body is nested too deeply.") from None
    except ValueError:  # of UnicodeDecodeError too
        raise InvalidParameter("The request body is not valid UTF-8 JSON.") from None
    if type(document) is not dict:
        raise InvalidParameter("The request body must be a JSON object.")
    return document


def _refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object. Of two of one name, parsers differ on which counts (RFC 8259, section 4)."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            shown = abbreviate(name.encode("utf-8", "backslashreplace").decode())
            raise InvalidParameter(f"The request body has the name '{shown}' twice.", param=shown)
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _join_json_request(exchange: Exchange, body: bytes) -> bytes:
    if exchange.method != "POST":
        if body.strip() not in _MEANS_NOTHING:
            raise InvalidParameter(
                f"A {exchange.method} request takes its parameters in the query of its URL."
            )
        return exchange.query
    if exchange.query:
        raise InvalidParameter("A POST request takes its parameters as a JSON object in its body.")
    content_type = exchange.request_headers.get(b"content-type", _JSON_CONTENT_TYPE)
    if body and content_type.partition(b";")[0].strip().lower() != _JSON_CONTENT_TYPE:
        raise InvalidParameter(
            "Invalid request: the body must be JSON, and its Content-Type application/json, as everywhere "
            "under /v2."
        )
    return body


def _parse(exchange: Exchange, encoded_parameters: bytes) -> dict[str, Any]:
    if exchange.method == "POST":
        return exchange.operation.table.parse(decode_json(encoded_parameters))
    return parse_form(exchange, _mark_arrays(encoded_parameters, exchange.operation.table.members))


def _mark_arrays(query: bytes, members: Mapping[str, Any]) -> bytes:
    """The query with `types[]=a&types[]=b` for `types=a&types=b`: so the Stripe CLI writes an array, while
    the SDKs number its items."""
    arrays = {name.encode() for name, member in members.items() if isinstance(member, Array)}
    if not arrays:
        return query
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    return b"&".join(
        name + (b"[]" if value and name in arrays else b"") + separator + value
        for name, separator, value in pairs
    )


V2 = Dialect(frozenset({"POST", "DELETE"}), _join_json_request, _parse)
