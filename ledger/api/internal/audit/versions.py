"""The API version in which a route shows objects."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from ledger.api.exchange import Exchange
from ledger.errors import InvalidParameter
from ledger.wire.versions import is_version

ApiVersion = Annotated[str | None, Header(alias="stripe-version", description="As on the public API.")]


def set_version(exchange: Exchange, version: str | None) -> None:
    """Repeat the version in the response. Raises InvalidParameter for a Stripe-Version that does not exist.
    Objects look the same in all."""
    version = version or exchange.key.api_version
    if not is_version(version):
        raise InvalidParameter(f"Invalid Stripe API version: {version[:80]}")
    exchange.response_headers.append((b"stripe-version", version.encode()))
