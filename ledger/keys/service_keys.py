"""The service key of a deployment, and the one before it while that is being replaced.

It wraps other keys, and the secret of each purpose (client secrets, URLs, signatures …) comes from it. What
is wrapped names its key by an id, so two keys are valid side by side. The secrets of purposes outlive a
service key: the database keeps them wrapped, and each process loads them at its start.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.crypto.entropy import RandomPieces
from ledger.errors import ServiceKeyMissing

PURPOSES = (
    b"ledger/alerts/receiver/1",
    b"ledger/audit/access/1",
    b"ledger/blind-index/1",
    b"ledger/customer_session/secret/1",
    b"ledger/file_link/address/1",
    b"ledger/payment_intent/secret/1",
    b"ledger/signing-keys/seal/1",
    b"ledger/stripe_cli/secret/1",
    b"ledger/stripe_login/form/1",
    b"ledger/v2_page/token/1",
    b"ledger/webhook_endpoint/secret/1",
)
"""What the database keeps a secret of, by label."""
ROOTS = (b"ledger/events/seal/1", b"ledger/files/seal/1")
"""The roots of what releases before data keys have sealed. They go with the service key."""

_NONCE_BYTES = 12
_ID_CHARACTERS = 12
_nonces = RandomPieces(_NONCE_BYTES)


class ServiceKeys:
    """The service keys of a process.

    current   wraps, and unwraps what it has wrapped; `current_id` is its id
    previous  another one, which unwraps only
    kept      the secrets of purposes, by label, as the database keeps them; None: each is derived from
              `current`, as at the first start of a deployment
    """

    def __init__(
        self, current: bytes, previous: bytes | None = None, kept: Mapping[bytes, bytes] | None = None
    ) -> None:
        self.current_id = derive_key_id(current)
        self._keys = {derive_key_id(key): key for key in (previous, current) if key is not None}
        self._ciphers = {key_id: AESGCM(_derive_wrap_key(key)) for key_id, key in self._keys.items()}
        self._kept = kept

    def __repr__(self) -> str:
        return f"ServiceKeys({', '.join(self._keys)})"  # never the keys

    @classmethod
    def of(cls, key: ServiceKeys | bytes) -> ServiceKeys:
        """`key` itself, or the service keys of a deployment that has this one only."""
        return key if isinstance(key, ServiceKeys) else cls(key)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys."""
        return tuple(self._keys)

    def wrap(self, plaintext: bytes, context: str) -> tuple[bytes, str]:
        """`plaintext` encrypted under the current key (AES-256-GCM) and bound to `context`, and the id of
        that key. `context` names what is wrapped, as in `data_key cus_1`: so no other takes its place."""
        nonce = _nonces.draw()
        wrapped = nonce + self._ciphers[self.current_id].encrypt(nonce, plaintext, context.encode())
        return wrapped, self.current_id

    def unwrap(self, wrapped: bytes, key_id: str, context: str) -> bytes:
        """What was wrapped under the key `key_id`. Raises ServiceKeyMissing when the process does not have
        that key, and cryptography's InvalidTag for what was changed or wrapped in another context."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise ServiceKeyMissing(key_id, self.ids)
        return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context.encode())

    def derive(self, label: bytes) -> bytes:
        """The secret of a purpose: 32 bytes, the same after the service key was replaced; or a root. Raises
        KeyError for a purpose that the database keeps no secret of."""
        if self._kept is not None and label not in ROOTS:
            return self._kept[label]
        return hmac.digest(self._keys[self.current_id], label, "sha256")

    def wrap_under(self, key_id: str) -> None:
        """Wrap under another one of the keys from now on. Raises ServiceKeyMissing."""
        if key_id not in self._keys:
            raise ServiceKeyMissing(key_id, self.ids)
        self.current_id = key_id

    def with_kept(self, kept: Mapping[bytes, bytes]) -> ServiceKeys:
        """The same keys with the secrets of purposes that the database keeps."""
        current = self._keys[self.current_id]
        return ServiceKeys(current, next((key for key in self._keys.values() if key != current), None), kept)

    def to_settings(self) -> dict[str, str]:
        """The environment of a child process that is to have the same keys."""
        texts = [self._keys[key_id].decode() for key_id in sorted(self._keys, key=self.current_id.__ne__)]
        return dict(zip(("LEDGER_SECRET_KEY", "LEDGER_PREVIOUS_SECRET_KEY"), texts, strict=False))


def derive_key_id(key: bytes) -> str:
    """The id of a service key, which may be stored and shown: the key cannot be found from it."""
    id_key = hmac.digest(key, b"ledger/service-key/id/1", "sha256")
    return hmac.digest(id_key, b"the id of this service key", "sha256").hex()[:_ID_CHARACTERS]


def _derive_wrap_key(key: bytes) -> bytes:
    return hmac.digest(key, b"ledger/service-key/wrap/1", "sha256")
