"""Client secrets of customer sessions, and the ephemeral keys they are exchanged for (contract §2.1, §6).

Both are derived from the session's grant and the service key and never stored (README, invariant 7). Each
holds the session's id and two MACs: a short one that is checked before anything is looked up, so a forged
secret causes no query, and one of the grant, which is in the session's stream.
"""

from __future__ import annotations

import hmac
from typing import Any

import msgspec

from ledger.accounts import ApiKey
from ledger.crypto.mac import Mac
from ledger.domain import customer_session
from ledger.domain.customer_session import CustomerSession
from ledger.ids import encode_digest
from ledger.keys.service_keys import ServiceKeys
from ledger.store.log import StreamReader
from ledger.wire.versions import LATEST_VERSION

CLIENT_SECRET_PREFIX = "cuss_secret_"  # noqa: S105 (no secret)
EPHEMERAL_KEY_PREFIXES = {False: "ek_test_", True: "ek_live_"}

_ID_DIGITS = 22
_CHECK_DIGITS = 16
_GRANT_DIGITS = 32
_DIGITS = _ID_DIGITS + _CHECK_DIGITS + _GRANT_DIGITS
_CHECK_BYTES = _CHECK_DIGITS  # of a digest: each two bytes result in two digits

_encode = msgspec.json.Encoder().encode


class SessionSecrets:
    """Derives client secrets and ephemeral keys from the service key, and recognizes those it derived."""

    def __init__(self, service_keys: ServiceKeys | bytes) -> None:
        key = ServiceKeys.of(service_keys).derive(b"ledger/customer_session/secret/1")
        self._digest = Mac(key).digest

    def derive_client_secret(self, state: CustomerSession) -> str:
        """The session's client secret: `cuss_secret_` and 70 base-62 digits, of which only the
        service key can produce 48."""
        return self._derive(CLIENT_SECRET_PREFIX, state, state.account, state.livemode)

    def derive_ephemeral_key(self, state: CustomerSession) -> str:
        """The ephemeral key that the client secret is exchanged for: `ek_test_` or `ek_live_`, and 70
        digits."""
        return self._derive(EPHEMERAL_KEY_PREFIXES[state.livemode], state)

    def parse_client_secret(self, secret: str, account: str, livemode: bool) -> str | None:
        """The id of the session that a client secret belongs to; None if no session of this account and mode
        can have it.

        The grant is not checked: compare the secret with `derive_client_secret` of the session.
        """
        return self._parse(CLIENT_SECRET_PREFIX, secret, account, livemode)

    def parse_ephemeral_key(self, key: str) -> str | None:
        """The id of the session that an ephemeral key belongs to; None if the key was not derived here. The
        grant is not checked: compare the key with `derive_ephemeral_key`."""
        return next(
            (
                session_id
                for prefix in EPHEMERAL_KEY_PREFIXES.values()
                if (session_id := self._parse(prefix, key))
            ),
            None,
        )

    def _derive(self, prefix: str, state: CustomerSession, *scope: Any) -> str:
        digits = state.id.partition("_")[2]
        grant = customer_session.encode_grant(state).decode()
        grant_mac = self._digest(_encode(("grant", prefix, grant)))
        return f"{prefix}{digits}{encode_digest(self._derive_check_mac(prefix, digits, scope) + grant_mac)}"

    def _derive_check_mac(self, prefix: str, digits: str, scope: tuple[Any, ...]) -> bytes:
        return self._digest(_encode(("check", prefix, digits, *scope)))[:_CHECK_BYTES]

    def _parse(self, prefix: str, text: str, *scope: Any) -> str | None:
        digits = text.removeprefix(prefix)
        if len(text) != len(prefix) + _DIGITS or len(digits) != _DIGITS or not digits.isascii():
            return None
        check = encode_digest(self._derive_check_mac(prefix, digits[:_ID_DIGITS], scope))
        if not hmac.compare_digest(digits[_ID_DIGITS:-_GRANT_DIGITS], check):
            return None
        return f"cuss_{digits[:_ID_DIGITS]}"


class EphemeralKeys:
    """Looks up ephemeral keys. No key is stored: its session determines its rights."""

    def __init__(self, secrets: SessionSecrets, streams: StreamReader) -> None:
        self._secrets = secrets
        self._streams = streams

    async def find(self, key: str) -> ApiKey | None:
        """The key's account, customer and expiry; None if the key is forged or its session was not exchanged.
        Raises Unavailable."""
        session_id = self._secrets.parse_ephemeral_key(key)
        if session_id is None:
            return None
        state = self._streams.get_cached(session_id)
        if not isinstance(state, CustomerSession) or state.claimed_at is None:
            state = await self._streams.read(session_id)
        if not isinstance(state, CustomerSession) or state.claimed_at is None:
            return None
        if not hmac.compare_digest(self._secrets.derive_ephemeral_key(state), key):
            return None
        return ApiKey(
            id=state.id,
            account=state.account,
            kind="ek",
            livemode=state.livemode,
            last4=key[-4:],
            name="",
            scopes=(),
            expires_at=state.expires_at,
            api_version=LATEST_VERSION,
            customer=state.customer,
        )
