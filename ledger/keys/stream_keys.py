"""The keys that releases before data keys derived from the service key: of a stream, of a file's contents.

A migration keeps each of them in `ledger.stream_keys`, sealed under the data key of its subject, with which
it is destroyed. After it has finished no key is derived any more.
"""

from __future__ import annotations

import hmac

from ledger.keys.data_keys import DataKey
from ledger.keys.service_keys import ServiceKeys

_SEAL_CONTEXT = "stream_keys"


def seal_stream_key(key: DataKey, stream: str, stream_key: bytes) -> bytes:
    """The key that an earlier release derived for a stream, sealed under the key of its subject."""
    return key.seal(_SEAL_CONTEXT, stream_key, stream.encode())


def open_stream_key(key: DataKey, stream: str, wrapped: bytes) -> bytes:
    """What `seal_stream_key` has sealed. Raises cryptography's InvalidTag."""
    return key.open(_SEAL_CONTEXT, wrapped, stream.encode())


def name_chunk_stream(file_id: str) -> str:
    """Under what name the key of a file's contents is kept: another one than that of the file's events."""
    return f"{file_id}/chunks"


def derive_chunk_key(service_keys: ServiceKeys, file_id: str) -> bytes:
    """The key that an earlier release has sealed a file's contents with."""
    return hmac.digest(service_keys.derive(b"ledger/files/seal/1"), file_id.encode(), "sha256")
