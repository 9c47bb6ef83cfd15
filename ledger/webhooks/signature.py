"""Sign deliveries to webhook endpoints, scheme v1 (contract §5.4)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable


def sign(secrets: Iterable[str], signed_at: int, body: bytes) -> str:
    """The header `Stripe-Signature` of `body`, signed at `signed_at` (unix seconds).

    It has one `v1` for each secret: two while a secret is being replaced. The whole secret is the HMAC's key,
    `whsec_` included.
    """
    message = b"%d.%b" % (signed_at, body)
    digests = (hmac.digest(secret.encode(), message, "sha256").hex() for secret in secrets)
    return ",".join([f"t={signed_at}", *(f"v1={digest}" for digest in digests)])
