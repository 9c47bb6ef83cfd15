"""The signature of what is sent to a webhook endpoint, scheme v1 (contract §5.4)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable


def sign(secrets: Iterable[str], signed_at: int, body: bytes) -> str:
    """The `Stripe-Signature` of `body`, signed at `signed_at` (unix seconds): a `v1` for each of the
    secrets, of which there are two while one is being replaced. A secret counts whole, `whsec_` included."""
    message = b"%d.%b" % (signed_at, body)
    digests = (hmac.digest(secret.encode(), message, "sha256").hex() for secret in secrets)
    return ",".join([f"t={signed_at}", *(f"v1={digest}" for digest in digests)])
