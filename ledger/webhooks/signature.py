"""Sign deliveries to webhook endpoints: scheme v1 of Stripe (contract §5.4), and of Standard Webhooks 1.0.

`build_headers` has all headers by which a receiver knows what a delivery is and who signed it.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence

from ledger.domain.webhook_endpoint import WebhookEndpoint
from ledger.webhooks.deliveries import ClaimedDelivery
from ledger.webhooks.messages import Message
from ledger.webhooks.schedule import order
from ledger.wire.event_destinations import PING_TYPE

SECRET_PREFIX = "whsec_"  # noqa: S105 (no secret)


def sign(secrets: Iterable[str], signed_at: int, body: bytes) -> str:
    """The header `Stripe-Signature` of `body`, signed at `signed_at` (unix seconds).

    It has one `v1` for each secret: two while a secret is being replaced. The whole secret is the HMAC's key,
    `whsec_` included.
    """
    message = b"%d.%b" % (signed_at, body)
    digests = (hmac.digest(secret.encode(), message, "sha256").hex() for secret in secrets)
    return ",".join([f"t={signed_at}", *(f"v1={digest}" for digest in digests)])


def sign_standard(secrets: Iterable[str], message_id: str, signed_at: int, body: bytes) -> str:
    """The header `webhook-signature` of `body`, for the headers `webhook-id` and `webhook-timestamp` given.

    It has one `v1` for each secret, as `sign` has. The key is what the secret is base64 of, after `whsec_`.
    """
    message = b"%b.%d.%b" % (message_id.encode(), signed_at, body)
    keys = (b64decode(secret.removeprefix(SECRET_PREFIX), validate=True) for secret in secrets)
    digests = (b64encode(hmac.digest(key, message, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{digest}" for digest in digests)


def build_headers(
    endpoint: WebhookEndpoint,
    delivery: ClaimedDelivery,
    message: Message,
    secrets: Sequence[str],
    signed_at: int,
) -> list[tuple[bytes, bytes]]:
    """`Stripe-Signature` to every endpoint; those of Standard Webhooks, and the sequence number, to one that
    is configured so. `secrets` sign the `message` at `signed_at` (unix seconds). A ping has no number: it has
    no place in the order of Events."""
    headers = [("Stripe-Signature", sign(secrets, signed_at, message.body))]
    if endpoint.dispatch.standard_webhooks:
        headers += [
            ("webhook-id", message.id),
            ("webhook-timestamp", str(signed_at)),
            ("webhook-signature", sign_standard(secrets, message.id, signed_at, message.body)),
        ]
    if endpoint.dispatch.ordered and delivery.type != PING_TYPE:
        headers.append(("Ledger-Sequence", str(order.number(delivery.position, delivery.ordinal))))
    return [(name.encode(), value.encode()) for name, value in headers]
