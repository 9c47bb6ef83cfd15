"""The calls of `ledger.append_one`, `append_many` and `append_any` (migration 0039): a batch as arguments.

A batch of one command with one event, as every batch on a log with one caller is, goes as scalars: the
database takes 119 instead of 137 µs for it (docs/decisions/0087-append-without-refusals.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ledger.store.arrays import BIGINT, BOOLEAN, BYTEA, INTEGER, SMALLINT, TEXT, ElementType, encode_array

CheckRow = tuple[int, str, int]
"""Index of a command in the batch, a stream, and the version that it must have; 0: no event yet."""
EventRow = tuple[
    int, str, int, str, bytes, str, bool, str | None, str | None, str | None, str | None,
    str | None, str | None, str | None,
]  # fmt: skip
"""Command, stream, version, topic, state; account, livemode, actor, request id, idempotency key; causation;
the customer, charge and payment intent that the stream belongs to."""
ReplyRow = tuple[
    int, str, bool, str | None, str, int, str | None, bytes | None, str | None, int | None, str | None,
    int | None,
]  # fmt: skip
"""Command; account, livemode, idempotency key; fingerprint, status, body, or else the compressed body; secret
object's id and secret's offset; request id; the place in the batch, from 1, of the command's last event, None
if it has no events."""
KeyRow = tuple[int, str, bytes | None, str | None]
"""Command; a data subject, its new key as the service key wraps it, and the id of that. Without a key: the
erasure of the subject begins."""

# The arguments of `ledger.append_many` are the columns of these rows, in order.
_CHECK = (INTEGER, TEXT, INTEGER)
_EVENT = (INTEGER, TEXT, INTEGER, TEXT, BYTEA, TEXT, BOOLEAN, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
_REPLY = (INTEGER, TEXT, BOOLEAN, TEXT, TEXT, SMALLINT, TEXT, BYTEA, TEXT, INTEGER, TEXT, INTEGER)
_KEY = (INTEGER, TEXT, BYTEA, TEXT)
# Those of `ledger.append_one` are the same without commands and place.
_ONE = (*_CHECK[1:], *_EVENT[1:], *_REPLY[1:-1], *_KEY[1:])
_NO_CHECK = (0, None, None)
_NO_REPLY = (None,) * len(_REPLY)
_NO_KEY = (None,) * len(_KEY)


class Function(NamedTuple):
    """A function of the database as a prepared statement. All its arguments are binary."""

    name: bytes
    statement: bytes
    formats: list[int]


class AppendCall(NamedTuple):
    """A function and its arguments after the first three: appender, number and time. The next is the erasure
    epoch that the batch was made under."""

    function: Function
    arguments: list[bytes | None]


def _define_function(name: str, argument_count: int) -> Function:
    numbers = ", ".join(f"${number}" for number in range(1, argument_count + 1))
    # Not in FROM, where its result would be copied to a buffer: 3 µs of 45.
    statement = f"SELECT ledger.{name}({numbers})"
    return Function(name.encode(), statement.encode(), [1] * argument_count)


APPEND_ONE = _define_function("append_one", 4 + len(_ONE))
APPEND_MANY = _define_function("append_many", 4 + len(_CHECK) + len(_EVENT) + len(_REPLY) + len(_KEY))
APPEND_ANY = _define_function("append_any", 4 + len(_CHECK) + len(_EVENT) + len(_REPLY) + len(_KEY))


class Batch(NamedTuple):
    """A batch as rows.

    creations  checks of the streams that it creates, for when one of them exists
    erasures   the erasure epoch that it was made under
    """

    checks: list[CheckRow]
    creations: list[CheckRow]
    events: list[EventRow]
    replies: list[ReplyRow]
    keys: list[KeyRow]
    erasures: int = 0


def encode_call(batch: Batch, *, with_creations: bool = False) -> AppendCall:
    """The call that appends the batch. It goes by a constraint of the database whether a stream or a key that
    it creates exists; `with_creations` it looks, and refuses only those commands. Raises TypeError,
    ValueError and struct.error for a row that cannot be encoded."""
    checks, creations, events, replies, keys, erasures = batch
    encoded_erasures = BIGINT.encode(erasures)
    if with_creations:
        checks = checks + creations
    elif len(events) == 1 and len(checks) <= 1 and len(replies) <= 1 and len(keys) <= 1:
        check = checks[0] if checks else _NO_CHECK
        reply = replies[0] if replies else _NO_REPLY
        key = keys[0] if keys else _NO_KEY
        is_erasure = keys and key[2] is None
        if not (check[0] or events[0][0] or reply[0] or key[0] or is_erasure):  # all of the first command
            values = (*check[1:], *events[0][1:], *reply[1:-1], *key[1:])
            return AppendCall(APPEND_ONE, [encoded_erasures, *map(_encode, values, _ONE)])
    return AppendCall(
        APPEND_ANY if with_creations else APPEND_MANY,
        [
            encoded_erasures,
            *_encode_columns(checks, _CHECK),
            *_encode_columns(events, _EVENT),
            *_encode_columns(replies, _REPLY),
            *_encode_columns(keys, _KEY),
        ],
    )


def _encode(value: Any, element_type: ElementType) -> bytes | None:
    return None if value is None else element_type.encode(value)


def _encode_columns(rows: Sequence[tuple[Any, ...]], types: Sequence[ElementType]) -> Iterable[bytes | None]:
    """The columns of the rows as arrays; NULLs if there are no rows."""
    if not rows:
        return [None] * len(types)
    return map(encode_array, zip(*rows, strict=True), types)
