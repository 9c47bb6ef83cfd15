"""Client secrets of payment intents (contract §2.12), derived from the intent's id and the service key.

A secret is never stored (README, invariant 7): it is derived again for each answer that shows it.
"""

from __future__ import annotations

from ledger.crypto.mac import Mac
from ledger.ids import encode_digest
from ledger.keys.service_keys import ServiceKeys


class PaymentIntentSecrets:
    """Derives the client secrets of payment intents under the service key."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        self._mac = Mac(ServiceKeys.of(service_keys).derive(b"ledger/payment_intent/secret/1"))

    def derive(self, intent_id: str) -> str:
        """The client secret: the intent's id, `_secret_`, and 32 base-62 digits that only the service key can
        produce."""
        digits = encode_digest(self._mac.digest(intent_id.encode()))
        return f"{intent_id}_secret_{digits}"
