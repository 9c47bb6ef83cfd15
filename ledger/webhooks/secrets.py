"""The secrets that sign deliveries to webhook endpoints (contract §5.4).

A secret is derived from the endpoint's id, the secret's number and the service key, and never stored (README,
invariant 7). Only the response to the request that creates an endpoint, or replaces its secret, contains it.
The text is a secret for both signatures (`signature`): its 32 digits are base64 of 24 bytes, too.
"""

from __future__ import annotations

import hmac

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.ids import encode_digest
from ledger.keys.service_keys import ServiceKeys
from ledger.webhooks.signature import SECRET_PREFIX


class WebhookSecrets:
    """Derives the secrets of webhook endpoints from the service key."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        self._key = ServiceKeys.of(service_keys).derive(b"ledger/webhook_endpoint/secret/1")

    def derive(self, endpoint_id: str, version: int = 1) -> str:
        """The endpoint's secret of this number: `whsec_` and 32 base-62 digits that only the service key can
        produce. No id contains a colon, so no two secrets are derived from the same text."""
        source = endpoint_id if version == 1 else f"{endpoint_id}:{version}"
        return SECRET_PREFIX + encode_digest(hmac.digest(self._key, source.encode(), "sha256"))

    def derive_valid(self, endpoint: WebhookEndpoint, now: float) -> list[str]:
        """The secrets that sign at `now` (unix seconds), newest first: two while one is being replaced."""
        dispatch = endpoint.dispatch
        secrets = [self.derive(endpoint.id, dispatch.secret_version)]
        if now < dispatch.previous_secret_valid_until:
            secrets.append(self.derive(endpoint.id, dispatch.secret_version - 1))
        return secrets
