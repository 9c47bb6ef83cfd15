"""Stored documents of data subjects: states, Events, replies, receivers' answers. Compressed, then sealed.

A sealed document names its subject; only with that subject's data key it can be opened, so destroying the key
destroys every copy of it, in old pages, the WAL, standbys and dumps too. It is sealed by AES-GCM with
a nonce derived from the document, which makes the same bytes of the same document: two generations of rows
that are equal still have equal digests. Documents that older releases stored unsealed are read as they are.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from ledger.compression.documents import compress, compress_as_text, decompress, decompress_text
from ledger.keys.data_keys import DataKey, DataKeys, Keyring
from ledger.postgres.connections import Conn

_SEALED: Final = 1
"""The first byte of a sealed document. No JSON begins with it, and no frame of zstd."""
_SEALED_TEXT = "A"
"""The same in base64: its first six bits are zero."""
_HEADER_BYTES = 2
_TEXT_START_MAX = 4 * ((_HEADER_BYTES + 255 + 2) // 3)

Stored = bytes | str
"""A document as a column has it: bytes, or text."""
RunQuery = Callable[[Callable[[Conn], Awaitable[Any]]], Awaitable[Any]]
"""Runs a query on a connection: `run_idempotent` of a pool, for example, or `run_on(conn)`."""


def seal_document(keyring: Keyring, subject: str, document: bytes) -> bytes:
    """The document for a column of bytes, sealed for the subject. That of a subject without a data key is
    only compressed: nothing personal is in the log of it, or it has been redacted. So whoever seals an event
    or a reply for a subject sees to it that it has a key (`BatchKeys`), and so does the migration of what was
    sealed before there were data keys."""
    key = keyring.get(subject) if keyring.may_seal else None
    return compress(document) if key is None else _seal(key, subject, document)


def seal_text_document(keyring: Keyring, subject: str, document: bytes) -> bytes:
    """As `seal_document`, for a column of text."""
    key = keyring.get(subject) if keyring.may_seal else None
    if key is None:
        return compress_as_text(document)
    return b2a_base64(_seal(key, subject, document), newline=False)


def open_document(keyring: Keyring, stored: Stored) -> bytes | None:
    """The document of a column, whatever release stored it; None when its subject has been erased, or the
    bytes were changed. `keyring` has been loaded for it."""
    if isinstance(stored, str):
        if not stored.startswith(_SEALED_TEXT):
            return decompress_text(stored)
        stored = a2b_base64(stored)
    elif not stored or stored[0] != _SEALED:
        return decompress(stored)
    subject, sealed = _split(stored)
    key = keyring.get(subject)
    if key is None:
        return None
    try:
        return decompress(key.open_document(sealed))
    except (InvalidTag, ValueError):
        return None


def find_subject(stored: Stored) -> str | None:
    """The subject for which a stored document is sealed; None of one that is not sealed. Needs no key."""
    if isinstance(stored, str):
        if not stored.startswith(_SEALED_TEXT):
            return None
        stored = a2b_base64(stored[:_TEXT_START_MAX])
    elif not stored or stored[0] != _SEALED:
        return None
    return stored[_HEADER_BYTES : _HEADER_BYTES + stored[1]].decode()


async def load_document_keys(run: RunQuery, keys: DataKeys, stored: Iterable[Stored | None]) -> Keyring:
    """The keys that open the sealed ones of these documents. Raises what `run` raises."""
    subjects = {subject for each in stored if each is not None and (subject := find_subject(each))}
    return await load_keyring(run, keys, subjects)


async def load_keyring(run: RunQuery, keys: DataKeys, subjects: Collection[str]) -> Keyring:
    """The keys of the subjects: with one statement, unless all are cached. Raises what `run` raises."""
    if (cached := keys.get_all_cached(subjects)) is not None:
        return cached
    keyring: Keyring = await run(lambda conn: keys.load(conn, subjects))
    return keyring


def run_on(conn: Conn) -> RunQuery:
    """Runs queries on this connection."""
    return lambda query: query(conn)


def _split(stored: bytes) -> tuple[str, bytes]:
    end = _HEADER_BYTES + stored[1]
    return stored[_HEADER_BYTES:end].decode(), stored[end:]


def _seal(key: DataKey, subject: str, document: bytes) -> bytes:
    name = subject.encode()
    return bytes((_SEALED, len(name))) + name + key.seal_document(compress(document))
