"""The sealer: extends the Merkle tree by the events recorded since, and signs the new checkpoint.

It runs behind the log's end, never in an append: in one transaction it hashes the next events (in the
database, by one statement), appends them to the tiles and signs the root. The lock on `ledger.tree_head` lets
one process seal; a crash leaves all of a batch or nothing, and the next one begins where it did. Where the
log or the tiles are not what was signed, nothing is signed any more, and `ledger.tree_head` says why. A copy
of the database signs nothing: what it signed under the log's name could contradict the original. So could a
signature over what no standby has, after a failover: it signs nothing of that either.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from ledger.background import BackgroundLoop
from ledger.errors import DamagedTree
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, ReconnectingConnection, fetch_one
from ledger.store.durability import WAITS_FOR_STANDBYS
from ledger.store.log import PLANNER_SETTINGS
from ledger.store.store import Store
from ledger.tlog.merkle import HASH_BYTES, ProofError
from ledger.tree.checkpoints import LockedTree, lock_tree, store_tree
from ledger.tree.keys import Keyring, LogSigner

BATCH_EVENTS_MAX = 4096
POLL_SECONDS = 1.0
RETRY_SECONDS = 5.0
PROGRESS_SECONDS = 10.0
# A crash of the server may lose the last batches. The events below them are safe, also on the standbys, and
# give the same hashes again. So sealing never makes appends wait for a disk.
SETTINGS = PLANNER_SETTINGS | {"synchronous_commit": "off"}

log = structlog.get_logger()

# The end of a burst of events is signed within the time in which no other checkpoint may be kept. Once that
# time is over, it is sealed again to be kept: nothing else might follow it.
_PEEK = """
SELECT h.position - t.size, extract(epoch FROM now() - t.sealed_at)::float8,
       t.note = '' OR t.error IS NOT NULL OR (t.size > coalesce(k.size, 0)
           AND now() >= coalesce(k.made_at, '-infinity') + make_interval(secs => %(keep_seconds)s)),
       ledger.is_active_database()
FROM ledger.tree_head t
CROSS JOIN ledger.head h
LEFT JOIN (SELECT size, made_at FROM ledger.checkpoints ORDER BY size DESC LIMIT 1) k ON true
"""
_HEAD = f"SELECT position, {WAITS_FOR_STANDBYS} FROM ledger.head"  # noqa: S608 (a constant)
_LEAF_HASHES = """
SELECT count(*), string_agg(sha256('\\x00'::bytea || ledger.record_digest(e)), ''::bytea
                            ORDER BY e.notification_id)
FROM ledger.events e WHERE e.notification_id > %(after)s AND e.notification_id <= %(upto)s
"""
_RECORD_ERROR = "UPDATE ledger.tree_head SET error = %(error)s WHERE error IS DISTINCT FROM %(error)s"


class SealResult(NamedTuple):
    """What one transaction did.

    sealed     how many events it added to the tree
    remaining  how many are not sealed yet
    contended  another process was sealing, or the standbys are away, and nothing was done
    """

    sealed: int
    remaining: int
    contended: bool = False


class Sealer:
    """Seals from `start` to `close`.

    keyring               opens the log's keys
    pause_ms            least time between two seals, over all processes; a full batch does not wait for it
    checkpoint_seconds  least time between two checkpoints that are kept
    """

    def __init__(self, store: Store, keyring: Keyring, *, pause_ms: int, checkpoint_seconds: int) -> None:
        self._clock = store.clock
        self._notifier = store.notifier
        self._durability = store.durability
        self._keyring = keyring
        self._pause_seconds = pause_ms / 1000
        self._checkpoint_seconds = checkpoint_seconds
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="sealer",
            settings=SETTINGS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._checked = False
        self._error: str | None = None
        self._progress_at: float | None = None
        # A cancelled seal changes nothing, and its wait for the log would hold up the end of the process.
        self._loop = BackgroundLoop("sealing", self._step, close_timeout_seconds=0)

    async def start(self) -> None:
        """Begin: the first step compares the stored tree with what was signed, whether the log has grown or
        not."""
        await self._loop.start()

    async def close(self) -> None:
        """Stop. The seal under way is undone."""
        await self._loop.close()
        await self._connection.drop()

    async def seal(self) -> SealResult:
        """Add the next events that are replicated, BATCH_EVENTS_MAX at most, to the tree, and sign it.

        Raises psycopg.Error, DamagedTree when the log or the tiles are not what was signed, and ProofError
        when `cryptography` lacks a key's algorithm; then nothing has changed.
        """
        async with self._connection as conn:
            row = await fetch_one(conn, _HEAD)
            assert row is not None
            replicated = await self._durability.limit(row[0], waits_for_standbys=row[1])
            async with conn.transaction():
                return await self._seal_upto(conn, replicated)

    async def _seal_upto(self, conn: Conn, replicated: int) -> SealResult:
        tree = await lock_tree(conn, wait=False)
        if tree is None:
            return SealResult(0, 0, contended=True)
        size = tree.edge.size
        upto = min(tree.head, replicated, size + BATCH_EVENTS_MAX)
        if upto < size:
            return SealResult(0, tree.head - size, contended=True)
        tiles = tree.edge.append(await _hash_events(conn, tree, upto))
        now = self._clock.now()
        signer = await self._keyring.open_signer(conn, now)
        self._warn_of_another_origin(signer)
        note = signer.sign(tree.edge, now)
        await store_tree(conn, tree.edge, note, tiles, keep_seconds=self._checkpoint_seconds)
        return SealResult(upto - size, tree.head - upto)

    async def _step(self) -> float:
        """Seal when it is time to, and otherwise wait. Returns the seconds to wait before the next step."""
        head_seen = self._notifier.position
        async with self._connection as conn:
            row = await fetch_one(conn, _PEEK, {"keep_seconds": self._checkpoint_seconds})
        assert row is not None
        pending: int = row[0]
        age_seconds: float = row[1]
        is_due: bool = row[2]
        if not row[3]:
            return POLL_SECONDS
        if not pending and not is_due and self._checked:
            await self._notifier.wait_past(head_seen, timeout_seconds=POLL_SECONDS)
            return 0
        # With a clock that was set back, the age may be negative.
        wait_seconds = self._pause_seconds - max(0.0, age_seconds)
        if 0 <= pending < BATCH_EVENTS_MAX and wait_seconds > 0 and not is_due and self._checked:
            return wait_seconds
        return await self._seal_or_stop()

    async def _seal_or_stop(self) -> float:
        started = asyncio.get_running_loop().time()
        try:
            result = await self.seal()
        except (DamagedTree, ProofError) as error:
            await self._report_stop(str(error))
            return RETRY_SECONDS
        if result.contended:
            return self._pause_seconds
        self._checked, self._error = True, None
        ended = asyncio.get_running_loop().time()
        self._log_progress(result, ended)
        # A long backlog takes half of one core at most.
        return ended - started if result.remaining else 0

    def _warn_of_another_origin(self, signer: LogSigner) -> None:
        """Log, once, that the setting asks for another name than the log has had since its first start."""
        if not self._checked and self._keyring.wanted_origin not in (None, signer.origin):
            log.warning("log_origin_ignored", origin=signer.origin, setting="LEDGER_LOG_ORIGIN")

    async def _report_stop(self, reason: str) -> None:
        """Say why nothing is signed any more: once in the log, and in the database for every process."""
        async with self._connection as conn:
            await conn.execute(_RECORD_ERROR, {"error": reason})
        if reason != self._error:
            self._error = reason
            log.error("sealing_stopped", reason=reason, see="docs/operations.md, Sealing has stopped")

    def _log_progress(self, result: SealResult, now: float) -> None:
        """Log a long backlog when it begins, every PROGRESS_SECONDS, and when it ends."""
        if self._progress_at is None:
            if result.remaining > BATCH_EVENTS_MAX:
                self._progress_at = now + PROGRESS_SECONDS
                log.info("sealing_backlog", remaining=result.remaining)
        elif not result.remaining:
            self._progress_at = None
            log.info("sealing_backlog_done")
        elif now >= self._progress_at:
            self._progress_at = now + PROGRESS_SECONDS
            log.info("sealing_backlog", remaining=result.remaining)


async def _hash_events(conn: Conn, tree: LockedTree, upto: int) -> bytes:
    """The leaf hashes of the events after the tree, up to the position `upto`. Raises DamagedTree when one of
    them is missing, or when the tree's last record is not the one that was signed."""
    size = tree.edge.size
    after = max(size - 1, 0)
    cur = conn.cursor(binary=True)
    await cur.execute(_LEAF_HASHES, {"after": after, "upto": upto})
    row = await cur.fetchone()
    assert row is not None
    count, hashes = row
    if count != upto - after:
        raise DamagedTree(f"the log has {count} records instead of {upto - after} after position {after}")
    if tree.last is None:
        return hashes or b""
    if hashes[:HASH_BYTES] != tree.last:
        raise DamagedTree(f"the record at position {size} is not the one that was signed")
    return bytes(hashes[HASH_BYTES:])
