"""Who asks: the API key of a request, as Bearer token or as the user of Basic (CONTRACT 1.2, 1.6)."""

from __future__ import annotations

import base64
import binascii
import time

from ledger.accounts import ApiKey, KeyRing
from ledger.errors import Unauthenticated


async def authenticate(keys: KeyRing, authorization: bytes) -> ApiKey:
    """The key of an Authorization header. Raises Unauthenticated for none, an unknown or an expired one."""
    secret = _secret(authorization)
    key = keys.recall(secret) or await keys.find(secret)
    if key is None:
        raise Unauthenticated(f"Invalid API Key provided: {_masked(secret)}")
    if key.expires_at is not None and key.expires_at <= time.time():
        raise Unauthenticated(f"Expired API Key provided: {_masked(secret)}", code="api_key_expired")
    return key


def _secret(authorization: bytes) -> str:
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"basic":
        try:
            value = base64.b64decode(value, validate=True).partition(b":")[0]
        except binascii.Error:
            value = b""
    elif scheme.lower() != b"bearer":
        value = b""
    if not value:
        raise Unauthenticated(
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    return value.decode("latin-1")


def _masked(secret: str) -> str:
    """All but the kind and the end: enough to tell which key it was, too little to use it."""
    start = secret[:8] if secret[:3] in ("sk_", "rk_", "pk_", "ek_") else ""
    return f"{start}****{secret[-4:] if len(secret) > 16 else ''}"
