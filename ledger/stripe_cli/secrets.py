"""The secrets of sessions of the Stripe CLI: by which it connects, and which signs what it is sent."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from ledger.ids import encode_base62, encode_digest
from ledger.keys.service_keys import ServiceKeys
from ledger.webhooks.signature import SECRET_PREFIX

WEBSOCKET_ID_PREFIX = "wsid_"
WEBSOCKET_ID_LENGTH = len(WEBSOCKET_ID_PREFIX) + 44


def new_websocket_id() -> str:
    """A secret id of 256 random bits: whoever has it gets what the session is sent."""
    return WEBSOCKET_ID_PREFIX + "".join(encode_base62(secrets.randbits(128)) for _ in range(2))


def hash_websocket_id(websocket_id: str) -> bytes:
    """What the database holds in its place."""
    return hashlib.sha256(websocket_id.encode()).digest()


class ListenerSecrets:
    """Derives the signing secrets of listeners from the service key. They are never stored."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        self._key = ServiceKeys.of(service_keys).derive(b"ledger/stripe_cli/secret/1")

    def derive(self, account: str, livemode: bool, device: str) -> str:
        """The signing secret of a device: the same for every session of it, because people keep it in the
        settings of their program."""
        message = "\x1f".join((account, "live" if livemode else "test", device))
        return SECRET_PREFIX + encode_digest(hmac.digest(self._key, message.encode(), "sha256"))
