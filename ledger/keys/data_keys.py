"""Data keys, which personal data is sealed under: a random one for each data subject.

A data subject is named by an id: a customer's, else that of the object itself. Its key is a row of
`ledger.data_keys`, outside the log; an erasure destroys the row, and with it every copy of what was sealed,
in backups and standbys too. Keys that were unwrapped are cached for as long as the process knows of every
erasure (`ledger.keys.erasure_watch`). Who opens or seals much loads all keys it needs first, and holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg.rows import TupleRow

from ledger.crypto.entropy import RandomPieces
from ledger.crypto.mac import Mac
from ledger.keys.blind_index import BlindIndex
from ledger.keys.erasure_watch import SEALED_BY_SUBJECT_SINCE_EPOCH, ErasureWatch, LeasedCache
from ledger.keys.service_keys import ServiceKeys
from ledger.postgres.connections import Conn, fetch_all
from ledger.postgres.pipelines import bind, fetch_together
from ledger.postgres.statements import StatementPool, parse_statement

CACHED_KEYS_MAX = 20_000
"""Some 4 MB."""
READY_KEYS_MAX = 1000
"""Those that were used again, the last of them, each with the cipher of its documents: some 3 MB."""
DATA_KEY_BYTES = 32

_NONCE_BYTES = 12
_nonces = RandomPieces(_NONCE_BYTES)
_new_keys = RandomPieces(DATA_KEY_BYTES)
_extract = Mac(b"ledger/data-key/1").digest
# What is derived for documents. No id of a stream, for which other keys are derived, has this character.
_DOCUMENTS = b"documents\x1f1"
_DOCUMENT_NONCE = b"document nonce\x1f1"

# The epoch is of the same moment as the keys. LIMIT makes the planner look each subject up in the index of
# its partition, whatever its settings and statistics are; else it may read all partitions for a few keys.
_SELECT_KEYS = """
SELECT e.epoch, k.subject, k.wrapped, k.wrapped_by, k.erasing_since IS NOT NULL, k.destroyed_at IS NOT NULL
FROM ledger.erasure_epoch e LEFT JOIN (
    unnest(%(subjects)s::text[]) AS wanted(subject)
    CROSS JOIN LATERAL (
        SELECT * FROM ledger.data_keys d WHERE d.subject = wanted.subject
        AND ledger.key_group(d.subject) = ledger.key_group(wanted.subject) LIMIT 1) k
) ON true
"""

Source = Conn | StatementPool
"""Where rows are read: a connection, or kept connections for many readers."""
log = structlog.get_logger()


class DataKey:
    """The key of one data subject. What it seals under one context, it opens under that context only."""

    __slots__ = ("_document_cipher", "_expand", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        # HKDF (RFC 5869) with SHA-256: this is its first half, `derive` the second.
        self._expand = Mac(_extract(secret)).digest
        self._document_cipher: AESGCM | None = None

    def derive(self, info: bytes, length: int = 32) -> bytes:
        """The `length` bytes that only this key yields for `info`."""
        block = self._expand(info + b"\x01")
        if length <= len(block):
            return block[:length]
        derived = block
        for number in range(2, -(-length // len(block)) + 1):
            block = self._expand(block + info + bytes([number]))
            derived += block
        return derived[:length]

    def seal(self, context: str, plaintext: bytes, associated_data: bytes | None = None) -> bytes:
        """`plaintext`, encrypted by AES-256-GCM under the key derived for `context`."""
        nonce = _nonces.draw()
        return nonce + self.make_cipher(context).encrypt(nonce, plaintext, associated_data)

    def open(self, context: str, sealed: bytes, associated_data: bytes | None = None) -> bytes:
        """What was sealed. Raises cryptography's InvalidTag for anything else."""
        return open_sealed(self.make_cipher(context), sealed, associated_data)

    def make_cipher(self, context: str) -> AESGCM:
        """The cipher of this context, for a caller that opens much under it. The key does not keep it: most
        are used once, and each takes 2 kB."""
        return AESGCM(self.derive(context.encode()))

    def seal_document(self, document: bytes) -> bytes:
        """`document`, encrypted by AES-256-GCM: the same document is the same bytes, for the nonce is derived
        from it. Two that differ have one nonce as rarely as 96 random bits meet."""
        nonce = self.derive(_DOCUMENT_NONCE + document, _NONCE_BYTES)
        return nonce + self._get_document_cipher().encrypt(nonce, document, None)

    def open_document(self, sealed: bytes) -> bytes:
        """The document that was sealed. Raises cryptography's InvalidTag, and ValueError, for anything
        else."""
        return open_sealed(self._get_document_cipher(), sealed)

    def _get_document_cipher(self) -> AESGCM:
        cipher = self._document_cipher
        if cipher is None:
            cipher = self._document_cipher = AESGCM(self.derive(_DOCUMENTS))
        return cipher


class Keyring:
    """The keys that were loaded for some subjects, as of one moment: the erasure epoch `epoch`.

    erased  those among them that have no key any more, because they are being erased; True once it is gone
    """

    def __init__(self, epoch: int, keys: dict[str, DataKey], erased: dict[str, bool]) -> None:
        self.epoch = epoch
        self.erased = erased
        self._keys = keys

    def get(self, subject: str) -> DataKey | None:
        """The key of the subject; None for one that is erased, or that has none: nothing personal was ever
        sealed for it."""
        return self._keys.get(subject)

    @property
    def may_seal(self) -> bool:
        """Whether every release that may run opens what is sealed under these keys."""
        return self.epoch >= SEALED_BY_SUBJECT_SINCE_EPOCH

    def is_erased(self, subject: str) -> bool:
        """Whether the erasure of the subject has begun."""
        return subject in self.erased


NO_KEYS = Keyring(0, {}, {})


class NewKey(NamedTuple):
    """A key for a subject that has none, and its wrap: the subject's row once an append has committed it. It
    was made in the erasure epoch `epoch`."""

    subject: str
    key: DataKey
    wrapped: bytes
    wrapped_by: str
    epoch: int


class DataKeys:
    """The data keys of one process. Without a `watch` that follows erasures nothing is cached."""

    def __init__(
        self,
        service_keys: ServiceKeys | bytes,
        watch: ErasureWatch | None = None,
        *,
        cached_max: int = CACHED_KEYS_MAX,
    ) -> None:
        self.service_keys = ServiceKeys.of(service_keys)
        self.watch = watch or ErasureWatch()
        self._cache: LeasedCache[str, bytes] = LeasedCache(cached_max, self.watch)
        self._ready: LeasedCache[str, DataKey] = LeasedCache(min(READY_KEYS_MAX, cached_max), self.watch)

    @cached_property
    def blind_index(self) -> BlindIndex:
        """The keyed hashes that stand for what is sealed. Raises KeyError if the process does not have the
        secrets that the database keeps."""
        return BlindIndex(self.service_keys)

    def __len__(self) -> int:
        """How many keys are cached."""
        return len(self._cache)

    async def load(
        self, source: Source, subjects: Iterable[str], *, erasing: bool = False, known: Keyring = NO_KEYS
    ) -> Keyring:
        """The keys of the subjects, with one statement for those that are not cached. What is returned has
        all of them, however small the cache. With `erasing`, those too whose erasure has begun and that are
        still there. What `known` has, which was loaded for the same batch, is not looked up again. Raises
        what reading from `source` raises, and ServiceKeyMissing."""
        wanted = [each for each in dict.fromkeys(subjects) if not known.is_erased(each)]
        keys: dict[str, DataKey] = {}

        async def fetch_rest() -> list[TupleRow]:
            keys.clear()
            keys.update(
                (each, key)
                for each in wanted
                if (key := known.get(each) or self.get_cached(each)) is not None
            )
            missing = [each for each in wanted if each not in keys]
            return await fetch_from(source, _SELECT_KEYS, {"subjects": missing}) if missing else []

        rows = await self._cache.complete(fetch_rest)
        epoch = rows[0][0] if rows else self.watch.epoch
        if epoch > self.watch.epoch:
            self.watch.note(epoch)
        keyring = Keyring(epoch, keys, dict(known.erased))
        for _, subject, wrapped, wrapped_by, is_erased, is_destroyed in rows:
            if is_erased and not (erasing and wrapped):
                keyring.erased[subject] = is_destroyed
            elif subject is not None and (key := self._unwrap(subject, wrapped, wrapped_by)) is not None:
                keys[subject] = key
                if not is_erased and epoch == self.watch.epoch:  # else of an older snapshot, or a standby
                    self._cache.put(subject, key.secret)
        return keyring

    def get_cached(self, subject: str) -> DataKey | None:
        """The key of the subject; None when it is not cached: `load` knows more."""
        key = self._ready.get(subject)
        if key is None and (secret := self._cache.get(subject)) is not None:
            key = DataKey(secret)
            self._ready.put(subject, key)
        return key

    def get_all_cached(self, subjects: Collection[str]) -> Keyring | None:
        """The keys of all these subjects; None when one of them is not cached."""
        epoch = self.watch.epoch
        keys = self._ready.get_all(subjects)
        if keys is None:
            keys = {each: key for each in subjects if (key := self.get_cached(each)) is not None}
            if len(keys) < len(set(subjects)):
                return None
        return Keyring(epoch, keys, {})

    def create(self, subject: str) -> NewKey:
        """A random key for a subject that has none. Cached by `remember`, once it is committed."""
        key = _new_keys.draw()
        wrap = self.service_keys.wrap(key, get_wrap_context(subject))
        return NewKey(subject, DataKey(key), *wrap, self.watch.epoch)

    def remember(self, new_key: NewKey) -> None:
        """Cache a key that an append has committed just now, unless it may be erased already."""
        if new_key.epoch == self.watch.epoch:
            self._cache.put(new_key.subject, new_key.key.secret)

    def forget(self, subjects: Iterable[str]) -> None:
        """Remove the keys of these subjects from the cache."""
        for subject in subjects:
            self._cache.discard(subject)
            self._ready.discard(subject)

    def forget_all(self) -> None:
        """Remove all keys from the cache."""
        self._cache.clear()
        self._ready.clear()

    def _unwrap(self, subject: str, wrapped: bytes, wrapped_by: str) -> DataKey | None:
        """The key of a subject; None if its wrap is damaged. Raises ServiceKeyMissing."""
        try:
            return DataKey(self.service_keys.unwrap(wrapped, wrapped_by, get_wrap_context(subject)))
        except (InvalidTag, ValueError):
            log.error("data_key_damaged", subject=subject, wrapped_by=wrapped_by)
            return None


def open_sealed(cipher: AESGCM, sealed: bytes, associated_data: bytes | None = None) -> bytes:
    """What was sealed: a nonce, and what it encrypts. Raises cryptography's InvalidTag for anything else."""
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated_data)


def get_wrap_context(subject: str) -> str:
    """What the wrap of a subject's key is bound to."""
    return f"data_key {subject}"


async def fetch_from(source: Source, query: str, bindings: Mapping[str, Any]) -> list[TupleRow]:
    """The rows of a query that only reads. It is prepared, whoever prepares the connection's statements: to
    plan a query of all partitions takes some ms, to run it a tenth of that."""
    if isinstance(source, StatementPool):
        return await source.fetch(parse_statement(query), bindings)
    if source.prepare_threshold is None:
        [rows] = await fetch_together(source, [bind(parse_statement(query), bindings)])
        return rows
    return await fetch_all(source, query.encode(), bindings)
