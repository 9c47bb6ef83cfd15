"""CORS headers: pages of any origin may call the public API, with any header (contract §1.1).

Only the API key identifies a caller: a page can read nothing that its key could not read from anywhere. No
answer allows credentials, so a page of another origin never acts with the cookie of the console.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.api.errors import Headers

REQUEST_METHOD_HEADER = b"access-control-request-method"
PREFLIGHT_AGE_SECONDS_MAX = 7200

CORS_HEADERS: Headers = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"request-id, stripe-version, ledger-position"),
]


def preflight_headers(request_headers: Mapping[bytes, bytes]) -> Headers:
    """The headers of a response to a preflight, beside CORS_HEADERS. They name the headers that the page
    requests: a wildcard would not include Authorization."""
    return [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (
            b"access-control-allow-headers",
            request_headers.get(b"access-control-request-headers", b"authorization"),
        ),
        (b"access-control-max-age", str(PREFLIGHT_AGE_SECONDS_MAX).encode()),
        (b"vary", b"access-control-request-headers"),
    ]
