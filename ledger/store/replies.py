"""The replies to idempotency keys: what each key got, for a day (contract §1.9); and the end of that day.

A reply to a command that appends to the log commits with it (`ledger.append_any`). Bodies are stored
compressed, and sealed for their subject, in a column of their own, once every release that may run reads
that. What the request was is kept as a keyed hash, from which nobody can tell what it said.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from ledger.background import LONG_STEP_TIMEOUT_SECONDS, BackgroundLoop
from ledger.call import Cause
from ledger.clock import Clock
from ledger.compression.documents import compress, decompress_text
from ledger.errors import LedgerError, Unavailable
from ledger.keys.blind_index import is_hash
from ledger.keys.data_keys import NO_KEYS, DataKeys, Keyring
from ledger.keys.documents import load_document_keys, open_document, seal_document
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
INSERT INTO ledger.replies
    (account, livemode, key, fingerprint, status, body, compressed, request_id, created_at)
VALUES (%(account)s, %(livemode)s, %(key)s, %(fingerprint)s, %(status)s, %(body)s, %(compressed)s,
        %(request_id)s, to_timestamp(%(at)s))
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


class IdempotencyKeyUsed(LedgerError):
    """The idempotency key has a reply already: respond with that reply."""


class Reply(NamedTuple):
    """The response that the cause's idempotency key gets from now on.

    A body with a secret is stored without it: the secret is cut out at offset `secret_offset` (characters),
    and can be derived again from the object `secret_object_id` (`commands.execution.Decision.secret_of`).
    `subject`: whose personal data the body may have; None: nobody's. `fingerprint`: a hash of the request; of
    a stored reply, what `is_reply_to` compares with that.
    """

    fingerprint: str
    status: int
    body: str
    secret_object_id: str | None = None
    secret_offset: int | None = None
    subject: str | None = None


class StoredReply(NamedTuple):
    """A stored reply, with the id of the request that first got it.

    position  of the last event that this request recorded; None if it recorded none
    """

    reply: Reply
    request_id: str
    position: int | None = None


class Replies:
    """The stored replies, for one process."""

    def __init__(self, dsn: str, keys: DataKeys) -> None:
        self._keys = keys
        self._connection = ReconnectingConnection(dsn, "ledger_api", name="replies")
        self._as_bytes: bool | None = None

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.drop()

    async def find(self, account: str, livemode: bool, key: str) -> StoredReply | None:
        """The stored reply of the idempotency key `key`; None when there is none. Raises Unavailable, also
        while an erasure has not rewritten the reply yet."""
        parameters = {"account": account, "livemode": livemode, "key": key}
        row = await self._connection.run_idempotent(lambda conn: fetch_one(conn, _SELECT_REPLY, parameters))
        if row is None:
            return None
        fingerprint, status, text, stored, *secret = row[:6]
        keyring = await load_document_keys(self._connection.run_idempotent, self._keys, [stored])
        body = read_body(text, stored, keyring)
        if body is None:
            raise Unavailable("the reply to this idempotency key is being redacted")
        return StoredReply(Reply(fingerprint, status, body, *secret), *row[6:])

    async def may_store_bytes(self) -> bool:
        """Whether every release that may run reads bodies in the column `compressed`. Raises Unavailable."""
        if self._as_bytes is None:
            self._as_bytes = await self._connection.run_idempotent(may_store_replies_as_bytes)
        return self._as_bytes


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


async def insert_reply(conn: Conn, keys: DataKeys, cause: Cause, reply: Reply, created_at: float) -> None:
    """Store the reply to a command that appends nothing to the log. `created_at` is in unix seconds.

    Call it last in the transaction that makes the command's changes: appends wait until that ends. Raises
    IdempotencyKeyUsed when the idempotency key has a reply already, and Unavailable when the erasure of its
    subject has begun since it was made; the transaction then rolls back.
    """
    await conn.execute(_LOCK_HEAD)
    assert reply.secret_object_id is None, "only a reply about an object in the log may contain a secret"
    keyring = await keys.load(conn, [] if reply.subject is None else [reply.subject])
    if reply.subject is not None and keyring.is_erased(reply.subject):
        raise Unavailable("what this answer shows is being redacted")
    as_bytes = await may_store_replies_as_bytes(conn)
    fingerprint, status, body, stored = encode_reply(keys, keyring, cause, reply, as_bytes=as_bytes)
    cur = await conn.execute(
        _INSERT_REPLY,
        {
            "account": cause.account,
            "livemode": cause.livemode,
            "key": cause.idempotency_key,
            "fingerprint": fingerprint,
            "status": status,
            "body": body,
            "compressed": stored,
            "request_id": cause.request_id,
            "at": created_at,
        },
    )
    if not cur.rowcount:
        raise IdempotencyKeyUsed


def is_reply_to(keys: DataKeys, cause: Cause, stored_reply: StoredReply, fingerprint: str) -> bool:
    """Whether the reply that is stored under the cause's idempotency key is one to the request with this
    fingerprint."""
    stored = stored_reply.reply.fingerprint
    return stored == (_hash_fingerprint(keys, cause, fingerprint) if is_hash(stored) else fingerprint)


def read_body(text: str | None, stored: bytes | None, keyring: Keyring = NO_KEYS) -> str | None:
    """The body of the columns `body` and `compressed`, whatever release stored it; None when its subject has
    been erased."""
    if stored is None:
        assert text is not None
        return decompress_text(text).decode()
    opened = open_document(keyring, stored)
    return None if opened is None else opened.decode()


def encode_reply(
    keys: DataKeys, keyring: Keyring, cause: Cause, reply: Reply, *, as_bytes: bool
) -> tuple[str, int, str | None, bytes | None]:
    """The columns `fingerprint`, `status`, `body` and `compressed` of a reply. `as_bytes`: the body is
    compressed, which only releases since 0021 read. The fingerprint is a keyed hash, and a body with a
    subject is sealed, once every release that may run reads that. `keyring` has been loaded for it."""
    fingerprint = reply.fingerprint
    if keyring.may_seal:
        fingerprint = _hash_fingerprint(keys, cause, fingerprint)
        if reply.subject is not None:
            sealed = seal_document(keyring, reply.subject, reply.body.encode())
            return fingerprint, reply.status, None, sealed
    if as_bytes:
        return fingerprint, reply.status, None, compress(reply.body.encode())
    return fingerprint, reply.status, reply.body, None


def _hash_fingerprint(keys: DataKeys, cause: Cause, fingerprint: str) -> str:
    return keys.blind_index.hash_as_text(cause.account, cause.livemode, "request", fingerprint)
