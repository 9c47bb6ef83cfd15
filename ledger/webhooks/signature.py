"""The signature of what is sent to a webhook endpoint, scheme v1 (CONTRACT 5.4)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable


def signature(secrets: Iterable[str], at: int, body: bytes) -> str:
    """The `Stripe-Signature` of `body`, signed at `at` (unix seconds): a `v1` for each of the secrets, of
    which there are two while one is being replaced. A secret counts whole, `whsec_` included."""
    message = b"%d.%b" % (at, body)
    signed = (hmac.digest(secret.encode(), message, "sha256").hex() for secret in secrets)
    return ",".join([f"t={at}", *(f"v1={each}" for each in signed)])
