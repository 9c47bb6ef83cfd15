"""The replies to idempotency keys: what each key got, for a day (contract §1.9); and the end of that day.

A reply to a command that appends to the log commits with it (`ledger.append_any`). Bodies are stored
compressed, in a column of their own, once every release that may run reads that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.call import Cause
from ledger.clock import Clock
from ledger.compression.documents import compress, decompress, decompress_text
from ledger.errors import LedgerError
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, ReconnectingConnection, fetch_one
from ledger.postgres.migrations import may_store_replies_as_bytes
from ledger.postgres.sessions import LOCAL_COMMITS

_SELECT_REPLY = """
SELECT fingerprint, status, body, compressed, secret_of, secret_at, request_id, position
FROM ledger.replies
WHERE account = %(account)s AND livemode = %(livemode)s AND key = %(key)s
"""
# `ledger.append_any` writes replies under the head lock, so this does too: an append that met an
# uncommitted row for the same key would fail with its whole batch.
_LOCK_HEAD = "SELECT FROM ledger.head_lock FOR UPDATE"
_INSERT_REPLY = """
INSERT INTO ledger.replies (account, livemode, key, fingerprint, status, body, request_id, created_at)
VALUES (%(account)s, %(livemode)s, %(key)s, %(fingerprint)s, %(status)s, %(body)s, %(request_id)s,
        to_timestamp(%(at)s))
ON CONFLICT ON CONSTRAINT replies_key DO NOTHING
"""

# A reply is promised for a day (contract §1.9); the extra hour allows for clocks that differ.
REPLY_RETENTION_SECONDS = 25 * 3600
CLEANUP_INTERVAL_SECONDS = 3600.0
DELETE_BATCH_SIZE = 1000

_DELETE_REPLIES = """
DELETE FROM ledger.replies WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ledger.replies WHERE created_at < to_timestamp(%(before)s) LIMIT %(limit)s))
"""
_DELETE_APPENDERS = (
    "DELETE FROM ledger.appenders WHERE recorded_at < to_timestamp(%(before)s) AND id <> %(own)s"
)

EncodeBody = Callable[[str], tuple[str | None, bytes | None]]
"""A body as it is stored: in the column `body`, or in the column `compressed`."""


class IdempotencyKeyUsed(LedgerError):
    """The idempotency key has a reply already: respond with that reply."""


class Reply(NamedTuple):
    """The response that the cause's idempotency key gets from now on.

    A body with a secret is stored without it: the secret is cut out at offset `secret_offset` (characters),
    and can be derived again from the object `secret_object_id` (`commands.execution.Decision.secret_of`).
    """

    fingerprint: str
    status: int
    body: str
    secret_object_id: str | None = None
    secret_offset: int | None = None


class StoredReply(NamedTuple):
    """A stored reply, with the id of the request that first got it.

    position  of the last event that this request recorded; None if it recorded none
    """

    reply: Reply
    request_id: str
    position: int | None = None


class Replies:
    """The stored replies, for one process."""

    def __init__(self, dsn: str) -> None:
        self._connection = ReconnectingConnection(dsn, "ledger_api", name="replies")
        self._encode_body: EncodeBody | None = None

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def find(self, account: str, livemode: bool, key: str) -> StoredReply | None:
        """The stored reply of the idempotency key `key`; None when there is none. Raises Unavailable."""
        parameters = {"account": account, "livemode": livemode, "key": key}
        row = await self._connection.run_idempotent(lambda conn: fetch_one(conn, _SELECT_REPLY, parameters))
        if row is None:
            return None
        fingerprint, status, text, compressed, *secret = row[:6]
        return StoredReply(Reply(fingerprint, status, read_body(text, compressed), *secret), *row[6:])

    async def get_body_encoder(self) -> EncodeBody:
        """How this process stores bodies: as they are, or compressed. Raises Unavailable."""
        if self._encode_body is None:
            as_bytes = await self._connection.run_idempotent(may_store_replies_as_bytes)
            self._encode_body = compress_body if as_bytes else keep_body
        return self._encode_body


class ReplyCleanup:
    """Deletes, every CLEANUP_INTERVAL_SECONDS, replies and results of batches that are older than
    REPLY_RETENTION_SECONDS. The appender of its own process is never deleted."""

    def __init__(self, dsn: str, clock: Clock, own_appender_id: UUID) -> None:
        self._clock = clock
        self._own_appender_id = own_appender_id
        self._connection = ReconnectingConnection(
            dsn,
            "ledger_api",
            name="reply cleanup",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._loop = BackgroundLoop(
            "reply cleanup",
            self._delete_expired,
            step_timeout_seconds=LONG_STEP_TIMEOUT_SECONDS,
            close_timeout_seconds=1.0,
        )

    async def start(self) -> None:
        """Begin with a first deletion."""
        await self._loop.start()

    async def close(self) -> None:
        """End after the deletion under way, or cancel it."""
        await self._loop.close()
        await self._connection.drop()

    async def delete_before(self, before: float) -> None:
        """Delete replies stored before `before` (unix seconds), and appenders last used before it, in small
        transactions, so that none holds locks for long. Raises psycopg.Error."""
        async with self._connection as conn:
            while not self._loop.step_should_end:
                cur = await conn.execute(_DELETE_REPLIES, {"before": before, "limit": DELETE_BATCH_SIZE})
                if cur.rowcount == 0:
                    break
            await conn.execute(_DELETE_APPENDERS, {"before": before, "own": self._own_appender_id})

    async def _delete_expired(self) -> float:
        await self.delete_before(self._clock.now() - REPLY_RETENTION_SECONDS)
        if self._loop.step_should_end:
            return 0
        await self._connection.drop()  # until then another has more use for it
        return CLEANUP_INTERVAL_SECONDS


async def insert_reply(conn: Conn, cause: Cause, reply: Reply, created_at: float) -> None:
    """Store the reply to a command that appends nothing to the log. `created_at` is in unix seconds.

    Call it last in the transaction that makes the command's changes: appends wait until that ends. Raises
    IdempotencyKeyUsed when the idempotency key has a reply already; the transaction then rolls back.
    """
    await conn.execute(_LOCK_HEAD)
    fingerprint, status, body, secret_object_id, _ = reply
    assert secret_object_id is None, "only a reply about an object in the log may contain a secret"
    cur = await conn.execute(
        _INSERT_REPLY,
        {
            "account": cause.account,
            "livemode": cause.livemode,
            "key": cause.idempotency_key,
            "fingerprint": fingerprint,
            "status": status,
            "body": body,
            "request_id": cause.request_id,
            "at": created_at,
        },
    )
    if not cur.rowcount:
        raise IdempotencyKeyUsed


def keep_body(body: str) -> tuple[str, None]:
    """The body as every release reads it."""
    return body, None


def read_body(text: str | None, compressed: bytes | None) -> str:
    """The body of the columns `body` and `compressed`, whatever release stored it."""
    if compressed is not None:
        return decompress(compressed).decode()
    assert text is not None
    return decompress_text(text).decode()


def compress_body(body: str) -> tuple[None, bytes]:
    """The body as releases since 0021 read it: 36 bytes less than the base64 of earlier ones."""
    return None, compress(body.encode())
