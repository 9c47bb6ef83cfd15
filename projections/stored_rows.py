"""How rows are stored and read: documents as JSON, compressed and sealed for the row's subject; texts by
which rows are found as keyed hashes.

What an older release cannot read is written once none may run any more; until then rows are as it writes
them. Rows of any release are read: a rebuild writes them all in the newest form (docs/rebuilding.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec

from ledger.compression.documents import compress, compress_as_text
from ledger.keys.blind_index import BlindIndex, is_hash
from ledger.keys.data_keys import NO_KEYS, Keyring
from ledger.keys.documents import (
    find_subject,
    load_document_keys,
    open_document,
    run_on,
    seal_document,
    seal_text_document,
)
from ledger.postgres.connections import Conn
from ledger.store.codec import Codec
from projections.projection import Column, EventRows, Projection, Row, RowUpsert

Encode = Callable[[Any, RowUpsert], Any]
"""Makes what is stored of a value of a row."""

_DOCUMENTS = ("json", "document")
_ACCOUNT, _LIVEMODE = 1, 2
"""Where OBJECT_COLUMNS have the owner of a row."""
ERASED = b'"erased"'
"""In place of a document whose subject has been erased: JSON."""
DAMAGED = b'"damaged"'
"""In place of one that its key does not open."""
_encode_json = msgspec.json.Encoder().encode


class RowEncoder:
    """Encodes rows for one process. `compressed`: whether every release that may run reads compressed
    documents."""

    def __init__(self, codec: Codec, *, compressed: bool = False) -> None:
        self._keys = codec.data_keys
        self._index = codec.data_keys.blind_index
        self._compressed = compressed

    async def load_keyring(
        self, conn: Conn, event_rows: Iterable[EventRows], known: Keyring = NO_KEYS
    ) -> Keyring:
        """The keys for which these rows are sealed; `known` as for `DataKeys.load`. Raises psycopg.Error."""
        return await self._keys.load(conn, [item.subject for item in event_rows], known=known)

    def get_encoders(self, projection: Projection, keyring: Keyring) -> list[tuple[int, Encode]]:
        """How the values of columns are encoded that are not stored as they are, by the index of the
        column."""
        return [
            (index, encode)
            for index, column in enumerate(projection.columns)
            if (encode := self._choose(column, keyring)) is not None
        ]

    def _choose(self, column: Column, keyring: Keyring) -> Encode | None:
        sealed = column.sealed and keyring.may_seal
        compressed = column.compressed and self._compressed
        match column.type:
            case "json" if sealed:
                return lambda value, upsert: seal_document(keyring, upsert.subject, _encode_json(value))
            case "json" if compressed:
                return lambda value, upsert: compress(_encode_json(value))
            case "json":
                return lambda value, upsert: _encode_json(value)
            case "document" if sealed:
                return lambda value, upsert: seal_text_document(keyring, upsert.subject, value)
            case "document":
                return lambda value, upsert: compress_as_text(value) if compressed else value
            case "hashes" if keyring.may_seal:
                return lambda value, upsert: _hash_texts(self._index, upsert.row, column.name, value)
            case "hashes":
                return lambda value, upsert: None
            case "text" if column.hashed and keyring.may_seal:
                return lambda value, upsert: _hash_text(self._index, upsert.row, column.name, value)
        return None


class RowReader:
    """Reads stored rows, and brings rows that a handler made into the same form: to compare them."""

    def __init__(self, codec: Codec) -> None:
        self._keys = codec.data_keys
        self._index = codec.data_keys.blind_index

    async def read(
        self, conn: Conn, projection: Projection, names: Sequence[str], rows: Collection[Sequence[Any]]
    ) -> list[dict[str, Any]]:
        """The values of rows by column: documents as JSON, ERASED where the subject has been erased and the
        row is not rewritten yet; texts by which rows are found as hashes. `names`: the columns of `rows`.
        Raises psycopg.Error."""
        by_name = [dict(zip(names, values, strict=True)) for values in rows]
        documents = [column.name for column in projection.columns if column.type in _DOCUMENTS]
        stored = [row[name] for row in by_name for name in documents]
        keyring = await load_document_keys(run_on(conn), self._keys, stored)
        for row in by_name:
            for name in documents:
                if row[name] is not None:
                    row[name] = _open(keyring, row[name])
            self._hash_plain_texts(projection, row)
        return by_name

    def convert(self, projection: Projection, upsert: RowUpsert) -> dict[str, Any]:
        """The row that a handler made, as `read` returns a stored one."""
        row: dict[str, Any] = {
            column.name: _encode_json(value) if column.type == "json" else value
            for column, value in zip(projection.columns, upsert.row, strict=True)
        }
        for column in projection.columns:
            if column.type == "hashes":
                row[column.name] = _hash_texts(self._index, upsert.row, column.name, row[column.name])
        self._hash_plain_texts(projection, row)
        return row | {"position": upsert.position}

    def _hash_plain_texts(self, projection: Projection, row: dict[str, Any]) -> None:
        for column in projection.columns:
            if column.hashed and (text := row[column.name]) is not None and not is_hash(text):
                hashed = self._index.hash_as_text(row["account"], row["livemode"], column.name, text)
                row[column.name] = hashed


def are_equal(projection: Projection, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two rows hold the same. Hashes are missing in one that was written beside an older release; one
    that is about to be rewritten by an erasure equals any."""
    if one == other or ERASED in one.values() or ERASED in other.values():
        return True
    optional = {column.name for column in projection.columns if column.type == "hashes"}
    return all(
        one[name] == other[name] or (name in optional and (one[name] is None or other[name] is None))
        for name in one
    )


def _open(keyring: Keyring, stored: bytes | str) -> bytes:
    document = open_document(keyring, stored)
    if document is not None:
        return document
    subject = find_subject(stored)
    return ERASED if subject is not None and keyring.is_erased(subject) else DAMAGED


def _hash_text(index: BlindIndex, row: Row, name: str, text: str | None) -> str | None:
    return None if text is None else index.hash_as_text(row[_ACCOUNT], row[_LIVEMODE], name, text)


def _hash_texts(index: BlindIndex, row: Row, name: str, texts: Sequence[str]) -> bytes:
    return b"".join([index.hash(row[_ACCOUNT], row[_LIVEMODE], name, text) for text in texts])
