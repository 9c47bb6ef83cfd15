"""The keys that sign notes and verify them, in the text form of C2SP signed-note.

Ed25519 and ML-DSA-44. The second needs a release of `cryptography` that has it; the first needs no more than
the oldest that the service runs on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.tlog.encoding import decode_base64, encode_base64
from ledger.tlog.merkle import ProofError
from ledger.tlog.signed_messages import NAME_BYTES_MAX, TIMESTAMP_BYTES, SignatureType, build_message

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:  # older than the release that brought it
    mldsa = None  # type: ignore[assignment]

KEY_ID_BYTES = 4
SEED_BYTES = 32
_PUBLIC_KEY_BYTES = {
    SignatureType.ED25519: 32,
    SignatureType.COSIGNATURE_ED25519: 32,
    SignatureType.COSIGNATURE_ML_DSA_44: 1312,
}
_PRIVATE_PREFIX = "PRIVATE+KEY+"
_NO_ML_DSA = "ML-DSA-44 is not in the installed release of the package cryptography: install 47 or newer"


def check_key_name(name: str) -> None:
    """Raise ProofError for a text that cannot be a key's name: it has no spaces, no `+` and no control
    characters, and 1 to 255 bytes."""
    is_clean = not any(char.isspace() or char == "+" or char < " " for char in name)
    if not is_clean or not 0 < len(_encode(name)) <= NAME_BYTES_MAX:
        raise ProofError(f"not the name of a key: {name!a}")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key: `name+key id+base64` as a text.

    public_key  32 bytes for Ed25519, 1312 for ML-DSA-44
    """

    name: str
    kind: SignatureType
    public_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises ProofError, also when the key id is not that of the key."""
        name, key_id, encoded = _split_key(text)
        key = cls(name, *_decode_key(encoded, _PUBLIC_KEY_BYTES))
        if key.key_id.hex() != key_id:
            raise ProofError(f"the key id of {name!a} is not that of its public key")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes((self.kind,)) + self.public_key)}"

    @property
    def key_id(self) -> bytes:
        """4 bytes that name the key in its signatures."""
        return sha256(self.name.encode() + b"\n" + bytes((self.kind,)) + self.public_key).digest()[
            :KEY_ID_BYTES
        ]

    def verify(self, text: str, signature: bytes) -> None:
        """Check the signature of a note's text. Raises ProofError for one that is not of this key.

        signature  without the key id; it begins with 8 bytes of time where the type has a time
        """
        timestamp = self.read_time(signature)
        message = build_message(self.kind, self.name, text, timestamp or 0)
        bare = signature if timestamp is None else signature[TIMESTAMP_BYTES:]
        try:
            _load_public(self).verify(bare, message)
        except (InvalidSignature, ValueError):
            raise ProofError(f"the signature of {self.name!a} is wrong") from None

    def read_time(self, signature: bytes) -> int | None:
        """When a signature was made, in unix seconds; None for a type without a time. The time can be trusted
        only once the signature is verified."""
        if not self.kind.is_timestamped:
            return None
        return int.from_bytes(signature[:TIMESTAMP_BYTES], "big")


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A private key. Its text form is that of Go's `note` package.

    seed  32 bytes, from which the key pair follows
    """

    name: str
    kind: SignatureType
    seed: bytes = field(repr=False)

    @classmethod
    def make(cls, name: str, seed: bytes, kind: SignatureType = SignatureType.ED25519) -> Self:
        """The key of 32 random bytes. Raises ProofError for a name that a key cannot have."""
        check_key_name(name)
        assert len(seed) == SEED_BYTES
        return cls(name, kind, seed)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises ProofError, which never quotes the key."""
        if not text.startswith(_PRIVATE_PREFIX):
            raise ProofError(f"a private key begins with {_PRIVATE_PREFIX}")
        name, key_id, encoded = _split_key(text.removeprefix(_PRIVATE_PREFIX))
        key = cls(name, *_decode_key(encoded, dict.fromkeys(SignatureType, SEED_BYTES)))
        if key.verifier.key_id.hex() != key_id:
            raise ProofError(f"the key id of {name!a} is not that of its private key")
        return key

    def to_text(self) -> str:
        """The text form, which is a secret."""
        encoded = encode_base64(bytes((self.kind,)) + self.seed)
        return f"{_PRIVATE_PREFIX}{self.name}+{self.verifier.key_id.hex()}+{encoded}"

    @property
    def verifier(self) -> VerifierKey:
        """The public key. Raises ProofError where `cryptography` lacks the algorithm."""
        return VerifierKey(self.name, self.kind, _load_private(self).public_key().public_bytes_raw())

    def sign(self, text: str, at: int = 0) -> bytes:
        """The signature of a note's text, without the key id.

        at  unix seconds, for a type with a time

        Raises ProofError for a text that the key's type cannot sign.
        """
        signature: bytes = _load_private(self).sign(build_message(self.kind, self.name, text, at))
        return at.to_bytes(TIMESTAMP_BYTES, "big") + signature if self.kind.is_timestamped else signature


def _split_key(text: str) -> tuple[str, str, bytes]:
    """Name, key id in hex, and the decoded rest of a key's text."""
    name, key_id, encoded = [*text.split("+", 2), "", ""][:3]
    if not key_id or not encoded:
        raise ProofError("a key is written as its name, its key id and its base64, joined by '+'")
    check_key_name(name)
    return name, key_id, decode_base64(encoded, f"the key {name!a}")


def _decode_key(encoded: bytes, lengths: dict[SignatureType, int]) -> tuple[SignatureType, bytes]:
    if not encoded or encoded[0] not in set(SignatureType):
        raise ProofError("the key's type is none of Ed25519, Ed25519 cosignature, ML-DSA-44 cosignature")
    kind = SignatureType(encoded[0])
    if len(encoded) - 1 != lengths[kind]:
        raise ProofError(f"the key has {len(encoded) - 1} bytes instead of {lengths[kind]}")
    return kind, encoded[1:]


def _load_public(key: VerifierKey) -> Any:
    if key.kind is not SignatureType.COSIGNATURE_ML_DSA_44:
        return Ed25519PublicKey.from_public_bytes(key.public_key)
    return _load_ml_dsa(lambda: mldsa.MLDSA44PublicKey.from_public_bytes(key.public_key))


def _load_private(key: SignerKey) -> Any:
    if key.kind is not SignatureType.COSIGNATURE_ML_DSA_44:
        return Ed25519PrivateKey.from_private_bytes(key.seed)
    return _load_ml_dsa(lambda: mldsa.MLDSA44PrivateKey.from_seed_bytes(key.seed))


def _load_ml_dsa(load: Callable[[], Any]) -> Any:
    """What `load` returns. Raises ProofError where `cryptography`, or the OpenSSL below it, lacks the
    algorithm."""
    if mldsa is None:
        raise ProofError(_NO_ML_DSA)
    try:
        return load()
    except UnsupportedAlgorithm:
        raise ProofError(_NO_ML_DSA) from None


def _encode(name: str) -> bytes:
    """The name in UTF-8; empty, which is no name, for one that has no such form."""
    try:
        return name.encode()
    except UnicodeEncodeError:
        return b""
