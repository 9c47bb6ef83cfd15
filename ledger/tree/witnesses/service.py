"""Have our checkpoints cosigned by witnesses, beside the sealer and never in its way.

Each witness has a loop of its own, so one that hangs delays no other. In the process that holds the witness's
advisory lock it submits the newest kept checkpoint, once there is a new one, and stores the cosignatures in
it. All witnesses are given the same checkpoints. A witness that has seen more of our log than there is, or
another tree, is an alarm: the log was rolled back or rewritten. It is not asked again before a restart. In a
copy of the database nobody is asked: what the original has signed is for the original to show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ledger.background import BackgroundLoop
from ledger.postgres.connections import BACKGROUND_ANSWER_SECONDS, Conn, ReconnectingConnection, fetch_one
from ledger.postgres.sessions import LOCAL_COMMITS
from ledger.store.store import Store
from ledger.tlog.checkpoints import parse_checkpoint
from ledger.tlog.encoding import NUMBER_MAX
from ledger.tlog.notes import NoteSignature, parse_note
from ledger.tlog.submissions import Submission
from ledger.tree.checkpoints import KeptCheckpoint, list_kept
from ledger.tree.proofs import prove_consistency
from ledger.tree.witnesses.addresses import WitnessAddress
from ledger.tree.witnesses.client import (
    OtherSize,
    WitnessClient,
    WitnessContradicts,
    WitnessRefuses,
    WitnessUnreachable,
)
from ledger.tree.witnesses.cosignatures import (
    WitnessState,
    forget_other_witnesses,
    read_cosigned_size,
    record_witness,
    store_cosignatures,
)

POLL_SECONDS = 1.0
RETRY_SECONDS_MIN = 1.0
RETRY_SECONDS_MAX = 60.0
SUBMISSIONS_MAX = 3
"""In one step: the first may name another size, and the witness may be asked by others meanwhile."""

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtext('ledger.witness'), hashtext(%(id)s))"
_HEAD = "SELECT position FROM ledger.head"
_IS_ACTIVE = "SELECT ledger.is_active_database()"

log = structlog.get_logger()


class WitnessService:
    """Has the kept checkpoints cosigned by all witnesses, from `start` to `close`."""

    def __init__(self, store: Store, witnesses: Sequence[WitnessAddress]) -> None:
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="witnesses",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._ids = [witness.id for witness in witnesses]
        self._loop = BackgroundLoop("list of witnesses", self._forget_others, close_timeout_seconds=0)
        self._followers = [WitnessFollower(store, witness) for witness in witnesses]

    async def start(self) -> None:
        """Begin to ask each witness."""
        await self._loop.start()
        for follower in self._followers:
            await follower.start()

    async def close(self) -> None:
        """Cancel what is under way: it is repeated at the next start."""
        await asyncio.gather(self._loop.close(), *(follower.close() for follower in self._followers))
        await self._connection.drop()

    async def _forget_others(self) -> None:
        """Once: what is known of witnesses that are not configured any more would stay in the metrics."""
        async with self._connection as conn:
            await forget_other_witnesses(conn, self._ids)
        await self._connection.drop()


class WitnessFollower:
    """Keeps one witness up to date, from `start` to `close`."""

    def __init__(self, store: Store, witness: WitnessAddress) -> None:
        self._id = witness.id
        self._client = WitnessClient(witness)
        self._durability = store.durability
        self._connection = ReconnectingConnection(
            store.dsn,
            "ledger_api",
            name="witness",
            settings=LOCAL_COMMITS,
            answer_seconds=BACKGROUND_ANSWER_SECONDS,
        )
        self._lock_holder: Conn | None = None
        self._cosigned_size = self._known_size = 0
        self._answered: tuple[WitnessState, str | None] | None = None
        self._retry_seconds = RETRY_SECONDS_MIN
        self._loop = BackgroundLoop(f"witness {witness.id}", self.advance, close_timeout_seconds=0)

    async def start(self) -> None:
        """Begin to ask."""
        await self._loop.start()

    async def close(self) -> None:
        """Cancel the request under way, if there is one."""
        await self._loop.close()
        await self._client.close()
        await self._connection.drop()

    async def advance(self) -> float | None:
        """Have the newest kept checkpoint cosigned, if it is new. Returns the seconds to wait before the next
        time, None for ever. Raises psycopg.Error, Unavailable and DamagedTree."""
        async with self._connection as conn:
            active = await fetch_one(conn, _IS_ACTIVE)
            if active != (True,) or not await self._hold_lock(conn):
                return POLL_SECONDS
            newest = await list_kept(conn, before=NUMBER_MAX, limit=1)
        # The first time it is asked all the same: a log restored from a backup may not grow for long.
        was_asked = self._answered is not None
        if not newest or (was_asked and newest[0].size <= self._cosigned_size):
            return POLL_SECONDS
        # A witness never forgets: what it is shown is there after a failover, too.
        await self._durability.confirm()
        try:
            await self._have_cosigned(newest[0])
        except WitnessContradicts as error:
            await self._report(WitnessState.CONTRADICTS, str(error))
            return None
        except (WitnessRefuses, WitnessUnreachable) as error:
            is_refusal = isinstance(error, WitnessRefuses)
            await self._report(WitnessState.REFUSES if is_refusal else WitnessState.UNREACHABLE, str(error))
            self._retry_seconds = min(self._retry_seconds * 2, RETRY_SECONDS_MAX)
            return self._retry_seconds
        self._retry_seconds = RETRY_SECONDS_MIN
        return POLL_SECONDS

    async def _hold_lock(self, conn: Conn) -> bool:
        """Whether this process is the one that asks the witness, for as long as its connection lasts."""
        if self._lock_holder is conn:
            return True
        row = await fetch_one(conn, _TRY_LOCK, {"id": self._id})
        assert row is not None
        if not row[0]:
            return False
        # What another process has done since is in the database, not in this one's memory.
        self._cosigned_size = self._known_size = await read_cosigned_size(conn, self._id)
        self._lock_holder = conn
        return True

    async def _have_cosigned(self, kept: KeptCheckpoint) -> None:
        """Ask for the cosignature of a checkpoint, and store it. Raises as `WitnessClient.submit`."""
        for _ in range(SUBMISSIONS_MAX):
            if self._known_size > kept.size:
                await self._check_ahead()
                return
            async with self._connection as conn:
                proof = await prove_consistency(conn, self._known_size, kept.size)
            answer = await self._client.submit(Submission(self._known_size, proof, kept.note))
            if not isinstance(answer, OtherSize):
                self._cosigned_size = self._known_size = kept.size
                await self._store(kept, answer)
                return
            if answer.size == self._known_size == kept.size:  # version 1.0.0 of the protocol says it so
                raise WitnessContradicts(f"it has cosigned another tree of {kept.size} records")
            if answer.size < self._cosigned_size:
                raise WitnessRefuses(
                    f"it has cosigned {self._cosigned_size} records and now knows only {answer.size}: it has "
                    "lost its state, and needs a new key"
                )
            self._known_size = answer.size
        raise WitnessUnreachable("it names another size each time: others submit checkpoints of this log")

    async def _check_ahead(self) -> None:
        """The witness knows more than the newest kept checkpoint: that is right until the sealer has caught
        up after a crash of the database server. Raises WitnessContradicts when the log has not so much."""
        async with self._connection as conn:
            row = await fetch_one(conn, _HEAD)
        assert row is not None
        if self._known_size > row[0]:
            raise WitnessContradicts(
                f"it has cosigned {self._known_size} records, but the log ends at position {row[0]}: "
                "the log was rolled back"
            )

    async def _store(self, kept: KeptCheckpoint, lines: Sequence[NoteSignature]) -> None:
        origin = parse_checkpoint(parse_note(kept.note).text).origin
        async with self._connection as conn:
            await store_cosignatures(conn, kept.size, origin, lines)
        await self._report(WitnessState.COSIGNS, None)

    async def _report(self, state: WitnessState, reason: str | None) -> None:
        """Record the answer for every process, and log it if it is not that of the last time."""
        async with self._connection as conn:
            await record_witness(conn, self._id, self._cosigned_size, state, reason)
        last, self._answered = self._answered, (state, reason)
        if self._answered == last:
            return
        match state:
            case WitnessState.COSIGNS:
                log.info("witness_cosigns", witness=self._id, size=self._cosigned_size)
            case WitnessState.UNREACHABLE:
                log.warning("witness_unreachable", witness=self._id, reason=reason)
            case WitnessState.REFUSES:
                log.error("witness_refuses", witness=self._id, reason=reason)
            case WitnessState.CONTRADICTS:
                see = "docs/operations.md, A witness contradicts the log"
                log.error("witness_contradicts_the_log", witness=self._id, reason=reason, see=see)
