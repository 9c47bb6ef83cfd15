"""The secrets that sign deliveries to webhook endpoints (contract §5.4).

A secret is derived from the endpoint's id and the service key and never stored (README, invariant 7). Only
the response to the request that creates an endpoint contains it.
"""

from __future__ import annotations

import hmac

from ledger.ids import encode_digest

SECRET_PREFIX = "whsec_"  # noqa: S105 (no secret)


class WebhookSecrets:
    """Derives the secrets of webhook endpoints from the service key."""

    def __init__(self, service_key: bytes) -> None:
        self._key = hmac.digest(service_key, b"ledger/webhook_endpoint/secret/1", "sha256")

    def derive(self, endpoint_id: str) -> str:
        """The endpoint's secret: `whsec_` and 32 base-62 digits that only the service key can produce. The
        whole text, prefix included, is the key of the endpoint's signatures."""
        return SECRET_PREFIX + encode_digest(hmac.digest(self._key, endpoint_id.encode(), "sha256"))
