"""The log's own signing keys: made at the first start, stored encrypted, rotated by an operator.

A private key is encrypted by AES-256-GCM with a key derived from the service key, and bound to the key's id
and algorithm. It is opened for one signature at a time, and never leaves this module but in a `SignerKey`,
whose repr does not show it. Retired keys stay: what they signed can be verified for good.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.config import Settings
from ledger.errors import DamagedTree, SettingError
from ledger.ids import new_id
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, fetch_all, fetch_one
from ledger.tlog.checkpoints import Checkpoint
from ledger.tlog.keys import SEED_BYTES, SignerKey, VerifierKey
from ledger.tlog.merkle import ProofError
from ledger.tlog.notes import sign_note
from ledger.tlog.signed_messages import SignatureType
from ledger.tree.edge import TreeEdge

KINDS = {"ed25519": SignatureType.ED25519, "ml-dsa-44": SignatureType.COSIGNATURE_ML_DSA_44}
_NONCE_BYTES = 12

_ALL = """
SELECT id, origin, algorithm, public_key, extract(epoch FROM created_at)::float8,
       extract(epoch FROM retired_at)::float8, retired_reason
FROM ledger.signing_keys ORDER BY created_at DESC, id DESC
"""
_CURRENT = """
SELECT id, origin, algorithm, sealed_private_key FROM ledger.signing_keys
WHERE retired_at IS NULL ORDER BY algorithm
"""
_SEALED = "SELECT id, origin, algorithm, sealed_private_key, public_key FROM ledger.signing_keys"
# The log may have had another name before (`rotate`).
_ORIGIN = """
SELECT origin FROM ledger.signing_keys ORDER BY retired_at IS NULL DESC, created_at DESC, id DESC LIMIT 1
"""
_HAD_ORIGIN = "SELECT EXISTS (SELECT FROM ledger.signing_keys WHERE origin = %(origin)s)"
_WAIT_FOR_COMMIT = "SET LOCAL synchronous_commit = on"
_INSERT = """
INSERT INTO ledger.signing_keys (id, origin, algorithm, public_key, sealed_private_key)
VALUES (%(id)s, %(origin)s, %(algorithm)s, %(public_key)s, %(sealed)s)
"""
_RETIRE = """
UPDATE ledger.signing_keys SET retired_at = now(), retired_reason = %(reason)s WHERE retired_at IS NULL
"""


class PublishedKey(NamedTuple):
    """A key of the log as verifiers know it. `verifier` has the log's origin as its name; times are unix
    seconds. `reason`: why it was retired, '' for a current one."""

    id: str
    algorithm: str
    verifier: VerifierKey
    created_at: float
    retired_at: float | None
    reason: str


class LogSigner(NamedTuple):
    """The keys that sign for the log now. `origin` is the log's name."""

    origin: str
    keys: tuple[SignerKey, ...]

    def sign(self, edge: TreeEdge, at: float) -> str:
        """The signed checkpoint of a tree. `at`: unix seconds, which cosignatures name."""
        return sign_note(Checkpoint(self.origin, edge.size, edge.root).to_text(), self.keys, int(at))


class Keyring:
    """Makes and opens the private keys. `service_keys` is the deployment's.

    origin        names the log when its first key is made; None: a random name
    with_ml_dsa   whether the log also cosigns by ML-DSA-44
    """

    def __init__(
        self, service_keys: ServiceKeys | bytes, *, origin: str | None = None, with_ml_dsa: bool = False
    ) -> None:
        self._seal_key = ServiceKeys.of(service_keys).derive(b"ledger/signing-keys/seal/1")
        self.wanted_origin = origin
        self._algorithms = list(KINDS) if with_ml_dsa else ["ed25519"]

    async def open_signer(self, conn: Conn, at: float) -> LogSigner:
        """The current keys; missing ones are made. The caller holds the lock on the tree.

        at  unix seconds

        Raises psycopg.Error, DamagedTree for a key that cannot be opened, and ProofError when `cryptography`
        lacks the algorithm.
        """
        rows = {row[2]: row for row in await fetch_all(conn, _CURRENT)}
        missing = [algorithm for algorithm in self._algorithms if algorithm not in rows]
        if missing:
            # Whoever saw a signature trusts its key. So it is not lost with the last commits, as a batch is.
            await conn.execute(_WAIT_FOR_COMMIT)
            origin = await self._find_origin(conn)
            for algorithm in missing:
                await self._make(conn, origin, algorithm, at)
            rows = {row[2]: row for row in await fetch_all(conn, _CURRENT)}
        keys = tuple(self._open(*rows[algorithm]) for algorithm in self._algorithms)
        return LogSigner(keys[0].name, keys)

    async def rotate(
        self, conn: Conn, reason: str, at: float, *, new_origin: str | None = None
    ) -> tuple[LogSigner, LogSigner]:
        """Retire the current keys and make new ones, with `new_origin` as the log's name from now on. Returns
        the signers before and after. The caller holds the lock on the tree. Raises as `open_signer`, and
        SettingError for a name that the log has or had."""
        before = await self.open_signer(conn, at)
        row = await fetch_one(conn, _HAD_ORIGIN, {"origin": new_origin})
        if row is not None and row[0]:
            raise SettingError(f"--new-origin: the log is or was named {new_origin}")
        await conn.execute(_RETIRE, {"reason": reason})
        for algorithm in self._algorithms:
            await self._make(conn, new_origin or before.origin, algorithm, at)
        return before, await self.open_signer(conn, at)

    async def list_own_keys(self, conn: Conn) -> list[VerifierKey]:
        """The public keys, current and retired, whose private key was sealed with the service key: so not one
        that somebody has put into the table. Raises psycopg.Error."""
        keys: list[VerifierKey] = []
        for *row, public_key in await fetch_all(conn, _SEALED):
            with suppress(DamagedTree, ProofError):
                verifier = self._open(*row).verifier
                if verifier.public_key == public_key:
                    keys.append(verifier)
        return keys

    async def _find_origin(self, conn: Conn) -> str:
        rows = await fetch_all(conn, _ORIGIN)
        return str(rows[0][0]) if rows else self.wanted_origin or f"ledger/{secrets.token_hex(8)}"

    async def _make(self, conn: Conn, origin: str, algorithm: str, at: float) -> None:
        signer = SignerKey.make(origin, secrets.token_bytes(SEED_BYTES), KINDS[algorithm])
        key_id = new_id("logkey", at)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(self._seal_key).encrypt(nonce, signer.seed, _bind(key_id, algorithm))
        parameters = {
            "id": key_id,
            "origin": origin,
            "algorithm": algorithm,
            "public_key": signer.verifier.public_key,
            "sealed": sealed,
        }
        await conn.execute(_INSERT, parameters)

    def _open(self, key_id: str, origin: str, algorithm: str, sealed: bytes) -> SignerKey:
        nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            seed = AESGCM(self._seal_key).decrypt(nonce, content, _bind(key_id, algorithm))
        except InvalidTag:
            raise DamagedTree(f"the signing key {key_id} cannot be opened with the service key") from None
        return SignerKey.make(origin, seed, KINDS[algorithm])


def make_keyring(service_keys: ServiceKeys | bytes, settings: Settings) -> Keyring:
    """The keyring of a deployment."""
    return Keyring(service_keys, origin=settings.log_origin, with_ml_dsa=settings.log_mldsa)


async def list_keys(conn: Conn) -> list[PublishedKey]:
    """All keys of the log, the newest first. Raises psycopg.Error."""
    return [
        PublishedKey(key_id, algorithm, VerifierKey(origin, KINDS[algorithm], public_key), *rest)
        for key_id, origin, algorithm, public_key, *rest in await fetch_all(conn, _ALL)
    ]


def _bind(key_id: str, algorithm: str) -> bytes:
    return f"{key_id}\x1f{algorithm}".encode()
