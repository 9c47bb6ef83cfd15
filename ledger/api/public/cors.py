"""What a browser wants to be told before a page of another origin may call (CORS; contract §1.1).

Any origin may, with any header: a caller is known by its key alone and there are no cookies, so an answer
gives a page nothing that its key would not give to anyone.
"""

from __future__ import annotations

from collections.abc import Mapping

Headers = list[tuple[bytes, bytes]]

REQUEST_METHOD_HEADER = b"access-control-request-method"
PREFLIGHT_AGE_SECONDS_MAX = 7200

DEFAULT_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"request-id, stripe-version"),
]


def preflight_headers(request_headers: Mapping[bytes, bytes]) -> Headers:
    """What a preflight is answered beside that. A wildcard would not cover Authorization, so the headers
    that were asked for are named."""
    return [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (
            b"access-control-allow-headers",
            request_headers.get(b"access-control-request-headers", b"authorization"),
        ),
        (b"access-control-max-age", str(PREFLIGHT_AGE_SECONDS_MAX).encode()),
        (b"vary", b"access-control-request-headers"),
    ]
